//! Structured logs on standard error: JSON in Lambda, text on a terminal.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One JSON object a line; every request at `info`.
    Json,
    /// Text; requests that went well are silent.
    Text,
}

/// Starts logging and sends panics to it. `SPANDREL_LOG_STYLE=json` makes [`Style::Text`] the other one. `SPANDREL_LOG`, else `RUST_LOG`, filters as `tracing_subscriber::EnvFilter`
/// has it; a second call does nothing.
pub fn init(style: Style) {
    let is_json = crate::config::variable("SPANDREL_LOG_STYLE").is_some_and(|said| said == "json");
    let style = if is_json { Style::Json } else { style };
    let default = match style {
        Style::Json => "info",
        Style::Text => "info,spandrel::access=warn",
    };
    let mut filters = ["SPANDREL_LOG", "RUST_LOG"].into_iter().filter_map(crate::config::variable);
    let text = filters.find(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(text);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match style {
        Style::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        Style::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("not a text");
            tracing::error!(place, message, "panicked");
        }));
    }
}
