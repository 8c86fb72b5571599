//! `spandrel erase`: asks for telemetry to be erased, and lists what was asked for. The next compaction does it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use model::{Signal, TenantId, TraceId};
use serde_json::json;
use storage::compact::erase;
use storage::index::{Erasure, ErasureTarget};

use crate::stores;

/// Arguments of `spandrel erase`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["trace_id", "attribute", "service", "list"]))]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// Whose
    #[arg(long, default_value = "default")]
    tenant: TenantId,
    /// Spans and log records of this trace, and exemplars that name it
    #[arg(long, value_name = "ID")]
    trace_id: Option<TraceId>,
    /// Whatever has this attribute: spans with it on themselves, their resource, scope, events or links; log records with
    /// it on themselves, their resource or scope; series and exemplars with the label
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_attribute)]
    attribute: Option<(String, String)>,
    /// Whatever comes from this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// In which signals [default: all]
    #[arg(long, value_name = "traces|metrics|logs,…", value_delimiter = ',', value_parser = parse_signal)]
    signal: Vec<Signal>,
    /// Ask for it; without it nothing is changed
    #[arg(long)]
    yes: bool,
    /// List what was asked for, and what became of it
    #[arg(long)]
    list: bool,
    /// Print JSON, one request a line
    #[arg(long)]
    json: bool,
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("an attribute is KEY=VALUE".to_owned()),
    }
}

fn parse_signal(text: &str) -> Result<Signal, String> {
    let found = Signal::ALL.into_iter().find(|signal| signal.as_str() == text);
    found.ok_or_else(|| "signals are traces, metrics and logs".to_owned())
}

impl Args {
    fn target(&self) -> Option<ErasureTarget> {
        let attribute = self.attribute.clone().map(|(key, value)| ErasureTarget::Attribute { key, value });
        let trace = self.trace_id.map(ErasureTarget::Trace);
        trace.or(attribute).or_else(|| self.service.clone().map(ErasureTarget::Service))
    }
}

/// Asks for an erasure, or lists them.
///
/// # Errors
/// The stores do not open or do not answer.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let store = args.stores.open().await?;
        let Some(target) = args.target() else {
            return Ok::<_, Box<dyn Error>>(listed(&erase::list(&store).await?, args.json));
        };
        let signals = if args.signal.is_empty() { Signal::ALL.to_vec() } else { args.signal.clone() };
        let erasure = Erasure {
            tenant: args.tenant.clone(),
            signals,
            target,
            requested_at_s: edge::clock::now_s(),
            done_at_s: None,
            n_removed: 0,
        };
        if args.yes {
            erase::request(&store, &erasure).await?;
        }
        let said = if args.yes {
            "asked for; the next compaction erases it, and its time of grace later the old files are deleted"
        } else {
            "nothing changed; --yes asks for it"
        };
        let listed = listed(&[erasure], args.json);
        Ok(if args.json { listed } else { format!("{listed}{said}\n") })
    })?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn listed(erasures: &[Erasure], is_json: bool) -> String {
    let mut text = String::new();
    for erasure in erasures {
        let Erasure { tenant, target, requested_at_s, done_at_s, n_removed, .. } = erasure;
        let signals: Vec<&str> = erasure.signals.iter().map(|signal| signal.as_str()).collect();
        let line = if is_json {
            json!({
                "tenant": tenant.as_str(), "signals": signals, "target": target.to_string(),
                "requested_at_s": requested_at_s, "done_at_s": done_at_s, "removed": n_removed,
            })
            .to_string()
        } else {
            let state = match done_at_s {
                Some(done_at_s) => format!("done at {done_at_s}"),
                None => "pending".to_owned(),
            };
            let signals = signals.join(",");
            format!(
                "{tenant} {signals} {target}: requested at {requested_at_s}, {state}, {n_removed} removed"
            )
        };
        writeln!(text, "{line}").expect("invariant: writing to a string succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Command};

    fn args(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["spandrel", "erase"].into_iter().chain(line.split_whitespace())).map(|cli| {
            match cli.command {
                Some(Command::Erase(args)) => args,
                other => panic!("{other:?}"),
            }
        })
    }

    #[test]
    fn one_target_is_named() {
        let target = |line: &str| args(line).expect(line).target().map(|target| target.to_string());
        let id = "0000000000000000000000000000abcd";
        assert_eq!(target("--trace-id abcd"), Some(format!("trace {id}")));
        assert_eq!(target("--attribute user.id=a=b").as_deref(), Some("attribute user.id=a=b"));
        assert_eq!(target("--service shop --signal traces,logs").as_deref(), Some("service shop"));
        assert_eq!(target("--list"), None);
        for line in
            ["", "--yes", "--service a --trace-id 1", "--attribute user", "--service a --signal spans"]
        {
            args(line).expect_err(line);
        }
    }

    #[test]
    fn requests_say_what_became_of_them() {
        let pending = Erasure {
            tenant: TenantId::default_tenant(),
            signals: vec![Signal::Traces],
            target: ErasureTarget::Service("shop".to_owned()),
            requested_at_s: 5,
            done_at_s: None,
            n_removed: 0,
        };
        let done = Erasure { done_at_s: Some(9), n_removed: 3, ..pending.clone() };
        assert_eq!(
            listed(&[pending, done.clone()], false),
            "default traces service shop: requested at 5, pending, 0 removed\n\
             default traces service shop: requested at 5, done at 9, 3 removed\n"
        );
        let json: serde_json::Value = serde_json::from_str(&listed(&[done], true)).expect("JSON");
        assert_eq!((&json["removed"], &json["target"]), (&3.into(), &"service shop".into()));
    }
}
