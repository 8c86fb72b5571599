//! Parameters of the endpoints: a [`Form`] and the time now → what to read. Pure.
//!
//! Units differ by endpoint and are converted here, once: v1 search takes µs, dependencies ms, v3 RFC 3339 text.
//! The end of a range is meant to be in it, to the unit it is given in: `end=5` µs includes 5,999 ns.

use model::search::{Condition, TraceSearch};
use model::time::HOUR_NS;
use model::{TenantId, TimeRange, TraceId};
use storage::read::Position;

use super::go::{self, ScalarError};
use super::tags::{self, JsonTagError, TagError, Tags};
use super::terms::{self, NO_SERVICE};
use crate::form::{Form, FormError};
use crate::token::{self, Token, TokenError};

/// How far back a v1 search looks where it does not say. Source: Jaeger `defaultTraceQueryLookbackDuration`.
const SEARCH_LOOKBACK_NS: i64 = 48 * HOUR_NS;
/// How far back dependencies look where the request does not say. Source: Jaeger `default_params.go`.
const DEPENDENCIES_LOOKBACK_NS: i64 = 24 * HOUR_NS;
/// How many traces a search gives where it does not say.
const SEARCH_LIMIT: usize = 100;

/// Why parameters are wrong: the client's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParamError {
    /// The query string does not decode.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A v1 parameter's value.
    #[error("unable to parse param '{name}': {source}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What is wrong.
        source: ScalarError,
    },
    /// A value that Jaeger reports without its name.
    #[error(transparent)]
    Bare(ScalarError),
    /// A trace id in a search.
    #[error("cannot parse traceID param: {0}")]
    TraceId(ScalarError),
    /// A tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The token of a page.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A parameter that must be there.
    #[error("parameter '{0}' is required")]
    Required(&'static str),
    /// A limit that allows nothing.
    #[error("invalid parameter: limit must be greater than 0")]
    Limit,
    /// A range that ends before it starts.
    #[error("invalid parameter: start time must be before end time")]
    Range,
    /// Durations that exclude each other.
    #[error("'maxDuration' should be greater than 'minDuration'")]
    Durations,
    /// A v3 parameter's value.
    #[error("malformed parameter {name}: {source}")]
    Malformed {
        /// The parameter as the client spelt it.
        name: &'static str,
        /// What is wrong.
        source: ScalarError,
    },
    /// The attributes of a v3 search.
    #[error("malformed parameter query.attributes: {0}")]
    Attributes(JsonTagError),
    /// A v3 search without its range.
    #[error("query.startTimeMin and query.startTimeMax are required")]
    TimesRequired,
    /// A v3 range that ends before it starts.
    #[error("query.startTimeMin must be before query.startTimeMax")]
    Times,
    /// A v3 parameter that would narrow the answer and is not understood.
    #[error("parameter {0} is not supported")]
    Unsupported(&'static str),
}

/// What a search of v1 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Search {
    /// Traces by their ids, each once.
    Ids(Vec<TraceId>),
    /// Traces by what their spans are.
    Matching(TraceSearch),
}

