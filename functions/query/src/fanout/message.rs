//! Jobs and their answers as JSON; pure.
//!
//! ```text
//! job     = {"version":1,"tenant":…,"request_id":…,"timeout_ms":…,"search":{"start_ns":…,"end_ns_exclusive":…,"limit":…,
//!            "conditions":[{"service":"shop"},{"attribute":["http.route","/cart"]},{"any":[…]},…]},
//!            "max_bytes":…,"files":[[sort key of the index item, base64 of the item],…]}
//! answer  = {"found":{"by_file":[hits,…],"newest":hits,"bytes_read":…}}
//!         | {"missing":key of an object} | "over_limit" | {"failed":text}
//! hits    = base64 of, per trace: 16 bytes id, 8 bytes big-endian start of its newest span, ns
//! ```
//!
//! Both ends are mostly the same program; where they are not, because one is just replaced, the version tells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use model::search::{Condition, TraceSearch};
use model::{TenantId, TimeRange, TraceId};
use serde::{Deserialize, Serialize};
use storage::read::{Found, Hit, JobFile, SearchJob};

const VERSION: u32 = 1;
const HIT_BYTES: usize = 16 + 8;

/// A job, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) tenant: TenantId,
    /// The id of the request in logs.
    pub(super) request_id: String,
    /// How long it may take.
    pub(super) timeout_ms: u64,
    pub(super) search: SearchJob,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Found(Found),
    /// The object of this key is not there.
    Missing(String),
    /// It would have read more bytes than it may.
    OverLimit,
    /// Anything else.
    Failed(String),
}

/// Why bytes are no job, or no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("invalid message: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {0} of the message is not known")]
    Version(u32),
    #[error("invalid message: {0}")]
    Field(&'static str),
}

