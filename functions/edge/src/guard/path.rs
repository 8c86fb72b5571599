//! One form for the paths that clients build from base URLs.

use http::Uri;
use http::uri::PathAndQuery;

/// `uri` without doubled slashes and without `base_path`, or `None` if it is already like that.
///
/// Slashes double where a client joins a base URL and an API path, so only those up to the API's first segment
/// (`api`, `v1`) are merged: behind it a service's name may contain two, which an HTTP API hands over decoded.
pub(super) fn normalized(uri: &Uri, base_path: &str) -> Option<Uri> {
    let path = uri.path();
    let has_base = !base_path.is_empty() && path.trim_start_matches('/').starts_with(&base_path[1..]);
    if !has_base && !path.contains("//") {
        return None;
    }
    let merged = merge_slashes(path);
    let rest = match merged.strip_prefix(base_path) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => &merged,
    };
    let text = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

fn merge_slashes(path: &str) -> String {
    let api_at = ["/api/", "/v1/"].iter().filter_map(|api| path.find(api)).min().unwrap_or(path.len());
    let (head, api) = path.split_at(api_at);
    let mut merged = String::with_capacity(path.len());
    for segment in head.split('/').filter(|segment| !segment.is_empty()) {
        merged.push('/');
        merged.push_str(segment);
    }
    if api.is_empty() && head.ends_with('/') {
        merged.push('/');
    }
    merged.push_str(api);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_merge_up_to_the_api() {
        let check = |path: &str, expect: &str| {
            let uri: Uri = path.parse().expect(path);
            let normal = normalized(&uri, "/base").unwrap_or(uri);
            assert_eq!(normal.to_string(), expect, "{path}");
        };
        check("/v1/traces", "/v1/traces");
        check("//v1/traces", "/v1/traces");
        check("///a//b", "/a/b");
        check("/base/v1/traces?x=//y", "/v1/traces?x=//y");
        check("/base", "/");
        check("/based/x", "/based/x");
        check("//base//v1/traces/", "/v1/traces/");
        check(
            "/jaeger//api/services/http://x/operations?a=b",
            "/jaeger/api/services/http://x/operations?a=b",
        );
        check("/", "/");
        check("//", "/");
        check("http://host:1/base/x", "http://host:1/x");
    }
}
