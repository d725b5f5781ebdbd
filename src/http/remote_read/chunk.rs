//! Prometheus' XOR chunks: up to 120 samples of one series in some 1.4 bytes each.
//!
//! ```text
//! samples: u16 BE | first time: varint | first value: f64 BE
//!                 | second: varint of the distance, the value's bits that changed
//!                 | others: the distance of distances, the value's bits that changed
//!
//! distance of distances  0: `0` | 14 bits: `10` | 17: `110` | 20: `1110` | 64: `1111`
//! value, XOR the last    the same: `0` | within the last one's bits: `10` and those
//!                        | else `11`, leading zeros (5 bits), significant bits (6 bits, 64 as 0), those
//! ```
//!
//! See tsdb/docs/format/chunks.md in prometheus/prometheus.

use crate::model::Timestamp;

/// Samples of a chunk at most, as Prometheus cuts them.
pub(super) const SAMPLES_MAX: usize = 120;

/// A chunk in the making.
struct Writer {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not in use.
    free: u32,
    /// Zeros around the significant bits of the last change of a value; `None` before the first.
    window: Option<(u32, u32)>,
}

/// Encodes samples, [`SAMPLES_MAX`] at most, whose times rise.
pub(super) fn encode(timestamps: &[Timestamp], values: &[f64]) -> Vec<u8> {
    let count = u16::try_from(timestamps.len()).expect("a chunk has few samples");
    let mut writer = Writer {
        bytes: count.to_be_bytes().to_vec(),
        free: 0,
        window: None,
    };
    let (mut time, mut distance, mut value) = (0_i64, 0_i64, 0_u64);
    for (at, (timestamp, sample)) in timestamps.iter().zip(values).enumerate() {
        let (next, bits) = (timestamp.ms(), sample.to_bits());
        let next_distance = next.wrapping_sub(time);
        match at {
            0 => {
                writer.put_signed_varint(next);
                writer.put(bits, 64);
            }
            1 => {
                writer.put_varint(next_distance as u64);
                writer.put_change(value ^ bits);
            }
            _ => {
                writer.put_distance(next_distance.wrapping_sub(distance));
                writer.put_change(value ^ bits);
            }
        }
        if at > 0 {
            distance = next_distance;
        }
        (time, value) = (next, bits);
    }
    writer.bytes
}

