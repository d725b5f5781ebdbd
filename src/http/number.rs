//! Numbers in Go's forms, which are Prometheus': the shortest digits that mean the same float, and
//! seconds with as many decimals as they need.

use std::io::Write as _;

use crate::model::Timestamp;

/// Go's `strconv.FormatFloat(value, 'f', -1, 64)`, which Prometheus uses for scalars.
pub(super) fn put_plain(out: &mut Vec<u8>, value: f64) {
    put(out, value, |_| true);
}

/// The same, but with an exponent of two digits at least for the very small and the very large, which
/// Prometheus uses for samples.
pub(super) fn put_short(out: &mut Vec<u8>, value: f64) {
    put(out, value, |magnitude| (1e-6..1e21).contains(&magnitude));
}

/// Writes a float, without an exponent where its magnitude `is_plain`.
fn put(out: &mut Vec<u8>, value: f64, is_plain: impl Fn(f64) -> bool) {
    /// Below it every whole number is a float with fewer than 16 digits.
    const WHOLE_MAX: f64 = 1e15;
    let magnitude = value.abs();
    if magnitude < WHOLE_MAX && value.to_bits() == (value as i64 as f64).to_bits() {
        out.extend(itoa::Buffer::new().format(value as i64).as_bytes());
        return;
    }
    if value.is_nan() {
        out.extend(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    // `1.5`, `-0.0`, `2e16` or `1.5e-7`: Rust's own would round a tie the other way.
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let Some((digits, exponent)) = text.split_once('e') else {
        out.extend(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    };
    let exponent: i32 = exponent.parse().expect("a float has a whole exponent");
    if is_plain(magnitude) {
        put_shifted(out, digits, exponent);
        return;
    }
    out.extend(digits.as_bytes());
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "e{sign}{:02}", exponent.abs()).expect("memory takes every write");
}

/// Writes digits with their point moved, which an exponent says by how far.
fn put_shifted(out: &mut Vec<u8>, digits: &str, exponent: i32) {
    let digits = digits.strip_prefix('-').map_or(digits, |digits| {
        out.push(b'-');
        digits
    });
    let mut digits = digits.bytes().filter(|digit| *digit != b'.');
    if exponent < 0 {
        out.extend(b"0.");
        out.extend(std::iter::repeat_n(
            b'0',
            exponent.unsigned_abs() as usize - 1,
        ));
    } else {
        let whole = exponent as usize + 1;
        out.extend((0..whole).map(|_| digits.next().unwrap_or(b'0')));
        match digits.next() {
            None => return,
            Some(first) => out.extend([b'.', first]),
        }
    }
    out.extend(digits);
}

/// Seconds, with three decimals when there are any.
pub(super) fn put_seconds(out: &mut Vec<u8>, timestamp: Timestamp) {
    if timestamp.ms() < 0 {
        out.push(b'-');
    }
    let ms = timestamp.ms().unsigned_abs();
    out.extend(itoa::Buffer::new().format(ms / 1000).as_bytes());
    if !ms.is_multiple_of(1000) {
        write!(out, ".{:03}", ms % 1000).expect("memory takes every write");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(put: fn(&mut Vec<u8>, f64), value: f64) -> String {
        let mut out = Vec::new();
        put(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-7.0, "-7"),
            (0.1, "0.1"),
            (-2.5e-3, "-0.0025"),
            (1e-5, "0.00001"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-07"),
            (1e15, "1000000000000000"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(put_short, value), expected);
        }
        assert_eq!(text(put_plain, 1e21), "1000000000000000000000");
        assert_eq!(text(put_plain, 1e-7), "0.0000001");
        assert_eq!(text(put_plain, -1.25e-9), "-0.00000000125");
        // A tie between two texts of sixteen digits goes to the even one, as in Go.
        for put in [put_plain, put_short] {
            assert_eq!(
                text(put, f64::from_bits(0xc2d2_f2b0_d6e7_72e8)),
                "-83334233038283.62"
            );
        }
    }

    proptest! {
        #[test]
        fn both_forms_mean_the_float_in_as_few_digits_as_it_needs(
            bits: u64,
            exponent in -8_i32..22,
        ) {
            let digits = |text: &str| {
                let mantissa = text.split('e').next().unwrap().replace(['-', '.'], "");
                mantissa.trim_matches('0').len()
            };
            let any = f64::from_bits(bits);
            for value in [any, (bits >> 40) as f64 * 10_f64.powi(exponent)] {
                let (plain, short) = (text(put_plain, value), text(put_short, value));
                let magnitude = value.abs();
                if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) || !value.is_finite() {
                    prop_assert_eq!(&short, &plain);
                } else {
                    let (_, exponent) = short.split_once('e').unwrap();
                    prop_assert!(exponent.len() >= 3 && exponent.starts_with(['+', '-']));
                }
                for written in [plain, short] {
                    let read: f64 = written.parse().unwrap();
                    prop_assert!(read == value || value.is_nan(), "{} is {}", written, value);
                    let least = format!("{value:e}");
                    prop_assert!(value.is_nan() || digits(&written) == digits(&least));
                }
            }
        }
    }

    #[test]
    fn timestamps_have_the_digits_they_need() {
        for (timestamp_ms, text) in [
            (4_000, "4"),
            (1_435_781_451_781, "1435781451.781"),
            (1_050, "1.050"),
            (1_007, "1.007"),
            (-500, "-0.500"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            let mut out = Vec::new();
            put_seconds(&mut out, Timestamp::from_ms(timestamp_ms));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
