//! Samples of one series, packed: the cell of the column `chunks`.
//!
//! ```text
//! chunks  = chunk …, ascending and apart in time
//! chunk   = varint samples n  zigzag first time, ms  varint last time − first time  varint length of the rest
//!           ints of time − first time   values   [ints of start − first time]
//! values  = u8 form   form ≤ 15: decimal   form 255: planes
//! decimal = varint exceptions  { varint distance to the one before  f64 LE } …  ints of value × 10^form
//! planes  = u8 set of constant ones, lowest bit first   per plane one byte, or n
//! ```
//! `ints` are drawn in the module of that name. Measured values are mostly decimal numbers with few digits: as whole numbers their
//! differences take some bits. A value comes back to the bit or it is an exception: stale markers, other NaNs, infinities,
//! −0. Where more than a few are, doubles lie as they are, split by the place of their bytes, for zstd to find what
//! repeats. A start is there for each sample or for none; 0 is "not said".
//!
//! Chunks are copied, not decoded, where merged rows do not overlap and are long enough.

use crate::block::ints;
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::{read_varint, take, unzigzag, write_varint, zigzag};

/// The most samples of a chunk that a writer makes: a quarter of a day at 15 seconds.
pub const MAX_SAMPLES: usize = 1440;
/// Chunks with as many samples are not worth decoding to join them with others.
pub const ENOUGH_SAMPLES: usize = 960;
/// The most samples of a chunk that a reader accepts.
const MAX_READ_SAMPLES: u64 = 1 << 24;

const PLANES: u8 = 255;
/// Powers of ten that doubles hold exactly, and with which a quotient is rounded once.
const MAX_EXPONENT: usize = 15;
const POWERS: [f64; MAX_EXPONENT + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Whole numbers up to here are exact as doubles.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Samples of one series, strictly ascending by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Ms since the epoch.
    pub time_ms: Vec<i64>,
    /// Values, to the bit.
    pub value: Vec<f64>,
    /// Starts of counting, ms since the epoch, 0 for "not said"; empty if none is said.
    pub start_ms: Vec<i64>,
}

/// Appends `samples` in chunks of at most [`MAX_SAMPLES`].
pub fn write(out: &mut Vec<u8>, samples: &Samples) {
    let n = samples.time_ms.len();
    // Of equal length, so that no short one is left at the end.
    let n_chunks = n.div_ceil(MAX_SAMPLES).max(1);
    let length = n.div_ceil(n_chunks).max(1);
    for at in (0..n).step_by(length) {
        let end = (at + length).min(n);
        let starts = if samples.start_ms.is_empty() { &[] } else { &samples.start_ms[at..end] };
        write_chunk(out, &samples.time_ms[at..end], &samples.value[at..end], starts);
    }
}

fn write_chunk(out: &mut Vec<u8>, time_ms: &[i64], value: &[f64], start_ms: &[i64]) {
    let (first_ms, last_ms) = (time_ms[0], time_ms[time_ms.len() - 1]);
    let mut body = Vec::with_capacity(64 + time_ms.len() * 2);
    let since_first =
        |times: &[i64]| times.iter().map(|time| time.wrapping_sub(first_ms)).collect::<Vec<_>>();
    ints::write(&mut body, &since_first(time_ms));
    write_values(&mut body, value);
    if start_ms.iter().any(|&start| start != 0) {
        ints::write(&mut body, &since_first(start_ms));
    }
    write_varint(out, time_ms.len() as u64);
    write_varint(out, zigzag(first_ms));
    write_varint(out, last_ms.wrapping_sub(first_ms) as u64);
    write_varint(out, body.len() as u64);
    out.extend_from_slice(&body);
}

fn write_values(out: &mut Vec<u8>, values: &[f64]) {
    match Decimal::of(values) {
        Some(decimal) => decimal.write(out),
        None => write_planes(out, values),
    }
}

