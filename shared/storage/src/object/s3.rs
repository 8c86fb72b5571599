//! Objects in S3, or in what speaks its protocol.
//!
//! A put carries `If-None-Match: *`, which makes it create-only on the server. The SDK's own second attempt after a
//! lost answer meets the object of the first and says so, which is as good: the object is there.
//! Needed permissions: `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` on the objects, and `s3:ListBucket` on the
//! bucket, without which S3 answers 403 instead of 404 for an object that is not there.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;

use super::{Object, ObjectMeta, PutOutcome};
use crate::aws::{MAX_ATTEMPTS, UniqueNumbers, failed};
use crate::{Error, Result};

const STORE: &str = "object store";
/// Tries of a put that meets another put of the same key; S3 asks to repeat it.
const CONFLICT_ATTEMPTS: u32 = 8;
/// Bodies above this get more time than the client's timeouts give.
const LARGE_BODY_BYTES: usize = 4 << 20;
/// The slowest transfer that is waited for.
const SLOWEST_BYTES_PER_S: usize = 4 << 20;
/// Keys that S3 lists at once, at most.
const LIST_PAGE: usize = 1_000;

/// Objects in a bucket, below a prefix. Cheap to clone but for two strings.
#[derive(Debug)]
pub struct S3Objects {
    client: Client,
    bucket: String,
    /// Empty, or ends in a slash.
    prefix: String,
    jitter: UniqueNumbers,
}

impl S3Objects {
    /// Objects in `bucket` whose keys there start with `prefix`, which gets a slash at its end if it has none.
    pub fn new(client: Client, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        let mut prefix = prefix.into();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self { client, bucket: bucket.into(), prefix, jitter: UniqueNumbers::default() }
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The object, or the part of it that an HTTP range names. Begins again where the transfer of a body breaks off,
    /// which the SDK does not do.
    async fn read(&self, key: &str, range: Option<String>) -> Result<Option<Bytes>> {
        let doing = || format!("reading {}", self.full_key(key));
        let mut attempt = 0;
        loop {
            let request = self.client.get_object().bucket(&self.bucket).key(self.full_key(key));
            let output = match request.set_range(range.clone()).send().await {
                Ok(output) => output,
                Err(error) => return self.absence(&doing(), error),
            };
            match body_bytes(output).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if attempt + 1 >= MAX_ATTEMPTS => {
                    return Err(Error::unavailable(STORE, doing(), error));
                }
                Err(_) => tokio::time::sleep(self.jitter.backoff(attempt)).await,
            }
            attempt += 1;
        }
    }

    /// What an error of a read says of the object.
    fn absence(&self, doing: &str, error: SdkError<GetObjectError, HttpResponse>) -> Result<Option<Bytes>> {
        match error.code() {
            // A missing bucket has another code, where the code is told.
            Some("NoSuchKey") => Ok(None),
            // The range starts at or after the end.
            Some("InvalidRange") => Ok(Some(Bytes::new())),
            _ if status(&error) == Some(416) => Ok(Some(Bytes::new())),
            _ => Err(self.failed(doing, error)),
        }
    }

    fn failed<E>(&self, doing: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        failed(STORE, format!("{doing} in {}", self.bucket), error)
    }

    /// The client's timeouts, with time added for the transfer of `n_bytes`.
    fn timeouts_for(&self, n_bytes: usize) -> TimeoutConfig {
        let extra = Duration::from_secs((n_bytes / SLOWEST_BYTES_PER_S) as u64);
        let usual = self.client.config().timeout_config();
        let mut longer = TimeoutConfig::builder();
        if let Some(usual) = usual {
            longer.set_connect_timeout(usual.connect_timeout());
            longer
                .set_operation_attempt_timeout(usual.operation_attempt_timeout().map(|limit| limit + extra));
            let extra_in_all = extra * MAX_ATTEMPTS;
            longer.set_operation_timeout(usual.operation_timeout().map(|limit| limit + extra_in_all));
        }
        longer.build()
    }
}

