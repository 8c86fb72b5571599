//! `spandrel compact`: one pass of merging over a data folder or the cloud's stores; and the ticker of the server.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ::compact::{Compactor, Metrics};
use edge::ledger::Ledger;
use storage::Store;
use storage::compact::{Retention, Sampling, Settings};
use tokio::sync::watch;

use crate::stores;

/// Arguments of `spandrel compact`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// Look at every window, and merge what is there as if no more would come
    #[arg(long)]
    everything: bool,
    /// How old what is stored may become, such as 30d,metrics=400d,traces{status=error}=90d [default: any]
    #[arg(long, env = "SPANDREL_RETENTION", value_name = "RULES", default_value_t)]
    retention: Retention,
    /// Which stored traces stay, such as errors;slow=2s;rest=10%;after=6h|team-a/rest=100%;after=0s [default: all]
    #[arg(
        long = "sampling.policy",
        env = "SPANDREL_SAMPLING_POLICY",
        value_name = "POLICIES",
        default_value_t
    )]
    sampling: Sampling,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Merges what is to be merged now, and prints what that was.
///
/// # Errors
/// The stores do not open or do not answer; a window failed.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let store = args.stores.open().await?;
        let settings = Settings {
            everything: args.everything,
            retention: args.retention.clone(),
            sampling: args.sampling.clone(),
            ..::compact::settings(edge::config::variable)?
        };
        let compactor = Compactor {
            store,
            settings,
            owner: args.stores.owner(),
            metrics: Arc::default(),
            ledger: Arc::default(),
        };
        Ok::<_, Box<dyn Error>>(compactor.pass().await?)
    })?;
    let text = if args.json {
        format!("{}\n", ::compact::to_json(&report))
    } else {
        format!(
            "{} merges: {} files of {} bytes became {} of {}, with {} rows; {} duplicates left out\n\
             {} files too old, {} written anew without {} spans that policies drop\n\
             {} deleted after their time of grace; {} windows failed, {} held by others\n",
            report.merges,
            report.inputs,
            report.bytes_read,
            report.outputs,
            report.bytes_written,
            report.rows,
            report.duplicates,
            report.expired,
            report.rewritten,
            report.dropped,
            report.deleted,
            report.failed,
            report.held,
        )
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if report.failed > 0 {
        return Err(format!("{} windows failed; the log says why", report.failed).into());
    }
    Ok(())
}

/// Merges every `interval` on a thread of its own, so that requests do not wait for it, until `stop` says so. A process
/// that ends in the middle of a merge loses nothing by it.
///
/// # Errors
/// The thread does not start.
pub(crate) fn start_ticker(
    store: Store,
    owner: String,
    interval: Duration,
    (retention, sampling): (Retention, Sampling),
    ledger: &Arc<Ledger>,
    stop: watch::Receiver<bool>,
) -> Result<Arc<Metrics>, Box<dyn Error>> {
    let metrics: Arc<Metrics> = Arc::default();
    let settings = Settings { retention, sampling, ..::compact::settings(edge::config::variable)? };
    let compactor =
        Compactor { store, settings, owner, metrics: Arc::clone(&metrics), ledger: Arc::clone(ledger) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("compact".to_owned())
        .spawn(move || runtime.block_on(compactor.tick(interval, stop)))?;
    Ok(metrics)
}
