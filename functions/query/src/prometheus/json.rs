//! Values as Prometheus' API writes them.
//!
//! Source: Prometheus `util/jsonutil/marshal.go`, `web/api/v1/json_codec.go`.

use std::fmt::Write as _;

use model::attribute::write_string;
use model::series::Exemplar;
use model::{Labels, NativeHistogram};

/// A time in seconds, as a number with up to three decimals.
pub(super) fn time(out: &mut String, time_ms: i64) {
    if time_ms < 0 {
        out.push('-');
    }
    let ms = time_ms.unsigned_abs();
    integer(out, ms / 1000);
    match ms % 1000 {
        0 => {}
        fraction => write(out, format_args!(".{fraction:03}")),
    }
}

/// A value, as a string: the shortest decimal that reads back equal, with an exponent only where it is very small or
/// very large.
pub(super) fn value(out: &mut String, value: f64) {
    out.push('"');
    bare_value(out, value);
    out.push('"');
}

/// As [`value`], without quotes.
pub(super) fn bare_value(out: &mut String, value: f64) {
    let size = value.abs();
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if size < 1e15 && (value as i64 as f64).to_bits() == value.to_bits() {
        if value < 0.0 {
            out.push('-');
        }
        integer(out, size as u64);
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go writes an exponent with a sign and at least two digits.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        write(out, format_args!("{digits}e{sign}{exponent:0>2}"));
    } else {
        write(out, format_args!("{value}"));
    }
}

/// A whole number: most values and all times are, and the formatting machinery is slow.
fn integer(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: writing to a String does not fail");
}

/// An object of the labels.
pub(super) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (position, label) in labels.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        write_string(out, &label.name);
        out.push(':');
        write_string(out, &label.value);
    }
    out.push('}');
}

/// A list of texts.
pub(super) fn strings<'a>(out: &mut String, texts: impl IntoIterator<Item = &'a str>) {
    list(out, texts, write_string);
}

/// A list, each item written by `item`.
pub(super) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (position, next) in items.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        item(out, next);
    }
    out.push(']');
}

/// `[time, "value"]`.
pub(super) fn point(out: &mut String, time_ms: i64, point: f64) {
    out.push('[');
    time(out, time_ms);
    out.push(',');
    value(out, point);
    out.push(']');
}

/// `[time, {histogram}]`.
pub(super) fn histogram_point(out: &mut String, time_ms: i64, point: &NativeHistogram) {
    out.push('[');
    time(out, time_ms);
    out.push(',');
    histogram(out, point);
    out.push(']');
}

/// Count, sum, and the buckets that are not empty, ascending.
fn histogram(out: &mut String, histogram: &NativeHistogram) {
    out.push_str("{\"count\":");
    value(out, histogram.count);
    out.push_str(",\"sum\":");
    value(out, histogram.sum);
    let buckets = histogram.bounded_buckets();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        list(out, buckets, |out, bucket| {
            // Which ends are its own, by the API's numbers.
            let ends = match (bucket.has_lower, bucket.has_upper) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            write(out, format_args!("[{ends},"));
            value(out, bucket.lower);
            out.push(',');
            value(out, bucket.upper);
            out.push(',');
            value(out, bucket.count);
            out.push(']');
        });
    }
    out.push('}');
}

/// `{"labels":{…},"value":"…","timestamp":…}`.
pub(super) fn exemplar(out: &mut String, exemplar: &Exemplar) {
    out.push_str("{\"labels\":");
    labels(out, &exemplar.labels);
    out.push_str(",\"value\":");
    value(out, exemplar.value);
    out.push_str(",\"timestamp\":");
    time(out, exemplar.time_ms);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use model::histogram::{BucketSpan, Buckets, CUSTOM_BOUNDS_SCHEMA};

    use super::*;

    #[test]
    fn values_are_written_as_go_writes_them() {
        let check = |given: f64, expect: &str| {
            let mut out = String::new();
            bare_value(&mut out, given);
            assert_eq!(out, expect);
        };
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-12_345.0, "-12345");
        check(0.1, "0.1");
        check(1e-6, "0.000001");
        check(9.9e-7, "9.9e-07");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(-1.5e300, "-1.5e+300");
        check(1e15, "1000000000000000");
        check(123_456_789.125, "123456789.125");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(5e-324, "5e-324");
    }

    #[test]
    fn times_are_seconds() {
        let check = |given: i64, expect: &str| {
            let mut out = String::new();
            time(&mut out, given);
            assert_eq!(out, expect);
        };
        check(0, "0");
        check(1_435_781_451_781, "1435781451.781");
        check(1_000, "1");
        check(1_020, "1.020");
        check(-5, "-0.005");
    }

    #[test]
    fn buckets_ascend_and_say_which_ends_are_theirs() {
        let one = |offset: i32, counts: &[f64]| Buckets {
            spans: vec![BucketSpan { offset, length: counts.len() as u32 }],
            counts: counts.to_vec(),
        };
        let histogram_value = NativeHistogram {
            schema: 0,
            zero_threshold: 0.25,
            zero_count: 3.0,
            count: 42.0,
            sum: 34_593.34,
            positive: one(-1, &[12.0, 0.0, 6.0]),
            negative: one(0, &[1.0, 2.0]),
            ..NativeHistogram::default()
        };
        let mut out = String::new();
        histogram(&mut out, &histogram_value);
        assert_eq!(
            out,
            r#"{"count":"42","sum":"34593.34","buckets":[[1,"-2","-1","2"],[1,"-1","-0.5","1"],[3,"-0.25","0.25","3"],[0,"0.25","0.5","12"],[0,"1","2","6"]]}"#
        );
    }

    #[test]
    fn custom_bounds_are_open_at_both_ends() {
        let histogram_value = NativeHistogram {
            schema: CUSTOM_BOUNDS_SCHEMA,
            count: 6.0,
            sum: 1.0,
            positive: Buckets {
                spans: vec![BucketSpan { offset: 0, length: 3 }],
                counts: vec![1.0, 2.0, 3.0],
            },
            custom_bounds: vec![0.5, 1.0],
            ..NativeHistogram::default()
        };
        let mut out = String::new();
        histogram(&mut out, &histogram_value);
        assert_eq!(
            out,
            r#"{"count":"6","sum":"1","buckets":[[3,"-Inf","0.5","1"],[0,"0.5","1","2"],[0,"1","+Inf","3"]]}"#
        );
    }
}