/// Values as whole numbers times a power of ten.
struct Decimal {
    exponent: usize,
    integers: Vec<i64>,
    /// Places of those that are not, and their values.
    exceptions: Vec<(usize, f64)>,
}

impl Decimal {
    /// `None` if too many values are none.
    fn of(values: &[f64]) -> Option<Self> {
        let most = values.len() / 16 + 1;
        let mut exponent = 0;
        let mut n_exceptions = 0;
        for &value in values {
            if scaled(value, exponent).is_none() {
                match (exponent + 1..=MAX_EXPONENT).find(|&exponent| scaled(value, exponent).is_some()) {
                    Some(greater) => exponent = greater,
                    None => n_exceptions += 1,
                }
            }
            if n_exceptions > most {
                return None;
            }
        }
        let mut decimal =
            Self { exponent, integers: Vec::with_capacity(values.len()), exceptions: Vec::new() };
        let mut before = values.iter().find_map(|&value| scaled(value, exponent)).unwrap_or(0);
        for (at, &value) in values.iter().enumerate() {
            match scaled(value, exponent) {
                Some(integer) => before = integer,
                None => decimal.exceptions.push((at, value)),
            }
            decimal.integers.push(before);
        }
        // A greater exponent may be too great for values that a lesser one suited.
        (decimal.exceptions.len() <= most).then_some(decimal)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.exponent as u8);
        write_varint(out, self.exceptions.len() as u64);
        let mut before = 0;
        for &(at, value) in &self.exceptions {
            write_varint(out, (at - before) as u64);
            out.extend_from_slice(&value.to_le_bytes());
            before = at;
        }
        ints::write(out, &self.integers);
    }
}

/// The whole number that gives `value` to the bit when divided by 10^`exponent`.
#[inline]
fn scaled(value: f64, exponent: usize) -> Option<i64> {
    let integer = (value * POWERS[exponent]).round_ties_even();
    let is_exact = integer.abs() <= MAX_INTEGER && (integer / POWERS[exponent]).to_bits() == value.to_bits();
    // As a whole number −0 would come back as 0.
    (is_exact && (integer != 0.0 || value.is_sign_positive())).then_some(integer as i64)
}

fn write_planes(out: &mut Vec<u8>, values: &[f64]) {
    out.push(PLANES);
    let plane = |place: usize| values.iter().map(move |value| value.to_le_bytes()[place]);
    let is_constant = |place: usize| plane(place).all(|byte| Some(byte) == plane(place).next());
    let constant: Vec<bool> = (0..8).map(is_constant).collect();
    out.push(constant.iter().enumerate().fold(0, |set, (place, &is)| set | u8::from(is) << place));
    for (place, is_constant) in constant.into_iter().enumerate() {
        if is_constant {
            out.extend(plane(place).next());
        } else {
            out.extend(plane(place));
        }
    }
}

/// A chunk whose samples are not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// How many samples.
    pub n_samples: usize,
    /// Time of the first, ms since the epoch.
    pub first_ms: i64,
    /// Time of the last.
    pub last_ms: i64,
    /// All of it, for copying.
    pub bytes: &'a [u8],
    body: &'a [u8],
}

/// The chunks of a cell, which are looked at one by one.
///
/// # Errors
/// An item is an error, and the last, if the bytes are no chunk.
pub fn chunks(bytes: &[u8]) -> impl Iterator<Item = Result<Chunk<'_>, Invalid>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = take_chunk(&mut rest);
        if next.is_err() {
            rest = &[];
        }
        Some(next)
    })
}

