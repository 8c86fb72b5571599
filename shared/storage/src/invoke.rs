//! A Lambda function that is invoked directly, and answers.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use bytes::Bytes;

use crate::{Error, Result, aws};

/// What errors call it.
const NAME: &str = "query function";
/// Characters that errors tell of a failed function's answer.
const TOLD_CHARS: usize = 300;

/// One version of a function. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Function {
    client: Client,
    name: String,
    version: String,
}

impl Function {
    /// With region, credentials and endpoint from where the AWS SDKs usually find them. An answer is waited for so long; an
    /// invocation is sent once, for whoever asks knows whether to ask again.
    pub async fn open(name: &str, version: &str, timeout: Duration) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(aws::Timeouts::default().connect)
            .operation_attempt_timeout(timeout)
            .build();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .load()
            .await;
        Self { client: Client::new(&shared), name: name.to_owned(), version: version.to_owned() }
    }

    /// What the function answers to `event`; both are JSON text of 6 MB at most.
    ///
    /// # Errors
    /// Unavailable: it could not be invoked now, or failed. Refused: it may not be invoked.
    pub async fn invoke(&self, event: Bytes) -> Result<Bytes> {
        let doing = || format!("invoking {}", self.name);
        let request = self.client.invoke().function_name(&self.name).qualifier(&self.version);
        let answer = request.payload(Blob::new(event)).send().await;
        let answer = answer.map_err(|err| aws::failed(NAME, doing(), err))?;
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        if let Some(kind) = answer.function_error {
            let told: String = String::from_utf8_lossy(&payload).chars().take(TOLD_CHARS).collect();
            return Err(Error::unavailable(NAME, doing(), format!("{kind}: {told}")));
        }
        Ok(payload.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::stub::{Answer, serve_at, shared};

    fn function(endpoint: &str) -> Function {
        let config = aws_sdk_lambda::config::Builder::from(&shared(endpoint))
            .retry_config(RetryConfig::disabled())
            .build();
        Function { client: Client::from_conf(config), name: "query".to_owned(), version: "7".to_owned() }
    }

    #[tokio::test]
    async fn a_function_is_invoked_in_its_version_and_answers() {
        let (endpoint, requests) = serve_at(|_, _| Answer::Is(200, r#"{"found":1}"#.to_owned()));
        let answer = function(&endpoint).invoke(Bytes::from_static(br#"{"job":1}"#)).await;
        assert_eq!(answer.expect("an answer"), &br#"{"found":1}"#[..]);
        let requests = requests.lock().expect("no panic");
        let head = "post /2015-03-31/functions/query/invocations?qualifier=7 http/1.1";
        assert!(requests[0].starts_with(head), "{}", requests[0]);
        assert!(requests[0].contains("authorization: aws4-hmac-sha256"), "{}", requests[0]);
        assert!(requests[0].ends_with(r#"{"job":1}"#), "{}", requests[0]);
    }

    #[tokio::test]
    async fn errors_say_whether_they_pass_and_nothing_is_sent_twice() {
        let denied = r#"{"Message":"not authorized to perform: lambda:InvokeFunction"}"#;
        for (status, body, passes) in [
            (403, denied, false),
            (429, r#"{"Reason":"ConcurrentInvocationLimitExceeded"}"#, true),
            (500, "{}", true),
        ] {
            let (endpoint, requests) = serve_at(move |_, _| Answer::Is(status, body.to_owned()));
            let error = function(&endpoint).invoke(Bytes::from_static(b"{}")).await.expect_err("no answer");
            assert_eq!(matches!(error, Error::Unavailable { .. }), passes, "{status}: {error:?}");
            assert_eq!(requests.lock().expect("no panic").len(), 1, "{status}");
        }
    }
}
