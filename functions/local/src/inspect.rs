//! `spandrel inspect`: what is stored, by tenant, hour and level; and whether it is sound.
//!
//! index → one line a window and level; objects → those that the index does not name; `--verify` → every file read
//! twice and compared. A running server answers the same at `/-/inspect`, because only one process opens a folder.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use storage::read::{self, StoredWindow};
use storage::{Store, object::Object};

use crate::stores;

/// Arguments of `spandrel inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// Read every file through two independent readers and compare them with each other and with the index
    #[arg(long)]
    verify: bool,
}

/// Prints what is stored.
///
/// # Errors
/// The stores do not open or do not answer; the folder is not there; a file is not sound.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let store = args.stores.open().await?;
        let mut text = table(&store).await?;
        if args.verify {
            for tenant in read::tenants(&store).await? {
                let n_items = read::verify(&store, &tenant).await?;
                writeln!(text, "{tenant}: {n_items} spans and samples verified")?;
            }
        }
        Ok::<_, Box<dyn Error>>(text)
    })?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// What is stored, as a table to read.
///
/// # Errors
/// As the stores.
pub async fn table(store: &Store) -> storage::Result<String> {
    let mut text = String::new();
    let mut indexed: BTreeSet<String> = BTreeSet::new();
    for tenant in read::tenants(store).await? {
        let windows = read::windows(store, &tenant).await?;
        writeln!(text, "tenant {tenant}\n{HEADER}").expect("invariant: writing to a string succeeds");
        for window in windows {
            writeln!(text, "{}", line(&window)).expect("invariant: writing to a string succeeds");
            indexed.extend(window.objects);
        }
        let retired = read::retired(store, &tenant).await?;
        if !retired.is_empty() {
            let note = "files were merged or are too old, and are deleted soon";
            writeln!(text, "{} {note}", retired.len()).expect("invariant: writing to a string succeeds");
        }
        indexed.extend(retired);
    }
    if indexed.is_empty() {
        text.push_str("nothing is stored\n");
    }
    let unnamed = objects_beside(&*store.objects, &indexed).await?;
    if unnamed > 0 {
        let note = "left by requests that were never answered; sending them again adopts them";
        writeln!(text, "{unnamed} objects are not in the index: {note}")
            .expect("invariant: writing to a string succeeds");
    }
    Ok(text)
}

const HEADER: &str =
    "signal   window          level    files        items          bytes  B/item  index B/file  services";

fn line(window: &StoredWindow) -> String {
    const SHOWN: usize = 4;
    let n_files = window.objects.len().max(1) as u64;
    let mut services: Vec<&str> = window.services.iter().take(SHOWN).map(String::as_str).collect();
    let more = format!("and {} more", window.services.len().saturating_sub(SHOWN));
    if window.services.len() > SHOWN {
        services.push(&more);
    }
    format!(
        "{:<8} {:<15} {:>5} {:>8} {:>12} {:>14} {:>7.1} {:>13}  {}",
        window.signal.as_str(),
        window.window.to_string(),
        window.level,
        n_files,
        window.n_items,
        window.bytes,
        window.bytes as f64 / window.n_items.max(1) as f64,
        window.index_bytes / n_files,
        services.join(", ")
    )
}

/// How many objects the index does not name.
async fn objects_beside(objects: &dyn Object, indexed: &BTreeSet<String>) -> storage::Result<u64> {
    const PAGE: usize = 1000;
    let mut n_unnamed = 0;
    let mut after: Option<String> = None;
    loop {
        let page = objects.list("", after.as_deref(), PAGE).await?;
        n_unnamed += page.iter().filter(|object| !indexed.contains(&object.key)).count() as u64;
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(n_unnamed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::spans::SpanFields;
    use model::{Signal, SpanColumns, SpanId, TenantId, TraceId};
    use storage::index::TableLayout;
    use storage::kv::memory::MemoryTable;
    use storage::object::memory::MemoryObjects;
    use storage::write::{Writer, content_hash};

    use super::*;

    #[tokio::test]
    async fn files_are_summed_by_window_and_unnamed_objects_are_counted() {
        let store = Store {
            objects: Arc::new(MemoryObjects::new()),
            table: Arc::new(MemoryTable::new()),
            layout: TableLayout { shards: 1 },
            recent: storage::read::RecentTraces::default(),
        };
        assert_eq!(table(&store).await.expect("memory"), "nothing is stored\n");
        let tenant = TenantId::default_tenant();
        let writer = Writer::new(store.clone());
        for i in 1..=3u8 {
            let mut columns = SpanColumns::default();
            let origin = columns.origins.intern_resource("shop", r#"{"service.name":"shop"}"#, "");
            let span =
                SpanFields { trace_id: TraceId([i; 16]), span_id: SpanId([i; 8]), ..SpanFields::default() };
            columns.push_span(&span, origin);
            let block = storage::block::spans::encode(&columns);
            let content = content_hash(&tenant, Signal::Traces, &[i]);
            writer.spans(&tenant, content, block, 1_000, &Arc::default()).await.expect("memory");
        }
        let mut series = model::series::SeriesBuilder::default();
        series.label("__name__", "up");
        let up = series.close_labels(model::series::Temporality::Cumulative).expect("labels");
        series.sample(up, 5, 1.0, 0);
        let block = storage::block::series::encode(&series.finish()).expect("a sample");
        let content = content_hash(&tenant, Signal::Metrics, &[1]);
        writer.series(&tenant, content, block, 1_000, &Arc::default()).await.expect("memory");
        store.objects.put_if_absent("a/lost.parquet", "x".into()).await.expect("memory");

        let text = table(&store).await.expect("memory");
        assert!(text.starts_with("tenant default\nsignal"), "{text}");
        let line = text.lines().nth(2).expect("a window");
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[..5], ["traces", "1970-01-01T00", "0", "3", "3"], "{line}");
        assert_eq!(fields.last(), Some(&"shop"));
        assert!(text.lines().any(|line| line.starts_with("metrics  1970-01-01T00")), "{text}");
        assert!(text.contains("\n1 objects are not in the index"), "{text}");
        assert_eq!(read::verify(&store, &tenant).await.expect("sound"), 4);
    }
}