fn take_chunk<'a>(rest: &mut &'a [u8]) -> Result<Chunk<'a>, Invalid> {
    let whole = *rest;
    let n_samples = read_varint(rest)?;
    if n_samples == 0 || n_samples > MAX_READ_SAMPLES {
        return Err(Invalid("chunk has an impossible number of samples"));
    }
    let first_ms = unzigzag(read_varint(rest)?);
    let last_ms = first_ms.wrapping_add(read_varint(rest)? as i64);
    let len = usize::try_from(read_varint(rest)?).map_err(|_| Invalid("chunk is too long"))?;
    let body = take(rest, len)?;
    Ok(Chunk {
        n_samples: n_samples as usize,
        first_ms,
        last_ms,
        bytes: &whole[..whole.len() - rest.len()],
        body,
    })
}

impl Chunk<'_> {
    /// Appends the times and values of all samples.
    ///
    /// # Errors
    /// The bytes are no chunk; some may have been appended then.
    pub fn read(&self, time_ms: &mut Vec<i64>, value: &mut Vec<f64>) -> Result<(), Invalid> {
        let mut rest = self.read_times(time_ms)?;
        read_values(&mut rest, self.n_samples, value)
    }

    /// Appends all samples to `samples`.
    ///
    /// # Errors
    /// As [`Chunk::read`].
    pub fn read_all(&self, samples: &mut Samples) -> Result<(), Invalid> {
        let n_before = samples.time_ms.len();
        let mut rest = self.read_times(&mut samples.time_ms)?;
        read_values(&mut rest, self.n_samples, &mut samples.value)?;
        if rest.is_empty() {
            if !samples.start_ms.is_empty() {
                samples.start_ms.resize(n_before + self.n_samples, 0);
            }
            return Ok(());
        }
        samples.start_ms.resize(n_before, 0);
        ints::read(&mut rest, self.n_samples, &mut samples.start_ms)?;
        for start in &mut samples.start_ms[n_before..] {
            *start = start.wrapping_add(self.first_ms);
        }
        Ok(())
    }

    /// Appends the times, and returns what lies behind them.
    fn read_times(&self, time_ms: &mut Vec<i64>) -> Result<&[u8], Invalid> {
        let mut rest = self.body;
        let n_before = time_ms.len();
        ints::read(&mut rest, self.n_samples, time_ms)?;
        for time in &mut time_ms[n_before..] {
            *time = time.wrapping_add(self.first_ms);
        }
        Ok(rest)
    }
}

fn read_values(rest: &mut &[u8], n: usize, values: &mut Vec<f64>) -> Result<(), Invalid> {
    let form = take(rest, 1)?[0];
    if form == PLANES {
        return read_planes(rest, n, values);
    }
    let scale = *POWERS.get(usize::from(form)).ok_or(Invalid("values have an unknown form"))?;
    let n_exceptions = read_varint(rest)?;
    let n_exceptions =
        usize::try_from(n_exceptions).map_err(|_| Invalid("values have too many exceptions"))?;
    let mut exceptions = *rest;
    for _ in 0..n_exceptions {
        read_varint(rest)?;
        take(rest, 8)?;
    }
    let mut integers = Vec::new();
    ints::read(rest, n, &mut integers)?;
    let start = values.len();
    if form == 0 {
        values.extend(integers.iter().map(|&integer| integer as f64));
    } else {
        values.extend(integers.iter().map(|&integer| integer as f64 / scale));
    }
    let mut at = start;
    for _ in 0..n_exceptions {
        let distance = usize::try_from(read_varint(&mut exceptions)?).unwrap_or(usize::MAX);
        at = at.saturating_add(distance);
        let bits: [u8; 8] = take(&mut exceptions, 8)?.try_into().expect("invariant: as many taken");
        *values.get_mut(at).ok_or(Invalid("exception is behind the last value"))? = f64::from_le_bytes(bits);
    }
    Ok(())
}

