//! The path of a push: `/metrics/job/<JOB>{/<LABEL>/<VALUE>}`, which names the group.
//!
//! A name that ends with `@base64` says that its value is in the alphabet of base64 for URLs, with or
//! without padding; a single `=` is the empty value, which no path could hold. Each piece is decoded
//! after the path was split, so that a value may hold an encoded slash.

use std::collections::BTreeMap;

use super::GroupKey;

/// What every path of a push begins with; the rest is the job's value and further labels.
const PREFIX: &str = "/metrics/";
const JOB: &str = "job";
const BASE64: &str = "@base64";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("job name is required")]
    NoJob,
    #[error("label {name:?} has no value: the path ends behind it")]
    NoValue { name: String },
    #[error("improper label name {name:?}")]
    Name { name: String },
    #[error("the value of {name:?} is not base64 for URLs: {value:?}")]
    Base64 { name: String, value: String },
    #[error("{piece:?} is not text when its percent signs are decoded")]
    Percent { piece: String },
}

/// The labels that a path names.
///
/// The same label twice is its last value, and the first `job` is the job whatever follows, as a
/// Pushgateway has it.
pub fn parse(path: &str) -> Result<GroupKey, Error> {
    let mut pieces = path.strip_prefix(PREFIX).unwrap_or_default().split('/');
    let job = pair(pieces.next().unwrap_or_default(), pieces.next())?.1;
    if job.is_empty() {
        return Err(Error::NoJob);
    }
    let mut labels = BTreeMap::new();
    while let Some(name) = pieces.next() {
        let value = pieces.next();
        // A slash at the end of the path.
        if name.is_empty() && value.is_none() {
            break;
        }
        let (name, value) = pair(name, value)?;
        labels.insert(name, value);
    }
    labels.insert(JOB.to_owned(), job);
    Ok(GroupKey(labels.into_iter().collect()))
}

fn pair(name: &str, value: Option<&str>) -> Result<(String, String), Error> {
    let name = percent_decode(name)?;
    let (name, is_base64) = match name.strip_suffix(BASE64) {
        Some(name) => (name.to_owned(), true),
        None => (name, false),
    };
    if !is_label_name(&name) {
        return Err(Error::Name { name });
    }
    let Some(value) = value else {
        return Err(Error::NoValue { name });
    };
    let value = percent_decode(value)?;
    if !is_base64 {
        return Ok((name, value));
    }
    match decode_base64(&value).map(String::from_utf8) {
        Some(Ok(decoded)) => Ok((name, decoded)),
        _ => Err(Error::Base64 { name, value }),
    }
}

/// Names beginning with two underscores are reserved.
fn is_label_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && !name.starts_with("__")
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain)
}

fn percent_decode(piece: &str) -> Result<String, Error> {
    let malformed = || Error::Percent {
        piece: piece.to_owned(),
    };
    let mut decoded = Vec::with_capacity(piece.len());
    let mut bytes = piece.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = digit().zip(digit()).ok_or_else(malformed)?;
        decoded.push((high << 4 | low) as u8);
    }
    String::from_utf8(decoded).map_err(|_not_text| malformed())
}

/// RFC 4648's alphabet for URLs; padding at the end is passed over.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    // One digit alone is less than a byte.
    if text.len() % 4 == 1 {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(path: &str) -> Vec<(String, String)> {
        parse(path).unwrap().0
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn error(path: &str) -> String {
        parse(path).unwrap_err().to_string()
    }

    #[test]
    fn a_path_names_the_job_and_further_labels() {
        assert_eq!(
            labels("/metrics/job/some_job"),
            pairs(&[("job", "some_job")])
        );
        assert_eq!(
            labels("/metrics/job/a/instance/b/"),
            pairs(&[("instance", "b"), ("job", "a")])
        );
        assert_eq!(
            labels("/metrics/job/a%20b%2Fc/x/%C3%A9+1"),
            pairs(&[("job", "a b/c"), ("x", "\u{e9}+1")])
        );
        // The last of a label counts, and no label but the first is the job.
        assert_eq!(
            labels("/metrics/job/a/x/1/job/b/x/2"),
            pairs(&[("job", "a"), ("x", "2")])
        );
        assert_eq!(
            labels("/metrics/job/a/x/"),
            pairs(&[("job", "a"), ("x", "")])
        );
    }

    #[test]
    fn base64_may_be_padded_and_may_be_empty() {
        // The example of the Pushgateway's own documentation, without its padding too.
        let expected = pairs(&[("job", "directory_cleaner"), ("path", "/var/tmp")]);
        assert_eq!(
            labels("/metrics/job/directory_cleaner/path@base64/L3Zhci90bXA"),
            expected
        );
        assert_eq!(
            labels("/metrics/job/directory_cleaner/path@base64/L3Zhci90bXA="),
            expected
        );
        assert_eq!(
            labels("/metrics/job@base64/zqDPgc6_zrzOt864zrXPjc-C/x@base64/="),
            pairs(&[
                (
                    "job",
                    "\u{3a0}\u{3c1}\u{3bf}\u{3bc}\u{3b7}\u{3b8}\u{3b5}\u{3cd}\u{3c2}"
                ),
                ("x", "")
            ])
        );
    }

    #[test]
    fn what_is_wrong_with_a_path_is_named() {
        assert_eq!(error("/metrics/job/"), "job name is required");
        assert_eq!(error("/metrics/job@base64/="), "job name is required");
        assert_eq!(
            error("/metrics/job/a/x"),
            "label \"x\" has no value: the path ends behind it"
        );
        assert_eq!(error("/metrics/job/a/1x/b"), "improper label name \"1x\"");
        assert_eq!(
            error("/metrics/job/a/__name__/b"),
            "improper label name \"__name__\""
        );
        assert_eq!(
            error("/metrics/job/a/x@base64/a+b"),
            "the value of \"x\" is not base64 for URLs: \"a+b\""
        );
        assert_eq!(
            error("/metrics/job/a%2"),
            "\"a%2\" is not text when its percent signs are decoded"
        );
        assert!(error("/metrics/job/a%ff").contains("is not text"));
        assert!(error("/metrics/job@base64/_w").contains("is not base64"));
    }

    /// As RFC 4648 has it, written the simplest way.
    fn encode_base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits: Vec<bool> = bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1 == 1))
            .collect();
        let digit = |bits: &[bool]| {
            let value = (0..6).fold(0, |value, place| {
                value << 1 | usize::from(bits.get(place).copied().unwrap_or(false))
            });
            char::from(DIGITS[value])
        };
        bits.chunks(6).map(digit).collect()
    }

    proptest! {
        #[test]
        fn base64_that_is_encoded_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let text = encode_base64(&bytes);
            prop_assert_eq!(decode_base64(&text), Some(bytes.clone()));
            prop_assert_eq!(decode_base64(&format!("{text}==")), Some(bytes));
        }

        #[test]
        fn arbitrary_paths_never_break(path in "\\PC*", piece in "[a-z_%/@=0-9]{0,40}") {
            drop(parse(&path));
            drop(parse(&format!("/metrics/job{piece}")));
            drop(decode_base64(&path));
        }
    }
}
