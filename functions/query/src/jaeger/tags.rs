//! The tags of a search, from their three texts to conditions on spans.
//!
//! Jaeger shows fields of OTLP as tags (see [`super::v1`]); a search for such a tag is a search for the field.

use model::search::Condition;
use model::spans::STATUS_ERROR;

use super::terms;

/// Keys and values, each key once, in order of first appearance.
pub(super) type Tags = Vec<(String, String)>;

/// Why a text holds no tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TagError {
    /// `tag` without a colon.
    #[error("malformed 'tag' parameter, expecting key:value, received: {0}")]
    Pair(String),
    /// `tags` that starts like JSON, and is none, or not an object of strings.
    #[error("malformed 'tags' parameter, cannot unmarshal JSON: {0}")]
    Json(#[from] JsonTagError),
    /// `tags` that is neither JSON nor `key=value` pairs.
    #[error("malformed 'tags' parameter, expecting a JSON object or key=value, received: {0}")]
    Logfmt(String),
}

/// Why a JSON text is not an object of strings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonTagError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// Not an object. Go's words.
    #[error("json: cannot unmarshal {0} into Go value of type map[string]string")]
    NotObject(&'static str),
    /// A value that is not a string. Go's words.
    #[error("json: cannot unmarshal {0} into Go value of type string")]
    NotString(&'static str),
}

/// Adds `key:value`, split at the first colon.
pub(super) fn add_pair(tags: &mut Tags, text: &str) -> Result<(), TagError> {
    let (key, value) = text.split_once(':').ok_or_else(|| TagError::Pair(text.to_owned()))?;
    set(tags, key, value);
    Ok(())
}

/// Adds the tags of a JSON object of strings, or of `key=value key2="value 2"` text.
pub(super) fn add_text(tags: &mut Tags, text: &str) -> Result<(), TagError> {
    let text = text.trim();
    if text.starts_with(['{', '[', '"']) || text == "null" {
        return Ok(add_json(tags, text)?);
    }
    add_logfmt(tags, text).ok_or_else(|| TagError::Logfmt(text.to_owned()))
}

/// Adds the entries of a JSON object of strings. As in Go, `null` is an empty map or an empty string.
pub(super) fn add_json(tags: &mut Tags, text: &str) -> Result<(), JsonTagError> {
    use serde_json::Value;
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let entries = match serde_json::from_str(text).map_err(|err| JsonTagError::Syntax(err.to_string()))? {
        Value::Object(entries) => entries,
        Value::Null => return Ok(()),
        other => return Err(JsonTagError::NotObject(kind(&other))),
    };
    for (key, value) in &entries {
        match value {
            Value::String(text) => set(tags, key, text),
            Value::Null => set(tags, key, ""),
            other => return Err(JsonTagError::NotString(kind(other))),
        }
    }
    Ok(())
}

/// Adds pairs separated by blanks; a value in double quotes may hold blanks, and `\"` and `\\`.
fn add_logfmt(tags: &mut Tags, text: &str) -> Option<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', '\t', '\n', '"']) {
            return None;
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let (bare, after) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
            (bare.to_owned(), after)
        };
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return None;
        }
        set(tags, key, &value);
        rest = after.trim_start();
    }
    Some(())
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn set(tags: &mut Tags, key: &str, value: &str) {
    match tags.iter_mut().find(|(other, _)| other == key) {
        Some((_, old)) => value.clone_into(old),
        None => tags.push((key.to_owned(), value.to_owned())),
    }
}

