//! Jobs and their answers as JSON; pure.
//!
//! ```text
//! job     = {"version":1,"tenant":…,"request_id":…,"timeout_ms":…,"work":{"search":search}|{"range":range}}
//! search  = {"start_ns":…,"end_ns_exclusive":…,"limit":…,
//!            "conditions":[{"service":"shop"},{"attribute":["http.route","/cart"]},{"any":[…]},…],
//!            "max_bytes":…,"files":[[sort key of the index item, base64 of the item],…]}
//! range   = {"query":…,"start_ms":…,"end_ms":…,"step_ms":…,"lookback_ms":…,"files":base64 of the hash of their names}
//! answer  = {"found":{"by_file":[hits,…],"newest":hits,"bytes_read":…}}
//!         | {"evaluated":{"series":[{"labels":[[name,value],…],"points":points},…],"warnings":[…],"infos":[…],"n_samples":…}}
//!         | "untold" | {"missing":key of an object} | "over_limit" | {"failed":text}
//! hits    = base64 of, per trace: 16 bytes id, 8 bytes big-endian start of its newest span, ns
//! points  = base64 of, per point: 8 bytes big-endian time, ms, 8 bytes big-endian bits of the number
//! ```
//!
//! Both ends are mostly the same program; where they are not, because one is just replaced, the version tells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use model::search::{Condition, TraceSearch};
use model::{Labels, TenantId, TimeRange, TraceId};
use promql::Points;
use serde::{Deserialize, Serialize};
use storage::read::{Found, Hit, JobFile, SearchJob};

const VERSION: u32 = 1;
const HIT_BYTES: usize = 16 + 8;
const POINT_BYTES: usize = 8 + 8;
/// What a series has beside its labels and points.
const SERIES_BYTES: usize = 32;
/// An invocation answers with 6 MB at most.
const MAX_ANSWER_BYTES: usize = 5 << 20;

/// A job, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) tenant: TenantId,
    /// The id of the request in logs.
    pub(super) request_id: String,
    /// How long it may take.
    pub(super) timeout_ms: u64,
    pub(super) work: Work,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    Search(SearchJob),
    Range(RangeJob),
}

/// Some steps of a range query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeJob {
    pub(crate) query: String,
    /// First and last step, and what lies between two, ms.
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) lookback_ms: i64,
    /// The hash of the files that whoever asks saw.
    pub(crate) files: [u8; 32],
}

/// What some steps of a range query gave: series of numbers, by labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RangeFound {
    pub(crate) series: Vec<Points>,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    pub(crate) n_samples: u64,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Found(Found),
    Evaluated(RangeFound),
    /// What it gives cannot be told, or is another thing than was asked for: whoever asks evaluates it.
    Untold,
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
    work: WorkMessage,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WorkMessage {
    Search(SearchMessage),
    Range(RangeMessage),
}

#[derive(Serialize, Deserialize)]
struct SearchMessage {
    start_ns: i64,
    end_ns_exclusive: i64,
    limit: usize,
    conditions: Vec<ConditionMessage>,
    max_bytes: u64,
    files: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct RangeMessage {
    query: String,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    lookback_ms: i64,
    files: String,
}

#[derive(Serialize, Deserialize)]
struct SeriesMessage {
    labels: Vec<(String, String)>,
    points: String,
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
    Evaluated { series: Vec<SeriesMessage>, warnings: Vec<String>, infos: Vec<String>, n_samples: u64 },
    Untold,
    Missing(String),
    OverLimit,
    Failed(String),
}

impl Job {
    pub(super) fn encode(&self) -> Bytes {
        let message = JobMessage {
            version: VERSION,
            tenant: self.tenant.as_str().to_owned(),
            request_id: self.request_id.clone(),
            timeout_ms: self.timeout_ms,
            work: match &self.work {
                Work::Search(job) => WorkMessage::Search(SearchMessage::of(job)),
                Work::Range(job) => WorkMessage::Range(RangeMessage {
                    query: job.query.clone(),
                    start_ms: job.start_ms,
                    end_ms: job.end_ms,
                    step_ms: job.step_ms,
                    lookback_ms: job.lookback_ms,
                    files: BASE64.encode(job.files),
                }),
            },
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
        let work = match message.work {
            WorkMessage::Search(message) => Work::Search(message.into_job()?),
            WorkMessage::Range(message) => Work::Range(RangeJob {
                query: message.query,
                start_ms: message.start_ms,
                end_ms: message.end_ms,
                step_ms: message.step_ms,
                lookback_ms: message.lookback_ms,
                files: decode_base64(&message.files, "the hash of files is none")?
                    .try_into()
                    .map_err(|_| MessageError::Field("the hash of files is none"))?,
            }),
        };
        let tenant = message.tenant.parse().map_err(|_| MessageError::Field("the tenant is none"))?;
        let (request_id, timeout_ms) = (message.request_id, message.timeout_ms);
        Ok(Self { tenant, request_id, timeout_ms, work })
    }
}

impl SearchMessage {
    fn of(job: &SearchJob) -> Self {
        let SearchJob { search, files, max_bytes } = job;
        Self {
            start_ns: search.range.start_ns,
            end_ns_exclusive: search.range.end_ns_exclusive,
            limit: search.limit,
            conditions: search.conditions.iter().map(ConditionMessage::of).collect(),
            max_bytes: *max_bytes,
            files: files.iter().map(|file| (file.key.clone(), BASE64.encode(&file.item))).collect(),
        }
    }

