//! Clients of S3 and DynamoDB, and what their errors mean.

use std::error::Error as StdError;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::Error;

/// How often a request is sent before it is given up.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// How long calls may take. A transfer of a large object gets more, by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// One attempt, until its answer begins.
    pub attempt: Duration,
    /// All attempts together.
    pub operation: Duration,
}

impl Default for Timeouts {
    /// 2 s, 5 s and 20 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(5),
            operation: Duration::from_secs(20),
        }
    }
}

/// One client of each service; they are cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
}

/// Clients with region, credentials and endpoint from where the AWS SDKs usually find them (environment, profile,
/// role). Where `AWS_ENDPOINT_URL` or the profile names an endpoint, S3 buckets are part of the path, as emulators
/// and other stores want it. Sends each request up to three times.
pub async fn clients(timeouts: Timeouts) -> Clients {
    let timeout_config = TimeoutConfig::builder()
        .connect_timeout(timeouts.connect)
        .operation_attempt_timeout(timeouts.attempt)
        .operation_timeout(timeouts.operation)
        .build();
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeout_config)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        .load()
        .await;
    let s3 =
        aws_sdk_s3::config::Builder::from(&shared).force_path_style(shared.endpoint_url().is_some()).build();
    Clients { s3: aws_sdk_s3::Client::from_conf(s3), dynamodb: aws_sdk_dynamodb::Client::new(&shared) }
}

/// What the caller can do about an error of a service.
pub(crate) fn failed<E>(store: &'static str, doing: String, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    if may_pass(&error) {
        Error::unavailable(store, doing, error)
    } else {
        Error::refused(store, doing, error)
    }
}

/// Whether the same request may succeed later.
pub(crate) fn may_pass<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            status >= 500 || matches!(status, 408 | 429) || refusal.err().code().is_some_and(is_passing_code)
        }
        // Timeouts, lost connections, answers that break off.
        _ => true,
    }
}

/// Whether the service may have done what it was asked although an error came back.
pub(crate) fn may_have_happened<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(refusal) => refusal.raw().status().as_u16() >= 500,
        _ => true,
    }
}

/// Error codes that come with status 400, 403 or 409 and still pass by themselves.
fn is_passing_code(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "ThrottlingError"
            | "Throttling"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "ProvisionedThroughputExceededException"
            | "ProvisionedThroughputExceeded"
            | "SlowDown"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "TransactionConflict"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "InternalError"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "ExpiredToken"
            | "ExpiredTokenException"
    )
}

/// Numbers that no other process makes and that come once each: hashes of a counter under keys that are this
/// process's own. Two of 64 bits meet by chance once in 1.8e19.
#[derive(Debug, Default)]
pub(crate) struct UniqueNumbers {
    keys: RandomState,
    n_made: AtomicU64,
}

impl UniqueNumbers {
    /// The next number, never 0.
    pub(crate) fn next(&self) -> u64 {
        self.keys.hash_one(self.n_made.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    /// How long to wait after the attempt number `attempt`, counted from 0: up to 50 ms, doubled for each further
    /// one, at most 1 s; a random part of it, so that those who met do not meet again.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let longest_ms = (50_u64 << attempt.min(10)).min(1_000);
        Duration::from_millis(1 + self.next() % longest_ms)
    }
}

/// A server of prepared answers, for what no emulator does on demand.
#[cfg(test)]
pub(crate) mod stub {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use aws_config::retry::RetryConfig;
    use aws_config::timeout::TimeoutConfig;
    use aws_config::{BehaviorVersion, SdkConfig};
    use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider};

    use super::{Clients, MAX_ATTEMPTS};

    /// What the server does with a request.
    pub(crate) enum Answer {
        /// Answers with a status and a body.
        Is(u16, String),
        /// Answers with a body that is announced to be longer than it is.
        BreaksOff(String),
        /// Hangs up.
        None,
    }

    /// Clients of a server that answers its n-th request, head and body given, as `answer` says; and all the
    /// requests it got.
    pub(crate) fn serve(
        answer: impl Fn(usize, &str) -> Answer + Send + 'static,
    ) -> (Clients, Arc<Mutex<Vec<String>>>) {
        let (endpoint, requests) = serve_at(answer);
        (clients_of(&endpoint), requests)
    }

    /// As [`serve`], with the server's address in place of clients.
    pub(crate) fn serve_at(
        answer: impl Fn(usize, &str) -> Answer + Send + 'static,
    ) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            // Ends with the test's process.
            for connection in listener.incoming() {
                let connection = connection.expect("a connection");
                let Some(request) = read_request(&connection) else { continue };
                let n = seen.lock().expect("no panic").len();
                seen.lock().expect("no panic").push(request.clone());
                let (status, body, n_announced) = match answer(n, &request) {
                    Answer::Is(status, body) => (status, body.clone(), body.len()),
                    Answer::BreaksOff(body) => (200, body.clone(), body.len() + 10),
                    Answer::None => continue,
                };
                let head = format!(
                    "HTTP/1.1 {status} Prepared\r\ncontent-length: {n_announced}\r\nconnection: close\r\n\r\n"
                );
                // The client may have gone away.
                let _ = (&connection).write_all(format!("{head}{body}").as_bytes());
            }
        });
        (format!("http://{address}"), requests)
    }

    /// Clients of an address where nobody listens.
    pub(crate) fn nobody() -> Clients {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        clients_of(&format!("http://{address}"))
    }

    fn clients_of(endpoint: &str) -> Clients {
        let shared = shared(endpoint);
        let s3 = aws_sdk_s3::config::Builder::from(&shared).force_path_style(true).build();
        Clients { s3: aws_sdk_s3::Client::from_conf(s3), dynamodb: aws_sdk_dynamodb::Client::new(&shared) }
    }

    /// What all clients of this address have in common.
    pub(crate) fn shared(endpoint: &str) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "test");
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(5)).build();
        let retries = RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS);
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(retries.with_initial_backoff(Duration::from_millis(1)))
            .timeout_config(timeouts)
            .build()
    }

    fn read_request(connection: &TcpStream) -> Option<String> {
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase().replace("x-amz-decoded-content-length:", "decoded:");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
        reader.read_exact(&mut body).ok()?;
        Some(head + &String::from_utf8_lossy(&body))
    }
}
