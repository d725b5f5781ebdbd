//! Columns of floats: exact decimals as integers, the rest XORed, and what is no ordinary number in
//! a list of its own, so that one stale marker does not spoil a column of integers.

use crate::model::STALE_NAN;

use super::super::bytes::{Bytes, Malformed, put_varint};
use super::{Decoder, POWERS, from_decimal, integers, to_decimal, xor};

/// The low bits of the first byte: the decimal exponent, or this.
pub(super) const XOR: u8 = 0x0f;
/// The high bit of the first byte: a list of exceptions follows.
pub(super) const EXCEPTIONS: u8 = 0x80;

/// The bit patterns that an exception's class stands for; a class past them is followed by its bits.
const CLASSES: [u64; 5] = [
    STALE_NAN.to_bits(),
    f64::NAN.to_bits(),
    f64::INFINITY.to_bits(),
    f64::NEG_INFINITY.to_bits(),
    (-0.0f64).to_bits(),
];
const CLASS_OTHER: u8 = CLASSES.len() as u8;

fn is_ordinary(value: f64) -> bool {
    value.is_finite() && value.to_bits() != (-0.0f64).to_bits()
}

pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    assert!(!values.is_empty(), "a chunk is never empty");
    let start = out.len();
    out.push(0);
    if !values.iter().copied().all(is_ordinary) {
        out[start] = EXCEPTIONS;
        put_exceptions(values, out);
    }
    // An exception repeats the ordinary value before it, which costs next to nothing.
    let mut last = values
        .iter()
        .copied()
        .find(|&value| is_ordinary(value))
        .unwrap_or(0.0);
    let ordinary = values.iter().map(move |&value| {
        if is_ordinary(value) {
            last = value;
        }
        last
    });
    if let Some((exponent, scaled)) = scale(&ordinary, values.len()) {
        out[start] |= exponent as u8;
        integers::encode(&scaled, out);
    } else {
        out[start] |= XOR;
        xor::encode(ordinary, out);
    }
}

/// Appends the `count` values to `out`.
pub(super) fn decode(
    bytes: &mut Bytes<'_>,
    count: usize,
    decoder: &mut Decoder,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let head = bytes.u8()?;
    let start = out.len();
    let exceptions = *bytes;
    if head & EXCEPTIONS != 0 {
        each_exception(bytes, count, |_, _| ())?;
    }
    match head & !EXCEPTIONS {
        XOR => xor::decode(bytes, count, out)?,
        exponent if usize::from(exponent) < POWERS.len() => {
            decoder.integers.clear();
            integers::decode(bytes, count, &mut decoder.residuals, &mut decoder.integers)?;
            let integers = decoder.integers.iter();
            match usize::from(exponent) {
                0 => out.extend(integers.map(|&mantissa| mantissa as f64)),
                exponent => {
                    out.extend(integers.map(|&mantissa| from_decimal(mantissa, exponent)));
                }
            }
        }
        _ => return Err(Malformed("a value column is of an unknown mode")),
    }
    if head & EXCEPTIONS != 0 {
        each_exception(&mut exceptions.clone(), count, |run, value| {
            let run = start + run.start..start + run.end;
            if let Some(values) = out.get_mut(run) {
                values.fill(value);
            }
        })?;
    }
    Ok(())
}

/// The smallest exponent at which all values are integers, and these.
fn scale(values: &(impl Iterator<Item = f64> + Clone), count: usize) -> Option<(usize, Vec<i64>)> {
    let mut scaled = Vec::with_capacity(count);
    // Most columns are integers, or show what they need with their first value.
    'exponents: for exponent in 0..POWERS.len() {
        scaled.clear();
        for value in values.clone() {
            match to_decimal(value, exponent) {
                Some(mantissa) => scaled.push(mantissa),
                None => continue 'exponents,
            }
        }
        return Some((exponent, scaled));
    }
    None
}

/// Runs of equal exceptions: the gap before, the length, the class.
fn put_exceptions(values: &[f64], out: &mut Vec<u8>) {
    let mut runs: Vec<(usize, usize, u64)> = Vec::new();
    for (at, &value) in values.iter().enumerate() {
        if is_ordinary(value) {
            continue;
        }
        match runs.last_mut() {
            Some((start, length, bits)) if *start + *length == at && *bits == value.to_bits() => {
                *length += 1;
            }
            _ => runs.push((at, 1, value.to_bits())),
        }
    }
    put_varint(out, runs.len() as u64);
    let mut next = 0;
    for (start, length, bits) in runs {
        put_varint(out, (start - next) as u64);
        put_varint(out, length as u64);
        next = start + length;
        if let Some(class) = CLASSES.iter().position(|&known| known == bits) {
            out.push(class as u8);
        } else {
            out.push(CLASS_OTHER);
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }
}

pub(super) fn each_exception(
    bytes: &mut Bytes<'_>,
    count: usize,
    mut each: impl FnMut(std::ops::Range<usize>, f64),
) -> Result<(), Malformed> {
    let runs = bytes.count(count)?;
    let mut next = 0;
    for _ in 0..runs {
        let start = next + bytes.count(count)?;
        next = start + bytes.count(count)?;
        if next > count {
            return Err(Malformed("an exception is past the end"));
        }
        let class = bytes.u8()?;
        let bits = match CLASSES.get(usize::from(class)) {
            Some(&bits) => bits,
            None if class == CLASS_OTHER => bytes.u64()?,
            None => return Err(Malformed("an exception is of an unknown class")),
        };
        each(start..next, f64::from_bits(bits));
    }
    Ok(())
}