    fn into_job(self) -> Result<SearchJob, MessageError> {
        let Self { start_ns, end_ns_exclusive, limit, conditions, max_bytes, files } = self;
        let file = |(key, item): (String, String)| {
            let item = decode_base64(&item, "an item is not base64")?.into();
            Ok::<_, MessageError>(JobFile { key, item })
        };
        let search = TraceSearch {
            range: TimeRange { start_ns, end_ns_exclusive },
            conditions: conditions.into_iter().map(ConditionMessage::into_condition).collect(),
            limit,
        };
        Ok(SearchJob { search, files: files.into_iter().map(file).collect::<Result<_, _>>()?, max_bytes })
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
            Self::Evaluated(found) => AnswerMessage::Evaluated {
                series: found.series.iter().map(SeriesMessage::of).collect(),
                warnings: found.warnings,
                infos: found.infos,
                n_samples: found.n_samples,
            },
            Self::Untold => AnswerMessage::Untold,
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
            AnswerMessage::Evaluated { series, warnings, infos, n_samples } => {
                let series = series.into_iter().map(SeriesMessage::into_points);
                let series = series.collect::<Result<_, _>>()?;
                Self::Evaluated(RangeFound { series, warnings, infos, n_samples })
            }
            AnswerMessage::Untold => Self::Untold,
            AnswerMessage::Missing(key) => Self::Missing(key),
            AnswerMessage::OverLimit => Self::OverLimit,
            AnswerMessage::Failed(text) => Self::Failed(text),
        })
    }
}

impl RangeFound {
    /// Whether the answer can be told, and is no longer than one of an invocation may be.
    pub(crate) fn is_told(&self) -> bool {
        let bytes = |points: &Points| {
            let labels: usize =
                points.labels.iter().map(|label| 2 * (label.name.len() + label.value.len()) + 8).sum();
            SERIES_BYTES + labels + points.floats.len() * POINT_BYTES * 4 / 3
        };
        self.series.iter().all(|points| points.histograms.is_empty())
            && self.series.iter().map(bytes).sum::<usize>() <= MAX_ANSWER_BYTES
    }
}

impl SeriesMessage {
    fn of(points: &Points) -> Self {
        let mut bytes = Vec::with_capacity(points.floats.len() * POINT_BYTES);
        for (time_ms, number) in &points.floats {
            bytes.extend_from_slice(&time_ms.to_be_bytes());
            bytes.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        let labels = points.labels.iter().map(|label| (label.name.to_string(), label.value.to_string()));
        Self { labels: labels.collect(), points: BASE64.encode(bytes) }
    }

    fn into_points(self) -> Result<Points, MessageError> {
        let bytes = decode_base64(&self.points, "points are not base64")?;
        let (points, rest) = bytes.as_chunks::<POINT_BYTES>();
        if !rest.is_empty() {
            return Err(MessageError::Field("points break off"));
        }
        let point = |point: &[u8; POINT_BYTES]| {
            let (time_ms, number) = point.split_first_chunk::<8>().expect("invariant: 16 bytes");
            let (number, _) = number.split_first_chunk::<8>().expect("invariant: 8 bytes are left");
            (i64::from_be_bytes(*time_ms), f64::from_bits(u64::from_be_bytes(*number)))
        };
        let floats = points.iter().map(point).collect();
        Ok(Points { labels: Labels::from_pairs(self.labels), floats, histograms: Vec::new() })
    }
}

fn decode_base64(text: &str, error: &'static str) -> Result<Vec<u8>, MessageError> {
    BASE64.decode(text).map_err(|_| MessageError::Field(error))
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
    let bytes = decode_base64(text, "hits are not base64")?;
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
            work: Work::Search(SearchJob {
                search: TraceSearch { range, conditions, limit: 20 },
                files: vec![file],
                max_bytes: u64::MAX,
            }),
        }
    }

    fn range_job() -> Job {
        let range = RangeJob {
            query: "sum(rate(a{b=\"c\"}[5m]))".to_owned(),
            start_ms: -5,
            end_ms: i64::MAX,
            step_ms: 15_000,
            lookback_ms: 300_000,
            files: [7; 32],
        };
        Job { work: Work::Range(range), ..job() }
    }

    #[test]
    fn jobs_come_back() {
        let bytes = job().encode();
        assert_eq!(Job::decode(&bytes).expect("a job"), job());
        assert_eq!(Job::decode(&range_job().encode()).expect("a job"), range_job());
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
            Answer::Untold,
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
    fn numbers_come_back_to_the_bit() {
        let floats = vec![(i64::MIN, -0.0), (0, f64::from_bits(0x7ff0_0000_0000_0002)), (5, f64::INFINITY)];
        let labels = Labels::from_pairs([("__name__", "a"), ("pod", "ä\"")]);
        let series = vec![Points { labels, floats, histograms: Vec::new() }, Points::default()];
        let (warnings, infos) = (vec!["w".to_owned()], vec!["i".to_owned()]);
        let found = RangeFound { series, warnings, infos, n_samples: 9 };
        assert!(found.is_told());
        let Ok(Answer::Evaluated(back)) = Answer::decode(&Answer::Evaluated(found.clone()).encode()) else {
            panic!("no answer");
        };
        let bits = |found: &RangeFound| {
            let points = found.series.iter().flat_map(|points| &points.floats);
            points.map(|(time_ms, number)| (*time_ms, number.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(bits(&back), bits(&found));
        assert_eq!(
            (&back.series[0].labels, &back.warnings, &back.infos, back.n_samples),
            (&found.series[0].labels, &found.warnings, &found.infos, 9)
        );

        let long = Points { floats: vec![(0, 0.0); MAX_ANSWER_BYTES / POINT_BYTES], ..Points::default() };
        assert!(!RangeFound { series: vec![long], ..RangeFound::default() }.is_told());
        let histograms = vec![(0, std::sync::Arc::default())];
        let histogram = Points { histograms, ..Points::default() };
        assert!(!RangeFound { series: vec![histogram], ..RangeFound::default() }.is_told());
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
