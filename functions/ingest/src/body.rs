//! Reads a request's body, bounded.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::budget::{Budget, Held};
use crate::refusal::Refusal;

/// What a body without a length is first taken for.
const FIRST_BYTES: usize = 64 << 10;
/// Most that is read and thrown away for a sender that is still sending.
const MAX_DRAINED_BYTES: usize = 32 << 20;
/// Longest that this takes.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(2);

/// The whole body, and its part of the budget. A body that comes in one piece is not copied.
pub(crate) async fn read(body: &mut Body, limit: usize, budget: &Budget) -> Result<(Bytes, Held), Refusal> {
    let too_large = || Refusal::Wire(wire::Error::TooLarge { limit });
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(too_large());
    }
    let expected_bytes = hint.exact().map_or(FIRST_BYTES, |bytes| bytes as usize);
    let mut held = budget.hold(expected_bytes).await?;
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(Refusal::Broken)?.into_data() else { continue };
        let n_bytes = whole.len() + joined.len() + piece.len();
        if n_bytes > limit {
            return Err(too_large());
        }
        if n_bytes > expected_bytes {
            // In steps that double, so that a slow sender holds little and a long body waits seldom.
            held.grow(n_bytes.next_power_of_two().min(limit)).await?;
        }
        if whole.is_empty() && joined.is_empty() {
            whole = piece;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(expected_bytes.max(n_bytes));
            joined.extend_from_slice(&std::mem::take(&mut whole));
        }
        joined.extend_from_slice(&piece);
    }
    let body = if joined.is_empty() { whole } else { joined.freeze() };
    Ok((body, held))
}

/// Reads on and throws away, within bounds, so that the sender gets to see the answer.
/// A sender that waits for `100 Continue` has sent nothing yet, and reading would invite it.
pub(crate) async fn drain(mut body: Body, headers: &HeaderMap) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let drained = async {
        let mut n_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
            if n_bytes > MAX_DRAINED_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(MAX_DRAIN_TIME, drained).await;
}
