//! Index items of files to which policies were applied.
//!
//! ```text
//! treated item = u8 129  u8 treatments  per treatment u64 LE  item as it was
//! ```
//! A treatment is named by a hash of what was applied, so that whoever applies the same reads nothing but the item. A file
//! that was merged from several has only the treatments of all. No item of a file begins with 129: their versions are small.

const TREATED: u8 = 129;

/// The item of a file that had these treatments.
pub(crate) fn write_treated(treatments: &[u64], item: &[u8]) -> Vec<u8> {
    let treatments = &treatments[..treatments.len().min(usize::from(u8::MAX))];
    if treatments.is_empty() {
        return item.to_vec();
    }
    let mut out = Vec::with_capacity(2 + treatments.len() * 8 + item.len());
    out.extend([TREATED, treatments.len() as u8]);
    for treatment in treatments {
        out.extend_from_slice(&treatment.to_le_bytes());
    }
    out.extend_from_slice(item);
    out
}

/// The treatments that a file had, and where in the value the item as it was begins.
pub(crate) fn split_treated(value: &[u8]) -> (Vec<u64>, usize) {
    let [TREATED, n, rest @ ..] = value else { return (Vec::new(), 0) };
    let n_bytes = usize::from(*n) * 8;
    match rest.get(..n_bytes) {
        Some(treatments) => {
            (treatments.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect(), 2 + n_bytes)
        }
        None => (Vec::new(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_treated_item_keeps_what_it_said() {
        let item = write_treated(&[7, u64::MAX], b"as it was");
        assert_eq!(split_treated(&item), (vec![7, u64::MAX], 18));
        assert_eq!(&item[18..], b"as it was");
        assert_eq!(write_treated(&[], b"as it was"), b"as it was");
        assert_eq!(split_treated(b"\x02item"), (Vec::new(), 0));
        assert_eq!(split_treated(b"\x81\x09cut off"), (Vec::new(), 0));
    }
}
