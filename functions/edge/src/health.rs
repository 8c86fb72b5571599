//! Whether a function answers: `/-/healthy` and `/-/ready`, as Prometheus has them.

use axum::Router;
use axum::routing::get;

/// Answers 200 as long as there is anything that answers: stores are opened before requests are taken.
pub fn router() -> Router {
    Router::new().route("/-/healthy", get(healthy)).route("/-/ready", get(healthy))
}

/// The answer of a healthy function.
pub async fn healthy() -> &'static str {
    "ok\n"
}
