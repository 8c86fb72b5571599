//! Native histograms of one series, as bytes.
//!
//! ```text
//! histograms = sample …
//! sample     = zigzag time − time of the sample before (0 before the first), ms   zigzag start, ms, 0 for "not said"
//!              u8 flags  [layout]  count  zero count  f64 LE sum  positive counts  negative counts
//! flags      = 1: came with integer counts   2: counts are stored as integers   4: layout as that of the sample before
//!              (reset hint) << 3: 0 unknown, 1 reset, 2 no reset, 3 gauge
//! layout     = zigzag schema  f64 LE zero threshold  spans positive  spans negative
//!              varint number of custom bounds  f64 LE each
//! spans      = varint number  { zigzag offset  varint length } …
//! count      = varint if stored as integers, else f64 LE; bucket counts that are stored as integers are zigzag varints
//!              of the difference to the bucket before
//! ```

use std::sync::Arc;

use model::histogram::{BucketSpan, Buckets, NativeHistogram, ResetHint};
use model::series::HistogramSample;

use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};

const CAME_AS_INTEGERS: u8 = 1;
const STORED_AS_INTEGERS: u8 = 2;
const SAME_LAYOUT: u8 = 4;
const HINT_SHIFT: u8 = 3;
/// Integers up to here are exact as doubles.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;
/// The most buckets, spans or bounds that a reader accepts of one histogram.
const MAX_BUCKETS: u64 = 1 << 20;

/// The bytes of these samples; empty for none.
pub fn encode(samples: &[HistogramSample]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before: Option<&HistogramSample> = None;
    for sample in samples {
        let histogram = &sample.histogram;
        let is_same_layout = before.is_some_and(|before| has_same_layout(&before.histogram, histogram));
        let as_integers = all_counts(histogram).all(is_integer);
        let hint = match histogram.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        };
        write_varint(
            &mut out,
            zigzag(sample.time_ms.wrapping_sub(before.map_or(0, |before| before.time_ms))),
        );
        write_varint(&mut out, zigzag(sample.start_ms));
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(
            flag(histogram.is_integer, CAME_AS_INTEGERS)
                | flag(as_integers, STORED_AS_INTEGERS)
                | flag(is_same_layout, SAME_LAYOUT)
                | hint << HINT_SHIFT,
        );
        if !is_same_layout {
            write_layout(&mut out, histogram);
        }
        write_count(&mut out, histogram.count, as_integers);
        write_count(&mut out, histogram.zero_count, as_integers);
        out.extend_from_slice(&histogram.sum.to_le_bytes());
        for side in [&histogram.positive, &histogram.negative] {
            let mut previous = 0;
            for &count in &side.counts {
                if as_integers {
                    write_varint(&mut out, zigzag(count as i64 - previous));
                    previous = count as i64;
                } else {
                    out.extend_from_slice(&count.to_le_bytes());
                }
            }
        }
        before = Some(sample);
    }
    out
}

/// Sorts histograms by time and keeps of each time the greatest by the bits of count and sum: the rule of
/// [`read::select`](crate::read::select).
pub fn keep_greatest(samples: &mut Vec<HistogramSample>) {
    samples.sort_by(|a, b| {
        let rank = |sample: &HistogramSample| {
            (sample.time_ms, sample.histogram.count.to_bits(), sample.histogram.sum.to_bits())
        };
        rank(a).cmp(&rank(b))
    });
    samples.dedup_by(|later, kept| {
        let is_same = later.time_ms == kept.time_ms;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
}

fn has_same_layout(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let bits = |bounds: &[f64]| bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive.spans == b.positive.spans
        && a.negative.spans == b.negative.spans
        && bits(&a.custom_bounds) == bits(&b.custom_bounds)
}

fn all_counts(histogram: &NativeHistogram) -> impl Iterator<Item = f64> + '_ {
    let buckets = histogram.positive.counts.iter().chain(&histogram.negative.counts).copied();
    [histogram.count, histogram.zero_count].into_iter().chain(buckets)
}

fn is_integer(count: f64) -> bool {
    count.abs() <= MAX_INTEGER && (count as i64 as f64).to_bits() == count.to_bits()
}

fn write_count(out: &mut Vec<u8>, count: f64, as_integers: bool) {
    if as_integers {
        write_varint(out, zigzag(count as i64));
    } else {
        out.extend_from_slice(&count.to_le_bytes());
    }
}

fn write_layout(out: &mut Vec<u8>, histogram: &NativeHistogram) {
    write_varint(out, zigzag(i64::from(histogram.schema)));
    out.extend_from_slice(&histogram.zero_threshold.to_le_bytes());
    for side in [&histogram.positive, &histogram.negative] {
        write_varint(out, side.spans.len() as u64);
        for span in &side.spans {
            write_varint(out, zigzag(i64::from(span.offset)));
            write_varint(out, u64::from(span.length));
        }
    }
    write_varint(out, histogram.custom_bounds.len() as u64);
    for bound in &histogram.custom_bounds {
        out.extend_from_slice(&bound.to_le_bytes());
    }
}

/// The samples that [`encode`] wrote.
///
/// # Errors
/// The bytes are no such samples.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<HistogramSample>, Invalid> {
    let mut samples: Vec<HistogramSample> = Vec::new();
    while !bytes.is_empty() {
        let before = samples.last();
        let time_ms =
            before.map_or(0, |before| before.time_ms).wrapping_add(unzigzag(read_varint(&mut bytes)?));
        let start_ms = unzigzag(read_varint(&mut bytes)?);
        let flags = take(&mut bytes, 1)?[0];
        let mut histogram = match before {
            Some(before) if flags & SAME_LAYOUT != 0 => NativeHistogram::clone(&before.histogram),
            None if flags & SAME_LAYOUT != 0 => return Err(Invalid("first histogram has no layout")),
            _ => read_layout(&mut bytes)?,
        };
        let as_integers = flags & STORED_AS_INTEGERS != 0;
        histogram.is_integer = flags & CAME_AS_INTEGERS != 0;
        histogram.reset_hint = match flags >> HINT_SHIFT {
            0 => ResetHint::Unknown,
            1 => ResetHint::Reset,
            2 => ResetHint::NotReset,
            3 => ResetHint::Gauge,
            _ => return Err(Invalid("histogram has unknown flags")),
        };
        histogram.count = read_count(&mut bytes, as_integers)?;
        histogram.zero_count = read_count(&mut bytes, as_integers)?;
        histogram.sum = read_double(&mut bytes)?;
        for side in [&mut histogram.positive, &mut histogram.negative] {
            let n_buckets: u64 = side.spans.iter().map(|span| u64::from(span.length)).sum();
            if n_buckets > MAX_BUCKETS {
                return Err(Invalid("histogram has too many buckets"));
            }
            side.counts.clear();
            let mut previous = 0_i64;
            for _ in 0..n_buckets {
                side.counts.push(if as_integers {
                    previous = previous.wrapping_add(unzigzag(read_varint(&mut bytes)?));
                    previous as f64
                } else {
                    read_double(&mut bytes)?
                });
            }
        }
        samples.push(HistogramSample { time_ms, start_ms, histogram: Arc::new(histogram) });
    }
    Ok(samples)
}

