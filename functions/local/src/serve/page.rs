//! The start-up page: where to point what. Printed at the start, and shown at `/`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::args::Args;

/// Where the server listens.
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) jaeger: Option<SocketAddr>,
    pub(crate) prometheus: Option<SocketAddr>,
    pub(crate) health: Option<SocketAddr>,
}

/// The page, for a terminal and for a browser.
pub(crate) struct StartPage {
    pub(crate) text: String,
    pub(crate) html: String,
}

impl StartPage {
    /// The page of a server with these addresses and arguments.
    pub(crate) fn new(addresses: &Addresses, args: &Args) -> Self {
        let mut text = format!("Spandrel {}\n\n", env!("CARGO_PKG_VERSION"));
        let mut html = HEAD.to_owned();
        for (what, lines) in sections(addresses, args) {
            let _ = writeln!(html, "<h3>{}</h3>\n<pre>{}</pre>", escaped(what), escaped(&lines.join("\n")));
            let _ = writeln!(text, "{what}");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
            text.push('\n');
        }
        Self { text, html }
    }
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Spandrel</title>\n\
<style>body { font: 16px/1.5 system-ui; max-width: 50em; margin: 2em auto; padding: 0 1em }\n\
pre { background: #8882; padding: .7em; overflow: auto }</style>\n<h1>Spandrel</h1>\n";

/// The line for programs: every address by its name.
pub(crate) fn listening(addresses: &Addresses) -> String {
    let mut line = format!("listening http={}", addresses.http);
    for (name, address) in
        [("jaeger", addresses.jaeger), ("prometheus", addresses.prometheus), ("health", addresses.health)]
    {
        if let Some(address) = address {
            let _ = write!(line, " {name}={address}");
        }
    }
    line
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn sections(addresses: &Addresses, args: &Args) -> Vec<(&'static str, Vec<String>)> {
    let http = base_url(addresses.http);
    let mut sections = vec![
        (
            "Send traces, metrics and logs: point an OpenTelemetry SDK or Collector here",
            vec![
                format!("export OTEL_EXPORTER_OTLP_ENDPOINT={http}"),
                "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_COMPRESSION=gzip"
                    .to_owned(),
            ],
        ),
        (
            "Send metrics: let Prometheus, or an agent of its kind, write here",
            vec![format!("remote_write: [{{ url: '{http}/prometheus/api/v1/write' }}]")],
        ),
        (
            "See them in Grafana: data sources of these types and URLs",
            vec![format!("Jaeger      {http}/jaeger"), format!("Prometheus  {http}/prometheus")],
        ),
        (
            "Or ask directly",
            vec![
                format!("curl {http}/jaeger/api/services"),
                format!("curl '{http}/jaeger/api/traces?service=NAME&limit=20'"),
                format!("curl '{http}/prometheus/api/v1/query?query=up'"),
                format!("curl {http}/metrics"),
            ],
        ),
    ];
    let (objects, index) = (args.object_store.as_deref(), args.index.as_deref());
    let mut stored = match (objects, index) {
        (Some(objects), Some(index)) => vec![format!("objects {objects}"), format!("index   {index}")],
        _ => vec![format!(
            "{} (Parquet files in objects/, readable by DuckDB and others)",
            args.data.display()
        )],
    };
    if args.demo {
        stored.push("with the telemetry of a made-up shop, because of --demo".to_owned());
    }
    sections.push(("Data", stored));
    if !addresses.http.ip().is_loopback() {
        let warning = "The endpoint is open to the network, and there is no authentication.".to_owned();
        sections.push(("Careful", vec![warning]));
    }
    sections
}

/// A URL that works from this machine.
fn base_url(address: SocketAddr) -> String {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => reachable.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => reachable.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    format!("http://{reachable}")
}
