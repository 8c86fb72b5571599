//! The Lambda function `query`.

use std::process::ExitCode;
use std::sync::Arc;

use edge::config::Settings;
use edge::guard::Door;
use edge::{cache, clock, health, lambda, logging, open};

fn main() -> ExitCode {
    logging::init(logging::Style::Json);
    lambda::main(async {
        let settings = Settings::from_env()?;
        let (objects, index) = (settings.object_store.parse()?, settings.index.parse()?);
        let store = open::open(&objects, &index, settings.index_shards).await?;
        let state = query::State {
            store: match cache::open(&settings.cache, &objects) {
                Some(cache) => store.cached(&cache),
                None => store,
            },
            limits: storage::read::Limits::default(),
            timeout: settings.query_timeout,
            clock: clock::now_ns,
            ledger: Arc::default(),
            results: query::prometheus::Results::of(settings.result_cache_bytes),
        };
        let router = health::router().merge(query::router(state));
        let door = Door::new(router, edge::guard::json_failure).below(&settings.base_path);
        lambda::run(door, settings.raw_path).await
    })
}