fn read_layout(bytes: &mut &[u8]) -> Result<NativeHistogram, Invalid> {
    let schema = unzigzag(read_varint(bytes)?);
    let schema = i32::try_from(schema).map_err(|_| Invalid("histogram has an impossible schema"))?;
    let mut histogram =
        NativeHistogram { schema, zero_threshold: read_double(bytes)?, ..NativeHistogram::default() };
    for side in [&mut histogram.positive, &mut histogram.negative] {
        let n_spans = read_number(bytes)?;
        let mut buckets = Buckets::default();
        for _ in 0..n_spans {
            let offset = unzigzag(read_varint(bytes)?) as i32;
            let length = read_number(bytes)? as u32;
            buckets.spans.push(BucketSpan { offset, length });
        }
        *side = buckets;
    }
    for _ in 0..read_number(bytes)? {
        let bound = read_double(bytes)?;
        histogram.custom_bounds.push(bound);
    }
    Ok(histogram)
}

fn read_number(bytes: &mut &[u8]) -> Result<u64, Invalid> {
    let number = read_varint(bytes)?;
    if number > MAX_BUCKETS { Err(Invalid("histogram has too many buckets")) } else { Ok(number) }
}

fn read_count(bytes: &mut &[u8], as_integers: bool) -> Result<f64, Invalid> {
    if as_integers { Ok(unzigzag(read_varint(bytes)?) as f64) } else { read_double(bytes) }
}

fn read_double(bytes: &mut &[u8]) -> Result<f64, Invalid> {
    Ok(f64::from_le_bytes(take(bytes, 8)?.try_into().expect("invariant: as many taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time_ms: i64, counts: &[f64], is_integer: bool) -> HistogramSample {
        let spans = vec![BucketSpan { offset: -3, length: counts.len() as u32 }];
        let histogram = NativeHistogram {
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            count: counts.iter().sum::<f64>() + 2.0,
            sum: -0.0,
            positive: Buckets { spans, counts: counts.to_vec() },
            reset_hint: ResetHint::NotReset,
            is_integer,
            ..NativeHistogram::default()
        };
        HistogramSample { time_ms, start_ms: 5, histogram: Arc::new(histogram) }
    }

    #[test]
    fn histograms_come_back() {
        let samples = [
            sample(10, &[1.0, 2.0], true),
            sample(20, &[1.0, 3.0], true),
            sample(30, &[0.5, -1.0, f64::INFINITY], false),
            sample(-7, &[9e18, 1.0], true),
        ];
        let bytes = encode(&samples);
        let back = decode(&bytes).expect("own bytes");
        assert_eq!(back, samples);
        assert!(back[0].histogram.sum.is_sign_negative());
        assert!(encode(&[]).is_empty());
        for end in 1..bytes.len() {
            let _ = decode(&bytes[..end]);
        }
    }

    #[test]
    fn a_sample_with_the_layout_of_the_one_before_is_small() {
        let one = encode(&[sample(10, &[1.0; 40], true)]).len();
        let two = encode(&[sample(10, &[1.0; 40], true), sample(20, &[2.0; 40], true)]).len();
        assert!(two - one < 56, "{one} {two}");
    }
}
