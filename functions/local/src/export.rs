//! `spandrel export`: samples as plain Parquet, a row each, for engines that do not know packed chunks.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use model::TenantId;

use crate::stores;

/// What is exported. Traces and log records need no export: their files are readable as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Signal {
    Metrics,
}

/// Arguments of `spandrel export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// What to export; files of traces and logs are readable as they are
    #[arg(long, value_enum)]
    signal: Signal,
    /// Where files go, DIR/date=YYYY-MM-DD/N.parquet; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// First time, in seconds since the epoch [default: the first stored]
    #[arg(long, value_name = "SECONDS")]
    from: Option<i64>,
    /// Last time, in seconds since the epoch [default: the last stored]
    #[arg(long, value_name = "SECONDS")]
    to: Option<i64>,
    /// Whose samples
    #[arg(long, default_value_t = TenantId::default_tenant())]
    tenant: TenantId,
}

/// Writes the files, and prints how many samples they have.
///
/// # Errors
/// The stores do not open or do not answer; the folder is not empty or cannot be written; a day has too much that is not
/// merged.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let Args { out, signal: Signal::Metrics, .. } = args;
    edge::logging::init(edge::logging::Style::Text);
    std::fs::create_dir_all(out).map_err(|err| format!("folder {}: {err}", out.display()))?;
    if std::fs::read_dir(out)?.next().is_some() {
        return Err(format!("folder {} is not empty", out.display()).into());
    }
    let range_ms = (
        args.from.map_or(i64::MIN, |seconds| seconds.saturating_mul(1000)),
        args.to.map_or(i64::MAX, |seconds| seconds.saturating_mul(1000)),
    );
    let mut n_files = 0;
    let mut write = |day: i64, number: usize, bytes: bytes::Bytes| {
        let date = storage::index::Window::Hour(day.saturating_mul(24)).to_string();
        let folder = out.join(format!("date={}", date.trim_end_matches("T00")));
        std::fs::create_dir_all(&folder)?;
        n_files += 1;
        std::fs::write(folder.join(format!("{number}.parquet")), bytes)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let n_samples = runtime.block_on(async {
        let store = args.stores.open().await?;
        Ok::<_, Box<dyn Error>>(storage::export::samples(&store, &args.tenant, range_ms, &mut write).await?)
    })?;
    let text = format!("{n_samples} samples in {n_files} files\n");
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
