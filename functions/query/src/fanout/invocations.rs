//! Workers that are other invocations of this Lambda function.

use std::time::Duration;

use bytes::Bytes;
use edge::lambda::job_event;
use futures::future::{BoxFuture, FutureExt as _};
use storage::invoke::Function;
use tokio::sync::OnceCell;

use super::Workers;

/// Invokes a function with each job. Its client is made with the first: most copies never have one to give away.
pub struct Invocations {
    name: String,
    version: String,
    timeout: Duration,
    function: OnceCell<Function>,
}

impl Invocations {
    /// Of this version of the function of this name, whose answers are waited for so long.
    pub fn new(name: String, version: String, timeout: Duration) -> Self {
        Self { name, version, timeout, function: OnceCell::new() }
    }
}

impl Workers for Invocations {
    fn run(&self, job: Bytes) -> BoxFuture<'_, storage::Result<Bytes>> {
        async move {
            let open = || Function::open(&self.name, &self.version, self.timeout);
            let function = self.function.get_or_init(open).await;
            function.invoke(job_event(&job)).await
        }
        .boxed()
    }
}
