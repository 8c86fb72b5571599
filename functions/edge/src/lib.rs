//! What every door shares: tenant, request guard, metrics, stores by location, Lambda events.
//!
//! This crate knows HTTP, the environment and the clock, and no telemetry format.
//! A request comes in through [`guard::Door`], from a socket (the local binary) or from an event ([`lambda`]):
//! path → request id → the function's router, panics caught → compression → access log.
//!
//! - [`guard`]: the door.
//! - [`lambda`]: events of API Gateway, function URLs and ALB to requests, responses to events.
//! - [`open`]: stores from locations such as `s3://bucket/prefix`.
//! - [`cache`]: what is kept of objects.
//! - [`config`]: the environment of a Lambda function.
//! - [`ledger`]: storage calls by function and tenant.
//! - [`health`], [`metrics`], [`logging`], [`clock`].

pub mod cache;
pub mod clock;
pub mod config;
pub mod guard;
pub mod health;
pub mod lambda;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod open;

use http::HeaderMap;
use model::{IdError, TenantId};

/// The header that names the tenant, as Tempo, Loki and Mimir have it.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// The tenant that a request is for: `X-Scope-OrgID`, or the default tenant where that is absent or empty.
///
/// # Errors
/// A name that cannot be a tenant's.
pub fn tenant(headers: &HeaderMap) -> Result<TenantId, IdError> {
    match headers.get(TENANT_HEADER) {
        None => Ok(TenantId::default_tenant()),
        Some(value) if value.is_empty() => Ok(TenantId::default_tenant()),
        Some(value) => String::from_utf8_lossy(value.as_bytes()).trim().parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_named_by_a_header() {
        let check = |value: Option<&[u8]>, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(TENANT_HEADER, http::HeaderValue::from_bytes(value).expect("a header value"));
            }
            assert_eq!(tenant(&headers).ok().as_ref().map(TenantId::as_str), expect, "{value:?}");
        };
        check(None, Some("default"));
        check(Some(b""), Some("default"));
        check(Some(b"team-a"), Some("team-a"));
        check(Some(b" team-a "), Some("team-a"));
        check(Some(b"a|b"), None);
        check(Some(b"../x"), None);
        check(Some(b"caf\xe9"), None);
    }
}