impl Writer {
    /// The low `count` bits of a number, the highest first.
    fn put(&mut self, number: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let piece = (number >> (left - taken)) & ((1 << taken) - 1);
            let last = self
                .bytes
                .last_mut()
                .expect("there is a byte with free bits");
            *last |= (piece << (self.free - taken)) as u8;
            self.free -= taken;
            left -= taken;
        }
    }

    fn put_varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(number & 0x7f | 0x80, 8);
            number >>= 7;
        }
        self.put(number, 8);
    }

    /// Zigzag, as Go writes signed numbers.
    fn put_signed_varint(&mut self, number: i64) {
        self.put_varint(((number << 1) ^ (number >> 63)) as u64);
    }

    fn put_distance(&mut self, distance: i64) {
        // One end further up than down: the readers' halves are so.
        let fits = |bits: u32| (-((1 << (bits - 1)) - 1)..=1 << (bits - 1)).contains(&distance);
        let (prefix, prefix_bits, bits) = match distance {
            0 => return self.put(0, 1),
            _ if fits(14) => (0b10, 2, 14),
            _ if fits(17) => (0b110, 3, 17),
            _ if fits(20) => (0b1110, 4, 20),
            _ => (0b1111, 4, 64),
        };
        self.put(prefix, prefix_bits);
        self.put(distance as u64, bits);
    }

    fn put_change(&mut self, change: u64) {
        if change == 0 {
            return self.put(0, 1);
        }
        self.put(1, 1);
        // Five bits have no room for more.
        let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
        if let Some((leading_before, trailing_before)) = self.window
            && leading >= leading_before
            && trailing >= trailing_before
        {
            self.put(0, 1);
            let bits = 64 - leading_before - trailing_before;
            return self.put(change >> trailing_before, bits);
        }
        self.window = Some((leading, trailing));
        let bits = 64 - leading - trailing;
        self.put(1, 1);
        self.put(u64::from(leading), 5);
        self.put(u64::from(bits), 6);
        self.put(change >> trailing, bits);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Prometheus' reader makes of a chunk, written from the format's description.
    fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
        let bits: Vec<u8> = bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
            .collect();
        let mut at = 0;
        let mut take = |count: usize| {
            let taken = bits[at..at + count].iter();
            at += count;
            taken.fold(0_u64, |number, bit| number << 1 | u64::from(*bit))
        };
        fn varint(take: &mut impl FnMut(usize) -> u64) -> u64 {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = take(8);
                number |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return number;
                }
            }
        }
        let count = take(16);
        let (mut samples, mut distance, mut window) = (Vec::new(), 0_i64, (0, 0));
        for index in 0..count {
            if index == 0 {
                let zigzag = varint(&mut take);
                let time = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                samples.push((time, take(64)));
                continue;
            }
            if index == 1 {
                distance = varint(&mut take) as i64;
            } else {
                let mut size = 0;
                for bits in [14, 17, 20, 64] {
                    if take(1) == 0 {
                        break;
                    }
                    size = bits;
                }
                let number = if size == 0 { 0 } else { take(size) };
                let is_negative = size > 0 && size < 64 && number > 1 << (size - 1);
                let change = if is_negative {
                    number as i64 - (1 << size)
                } else {
                    number as i64
                };
                distance = distance.wrapping_add(change);
            }
            let (time, value) = samples[index as usize - 1];
            let mut next = value;
            if take(1) == 1 {
                if take(1) == 1 {
                    let leading = take(5);
                    let significant = match take(6) {
                        0 => 64,
                        bits => bits,
                    };
                    window = (leading, 64 - leading - significant);
                }
                let significant = 64 - window.0 - window.1;
                next ^= take(significant as usize) << window.1;
            }
            samples.push((time.wrapping_add(distance), next));
        }
        samples
    }

    fn check(samples: &[(i64, f64)]) {
        let (times, values): (Vec<_>, Vec<_>) = samples
            .iter()
            .map(|&(ms, value)| (Timestamp::from_ms(ms), value))
            .unzip();
        let bits: Vec<_> = samples
            .iter()
            .map(|&(ms, value)| (ms, value.to_bits()))
            .collect();
        assert_eq!(decode(&encode(&times, &values)), bits);
    }

    #[test]
    fn two_equal_samples_are_written_as_described() {
        let times = [1000, 1015].map(Timestamp::from_ms);
        // 2 samples; 1000 as zigzag 2000 = 0xd0 0x0f; 1.0; 15; then one 0 bit.
        let expected = [0, 2, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 15, 0];
        assert_eq!(encode(&times, &[1.0, 1.0]), expected);
    }

    #[test]
    fn the_ends_of_each_size_of_distance_are_read_back() {
        for bits in [14, 17, 20] {
            let end = 1_i64 << (bits - 1);
            for change in [-end, -end + 1, end - 1, end, end + 1] {
                let start = 1_700_000_000_000;
                let step = 2_000_000;
                let third = start + step + step + change;
                check(&[(start, 1.0), (start + step, 2.0), (third, f64::NAN)]);
            }
        }
        check(&[(i64::MIN, -0.0), (0, f64::INFINITY), (i64::MAX, 5e-324)]);
    }

    proptest! {
        #[test]
        fn every_sample_is_read_back_bit_by_bit(
            start in -4_000_000_000_000_i64..4_000_000_000_000,
            steps in prop::collection::vec((1_i64..100_000, prop::num::u64::ANY, 0..3), 0..SAMPLES_MAX),
        ) {
            let mut at = start;
            let mut samples = vec![(start, 1.0)];
            for (step, bits, kind) in steps {
                at += if kind == 0 { 15_000 } else { step };
                let value = if kind == 1 { f64::from_bits(bits) } else { (bits % 100) as f64 };
                samples.push((at, value));
            }
            samples.truncate(SAMPLES_MAX);
            check(&samples);
        }
    }
}
