//! The envelope that every answer of the API comes in.
//!
//! Source: Prometheus `web/api/v1/api.go` `Response`, `respond`.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::json;
use crate::respond;

/// Most warnings, and most infos, that an answer carries.
const MAX_ANNOTATIONS: usize = 10;
/// What a lookup says when it left something out.
const TRUNCATED: &str = "results truncated due to limit";

/// What a request is answered with.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// JSON; `None` is answered by 204.
    data: Option<String>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Answer {
    /// The JSON text `data`.
    pub(super) fn data(data: String) -> Self {
        Self { data: Some(data), ..Self::default() }
    }

    /// Nothing to say.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    /// With what the engine remarked.
    pub(super) fn remarked(mut self, warnings: Vec<String>, infos: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self.infos.extend(infos);
        self
    }

    /// With the warning that there was more, if there was.
    pub(super) fn truncated(mut self, is_truncated: bool) -> Self {
        if is_truncated {
            self.warnings.push(TRUNCATED.to_owned());
        }
        self
    }

    /// `status` first: Grafana reads the keys in this order.
    pub(super) fn into_response(self) -> Response {
        let Some(data) = self.data else { return StatusCode::NO_CONTENT.into_response() };
        let mut body = String::with_capacity(data.len() + 64);
        body.push_str(r#"{"status":"success","data":"#);
        body.push_str(&data);
        for (key, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                body.push_str(",\"");
                body.push_str(key);
                body.push_str("\":");
                json::strings(&mut body, texts.iter().take(MAX_ANNOTATIONS).map(String::as_str));
            }
        }
        body.push('}');
        respond::json(StatusCode::OK, body)
    }
}
