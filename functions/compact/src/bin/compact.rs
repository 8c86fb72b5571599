//! The Lambda function `compact`: one pass for each event, whatever is in it.

use std::process::ExitCode;
use std::sync::Arc;

use compact::{Compactor, Metrics};
use edge::config::Settings;
use edge::{lambda, logging, open};

fn main() -> ExitCode {
    logging::init(logging::Style::Json);
    lambda::main(async {
        let settings = Settings::from_env()?;
        let (objects, index) = (settings.object_store.parse()?, settings.index.parse()?);
        let store = open::open(&objects, &index, settings.index_shards).await?;
        let settings = compact::settings(edge::config::variable)?;
        lambda::run_scheduled(move |request_id| {
            let (store, settings, owner) = (store.clone(), settings.clone(), request_id.to_owned());
            async move {
                let compactor = Compactor {
                    store,
                    settings,
                    owner,
                    metrics: Arc::new(Metrics::default()),
                    ledger: Arc::default(),
                };
                Ok(compact::to_json(&compactor.pass().await?))
            }
        })
        .await
    })
}
