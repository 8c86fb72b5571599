//! Jobs: what a function invokes itself with.
//!
//! A job comes in an event of its own, `{"spandrelJob":…}`. Only who may invoke the function can send one: what clients of
//! API Gateway, function URLs and ALB send lies within an event that these made, which has the marks of a request.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

const HEAD: &[u8] = b"{\"spandrelJob\":";

#[derive(Deserialize)]
struct Direct<'a> {
    #[serde(borrow, rename = "spandrelJob")]
    job: Option<&'a RawValue>,
    #[serde(rename = "requestContext")]
    context: Option<IgnoredAny>,
    #[serde(rename = "httpMethod")]
    method: Option<IgnoredAny>,
}

/// The event that brings a job, which is JSON text.
pub fn job_event(job: &[u8]) -> Bytes {
    [HEAD, job, b"}"].concat().into()
}

/// The job that an event brings; `None` for every other event, those of HTTP above all.
pub fn job_of(event: &str) -> Option<&str> {
    let direct: Direct<'_> = serde_json::from_str(event).ok()?;
    let is_http = direct.context.is_some() || direct.method.is_some();
    direct.job.filter(|_| !is_http).map(RawValue::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_back_from_its_event() {
        let job = r#"{"version":1,"a":[1,"}"]}"#;
        let event = job_event(job.as_bytes());
        assert_eq!(job_of(std::str::from_utf8(&event).expect("UTF-8")), Some(job));
    }

    #[test]
    fn no_event_of_http_brings_a_job() {
        let job = r#""spandrelJob":{"version":1}"#;
        for event in [
            r#"{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"POST"}},"body":"{\"spandrelJob\":{}}"}"#.to_owned(),
            format!(r#"{{{job},"requestContext":{{"http":{{"method":"POST"}}}}}}"#),
            format!(r#"{{"requestContext":{{"elb":{{}}}},"httpMethod":"GET",{job}}}"#),
            format!(r#"{{"httpMethod":"GET",{job}}}"#),
            format!(r#"{{"body":{{{job}}}}}"#),
            format!("{{{job},{job}}}"),
            r#"{"spandrelJob":null}"#.to_owned(),
            r#"{"source":"aws.events"}"#.to_owned(),
            "no JSON".to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(job_of(&event), None, "{event}");
        }
    }
}
