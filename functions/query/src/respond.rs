//! Bodies of answers. Compression is the door's.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    json_body(status, Body::from(body))
}

/// A JSON answer whose text may come in pieces.
pub(crate) fn json_body(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A plain-text answer.
pub(crate) fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Compact JSON text with a line per value and an indent of four spaces, keys in their order, numbers to the letter.
pub(crate) fn pretty(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    let mut characters = compact.chars().peekable();
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                let close = if character == '{' { '}' } else { ']' };
                if characters.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                out.push('"');
                in_string = true;
            }
            other => out.push(other),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_json_is_indented_by_four() {
        assert_eq!(
            pretty(r#"{"a":[1,{"b":"x,{\"\\"}],"c":[],"d":{}}"#),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x,{\\\"\\\\\"\n        }\n    ],\n    \"c\": [],\n    \"d\": {}\n}"
        );
        assert_eq!(pretty(r#""a:b""#), r#""a:b""#);
    }
}
