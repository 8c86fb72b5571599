//! The identity of a row as bytes whose order is the order of rows in merged files.
//!
//! ```text
//! key  = text metric  { text name  text value } …  u8 temporality
//! text = UTF-8, each zero byte as 00 ff   00
//! ```
//! No UTF-8 has the byte ff, so that keys sort as metrics, then labels pair by pair, then temporality, and no two
//! identities have one key.

use std::borrow::Cow;

use model::series::Temporality;

/// Appends the key of a row.
pub(super) fn write<'a>(
    out: &mut Vec<u8>,
    metric: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    temporality: Temporality,
) {
    write_text(out, metric);
    for (name, value) in labels {
        write_text(out, name);
        write_text(out, value);
    }
    out.push(temporality as u8);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(zero) = memchr::memchr(0, rest) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(0xff);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.push(0);
}

/// What a key says.
pub(super) struct Identity<'a> {
    pub(super) metric: Cow<'a, str>,
    rest: &'a [u8],
    pub(super) temporality: Temporality,
}

impl<'a> Identity<'a> {
    /// Of a key that [`write`] wrote.
    pub(super) fn of(key: &'a [u8]) -> Self {
        let (temporality, mut rest) = key.split_last().expect("invariant: a key is not empty");
        let temporality = if *temporality == 0 { Temporality::Cumulative } else { Temporality::Delta };
        let metric = take_text(&mut rest);
        Self { metric, rest, temporality }
    }

    /// The labels, ascending by name.
    pub(super) fn labels(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        let mut rest = self.rest;
        std::iter::from_fn(move || (!rest.is_empty()).then(|| (take_text(&mut rest), take_text(&mut rest))))
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Cow<'a, str> {
    let whole = *rest;
    let mut end = 0;
    let mut has_zeros = false;
    loop {
        end += memchr::memchr(0, &whole[end..]).expect("invariant: a text ends with zero");
        if whole.get(end + 1) != Some(&0xff) {
            break;
        }
        has_zeros = true;
        end += 2;
    }
    *rest = &whole[end + 1..];
    let text = std::str::from_utf8(&whole[..end]);
    if let (Ok(text), false) = (text, has_zeros) {
        return Cow::Borrowed(text);
    }
    let bytes = whole[..end].iter().copied().filter(|&byte| byte != 0xff).collect();
    Cow::Owned(String::from_utf8(bytes).expect("invariant: a key is made of UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, String)>;

    fn key(metric: &str, labels: &Pairs, temporality: Temporality) -> Vec<u8> {
        let mut key = Vec::new();
        write(
            &mut key,
            metric,
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            temporality,
        );
        key
    }

    proptest! {
        #[test]
        fn keys_say_what_they_were_made_of_and_sort_as_it(
            a in ("[a\0\u{1}é]{0,3}", proptest::collection::vec(("[a\0é]{1,2}", "[ab\0]{1,2}"), 0..3), any::<bool>()),
            b in ("[a\0\u{1}é]{0,3}", proptest::collection::vec(("[a\0é]{1,2}", "[ab\0]{1,2}"), 0..3), any::<bool>()),
        ) {
            let temporality = |is_delta: bool| if is_delta { Temporality::Delta } else { Temporality::Cumulative };
            let key_of = |it: &(String, Pairs, bool)| key(&it.0, &it.1, temporality(it.2));
            let key = key_of(&a);
            let identity = Identity::of(&key);
            prop_assert_eq!(&*identity.metric, &a.0);
            let labels: Pairs = identity.labels().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            prop_assert_eq!(&labels, &a.1);
            prop_assert_eq!(identity.temporality, temporality(a.2));
            prop_assert_eq!(key_of(&a) == key_of(&b), a == b);
            if a.0 != b.0 {
                prop_assert_eq!(key_of(&a) < key_of(&b), a.0 < b.0);
            }
        }
    }
}
