//! What a selector asks of a label: `=`, `!=`, `=~`, `!~`.

use std::fmt;

use regex::Regex;

use crate::labels::Labels;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A pattern that does not compile.
#[derive(Debug, thiserror::Error)]
#[error("invalid regex in matcher {name}{}{pattern:?}: {source}", op.as_str())]
pub struct InvalidRegex {
    /// The label.
    pub name: String,
    /// The operator.
    pub op: MatchOp,
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong; larger than the limit is wrong too.
    #[source]
    pub source: Box<regex::Error>,
}

impl InvalidRegex {
    /// What is wrong, in the words of Go's package `regexp` where they are known.
    pub fn reason(&self) -> String {
        let text = self.source.to_string();
        let reason = text.rsplit("error: ").next().unwrap_or(&text).trim();
        let pattern = &self.pattern;
        match reason {
            "unclosed group" => format!("missing closing ): `{pattern}`"),
            "unopened group" => format!("unexpected ): `{pattern}`"),
            "unclosed character class" => format!("missing closing ]: `{pattern}`"),
            "repetition operator missing expression" => {
                let operator = pattern.chars().find(|c| matches!(c, '*' | '+' | '?')).unwrap_or('*');
                format!("missing argument to repetition operator: `{operator}`")
            }
            other => format!("{other}: `{pattern}`"),
        }
    }
}

/// A pattern of Go's syntax, anchored, in that of the crate `regex`: classes are of ASCII, and the dot takes line ends.
/// Source: Go `regexp/syntax`; Prometheus `model/labels/regexp.go`.
pub fn anchored(pattern: &str) -> String {
    let mut out = String::from("^(?s:");
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(escaped) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        rest = &rest[escaped.len_utf8()..];
        match escaped {
            'd' => out.push_str("[0-9]"),
            'D' => out.push_str("[^0-9]"),
            'w' => out.push_str("[0-9A-Za-z_]"),
            'W' => out.push_str("[^0-9A-Za-z_]"),
            's' => out.push_str("[\\t\\n\\f\\r ]"),
            'S' => out.push_str("[^\\t\\n\\f\\r ]"),
            'b' => out.push_str("(?-u:\\b)"),
            'Q' => {
                let (literal, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                out.push_str(&regex::escape(literal));
                rest = after;
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out.push_str(rest);
    out.push_str(")$");
    out
}

/// The largest compiled pattern, in bytes: a hostile one fails to compile and costs no more.
const REGEX_BYTES: usize = 4 << 20;

/// One condition on one label. An absent label has the value `""`.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

#[derive(Clone)]
enum Test {
    Exact,
    /// The pattern is nothing but texts with `|` between: no machine is needed.
    OneOf(Vec<String>),
    Pattern(Box<Regex>),
}

impl Matcher {
    /// The matcher `name op "value"`.
    ///
    /// # Errors
    /// `value` is to be a pattern and is none.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, InvalidRegex> {
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Exact,
            MatchOp::Regex | MatchOp::NotRegex if is_alternatives(value) => {
                Test::OneOf(value.split('|').map(str::to_owned).collect())
            }
            MatchOp::Regex | MatchOp::NotRegex => {
                let mut builder = regex::RegexBuilder::new(&anchored(value));
                let regex = builder.size_limit(REGEX_BYTES).build().map_err(|source| InvalidRegex {
                    name: name.to_owned(),
                    op,
                    pattern: value.to_owned(),
                    source: Box::new(source),
                })?;
                Test::Pattern(Box::new(regex))
            }
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), test })
    }

    /// The label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The text or the pattern.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value passes.
    pub fn matches(&self, value: &str) -> bool {
        let same = match &self.test {
            Test::Exact => self.value == value,
            Test::OneOf(texts) => texts.iter().any(|text| text == value),
            Test::Pattern(regex) => regex.is_match(value),
        };
        same == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The values of which the label must have one, where the matcher says so outright: for index lookups.
    pub fn values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.test) {
            (MatchOp::Equal, _) => Some(vec![&self.value]),
            (MatchOp::Regex, Test::OneOf(texts)) => Some(texts.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// Whether a pattern has no character with a meaning but `|`.
fn is_alternatives(pattern: &str) -> bool {
    !pattern.contains(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$'])
}

/// Whether the labels pass every matcher.
pub fn matches_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_whole() {
        let cases = [
            (MatchOp::Equal, "a", "a", true),
            (MatchOp::Equal, "a", "ab", false),
            (MatchOp::NotEqual, "a", "", true),
            (MatchOp::Regex, "a|bc", "bc", true),
            (MatchOp::Regex, "a|bc", "abc", false),
            (MatchOp::Regex, "a.*", "a\nb", true),
            (MatchOp::Regex, "a|b.", "xa", false),
            (MatchOp::NotRegex, ".+", "", true),
            (MatchOp::Regex, "", "", true),
            (MatchOp::Regex, "a|", "", true),
        ];
        for (op, pattern, value, passes) in cases {
            let matcher = Matcher::new("l", op, pattern).expect("a valid pattern");
            assert_eq!(matcher.matches(value), passes, "{matcher:?} on {value:?}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Matcher::new("pod", MatchOp::Regex, "[").expect_err("an open class");
        assert!(error.to_string().starts_with("invalid regex in matcher pod=~\"[\""), "{error}");
    }

    #[test]
    fn a_pattern_of_death_does_not_compile() {
        assert!(Matcher::new("l", MatchOp::Regex, "((a{1,1000}){1,1000}){1,1000}").is_err());
    }

    #[test]
    fn the_values_a_label_must_have() {
        let of = |op, value| Matcher::new("l", op, value).expect("valid").values().map(|v| v.join(","));
        assert_eq!(of(MatchOp::Regex, "a|b").as_deref(), Some("a,b"));
        assert_eq!(of(MatchOp::Equal, "a|b").as_deref(), Some("a|b"));
        assert_eq!(of(MatchOp::NotRegex, "a|b"), None);
        assert_eq!(of(MatchOp::Regex, "a.b"), None);
    }

    #[test]
    fn patterns_are_those_of_go() {
        let check = |pattern: &str, value: &str, expect: bool| {
            let matcher = Matcher::new("n", MatchOp::Regex, pattern).expect(pattern);
            assert_eq!(matcher.matches(value), expect, "{pattern} of {value:?}");
        };
        check(r"\d+", "12", true);
        check(r"\d+", "\u{661}", false);
        check(r"[\d.]+", "1.2", true);
        check(r"\w+", "é", false);
        check(r"\W", "é", true);
        check(r"a\sb", "a b", true);
        check(r"[^\S]", " ", true);
        check(r"\Qa.b|\E+", "a.b||", true);
        check(r"\.\\", ".\\", true);
        check("a.b", "a\nb", true);
        check("(?i)ABC", "abc", true);
    }

    #[test]
    fn wrong_patterns_are_explained_as_by_go() {
        let reason = |pattern: &str| Matcher::new("n", MatchOp::Regex, pattern).expect_err(pattern).reason();
        assert_eq!(reason("("), "missing closing ): `(`");
        assert_eq!(reason("*"), "missing argument to repetition operator: `*`");
        assert_eq!(reason("[a"), "missing closing ]: `[a`");
    }
}