#[derive(Deserialize)]
struct VersionMessage {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct JobMessage {
    version: u32,
    tenant: String,
    request_id: String,
    timeout_ms: u64,
    search: SearchMessage,
    max_bytes: u64,
    files: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct SearchMessage {
    start_ns: i64,
    end_ns_exclusive: i64,
    limit: usize,
    conditions: Vec<ConditionMessage>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConditionMessage {
    Service(String),
    Name(String),
    Kind(i32),
    Status(i32),
    StatusMessage(String),
    ScopeName(String),
    ScopeVersion(String),
    TraceState(String),
    DurationAtLeast(i64),
    DurationAtMost(i64),
    Attribute(String, String),
    Any(Vec<ConditionMessage>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerMessage {
    Found { by_file: Vec<String>, newest: String, bytes_read: u64 },
    Missing(String),
    OverLimit,
    Failed(String),
}

impl Job {
    pub(super) fn encode(&self) -> Bytes {
        let SearchJob { search, files, max_bytes } = &self.search;
        let message = JobMessage {
            version: VERSION,
            tenant: self.tenant.as_str().to_owned(),
            request_id: self.request_id.clone(),
            timeout_ms: self.timeout_ms,
            search: SearchMessage {
                start_ns: search.range.start_ns,
                end_ns_exclusive: search.range.end_ns_exclusive,
                limit: search.limit,
                conditions: search.conditions.iter().map(ConditionMessage::of).collect(),
            },
            max_bytes: *max_bytes,
            files: files.iter().map(|file| (file.key.clone(), BASE64.encode(&file.item))).collect(),
        };
        serde_json::to_vec(&message).expect("invariant: a message is JSON").into()
    }

    /// # Errors
    /// Not a job, or one of another version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let VersionMessage { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let message: JobMessage = serde_json::from_slice(bytes)?;
        let files = message.files.into_iter().map(|(key, item)| {
            let item = BASE64.decode(item).map_err(|_| MessageError::Field("an item is not base64"))?;
            Ok::<_, MessageError>(JobFile { key, item: item.into() })
        });
        let SearchMessage { start_ns, end_ns_exclusive, limit, conditions } = message.search;
        let search = TraceSearch {
            range: TimeRange { start_ns, end_ns_exclusive },
            conditions: conditions.into_iter().map(ConditionMessage::into_condition).collect(),
            limit,
        };
        let search =
            SearchJob { search, files: files.collect::<Result<_, _>>()?, max_bytes: message.max_bytes };
        let tenant = message.tenant.parse().map_err(|_| MessageError::Field("the tenant is none"))?;
        let (request_id, timeout_ms) = (message.request_id, message.timeout_ms);
        Ok(Self { tenant, request_id, timeout_ms, search })
    }
}

impl ConditionMessage {
    fn of(condition: &Condition) -> Self {
        match condition.clone() {
            Condition::Service(text) => Self::Service(text),
            Condition::Name(text) => Self::Name(text),
            Condition::Kind(number) => Self::Kind(number),
            Condition::Status(number) => Self::Status(number),
            Condition::StatusMessage(text) => Self::StatusMessage(text),
            Condition::ScopeName(text) => Self::ScopeName(text),
            Condition::ScopeVersion(text) => Self::ScopeVersion(text),
            Condition::TraceState(text) => Self::TraceState(text),
            Condition::DurationAtLeast(ns) => Self::DurationAtLeast(ns),
            Condition::DurationAtMost(ns) => Self::DurationAtMost(ns),
            Condition::Attribute { key, value } => Self::Attribute(key, value),
            Condition::Any(any) => Self::Any(any.iter().map(Self::of).collect()),
        }
    }

    fn into_condition(self) -> Condition {
        match self {
            Self::Service(text) => Condition::Service(text),
            Self::Name(text) => Condition::Name(text),
            Self::Kind(number) => Condition::Kind(number),
            Self::Status(number) => Condition::Status(number),
            Self::StatusMessage(text) => Condition::StatusMessage(text),
            Self::ScopeName(text) => Condition::ScopeName(text),
            Self::ScopeVersion(text) => Condition::ScopeVersion(text),
            Self::TraceState(text) => Condition::TraceState(text),
            Self::DurationAtLeast(ns) => Condition::DurationAtLeast(ns),
            Self::DurationAtMost(ns) => Condition::DurationAtMost(ns),
            Self::Attribute(key, value) => Condition::Attribute { key, value },
            Self::Any(any) => Condition::Any(any.into_iter().map(Self::into_condition).collect()),
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Bytes {
        let message = match self.clone() {
            Self::Found(found) => AnswerMessage::Found {
                by_file: found.by_file.iter().map(|hits| encode_hits(hits)).collect(),
                newest: encode_hits(&found.newest),
                bytes_read: found.bytes_read,
            },
            Self::Missing(key) => AnswerMessage::Missing(key),
            Self::OverLimit => AnswerMessage::OverLimit,
            Self::Failed(text) => AnswerMessage::Failed(text),
        };
        serde_json::to_vec(&message).expect("invariant: a message is JSON").into()
    }

    /// # Errors
    /// Not an answer.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        Ok(match serde_json::from_slice(bytes)? {
            AnswerMessage::Found { by_file, newest, bytes_read } => Self::Found(Found {
                by_file: by_file.iter().map(|hits| decode_hits(hits)).collect::<Result<_, _>>()?,
                newest: decode_hits(&newest)?,
                bytes_read,
            }),
            AnswerMessage::Missing(key) => Self::Missing(key),
            AnswerMessage::OverLimit => Self::OverLimit,
            AnswerMessage::Failed(text) => Self::Failed(text),
        })
    }
}

fn encode_hits(hits: &[Hit]) -> String {
    let mut bytes = Vec::with_capacity(hits.len() * HIT_BYTES);
    for (trace_id, start_ns) in hits {
        bytes.extend_from_slice(&trace_id.0);
        bytes.extend_from_slice(&start_ns.to_be_bytes());
    }
    BASE64.encode(bytes)
}

fn decode_hits(text: &str) -> Result<Vec<Hit>, MessageError> {
    let bytes = BASE64.decode(text).map_err(|_| MessageError::Field("hits are not base64"))?;
    let (hits, rest) = bytes.as_chunks::<HIT_BYTES>();
    if !rest.is_empty() {
        return Err(MessageError::Field("hits break off"));
    }
    let hit = |hit: &[u8; HIT_BYTES]| {
        let (trace_id, start_ns) = hit.split_first_chunk::<16>().expect("invariant: 24 bytes");
        let (start_ns, _) = start_ns.split_first_chunk::<8>().expect("invariant: 8 bytes are left");
        (TraceId(*trace_id), i64::from_be_bytes(*start_ns))
    };
    Ok(hits.iter().map(hit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let text = |text: &str| text.to_owned();
        let conditions = vec![
            Condition::Service(text("shop \"ä\"")),
            Condition::Name(text("")),
            Condition::Kind(-1),
            Condition::Status(2),
            Condition::StatusMessage(text("m")),
            Condition::ScopeName(text("s")),
            Condition::ScopeVersion(text("1")),
            Condition::TraceState(text("a=b")),
            Condition::DurationAtLeast(i64::MIN),
            Condition::DurationAtMost(i64::MAX),
            Condition::Any(vec![
                Condition::Attribute { key: text("k"), value: text("v") },
                Condition::Any(Vec::new()),
            ]),
        ];
        let range = TimeRange { start_ns: i64::MIN, end_ns_exclusive: i64::MAX };
        let file = JobFile { key: text("0#8000#ab"), item: Bytes::from_static(&[0, 255, 7]) };
        Job {
            tenant: "team-a".parse().expect("a tenant"),
            request_id: text("r-1"),
            timeout_ms: 5,
            search: SearchJob {
                search: TraceSearch { range, conditions, limit: 20 },
                files: vec![file],
                max_bytes: u64::MAX,
            },
        }
    }

    #[test]
    fn jobs_come_back() {
        let bytes = job().encode();
        assert_eq!(Job::decode(&bytes).expect("a job"), job());
        assert!(bytes.starts_with(br#"{"version":1,"tenant":"team-a","#));
        for at in 0..bytes.len() {
            assert!(Job::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn answers_come_back() {
        let hits = vec![(TraceId([7; 16]), -1), (TraceId([0; 16]), i64::MAX)];
        let found =
            Found { by_file: vec![hits.clone(), Vec::new(), hits.clone()], newest: hits, bytes_read: 9 };
        let answers = [
            Answer::Found(found),
            Answer::Found(Found::default()),
            Answer::Missing("a/b".to_owned()),
            Answer::OverLimit,
            Answer::Failed("why".to_owned()),
        ];
        for answer in answers {
            assert_eq!(Answer::decode(&answer.encode()).expect("an answer"), answer);
        }
        for bad in [
            "",
            "{}",
            r#"{"found":{"by_file":["AAAA"],"newest":"","bytes_read":1}}"#,
            r#"{"errorMessage":"x"}"#,
        ] {
            assert!(Answer::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let text = String::from_utf8(job().encode().to_vec())
            .expect("UTF-8")
            .replace("\"version\":1", "\"version\":2");
        let error = Job::decode(text.as_bytes()).expect_err("version 2");
        assert_eq!(error.to_string(), "version 2 of the message is not known");
        assert!(Job::decode(br#"{"version":7,"other":true}"#).expect_err("7").to_string().contains('7'));
    }
}
