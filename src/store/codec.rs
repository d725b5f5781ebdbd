//! How a column of samples becomes bytes: timestamps and values of one chunk, apart.
//!
//! Pure functions, exact to the bit for every `f64` and every strictly rising or arbitrary `i64`
//! column. Knows nothing of series, blocks or files. Decoding arbitrary bytes never panics and never
//! yields more than the count asked for. The bytes are described in `format.md`.

mod integers;
mod name;
mod pack;
mod timestamps;
mod values;
mod xor;

#[cfg(test)]
mod tests;

pub(crate) use name::{name_of_timestamps, name_of_values};
pub(crate) use timestamps::encode as encode_timestamps;
pub(crate) use values::encode as encode_values;

use super::bytes::{Bytes, Malformed};

/// Samples in a chunk at most.
pub(crate) const CHUNK_SAMPLES_MAX: usize = 1024;

/// Decodes chunks; holds the buffers that one chunk after the other uses.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    residuals: Vec<u64>,
    integers: Vec<i64>,
}

impl Decoder {
    /// Appends the `count` timestamps of a column to `out`.
    pub(crate) fn timestamps(
        &mut self,
        bytes: &[u8],
        count: usize,
        out: &mut Vec<i64>,
    ) -> Result<(), Malformed> {
        timestamps::decode(&mut Bytes::new(bytes), count, &mut self.residuals, out)
    }

    /// Appends the `count` values of a chunk to `out`.
    pub(crate) fn values(
        &mut self,
        bytes: &[u8],
        count: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), Malformed> {
        values::decode(&mut Bytes::new(bytes), count, self, out)
    }
}

/// The powers of ten that a decimal value may be scaled by; all are exact.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The integer that is the value times ten to the exponent, when dividing gives the same bits back.
pub(crate) fn to_decimal(value: f64, exponent: usize) -> Option<i64> {
    // Below 2^53, so that the integer is exact as a float.
    const LIMIT: f64 = 9e15;
    let scaled = (value * POWERS[exponent]).round();
    (scaled.abs() < LIMIT && from_decimal(scaled as i64, exponent).to_bits() == value.to_bits())
        .then_some(scaled as i64)
}

pub(crate) fn from_decimal(mantissa: i64, exponent: usize) -> f64 {
    mantissa as f64 / POWERS[exponent]
}