/// What a tag asks of a span.
pub(super) fn condition(key: &str, value: &str) -> Condition {
    let attribute = || Condition::Attribute { key: key.to_owned(), value: value.to_owned() };
    match key {
        // The tag is shown for spans with an error status, and may also be an attribute of its own.
        "error" if value == "true" => Condition::Any(vec![Condition::Status(STATUS_ERROR), attribute()]),
        "error" if value == "false" => {
            Condition::Any(vec![Condition::Status(0), Condition::Status(1), attribute()])
        }
        "span.kind" => terms::kind_number(value).map_or_else(attribute, Condition::Kind),
        "otel.status_code" => match value {
            "OK" => Condition::Status(1),
            "ERROR" => Condition::Status(STATUS_ERROR),
            _ => attribute(),
        },
        "otel.status_description" => Condition::StatusMessage(value.to_owned()),
        "otel.scope.name" | "otel.library.name" => Condition::ScopeName(value.to_owned()),
        "otel.scope.version" | "otel.library.version" => Condition::ScopeVersion(value.to_owned()),
        "w3c.tracestate" => Condition::TraceState(value.to_owned()),
        _ => attribute(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(tags: &Tags) -> Vec<(&str, &str)> {
        tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_pair_is_split_at_its_first_colon() {
        let mut tags = Tags::new();
        add_pair(&mut tags, "url:http://a:80").expect("a pair");
        add_pair(&mut tags, "empty:").expect("a pair");
        assert_eq!(pairs(&tags), [("url", "http://a:80"), ("empty", "")]);
    }

    #[test]
    fn tags_are_json_or_logfmt() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let mut tags = Tags::new();
            add_text(&mut tags, text).expect(text);
            assert_eq!(pairs(&tags), expect, "{text}");
        };
        check(
            r#"{"error":"true","http.status_code":"500"}"#,
            &[("error", "true"), ("http.status_code", "500")],
        );
        check(r#"{"a":null}"#, &[("a", "")]);
        check("null", &[]);
        check("{}", &[]);
        check("", &[]);
        check("error=true", &[("error", "true")]);
        check(
            r#" a=1  b="two words" c="q\"\\" d= e=x=y "#,
            &[("a", "1"), ("b", "two words"), ("c", "q\"\\"), ("d", ""), ("e", "x=y")],
        );
    }

    #[test]
    fn later_tags_replace_earlier_ones() {
        let mut tags = Tags::new();
        add_pair(&mut tags, "a:1").expect("a pair");
        add_text(&mut tags, r#"{"a":"2"}"#).expect("json");
        assert_eq!(pairs(&tags), [("a", "2")]);
    }

    #[test]
    fn broken_tags_say_why() {
        let check = |text: &str, expect: &str| {
            assert_eq!(add_text(&mut Tags::new(), text).expect_err(text).to_string(), expect);
        };
        check(
            r#"{"a":1}"#,
            "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal number into Go value of type string",
        );
        check(
            "[]",
            "malformed 'tags' parameter, cannot unmarshal JSON: json: cannot unmarshal array into Go value of type map[string]string",
        );
        check(
            "{",
            "malformed 'tags' parameter, cannot unmarshal JSON: EOF while parsing an object at line 1 column 1",
        );
        for text in ["error", "a:1", "a=1 b", "=1", r#"a="x"#, r#"a="x"b=1"#, "a b=1"] {
            check(
                text,
                &format!(
                    "malformed 'tags' parameter, expecting a JSON object or key=value, received: {text}"
                ),
            );
        }
        let deep = "{\"a\":".repeat(10_000);
        assert!(add_text(&mut Tags::new(), &deep).is_err());
        assert_eq!(
            add_pair(&mut Tags::new(), "error").expect_err("no colon").to_string(),
            "malformed 'tag' parameter, expecting key:value, received: error"
        );
    }

    #[test]
    fn tags_that_jaeger_derives_ask_for_the_field() {
        let check =
            |key: &str, value: &str, expect: Condition| assert_eq!(condition(key, value), expect, "{key}");
        let attribute =
            |key: &str, value: &str| Condition::Attribute { key: key.to_owned(), value: value.to_owned() };
        check("error", "true", Condition::Any(vec![Condition::Status(2), attribute("error", "true")]));
        check(
            "error",
            "false",
            Condition::Any(vec![Condition::Status(0), Condition::Status(1), attribute("error", "false")]),
        );
        check("error", "timeout", attribute("error", "timeout"));
        check("span.kind", "server", Condition::Kind(2));
        check("span.kind", "rpc", attribute("span.kind", "rpc"));
        check("otel.status_code", "OK", Condition::Status(1));
        check("otel.status_code", "ERROR", Condition::Status(2));
        check("otel.status_code", "ok", attribute("otel.status_code", "ok"));
        check("otel.status_description", "x", Condition::StatusMessage("x".to_owned()));
        check("otel.scope.name", "x", Condition::ScopeName("x".to_owned()));
        check("otel.library.name", "x", Condition::ScopeName("x".to_owned()));
        check("otel.scope.version", "1", Condition::ScopeVersion("1".to_owned()));
        check("otel.library.version", "1", Condition::ScopeVersion("1".to_owned()));
        check("w3c.tracestate", "a=b", Condition::TraceState("a=b".to_owned()));
        check("hostname", "h", attribute("hostname", "h"));
        check("http.status_code", "500", attribute("http.status_code", "500"));
    }
}
