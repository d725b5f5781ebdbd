//! Snappy's block format, decompressed with a limit, and compressed.
//!
//! A block says at its beginning how long it becomes. That number is the sender's claim: it is held
//! against the limit, and against what so many bytes can become at most, before any room is made.

use snap::raw::{Decoder, Encoder, decompress_len};

/// The densest element is a copy of 64 bytes in 3.
const EXPANSION_MAX: usize = 22;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the body becomes {bytes} bytes when decompressed, more than {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the body is not a snappy block")]
    Malformed(#[source] snap::Error),
    #[error("the body is not a snappy block: {compressed} bytes cannot become {bytes}")]
    Impossible { compressed: usize, bytes: usize },
}

/// How long a block becomes; what is answered is safe to make room for.
pub fn decompressed_bytes(block: &[u8], bytes_max: usize) -> Result<usize, Error> {
    let bytes = decompress_len(block).map_err(Error::Malformed)?;
    if bytes > bytes_max {
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    let compressed = block.len();
    if bytes > compressed.saturating_mul(EXPANSION_MAX) {
        return Err(Error::Impossible { compressed, bytes });
    }
    Ok(bytes)
}

pub fn decompress(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
    decompressed_bytes(block, bytes_max)?;
    Decoder::new()
        .decompress_vec(block)
        .map_err(Error::Malformed)
}

/// # Panics
/// Beyond 4 GiB, which no answer of ours reaches.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    Encoder::new()
        .compress_vec(bytes)
        .expect("a block holds up to 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_at_the_limit_is_taken_and_one_byte_more_is_refused() {
        let block = Encoder::new().compress_vec(b"12345").unwrap();
        assert_eq!(decompress(&block, 5).unwrap(), b"12345");
        let error = decompress(&block, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the body becomes 5 bytes when decompressed, more than 4"
        );
    }

    #[test]
    fn a_claim_that_the_bytes_cannot_keep_makes_no_room() {
        // 2^28 as a varint, then one literal.
        let block = [0x80, 0x80, 0x80, 0x80, 0x01, 0x00, b'x'];
        let error = decompress(&block, 1 << 30).unwrap_err();
        assert_eq!(
            error,
            Error::Impossible {
                compressed: 7,
                bytes: 1 << 28
            }
        );
    }

    #[test]
    fn the_densest_block_is_within_what_is_possible() {
        let block = Encoder::new().compress_vec(&vec![0; 1 << 22]).unwrap();
        assert_eq!(decompress(&block, 1 << 22).unwrap().len(), 1 << 22);
    }

    #[test]
    fn an_empty_body_is_not_a_block() {
        assert!(matches!(decompress(b"", 9), Err(Error::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_stay_within_the_limit(block in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(bytes) = decompress(&block, 100) {
                prop_assert!(bytes.len() <= 100);
            }
        }

        #[test]
        fn what_was_compressed_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let block = Encoder::new().compress_vec(&bytes).unwrap();
            prop_assert_eq!(decompress(&block, bytes.len()).unwrap(), bytes);
        }
    }
}