#[async_trait::async_trait]
impl Object for S3Objects {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        let key = self.full_key(key);
        let mut attempt = 0;
        loop {
            let request = self.client.put_object().bucket(&self.bucket).key(&key).if_none_match("*");
            let mut request = request.body(ByteStream::from(body.clone())).customize();
            if body.len() > LARGE_BODY_BYTES {
                let timeouts = self.timeouts_for(body.len());
                request =
                    request.config_override(aws_sdk_s3::config::Builder::new().timeout_config(timeouts));
            }
            let Err(error) = request.send().await else { return Ok(PutOutcome::Created) };
            match status(&error) {
                Some(412) => return Ok(PutOutcome::AlreadyThere),
                // Another put of the key is under way, or a delete; who wins is open.
                Some(409) if attempt + 1 < CONFLICT_ATTEMPTS => {
                    tokio::time::sleep(self.jitter.backoff(attempt)).await;
                    attempt += 1;
                }
                _ => return Err(self.failed(&format!("storing {key}"), error)),
            }
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        // HTTP has no empty range, and its ends are inclusive.
        if range.is_empty() {
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        self.read(key, Some(format!("bytes={}-{}", range.start, range.end - 1))).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.read(key, None).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        let key = self.full_key(key);
        match self.client.head_object().bucket(&self.bucket).key(&key).send().await {
            Ok(output) => Ok(Some(output.content_length().unwrap_or(0).max(0) as u64)),
            // An answer to HEAD has no body to tell a missing bucket apart.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.failed(&format!("reading the size of {key}"), error)),
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let key = self.full_key(key);
        match self.client.delete_object().bucket(&self.bucket).key(&key).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(self.failed(&format!("deleting {key}"), error)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let full_prefix = self.full_key(prefix);
        let mut start_after = after.map(|after| self.full_key(after));
        let mut found = Vec::new();
        while found.len() < limit {
            let page_size = (limit - found.len()).min(LIST_PAGE);
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&full_prefix);
            let request = request.set_start_after(start_after.clone()).max_keys(page_size as i32);
            let page = request
                .send()
                .await
                .map_err(|error| self.failed(&format!("listing {full_prefix}"), error))?;
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                start_after = Some(key.to_owned());
                let size = object.size().unwrap_or(0).max(0) as u64;
                let modified = object.last_modified().map_or(0, aws_sdk_s3::primitives::DateTime::secs);
                let modified_s = u64::try_from(modified).unwrap_or(0);
                found.push(ObjectMeta { key: key[self.prefix.len()..].to_owned(), size, modified_s });
            }
            if page.is_truncated() != Some(true) || page.contents().is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

/// Makes a bucket, for tools and tests; one that this account has already is left as it is.
///
/// # Errors
/// Refused or unavailable, as S3 says.
pub async fn create_bucket_if_absent(client: &Client, bucket: &str) -> Result<()> {
    let region = client.config().region().map(AsRef::as_ref);
    let location = region.filter(|&region| region != "us-east-1").map(BucketLocationConstraint::from);
    let config =
        location.map(|location| CreateBucketConfiguration::builder().location_constraint(location).build());
    match client.create_bucket().bucket(bucket).set_create_bucket_configuration(config).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
        Err(error) => Err(failed(STORE, format!("creating bucket {bucket}"), error)),
    }
}

async fn body_bytes(
    output: GetObjectOutput,
) -> std::result::Result<Bytes, aws_sdk_s3::primitives::ByteStreamError> {
    Ok(output.body.collect().await?.into_bytes())
}

/// The HTTP status of an answer, if there was one.
fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::stub::{Answer, nobody, serve};

    fn error(status: u16, code: &str) -> Answer {
        Answer::Is(status, format!("<Error><Code>{code}</Code><Message>prepared</Message></Error>"))
    }

    fn objects(answer: impl Fn(usize, &str) -> Answer + Send + 'static) -> S3Objects {
        S3Objects::new(serve(answer).0.s3, "bucket", "prefix")
    }

    async fn put(objects: &S3Objects) -> Result<PutOutcome> {
        objects.put_if_absent("key", Bytes::from_static(b"body")).await
    }

    #[tokio::test]
    async fn put_is_create_only() {
        let (clients, requests) = serve(|_, _| Answer::Is(200, String::new()));
        let objects = S3Objects::new(clients.s3, "bucket", "prefix");
        assert_eq!(put(&objects).await.expect("put"), PutOutcome::Created);
        let request = requests.lock().expect("no panic")[0].clone();
        assert!(
            request.starts_with("put /bucket/prefix/key") && request.contains("if-none-match: *\r\n"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn lost_answer_of_a_put_ends_as_already_there() {
        let objects = objects(|n, _| if n == 0 { Answer::None } else { error(412, "PreconditionFailed") });
        assert_eq!(put(&objects).await.expect("put"), PutOutcome::AlreadyThere);
    }

    #[tokio::test]
    async fn put_that_meets_another_is_tried_again() {
        let objects = objects(|n, _| match n {
            0..4 => error(409, "ConditionalRequestConflict"),
            _ => Answer::Is(200, String::new()),
        });
        assert_eq!(put(&objects).await.expect("put"), PutOutcome::Created);
    }

    #[tokio::test]
    async fn errors_are_told_apart_by_what_helps() {
        for (status, code, may_pass) in [
            (503, "SlowDown", true),
            (500, "InternalError", true),
            (400, "RequestTimeout", true),
            (409, "ConditionalRequestConflict", true),
            (403, "AccessDenied", false),
            (404, "NoSuchBucket", false),
            (400, "InvalidRequest", false),
            (301, "PermanentRedirect", false),
        ] {
            let objects = objects(move |_, _| error(status, code));
            for outcome in [
                put(&objects).await.map(drop),
                objects.get("key").await.map(drop),
                objects.delete("key").await,
            ] {
                match outcome {
                    Err(Error::Unavailable { .. }) if may_pass => {}
                    Err(Error::Refused { .. }) if !may_pass => {}
                    outcome => panic!("{code}: {outcome:?}"),
                }
            }
        }
        let nobody = S3Objects::new(nobody().s3, "bucket", "");
        assert!(matches!(put(&nobody).await, Err(Error::Unavailable { .. })));
    }

    #[tokio::test]
    async fn read_begins_again_when_a_body_breaks_off() {
        let objects = objects(|n, _| match n {
            0 => Answer::BreaksOff("half".to_owned()),
            _ => Answer::Is(200, "half and half".to_owned()),
        });
        assert_eq!(objects.get("key").await.expect("get").as_deref(), Some(&b"half and half"[..]));
    }
}
