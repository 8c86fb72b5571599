//! The Lambda function `ingest`.

use std::process::ExitCode;
use std::sync::Arc;

use edge::config::Settings;
use edge::guard::Door;
use edge::{health, lambda, logging, open};
use storage::write::Writer;

fn main() -> ExitCode {
    logging::init(logging::Style::Json);
    lambda::main(async {
        let settings = Settings::from_env()?;
        let (objects, index) = (settings.object_store.parse()?, settings.index.parse()?);
        let store = open::open(&objects, &index, settings.index_shards).await?;
        let defaults = ingest::Settings::default().with_variables(edge::config::variable)?;
        let state = ingest::State::new(
            Arc::new(Writer::new(store)),
            ingest::Settings {
                limits: ingest::Limits { max_body_bytes: settings.max_body_bytes, ..defaults.limits },
                timeout: settings.ingest_timeout,
                // One event at a time: there is no other connection to hold up.
                inline_bytes: usize::MAX,
                ..defaults
            },
            Arc::default(),
        );
        let router = health::router().merge(ingest::router(state));
        let door = Door::new(router, ingest::failure).below(&settings.base_path);
        lambda::run(door, settings.raw_path).await
    })
}
