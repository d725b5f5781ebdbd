//! Content encodings of bodies, taken off with a limit.
//!
//! What a compressed body becomes is known only when it has become it. So nothing here makes room on a
//! sender's word, and decompression ends one byte past the limit. Encodings within encodings are refused:
//! nobody sends them but those who want a small body to become a very large one.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use snap::read::FrameDecoder;

use super::snappy;

/// The encodings that are taken, as an error lists them.
const TAKEN: &str = "gzip, zstd, snappy and identity";
/// The first bytes of a snappy stream in frames. A bare block that began so would copy from before its
/// own beginning.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// The largest window of a zstd frame, 8 MiB: what RFC 8878 asks decoders to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Snappy,
}

/// A `Content-Encoding` that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Encoding {name:?} is not taken: what is taken is {TAKEN}, one of them at once")]
pub struct Unsupported {
    name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the body becomes more than {bytes_max} bytes when decompressed")]
    TooLarge { bytes_max: usize },
    #[error("the body is not {}", encoding.name())]
    Malformed {
        encoding: Encoding,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Snappy(#[from] snappy::Error),
}

impl Encoding {
    /// What a `Content-Encoding` header names; without one the body is as it is.
    pub fn of(header: Option<&str>) -> Result<Self, Unsupported> {
        let name = header.unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            "snappy" => Ok(Self::Snappy),
            _ => Err(Unsupported {
                name: name.to_owned(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }

    /// Takes the encoding off a body, which then has at most so many bytes.
    ///
    /// Snappy comes in two forms: frames, and one block as remote write has it; both are taken.
    pub fn decompress(self, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
        let malformed = |source| Error::Malformed {
            encoding: self,
            source,
        };
        match self {
            Self::Identity => read(body, bytes_max),
            Self::Gzip => read(MultiGzDecoder::new(body), bytes_max),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                read(decoder, bytes_max)
            }),
            // Nothing in frames is no frames; a block is never empty.
            Self::Snappy if body.is_empty() || body.starts_with(SNAPPY_FRAMES) => {
                read(FrameDecoder::new(body), bytes_max)
            }
            Self::Snappy => return Ok(snappy::decompress(body, bytes_max)?),
        }
        .map_err(malformed)?
        .ok_or(Error::TooLarge { bytes_max })
    }
}

/// All of it; `None` when that is more than allowed.
fn read(decoder: impl Read, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 4] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Snappy,
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn snappy_frames(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.into_inner().unwrap()
    }

    fn compressed(bytes: &[u8]) -> [(Encoding, Vec<u8>); 5] {
        let block = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
        [
            (Encoding::Identity, bytes.to_vec()),
            (Encoding::Gzip, gzip(bytes)),
            (Encoding::Zstd, zstd::encode_all(bytes, 3).unwrap()),
            (Encoding::Snappy, snappy_frames(bytes)),
            (Encoding::Snappy, block),
        ]
    }

    #[test]
    fn a_body_at_the_limit_is_taken_and_one_byte_more_is_refused() {
        let bytes = b"up 1\n".repeat(1000);
        for (encoding, body) in compressed(&bytes) {
            assert_eq!(encoding.decompress(&body, 5000).unwrap(), bytes);
            let error = encoding.decompress(&body, 4999).unwrap_err();
            assert!(error.to_string().contains("4999"), "{encoding:?}: {error}");
        }
    }

    #[test]
    fn a_small_body_that_becomes_a_very_large_one_is_given_up_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for body in [
            (Encoding::Gzip, gzip(&zeros)),
            (Encoding::Zstd, zstd::encode_all(&zeros[..], 3).unwrap()),
        ] {
            let error = body.0.decompress(&body.1, 1 << 20).unwrap_err();
            assert!(matches!(
                error,
                Error::TooLarge {
                    bytes_max: 1_048_576
                }
            ));
        }
    }

    #[test]
    fn a_zstd_window_beyond_eight_mebibytes_makes_no_room() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 9 << 20]).unwrap();
        let body = encoder.finish().unwrap();
        let error = Encoding::Zstd.decompress(&body, 1 << 30).unwrap_err();
        assert_eq!(error.to_string(), "the body is not zstd");
    }

    #[test]
    fn nothing_comes_back_as_nothing() {
        for (encoding, body) in compressed(&[]) {
            assert_eq!(encoding.decompress(&body, 0).unwrap(), b"", "{encoding:?}");
        }
    }

    #[test]
    fn several_gzip_members_are_one_body() {
        let body = [gzip(b"a 1\n"), gzip(b"b 2\n")].concat();
        let bytes = Encoding::Gzip.decompress(&body, 100).unwrap();
        assert_eq!(bytes, b"a 1\nb 2\n");
    }

    #[test]
    fn a_body_that_is_cut_off_is_refused() {
        let (_, body) = compressed(&[7; 1000])[1].clone();
        let (cut, _) = body.split_at(body.len() - 1);
        let error = Encoding::Gzip.decompress(cut, 1000).unwrap_err();
        assert_eq!(error.to_string(), "the body is not gzip");
    }

    #[test]
    fn encodings_are_known_by_name_and_only_one_is_taken() {
        let of = |name| Encoding::of(Some(name));
        assert_eq!(Encoding::of(None), Ok(Encoding::Identity));
        assert_eq!(of("GZIP"), Ok(Encoding::Gzip));
        assert_eq!(of(" zstd "), Ok(Encoding::Zstd));
        assert_eq!(
            of("gzip, gzip").unwrap_err().to_string(),
            "Content-Encoding \"gzip, gzip\" is not taken: what is taken is gzip, zstd, snappy and \
             identity, one of them at once"
        );
        assert!(of("br").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_stay_within_the_limit(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in ALL {
                if let Ok(bytes) = encoding.decompress(&body, 100) {
                    prop_assert!(bytes.len() <= 100);
                }
            }
        }

        #[test]
        fn what_was_compressed_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for (encoding, body) in compressed(&bytes) {
                prop_assert_eq!(&encoding.decompress(&body, 2000).unwrap(), &bytes);
            }
        }
    }
}
