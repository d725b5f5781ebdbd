//! Patched bit-packing: most numbers in as few bits as pays, the large ones completed from a list.

use super::super::bytes::{Bytes, Malformed, put_varint};

/// The width that packs a column smallest, and what it then takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    width: u32,
    bits: u64,
}

impl Plan {
    /// What the packed column takes, estimated to a few bits.
    pub(super) fn bits(self) -> u64 {
        self.bits
    }

    pub(super) fn of(values: &[u64]) -> Self {
        let mut histogram = [0u64; 65];
        for value in values {
            histogram[(u64::BITS - value.leading_zeros()) as usize] += 1;
        }
        let widest = histogram.iter().rposition(|&n| n > 0).unwrap_or(0) as u32;
        let mut best = Self {
            width: widest,
            bits: u64::from(widest) * values.len() as u64,
        };
        // Going down, each step leaves one more class of lengths to the list of exceptions, which
        // costs a byte for the position and a varint for the bits above the width.
        for width in (0..widest).rev() {
            let listed: u64 = (width + 1..=widest)
                .map(|length| {
                    histogram[length as usize] * (8 + 8 * u64::from((length - width).div_ceil(7)))
                })
                .sum();
            let bits = u64::from(width) * values.len() as u64 + listed;
            if bits < best.bits {
                best = Self { width, bits };
            }
        }
        best
    }
}

pub(super) fn pack(values: &[u64], plan: Plan, out: &mut Vec<u8>) {
    let width = plan.width;
    out.push(width as u8);
    let is_listed = |value: u64| width < 64 && value >> width != 0;
    let listed = values.iter().filter(|&&value| is_listed(value)).count();
    put_varint(out, listed as u64);

    let mut word = 0u64;
    let mut used = 0;
    let mask = mask(width);
    for value in values {
        let value = value & mask;
        word |= value << used;
        used += width;
        if used >= u64::BITS {
            out.extend_from_slice(&word.to_le_bytes());
            used -= u64::BITS;
            // The bits that did not fit into the word.
            word = value.checked_shr(width - used).unwrap_or(0);
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..used.div_ceil(8) as usize]);

    let mut next = 0;
    for (at, &value) in values.iter().enumerate() {
        if is_listed(value) {
            put_varint(out, (at - next) as u64);
            put_varint(out, value >> width);
            next = at + 1;
        }
    }
}

/// Replaces the contents of `out` with the `count` numbers.
pub(super) fn unpack(
    bytes: &mut Bytes<'_>,
    count: usize,
    out: &mut Vec<u64>,
) -> Result<(), Malformed> {
    let width = u32::from(bytes.u8()?);
    if width > 64 {
        return Err(Malformed("a width is over 64 bits"));
    }
    let listed = bytes.count(count)?;
    let packed = bytes.take((width as usize * count).div_ceil(8))?;
    out.clear();
    match width {
        0 => out.resize(count, 0),
        // At most seven bits of a neighbour come before, so eight bytes hold it all.
        1..=57 => out.extend((0..count).map(|at| {
            let bit = at * width as usize;
            (load(packed, bit / 8) >> (bit % 8)) & mask(width)
        })),
        _ => out.extend((0..count).map(|at| {
            let bit = at * width as usize;
            let low = load(packed, bit / 8);
            let high = load(packed, bit / 8 + 8);
            let both = u128::from(low) | u128::from(high) << 64;
            (both >> (bit % 8)) as u64 & mask(width)
        })),
    }
    let mut next = 0;
    for _ in 0..listed {
        let gap = bytes.count(count)?;
        let high = bytes.varint()?;
        let value = out
            .get_mut(next + gap)
            .ok_or(Malformed("an exception is past the end"))?;
        *value |= high.checked_shl(width).unwrap_or(0);
        next += gap + 1;
    }
    Ok(())
}

const fn mask(width: u32) -> u64 {
    match width {
        0 => 0,
        _ => u64::MAX >> (64 - width),
    }
}

/// Eight bytes from a position on, zero past the end.
fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(word) => u64::from_le_bytes(word.try_into().expect("eight bytes were taken")),
        None => bytes
            .get(at..)
            .unwrap_or_default()
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}
