//! What an encoded column is called, without decoding it.

use super::super::bytes::{Bytes, Malformed};
use super::{POWERS, integers, timestamps, values};

/// The name of a column of values, and whether a list of exceptions comes with it.
pub(crate) fn name_of_values(
    bytes: &[u8],
    count: usize,
) -> Result<(&'static str, bool), Malformed> {
    let mut bytes = Bytes::new(bytes);
    let head = bytes.u8()?;
    let has_exceptions = head & values::EXCEPTIONS != 0;
    if has_exceptions {
        values::each_exception(&mut bytes, count, |_, _| ())?;
    }
    let name = match head & !values::EXCEPTIONS {
        values::XOR => "xor",
        exponent if usize::from(exponent) < POWERS.len() => name_of_integers(&mut bytes)?,
        _ => return Err(Malformed("a value column is of an unknown mode")),
    };
    Ok((name, has_exceptions))
}

/// The name of a column of timestamps.
pub(crate) fn name_of_timestamps(bytes: &[u8]) -> Result<&'static str, Malformed> {
    let mut bytes = Bytes::new(bytes);
    match bytes.u8()? {
        timestamps::GRID => Ok("grid"),
        timestamps::INTEGERS => name_of_integers(&mut bytes),
        _ => Err(Malformed("a timestamp column is of an unknown mode")),
    }
}

fn name_of_integers(bytes: &mut Bytes<'_>) -> Result<&'static str, Malformed> {
    match bytes.u8()? {
        integers::CONSTANT => Ok("constant"),
        integers::FRAME => Ok("frame"),
        integers::STEP => Ok("step"),
        integers::ZIGZAG => Ok("zigzag"),
        _ => Err(Malformed("an integer column is of an unknown mode")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{encode_timestamps, encode_values};
    use super::*;

    #[test]
    fn columns_are_named_by_how_they_are_encoded() {
        let name = |values: &[f64]| {
            let mut out = Vec::new();
            encode_values(values, &mut out);
            name_of_values(&out, values.len()).unwrap()
        };
        assert_eq!(name(&[1.5; 9]), ("constant", false));
        assert_eq!(name(&[1.5, f64::NAN, 1.5]), ("constant", true));
        assert_eq!(
            name(&[0.1f64.sqrt(), 0.7f64.sqrt(), f64::INFINITY]),
            ("xor", true)
        );
        let rising: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(name(&rising), ("step", false));
        let mut out = Vec::new();
        encode_timestamps(&[5, 5, 5], &mut out);
        assert_eq!(name_of_timestamps(&out), Ok("constant"));
    }
}
