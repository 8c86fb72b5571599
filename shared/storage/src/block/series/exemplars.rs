//! Exemplars of one series, as bytes.
//!
//! ```text
//! exemplars = exemplar …
//! exemplar  = zigzag time, ms   f64 LE value   varint number of labels  { text name  text value } …
//! text      = varint length  UTF-8
//! ```

use model::Labels;
use model::series::Exemplar;

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};

/// The bytes of these exemplars; empty for none.
pub fn encode(exemplars: &[Exemplar]) -> Vec<u8> {
    let mut out = Vec::new();
    for exemplar in exemplars {
        write_varint(&mut out, zigzag(exemplar.time_ms));
        out.extend_from_slice(&exemplar.value.to_le_bytes());
        write_varint(&mut out, exemplar.labels.len() as u64);
        for label in &exemplar.labels {
            for text in [&label.name, &label.value] {
                write_varint(&mut out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    out
}

/// Sorts exemplars by time and keeps of equal ones one.
pub fn sort(exemplars: &mut Vec<Exemplar>) {
    exemplars.sort_by(|a, b| {
        let rank = |exemplar: &Exemplar| (exemplar.time_ms, exemplar.value.to_bits());
        rank(a).cmp(&rank(b)).then_with(|| a.labels.cmp(&b.labels))
    });
    exemplars.dedup_by(|a, b| {
        a.time_ms == b.time_ms && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
    });
}

/// The exemplars that [`encode`] wrote.
///
/// # Errors
/// The bytes are no such exemplars.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Exemplar>, Invalid> {
    fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Invalid> {
        let len = usize::try_from(read_varint(bytes)?).map_err(|_| Invalid("text is too long"))?;
        std::str::from_utf8(take(bytes, len)?).map_err(|_| Invalid("text is not UTF-8"))
    }
    let mut exemplars = Vec::new();
    while !bytes.is_empty() {
        let time_ms = unzigzag(read_varint(&mut bytes)?);
        let value = f64::from_le_bytes(take(&mut bytes, 8)?.try_into().expect("invariant: as many taken"));
        let mut pairs = Vec::new();
        for _ in 0..read_varint(&mut bytes)? {
            pairs.push((text(&mut bytes)?, text(&mut bytes)?));
        }
        exemplars.push(Exemplar { time_ms, value, labels: Labels::from_pairs(pairs) });
    }
    Ok(exemplars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_come_back() {
        let labels = Labels::from_pairs([("trace_id", "abc"), ("é", "ü")]);
        let exemplars = [
            Exemplar { time_ms: -5, value: f64::INFINITY, labels },
            Exemplar { time_ms: i64::MAX, value: 0.1, labels: Labels::empty() },
        ];
        let bytes = encode(&exemplars);
        assert_eq!(decode(&bytes).expect("own bytes"), exemplars);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
