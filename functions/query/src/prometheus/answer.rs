//! The envelope that every answer of the API comes in.
//!
//! Source: Prometheus `web/api/v1/api.go` `Response`, `respond`.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use http::StatusCode;

use super::json;
use crate::respond;

/// Most warnings, and most infos, that an answer carries.
const MAX_ANNOTATIONS: usize = 10;
/// What a lookup says when it left something out.
const TRUNCATED: &str = "results truncated due to limit";

/// Answers up to here are made at once and say their length; longer ones are made while they are sent.
const MAX_WHOLE_BYTES: usize = 256 << 10;

/// JSON text in pieces that are made one after the other.
pub(super) type Pieces = Box<dyn Iterator<Item = String> + Send>;

/// What a request is answered with.
#[derive(Default)]
pub(super) struct Answer {
    /// JSON; `None` is answered by 204.
    data: Option<Pieces>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Answer {
    /// The JSON text `data`.
    pub(super) fn data(data: String) -> Self {
        Self::pieces(Box::new(std::iter::once(data)))
    }

    /// The JSON text of all pieces.
    pub(super) fn pieces(data: Pieces) -> Self {
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
        let mut end = String::new();
        for (key, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                end.push_str(",\"");
                end.push_str(key);
                end.push_str("\":");
                json::strings(&mut end, texts.iter().take(MAX_ANNOTATIONS).map(String::as_str));
            }
        }
        end.push('}');
        let mut pieces = data.chain(std::iter::once(end));
        let mut body = String::from(r#"{"status":"success","data":"#);
        for piece in pieces.by_ref() {
            body.push_str(&piece);
            if body.len() > MAX_WHOLE_BYTES {
                let pieces = std::iter::once(body).chain(pieces);
                let sent = pieces.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
                return respond::json_body(StatusCode::OK, Body::from_stream(stream::iter(sent)));
            }
        }
        respond::json(StatusCode::OK, body)
    }
}