fn read_planes(rest: &mut &[u8], n: usize, values: &mut Vec<f64>) -> Result<(), Invalid> {
    let constant = take(rest, 1)?[0];
    let mut bits: Vec<u64> = Vec::new();
    for place in 0..8 {
        let shift = 8 * place;
        let plane = take(rest, if constant >> place & 1 == 1 { 1 } else { n })?;
        // Only now is it known that so many values may be there.
        bits.resize(n, 0);
        if constant >> place & 1 == 1 {
            for bits in &mut bits {
                *bits |= u64::from(plane[0]) << shift;
            }
        } else {
            for (bits, &byte) in bits.iter_mut().zip(plane) {
                *bits |= u64::from(byte) << shift;
            }
        }
    }
    values.extend(bits.into_iter().map(f64::from_bits));
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::series::{NORMAL_NAN_BITS, STALE_BITS};
    use proptest::prelude::*;

    use super::*;

    fn read_back(bytes: &[u8]) -> Samples {
        let mut samples = Samples::default();
        for chunk in chunks(bytes) {
            let chunk = chunk.expect("own bytes");
            let n_before = samples.time_ms.len();
            chunk.read_all(&mut samples).expect("own bytes");
            assert_eq!(samples.time_ms.len() - n_before, chunk.n_samples);
            assert_eq!(
                (samples.time_ms[n_before], *samples.time_ms.last().expect("some")),
                (chunk.first_ms, chunk.last_ms)
            );
        }
        samples
    }

    fn check(samples: &Samples) -> usize {
        let mut bytes = Vec::new();
        write(&mut bytes, samples);
        let back = read_back(&bytes);
        assert_eq!(back.time_ms, samples.time_ms);
        assert_eq!(back.start_ms, samples.start_ms);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.value), bits(&samples.value));
        bytes.len()
    }

    fn of(value: Vec<f64>) -> Samples {
        let time_ms = (0..value.len() as i64).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        Samples { time_ms, value, start_ms: Vec::new() }
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            bits in proptest::collection::vec(any::<u64>(), 1..3000),
            shift in 0u32..64, exponent in 0usize..20, first in any::<i64>(), has_starts in any::<bool>(),
        ) {
            let value: Vec<f64> = bits.iter().map(|&bits| match bits % 40 {
                0 => f64::from_bits(STALE_BITS),
                1 => f64::from_bits(bits),
                _ => (bits as i64 >> shift) as f64 / 10_f64.powi(exponent as i32),
            }).collect();
            let mut time_ms: Vec<i64> = bits.iter().map(|bits| first.saturating_add((bits % 100_000_000) as i64)).collect();
            time_ms.sort_unstable();
            time_ms.dedup();
            let mut start_ms: Vec<i64> = time_ms.iter().map(|time| if time % 3 == 0 { 0 } else { time.wrapping_sub(9) }).collect();
            if !has_starts || start_ms.iter().all(|&start| start == 0) {
                start_ms.clear();
            }
            let value = value[..time_ms.len()].to_vec();
            check(&Samples { time_ms, value, start_ms });
        }

        #[test]
        fn any_bytes_are_chunks_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut samples = Samples::default();
            for chunk in chunks(&bytes).flatten() {
                let _ = chunk.read_all(&mut samples);
            }
        }
    }

    #[test]
    fn special_values_come_back_to_the_bit() {
        let special = [STALE_BITS, NORMAL_NAN_BITS, 0x7ff8_dead_beef_0001, (-0.0_f64).to_bits(), 1];
        for bits in special {
            let mut value = vec![1.5; 100];
            value[40] = f64::from_bits(bits);
            check(&of(value));
            check(&of(vec![f64::from_bits(bits); 3]));
        }
        check(&of(vec![f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE]));
    }

    #[test]
    fn usual_series_are_small() {
        let counter = (0..1440).map(|i| f64::from(i * 37 + i * i % 50)).collect();
        assert!(check(&of(counter)) < 1440 * 9 / 8 + 100);
        let decimal = (0..1440).map(|i| f64::from(i * 7919 % 1000) / 100.0).collect();
        assert!(check(&of(decimal)) < 1440 * 11 / 8 + 100);
        assert!(check(&of(vec![1.0; 1440])) < 80);
    }
}
