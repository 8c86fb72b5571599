//! `spandrel serve`: every role behind one endpoint, and behind the classical ports.
//!
//! arguments → stores → routers of the roles → listeners → the start-up page → requests until a signal → clean stop.
//! A stop closes the listeners, lets requests in flight finish within [`STOP_LIMIT`], and ends with exit code 0.

mod args;
mod listen;
mod page;
mod routes;

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use edge::guard::Door;
use edge::ledger::Ledger;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

pub use args::Args;

use listen::Server;
use page::{Addresses, StartPage};

/// How long requests in flight may take once a stop was asked for.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The stores do not open, a port is taken, a location is invalid.
pub fn run(args: Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(worker_threads()).enable_all().build()?;
    let outcome = runtime.block_on(serve(args));
    // What still runs on blocking threads is nothing that was acknowledged.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// At least two, so that one long piece of work does not hold up every connection.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let (objects, index) = args.locations()?;
    let store = edge::open::open(&objects, &index, args.shards(&index)).await?;
    let store = match args.storage_latency_ms {
        0 => store,
        latency_ms => store.with_latency(Duration::from_millis(latency_ms)),
    };

    let mut signals = Signals::new()?;
    let mut server = Server::default();
    let http = server.bind("http", "--http", &args.http).await?;
    let jaeger = match args.jaeger() {
        Some(address) => Some(server.bind("jaeger", "--listen.jaeger", address).await?),
        None => None,
    };
    let prometheus = match args.prometheus() {
        Some(address) => Some(server.bind("prometheus", "--listen.prometheus", address).await?),
        None => None,
    };
    let health = match args.health() {
        Some(address) => Some(server.bind("health", "--listen.health", address).await?),
        None => None,
    };
    let addresses = Addresses { http, jaeger, prometheus, health };

    let (stop, stopped) = watch::channel(false);
    let ledger = Arc::new(Ledger::default());
    let compaction = match args.compact_interval_ms {
        0 => None,
        interval_ms => {
            let owner = crate::stores::owner(args.object_store.is_none());
            let interval = Duration::from_millis(interval_ms);
            Some(crate::compact::start_ticker(
                store.clone(),
                owner,
                interval,
                (args.retention.clone(), args.sampling_policy.clone()),
                &ledger,
                stopped.clone(),
            )?)
        }
    };
    let start_page = StartPage::new(&addresses, &args);
    let announcement = format!("{}{}\n", start_page.text, page::listening(&addresses));
    let cache = edge::cache::open(&args.cache(), &objects);
    let roles = routes::Roles::new(&args, store, cache, ledger, compaction, start_page);
    let one_endpoint = Door::new(roles.one_endpoint(), routes::failure);
    server.open("http", &one_endpoint);
    server.open("jaeger", &Door::new(roles.jaeger(), routes::failure));
    server.open("prometheus", &Door::new(roles.prometheus(), routes::failure));
    server.open("health", &Door::new(roles.health(), routes::failure));
    print(&announcement)?;

    let demo = args.demo.then(|| tokio::spawn(crate::demo::run(http, stopped)));
    signals.next().await;
    tracing::info!("stopping: requests in flight finish");
    let _ = stop.send(true);
    if let Some(demo) = demo {
        let _ = demo.await;
    }
    tokio::select! {
        is_clean = server.stop(STOP_LIMIT) => {
            if !is_clean {
                tracing::warn!(limit_s = STOP_LIMIT.as_secs(), "stopped with requests in flight");
            }
        }
        () = signals.next() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}

/// The signals that ask for a stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
