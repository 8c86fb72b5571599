//! Percent-encoding of what gateways hand over half decoded.

/// Appends `byte` as `%XX`.
fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 `pchar` without `%`.
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

/// Whether an escape stands at `at`.
fn is_escape(text: &[u8], at: usize) -> bool {
    matches!(text.get(at..at + 3), Some([b'%', a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// The text with every byte escaped that is not `legal`; escapes that are there stay.
fn sanitized(text: &str, legal: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if legal(byte) || is_escape(text.as_bytes(), at) {
            out.push(byte as char);
        } else {
            push_escaped(&mut out, byte);
        }
    }
    out
}

/// A path as it was sent, with what is illegal in a path escaped.
pub(super) fn encoded_path(path: &str) -> String {
    sanitized(path, |byte| is_path_char(byte) || byte == b'/')
}

/// A path that was decoded once, encoded again; only `/` keeps its meaning.
pub(super) fn decoded_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if is_path_char(byte) || byte == b'/' {
            out.push(byte as char);
        } else {
            push_escaped(&mut out, byte);
        }
    }
    out
}

/// A query as it was sent, with what is illegal in a query escaped: a literal space becomes `%20`.
pub(super) fn query(query: &str) -> String {
    sanitized(query, |byte| is_path_char(byte) || byte == b'/' || byte == b'?')
}

/// Appends a decoded key or value of a query, encoded.
pub(super) fn push_query_part(out: &mut String, decoded: &str) {
    for byte in decoded.bytes() {
        if is_unreserved(byte) {
            out.push(byte as char);
        } else {
            push_escaped(out, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_bytes_are_escaped_and_escapes_stay() {
        assert_eq!(query(r#"q={ .a = "b" }|é"#), "q=%7B%20.a%20=%20%22b%22%20%7D%7C%C3%A9");
        assert_eq!(query("a=%22+%2B&b=%zz&c=%2"), "a=%22+%2B&b=%25zz&c=%252");
        assert_eq!(query("match[]=a&x=y?z/#"), "match%5B%5D=a&x=y?z/%23");
        assert_eq!(encoded_path("/a%2Fb c/%"), "/a%2Fb%20c/%25");
        assert_eq!(decoded_path("/a%2Fb c?#é"), "/a%252Fb%20c%3F%23%C3%A9");
    }

    #[test]
    fn a_decoded_query_part_keeps_its_meaning() {
        let mut out = String::new();
        push_query_part(&mut out, "a+b &=é");
        assert_eq!(out, "a%2Bb%20%26%3D%C3%A9");
    }
}
