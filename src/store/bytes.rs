//! The numbers that all of the store's formats are made of.
//!
//! Fixed-width integers are little endian; a varint holds seven bits a byte, lowest first; a zigzag
//! is a varint of a signed number. [`Bytes`] never reads past its end and never panics: what does not
//! parse is [`Malformed`].

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes that are not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// How many bytes a varint takes.
pub(crate) fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// A length, then the bytes.
pub(crate) fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A checksum over everything so far.
pub(crate) fn put_checksum(out: &mut Vec<u8>) -> u64 {
    let checksum = xxh3_64(out);
    out.extend_from_slice(&checksum.to_le_bytes());
    checksum
}

/// What a checksum covers, and the checksum itself, once it is found to be right.
pub(crate) fn checked(bytes: &[u8]) -> Result<(&[u8], u64), Malformed> {
    let (body, stored) = bytes
        .split_last_chunk()
        .ok_or(Malformed("ends too early"))?;
    let checksum = u64::from_le_bytes(*stored);
    if xxh3_64(body) != checksum {
        return Err(Malformed("does not have its checksum"));
    }
    Ok((body, checksum))
}

/// A short checksum over a row and its key, for rows that are many and small.
pub(crate) fn put_row_checksum(out: &mut Vec<u8>, key: u64) {
    let checksum = xxh3_64_with_seed(out, key) as u32;
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// What a row's checksum covers, once it is found to be right.
pub(crate) fn checked_row(bytes: &[u8], key: u64) -> Result<&[u8], Malformed> {
    let (body, stored) = bytes
        .split_last_chunk()
        .ok_or(Malformed("ends too early"))?;
    if xxh3_64_with_seed(body, key) as u32 != u32::from_le_bytes(*stored) {
        return Err(Malformed("does not have its checksum"));
    }
    Ok(body)
}

/// Small magnitudes of either sign become small numbers.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What is left to read of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return Err(Malformed("a varint is over 64 bits"));
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed("a varint does not end"))
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, Malformed> {
        self.varint()?
            .try_into()
            .map_err(|_too_large: std::num::TryFromIntError| Malformed("a number is over 32 bits"))
    }

    /// A count of things that take at least one byte (or one bit in eight) of what is left, so that a
    /// wrong count cannot ask for more memory than the value itself justifies.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, Malformed> {
        let count = self.varint()?;
        if count > max as u64 {
            return Err(Malformed("a count is too large"));
        }
        Ok(count as usize)
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    /// A length, then the bytes.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count(self.rest.len())?;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_at_their_limits() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Bytes::new(&out).varint(), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn a_varint_that_does_not_fit_is_refused() {
        let mut eleven = vec![0xff; 10];
        eleven.push(0);
        assert!(Bytes::new(&eleven).varint().is_err());
        assert!(Bytes::new(&[0x80]).varint().is_err());
    }

    #[test]
    fn a_row_under_another_key_is_refused() {
        let mut row = b"row".to_vec();
        put_row_checksum(&mut row, 7);
        assert_eq!(checked_row(&row, 7), Ok(b"row".as_slice()));
        assert!(checked_row(&row, 8).is_err());
        row[0] ^= 1;
        assert!(checked_row(&row, 7).is_err());
    }

    #[test]
    fn a_slice_longer_than_the_rest_is_refused() {
        assert!(Bytes::new(&[5, 1, 2]).slice().is_err());
    }
}