/// A v1 search and whether its traces stay as they are stored.
/// Source: Jaeger v2.20 `query_parser.go` `parseTraceQueryParams`, also for the order of the checks.
pub(super) fn search(form: &Form, now_ns: i64) -> Result<(Search, bool), ParamError> {
    let filters = Filters::of(form)?;
    let mut ids: Vec<TraceId> = Vec::new();
    for text in form.all("traceID") {
        let id = go::trace_id(text).map_err(ParamError::TraceId)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let raw = raw(form)?;
    if !ids.is_empty() {
        return Ok((Search::Ids(ids), raw));
    }
    if form.first("service").is_empty() {
        return Err(ParamError::Required("service"));
    }
    Ok((Search::Matching(filters.search(form, now_ns)?), raw))
}

/// A page of a search in the words of v1, but that no service need be named: what is asked, behind which place, and the
/// hash that the next page's token has.
pub(super) fn search_page(
    form: &Form,
    tenant: &TenantId,
    now_ns: i64,
) -> Result<(TraceSearch, Option<Position>, [u8; 8]), ParamError> {
    let mut search = Filters::of(form)?.search(form, now_ns)?;
    let mut question = vec![tenant.as_str()];
    for name in PAGED {
        question.push(name);
        question.extend(form.all(name));
    }
    let question = token::question_hash(question);
    let token = form.first("token");
    if token.is_empty() {
        return Ok((search, None, question));
    }
    let token = Token::decode(token, question)?;
    search.range = token.range;
    Ok((search, Some(token.after), question))
}

/// The parameters that must be the same on all pages of a search.
const PAGED: [&str; 8] =
    ["service", "operation", "tag", "tags", "minDuration", "maxDuration", "start", "end"];

/// What narrows a search of v1.
struct Filters {
    start_us: Option<i64>,
    end_us: Option<i64>,
    tags: Tags,
    limit: Option<i32>,
    /// 0 for any.
    min_ns: i64,
    /// 0 for any.
    max_ns: i64,
}

impl Filters {
    fn of(form: &Form) -> Result<Self, ParamError> {
        let value = |name| move |source| ParamError::Value { name, source };
        let start_us = optional(form, "start", go::int64).map_err(value("start"))?;
        let end_us = optional(form, "end", go::int64).map_err(value("end"))?;
        let mut tags = Tags::new();
        for pair in form.all("tag") {
            tags::add_pair(&mut tags, pair)?;
        }
        for text in form.all("tags") {
            tags::add_text(&mut tags, text)?;
        }
        let limit = optional(form, "limit", go::int32).map_err(ParamError::Bare)?;
        let min_ns =
            optional(form, "minDuration", go::duration_ns).map_err(value("minDuration"))?.unwrap_or(0);
        let max_ns =
            optional(form, "maxDuration", go::duration_ns).map_err(value("maxDuration"))?.unwrap_or(0);
        Ok(Self { start_us, end_us, tags, limit, min_ns, max_ns })
    }

    fn search(&self, form: &Form, now_ns: i64) -> Result<TraceSearch, ParamError> {
        let limit = self.limit.map_or(Ok(SEARCH_LIMIT), usize::try_from).map_err(|_| ParamError::Limit)?;
        if limit == 0 {
            return Err(ParamError::Limit);
        }
        let start_ns = self.start_us.map(|start| start.saturating_mul(1_000));
        let end_ns = self.end_us.map(|end| end.saturating_mul(1_000).saturating_add(999));
        let range =
            range(start_ns.unwrap_or(now_ns.saturating_sub(SEARCH_LOOKBACK_NS)), end_ns.unwrap_or(now_ns));
        if range.start_ns >= range.end_ns_exclusive {
            return Err(ParamError::Range);
        }
        let (min_ns, max_ns) = (self.min_ns, self.max_ns);
        if min_ns != 0 && max_ns != 0 && max_ns < min_ns {
            return Err(ParamError::Durations);
        }
        let conditions =
            conditions(form.first("service"), form.first("operation"), &self.tags, min_ns, max_ns);
        Ok(TraceSearch { range, conditions, limit })
    }
}

/// Whether `/api/traces/{id}` asks for the trace as it is stored.
///
/// `start` and `end` must be whole numbers and are not used: a trace is found at any age without a hint, and clients
/// disagree on the unit (Jaeger's µs; Grafana sends ms).
pub(super) fn trace_by_id(form: &Form) -> Result<bool, ParamError> {
    for name in ["start", "end"] {
        optional(form, name, go::int64).map_err(|source| ParamError::Value { name, source })?;
    }
    raw(form)
}

/// The range of `/api/dependencies`: `endTs` and `lookback` in ms.
pub(super) fn dependencies(form: &Form, now_ns: i64) -> Result<TimeRange, ParamError> {
    let value = |name| move |source| ParamError::Value { name, source };
    let end_ms = optional(form, "endTs", go::int64).map_err(value("endTs"))?;
    let lookback_ms = optional(form, "lookback", go::int64).map_err(value("lookback"))?;
    let end_ns = end_ms.map_or(now_ns, |end| end.saturating_mul(1_000_000).saturating_add(999_999));
    let lookback_ns =
        lookback_ms.map_or(DEPENDENCIES_LOOKBACK_NS, |lookback| lookback.saturating_mul(1_000_000));
    Ok(range(end_ns.saturating_sub(lookback_ns), end_ns))
}

/// A search of v3. Source: Jaeger `apiv3/query_parser.go`.
pub(super) fn search_v3(form: &Form) -> Result<TraceSearch, ParamError> {
    let (_, service) = either(form, ["query.serviceName", "query.service_name"]);
    let (_, operation) = either(form, ["query.operationName", "query.operation_name"]);
    let mut attributes = Tags::new();
    let json = form.first("query.attributes");
    if !json.is_empty() {
        tags::add_json(&mut attributes, json).map_err(ParamError::Attributes)?;
    }
    if !form.first("query.filter").is_empty() {
        return Err(ParamError::Unsupported("query.filter"));
    }
    let start_ns = optional_v3(form, ["query.startTimeMin", "query.start_time_min"], go::time_ns)?;
    let end_ns = optional_v3(form, ["query.startTimeMax", "query.start_time_max"], go::time_ns)?;
    let depth = match optional_v3(form, ["query.searchDepth", "query.search_depth"], go::uint32)? {
        Some(depth) => Some(depth),
        None => optional_v3(form, ["query.num_traces", "query.num_traces"], go::uint32)?,
    };
    let min_ns =
        optional_v3(form, ["query.durationMin", "query.duration_min"], go::duration_ns)?.unwrap_or(0);
    let max_ns =
        optional_v3(form, ["query.durationMax", "query.duration_max"], go::duration_ns)?.unwrap_or(0);
    optional_v3(form, ["query.rawTraces", "query.raw_traces"], go::boolean)?;

    let (Some(start_ns), Some(end_ns)) = (start_ns, end_ns) else { return Err(ParamError::TimesRequired) };
    if start_ns >= end_ns {
        return Err(ParamError::Times);
    }
    if min_ns != 0 && max_ns != 0 && max_ns < min_ns {
        return Err(ParamError::Durations);
    }
    let limit = match depth {
        None | Some(0) => SEARCH_LIMIT,
        Some(depth) => depth as usize,
    };
    let conditions = conditions(service, operation, &attributes, min_ns, max_ns);
    Ok(TraceSearch { range: range(start_ns, end_ns), conditions, limit })
}

/// The id of `/api/v3/traces/{trace_id}`; times and `rawTraces` must be well-formed and are not used.
pub(super) fn trace_by_id_v3(id: &str, form: &Form) -> Result<TraceId, ParamError> {
    let id = go::trace_id(id).map_err(|source| ParamError::Malformed { name: "trace_id", source })?;
    optional_v3(form, ["startTime", "start_time"], go::time_ns)?;
    optional_v3(form, ["endTime", "end_time"], go::time_ns)?;
    optional_v3(form, ["rawTraces", "raw_traces"], go::boolean)?;
    Ok(id)
}

/// The span kind that `/api/v3/operations` asks for; empty for all.
pub(super) fn span_kind_v3(form: &Form) -> &str {
    either(form, ["spanKind", "span_kind"]).1
}

fn raw(form: &Form) -> Result<bool, ParamError> {
    let raw =
        optional(form, "raw", go::boolean).map_err(|source| ParamError::Value { name: "raw", source })?;
    Ok(raw.unwrap_or(false))
}

/// From an instant to another, both included.
fn range(first_ns: i64, last_ns: i64) -> TimeRange {
    TimeRange { start_ns: first_ns, end_ns_exclusive: last_ns.saturating_add(1) }
}

fn conditions(service: &str, operation: &str, tags: &Tags, min_ns: i64, max_ns: i64) -> Vec<Condition> {
    let mut conditions = Vec::new();
    if service == NO_SERVICE {
        // Either no service, or one that an exporter of Jaeger's gave this name.
        let stored = Condition::Service(terms::service_stored(service).to_owned());
        conditions.push(Condition::Any(vec![stored, Condition::Service(service.to_owned())]));
    } else if !service.is_empty() {
        conditions.push(Condition::Service(service.to_owned()));
    }
    if !operation.is_empty() {
        conditions.push(Condition::Name(operation.to_owned()));
    }
    conditions.extend(tags.iter().map(|(key, value)| tags::condition(key, value)));
    if min_ns != 0 {
        conditions.push(Condition::DurationAtLeast(min_ns));
    }
    if max_ns != 0 {
        conditions.push(Condition::DurationAtMost(max_ns));
    }
    conditions
}

/// The first value of `name` as `parse` reads it; `None` where it is absent or empty.
fn optional<T>(
    form: &Form,
    name: &str,
    parse: fn(&str) -> Result<T, ScalarError>,
) -> Result<Option<T>, ScalarError> {
    match form.first(name) {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

/// The first value under either name and the name it has; the canonical one comes first.
fn either<'a>(form: &'a Form, [canonical, alias]: [&'static str; 2]) -> (&'static str, &'a str) {
    match form.first(canonical) {
        "" => (alias, form.first(alias)),
        value => (canonical, value),
    }
}

fn optional_v3<T>(
    form: &Form,
    names: [&'static str; 2],
    parse: fn(&str) -> Result<T, ScalarError>,
) -> Result<Option<T>, ParamError> {
    match either(form, names) {
        (_, "") => Ok(None),
        (name, text) => parse(text).map(Some).map_err(|source| ParamError::Malformed { name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_700_000_000_000_000_123;

    fn form(query: &str) -> Form {
        Form::parse(query).expect(query)
    }

    fn matching(query: &str) -> TraceSearch {
        match search(&form(query), NOW_NS).expect(query) {
            (Search::Matching(search), _) => search,
            (Search::Ids(ids), _) => panic!("{query}: {ids:?}"),
        }
    }

    #[test]
    fn a_search_has_jaegers_defaults() {
        assert_eq!(
            search(&form("service=shop&lookback=1h&operation=&tags=&minDuration="), NOW_NS),
            Ok((
                Search::Matching(TraceSearch {
                    range: TimeRange { start_ns: NOW_NS - 48 * HOUR_NS, end_ns_exclusive: NOW_NS + 1 },
                    conditions: vec![Condition::Service("shop".to_owned())],
                    limit: 100,
                }),
                false
            ))
        );
    }

    #[test]
    fn a_token_continues_its_own_search() {
        let tenant = TenantId::default_tenant();
        let page = |query: &str, now_ns| search_page(&form(query), &tenant, now_ns);
        let (first, after, question) = page("tag=a:b&limit=5", NOW_NS).expect("a first page");
        assert_eq!((first.conditions.len(), first.limit, after), (1, 5, None));
        let after = Position { start_ns: NOW_NS - 7, trace_id: TraceId([3; 16]) };
        let token = Token { question, range: first.range, after }.encode();
        // Later, with another limit: the range stays.
        let (next, found, same) =
            page(&format!("limit=9&tag=a:b&token={token}"), NOW_NS + HOUR_NS).expect("next");
        assert_eq!((next.range, next.limit, found, same), (first.range, 9, Some(after), question));
        for query in ["tag=a:c", "tag=a:b&service=x", "tag=a:b&start=1", "tag=a:b&tag=c:d", ""] {
            let error = page(&format!("{query}&token={token}"), NOW_NS).expect_err(query);
            assert_eq!(error, ParamError::Token(TokenError::OtherQuestion), "{query}");
        }
        let other: TenantId = "other".parse().expect("a tenant");
        let error = search_page(&form(&format!("tag=a:b&token={token}")), &other, NOW_NS);
        assert_eq!(error, Err(ParamError::Token(TokenError::OtherQuestion)));
        assert_eq!(page("token=x", NOW_NS), Err(ParamError::Token(TokenError::Damaged)));
    }

    #[test]
    fn a_search_takes_microseconds() {
        let found = matching("service=a&start=1700000000000000&end=1700000000000001");
        assert_eq!(
            found.range,
            TimeRange { start_ns: 1_700_000_000_000_000_000, end_ns_exclusive: 1_700_000_000_000_002_000 }
        );
    }

    #[test]
    fn a_search_translates_each_filter() {
        let found = matching(
            "service=a+b&operation=GET+%2F&tag=error:true&tag=x:1&tags=%7B%22x%22%3A%222%22%7D&minDuration=1.5ms&maxDuration=2s&limit=7",
        );
        let attribute =
            |key: &str, value: &str| Condition::Attribute { key: key.to_owned(), value: value.to_owned() };
        assert_eq!(found.limit, 7);
        assert_eq!(
            found.conditions,
            [
                Condition::Service("a b".to_owned()),
                Condition::Name("GET /".to_owned()),
                Condition::Any(vec![Condition::Status(2), attribute("error", "true")]),
                attribute("x", "2"),
                Condition::DurationAtLeast(1_500_000),
                Condition::DurationAtMost(2_000_000_000),
            ]
        );
    }

    #[test]
    fn a_search_for_no_service_finds_both_spellings() {
        assert_eq!(
            matching("service=OTLPResourceNoServiceName").conditions,
            [Condition::Any(vec![
                Condition::Service(String::new()),
                Condition::Service(NO_SERVICE.to_owned())
            ])]
        );
    }

    #[test]
    fn ids_come_before_filters() {
        let (found, raw) =
            search(&form("traceID=a&traceID=0B&traceID=0a&raw=true&limit=-1"), NOW_NS).expect("ids");
        let expect: Vec<TraceId> = ["a", "b"].iter().map(|id| id.parse().expect("an id")).collect();
        assert_eq!((found, raw), (Search::Ids(expect), true));
    }

    #[test]
    fn broken_searches_say_why() {
        let check = |query: &str, expect: &str| {
            assert_eq!(search(&form(query), NOW_NS).expect_err(query).to_string(), expect, "{query}");
        };
        check("", "parameter 'service' is required");
        check("service=&operation=x", "parameter 'service' is required");
        check(
            "service=a&start=1h",
            r#"unable to parse param 'start': strconv.ParseInt: parsing "1h": invalid syntax"#,
        );
        check(
            "service=a&end=99999999999999999999",
            r#"unable to parse param 'end': strconv.ParseInt: parsing "99999999999999999999": value out of range"#,
        );
        check("service=a&start=2&end=1", "invalid parameter: start time must be before end time");
        check("service=a&limit=x", r#"strconv.ParseInt: parsing "x": invalid syntax"#);
        check("service=a&limit=3000000000", r#"strconv.ParseInt: parsing "3000000000": value out of range"#);
        check("service=a&limit=0", "invalid parameter: limit must be greater than 0");
        check("service=a&limit=-5", "invalid parameter: limit must be greater than 0");
        check(
            "service=a&minDuration=5",
            r#"unable to parse param 'minDuration': time: missing unit in duration "5""#,
        );
        check(
            "service=a&maxDuration=5x",
            r#"unable to parse param 'maxDuration': time: unknown unit "x" in duration "5x""#,
        );
        check(
            "service=a&minDuration=2s&maxDuration=1s",
            "'maxDuration' should be greater than 'minDuration'",
        );
        check("service=a&tag=error", "malformed 'tag' parameter, expecting key:value, received: error");
        check(
            "service=a&tags={%22a%22:true}",
            "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal bool into Go value of type string",
        );
        check(
            "traceID=xyz",
            r#"cannot parse traceID param: strconv.ParseUint: parsing "xyz": invalid syntax"#,
        );
        check("traceID=", r#"cannot parse traceID param: strconv.ParseUint: parsing "": invalid syntax"#);
        let long = "1".repeat(33);
        check(
            &format!("traceID={long}"),
            &format!("cannot parse traceID param: TraceID cannot be longer than 32 hex characters: {long}"),
        );
        check(
            "service=a&raw=maybe",
            r#"unable to parse param 'raw': strconv.ParseBool: parsing "maybe": invalid syntax"#,
        );
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let found = matching("service=a&start=-9223372036854775808&end=9223372036854775807");
        assert_eq!(found.range, TimeRange::ALL);
    }

    #[test]
    fn hints_of_a_trace_are_checked_and_not_used() {
        // Milliseconds, as Grafana sends them.
        assert_eq!(trace_by_id(&form("start=1700000000000&end=1700000000001&raw=1")), Ok(true));
        assert_eq!(
            trace_by_id(&form("start=soon")).expect_err("no number").to_string(),
            r#"unable to parse param 'start': strconv.ParseInt: parsing "soon": invalid syntax"#
        );
    }

    #[test]
    fn dependencies_take_milliseconds() {
        let check = |query: &str, first_ns: i64, last_ns: i64| {
            assert_eq!(dependencies(&form(query), NOW_NS), Ok(range(first_ns, last_ns)), "{query}");
        };
        check("", NOW_NS - 24 * HOUR_NS, NOW_NS);
        check("endTs=1700000000000&lookback=604800000", 1_699_395_200_000_999_999, 1_700_000_000_000_999_999);
        check("endTs=9223372036854775807&lookback=9223372036854775807", 0, i64::MAX);
        assert_eq!(
            dependencies(&form("lookback=1h"), NOW_NS).expect_err("no number").to_string(),
            r#"unable to parse param 'lookback': strconv.ParseInt: parsing "1h": invalid syntax"#
        );
    }

    #[test]
    fn a_v3_search_takes_both_spellings() {
        let expect = TraceSearch {
            range: range(1_700_000_000_000_000_000, 1_700_003_600_500_000_000),
            conditions: vec![
                Condition::Service("a".to_owned()),
                Condition::Name("b".to_owned()),
                Condition::Attribute { key: "k".to_owned(), value: "v".to_owned() },
                Condition::DurationAtLeast(1_000_000),
                Condition::DurationAtMost(1_000_000_000),
            ],
            limit: 3,
        };
        let camel = "query.serviceName=a&query.operationName=b&query.attributes=%7B%22k%22:%22v%22%7D\
            &query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20.5+01:00\
            &query.durationMin=1ms&query.durationMax=1s&query.searchDepth=3&query.rawTraces=true";
        let snake = "query.service_name=a&query.operation_name=b&query.attributes=%7B%22k%22:%22v%22%7D\
            &query.start_time_min=2023-11-14T22:13:20Z&query.start_time_max=2023-11-15T00:13:20.5%2B01:00\
            &query.duration_min=1ms&query.duration_max=1s&query.num_traces=3&query.raw_traces=0";
        assert_eq!(search_v3(&form(camel)), Ok(expect.clone()));
        assert_eq!(search_v3(&form(snake)), Ok(expect));
    }

    #[test]
    fn a_v3_search_needs_a_range_and_no_service() {
        let times = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-15T00:13:20Z";
        let found = search_v3(&form(&format!("{times}&query.searchDepth=0"))).expect("a search");
        assert_eq!((found.conditions.len(), found.limit), (0, 100));
        let check = |query: &str, expect: &str| {
            assert_eq!(search_v3(&form(query)).expect_err(query).to_string(), expect, "{query}");
        };
        check("", "query.startTimeMin and query.startTimeMax are required");
        check(
            "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-14T22:13:20Z",
            "query.startTimeMin must be before query.startTimeMax",
        );
        check(
            "query.start_time_min=now",
            r#"malformed parameter query.start_time_min: parsing time "now" as "2006-01-02T15:04:05.999999999Z07:00": cannot parse"#,
        );
        check(
            &format!("{times}&query.searchDepth=-1"),
            r#"malformed parameter query.searchDepth: strconv.ParseUint: parsing "-1": invalid syntax"#,
        );
        check(
            &format!("{times}&query.num_traces=x"),
            r#"malformed parameter query.num_traces: strconv.ParseUint: parsing "x": invalid syntax"#,
        );
        check(
            &format!("{times}&query.durationMax=1"),
            r#"malformed parameter query.durationMax: time: missing unit in duration "1""#,
        );
        check(
            &format!("{times}&query.attributes=[]"),
            "malformed parameter query.attributes: json: cannot unmarshal array into Go value of type map[string]string",
        );
        check(
            &format!("{times}&query.rawTraces=x"),
            r#"malformed parameter query.rawTraces: strconv.ParseBool: parsing "x": invalid syntax"#,
        );
        check(&format!("{times}&query.filter={{}}"), "parameter query.filter is not supported");
    }

    #[test]
    fn a_v3_trace_checks_its_parameters() {
        assert_eq!(
            trace_by_id_v3("A", &form("startTime=2023-11-14T22:13:20 02:00")),
            Ok("a".parse().expect("an id"))
        );
        let check = |id: &str, query: &str, expect: &str| {
            assert_eq!(trace_by_id_v3(id, &form(query)).expect_err(query).to_string(), expect);
        };
        check("x", "", r#"malformed parameter trace_id: strconv.ParseUint: parsing "x": invalid syntax"#);
        check(
            "a",
            "raw_traces=x",
            r#"malformed parameter raw_traces: strconv.ParseBool: parsing "x": invalid syntax"#,
        );
    }
}
