//! The Lambda function `query`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use edge::config::Settings;
use edge::guard::Door;
use edge::ledger::Ledger;
use edge::{cache, clock, health, lambda, logging, open};
use query::fanout::{Fanout, Invocations, Worker, Workers};

fn main() -> ExitCode {
    logging::init(logging::Style::Json);
    lambda::main(async {
        let settings = Settings::from_env()?;
        let (objects, index) = (settings.object_store.parse()?, settings.index.parse()?);
        let store = open::open(&objects, &index, settings.index_shards).await?;
        let store = match cache::open(&settings.cache, &objects) {
            Some(cache) => store.cached(&cache),
            None => store,
        };
        let ledger: Arc<Ledger> = Arc::default();
        let worker = Worker::new(store.clone(), Arc::clone(&ledger), settings.query_timeout);
        let state = query::State {
            store,
            limits: storage::read::Limits::default(),
            timeout: settings.query_timeout,
            clock: clock::now_ns,
            ledger,
            results: query::prometheus::Results::of(settings.result_cache_bytes),
            searches: query::Searches::of(settings.search_cache_bytes),
            fanout: invocations(settings.query_timeout)
                .and_then(|workers| Fanout::of(workers, settings.query_share)),
        };
        let router = health::router().merge(query::router(state));
        let door = Door::new(router, edge::guard::json_failure).below(&settings.base_path);
        let answer = |job: String, limit: Duration| {
            let worker = worker.clone();
            async move {
                let answer = worker.answer(job.as_bytes(), limit).await;
                String::from_utf8(answer.into()).unwrap_or_default()
            }
        };
        lambda::run_with_jobs(door, settings.raw_path, answer).await
    })
}

/// Other invocations of this version of this function.
fn invocations(timeout: Duration) -> Option<Arc<dyn Workers>> {
    let name = edge::config::variable("AWS_LAMBDA_FUNCTION_NAME")?;
    let version = edge::config::variable("AWS_LAMBDA_FUNCTION_VERSION")?;
    Some(Arc::new(Invocations::new(name, version, timeout)))
}
