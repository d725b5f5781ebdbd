//! XOR coding of floats that are no short decimals: each value as what changed from the one before.

use super::super::bytes::{Bytes, Malformed};

pub(super) fn encode(values: impl Iterator<Item = f64>, out: &mut Vec<u8>) {
    let mut writer = BitWriter {
        out,
        pending: 0,
        used: 0,
    };
    let mut previous = 0;
    let mut window = Window {
        leading: 64,
        length: 0,
    };
    for value in values {
        let bits = value.to_bits();
        let changed = bits ^ previous;
        previous = bits;
        if changed == 0 {
            writer.put(0, 1);
            continue;
        }
        let exact = Window {
            leading: changed.leading_zeros(),
            length: 64 - changed.leading_zeros() - changed.trailing_zeros(),
        };
        writer.put(1, 1);
        if window.holds(exact) && window.length <= exact.length + 12 {
            writer.put(0, 1);
        } else {
            window = exact;
            writer.put(1, 1);
            writer.put(u64::from(window.leading), 6);
            writer.put(u64::from(window.length - 1), 6);
        }
        writer.put(changed >> window.trailing(), window.length);
    }
    writer.finish();
}

/// Appends `count` values to `out`.
pub(super) fn decode(
    bytes: &mut Bytes<'_>,
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let mut reader = BitReader {
        bytes: bytes.rest(),
        at: 0,
    };
    let mut previous = 0;
    let mut window = Window {
        leading: 0,
        length: 0,
    };
    for _ in 0..count {
        if reader.get(1)? == 1 {
            if reader.get(1)? == 1 {
                window = Window {
                    leading: reader.get(6)? as u32,
                    length: reader.get(6)? as u32 + 1,
                };
                if window.leading + window.length > 64 {
                    return Err(Malformed("a window of changed bits is over 64 bits"));
                }
            }
            if window.length == 0 {
                return Err(Malformed(
                    "a window of changed bits is used before it is set",
                ));
            }
            previous ^= reader.get(window.length)? << window.trailing();
        }
        out.push(f64::from_bits(previous));
    }
    Ok(())
}

/// The bits that may have changed.
#[derive(Clone, Copy)]
struct Window {
    leading: u32,
    length: u32,
}

impl Window {
    fn trailing(self) -> u32 {
        64 - self.leading - self.length
    }

    fn holds(self, other: Self) -> bool {
        self.length > 0 && self.leading <= other.leading && self.trailing() <= other.trailing()
    }
}

/// Bits, lowest first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u128,
    used: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, value: u64, count: u32) {
        self.pending |= u128::from(value) << self.used;
        self.used += count;
        while self.used >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.used -= 8;
        }
    }

    fn finish(self) {
        if self.used > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn get(&mut self, count: u32) -> Result<u64, Malformed> {
        let end = self.at + count as usize;
        let bytes = self
            .bytes
            .get(self.at / 8..end.div_ceil(8))
            .ok_or(Malformed("ends too early"))?;
        let word = bytes
            .iter()
            .rev()
            .fold(0u128, |word, &byte| word << 8 | u128::from(byte));
        let value = (word >> (self.at % 8)) as u64;
        self.at = end;
        Ok(if count == 64 {
            value
        } else {
            value & ((1 << count) - 1)
        })
    }
}
