//! What a remote read asks for: `prometheus.ReadRequest`, decoded.

use crate::ingest::remote_write::Error;
use crate::ingest::remote_write::protobuf::Message;
use crate::model::{MatchOp, Matcher, TimeRange, Timestamp};

use super::super::error::{ApiError, Kind};

/// Queries of one request at most: Prometheus sends one.
const QUERIES_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct ReadRequest {
    pub(super) queries: Vec<Query>,
    /// What the sender can take, the best first; empty from old ones, which take samples.
    accepted: Vec<u64>,
}

/// The samples of some series in a range of time.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) matchers: Vec<Matcher>,
    /// `None`: it ends before it starts, and holds nothing.
    pub(super) range: Option<TimeRange>,
}

/// In which form samples are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseType {
    Samples,
    StreamedXorChunks,
}

impl ReadRequest {
    pub(super) fn decode(body: &[u8]) -> Result<Self, ApiError> {
        let mut request = Self {
            queries: Vec::new(),
            accepted: Vec::new(),
        };
        let mut message = Message::new(body);
        while let Some(field) = message.next()? {
            match field.number {
                1 if request.queries.len() == QUERIES_MAX => {
                    let message = format!("a request has at most {QUERIES_MAX} queries");
                    return Err(ApiError::new(Kind::BadData, message));
                }
                1 => request.queries.push(decode_query(field.message()?)?),
                2 if field.is_packed() => {
                    let mut packed = field.message()?;
                    while let Some(kind) = packed.next_packed()? {
                        request.accepted.push(kind);
                    }
                }
                2 => request.accepted.push(field.number()?),
                _ => {}
            }
        }
        Ok(request)
    }

    /// The first of the accepted forms that we can write.
    pub(super) fn response_type(&self) -> Result<ResponseType, ApiError> {
        if self.accepted.is_empty() {
            return Ok(ResponseType::Samples);
        }
        let known = |kind: &u64| match kind {
            0 => Some(ResponseType::Samples),
            1 => Some(ResponseType::StreamedXorChunks),
            _ => None,
        };
        self.accepted.iter().find_map(known).ok_or_else(|| {
            let message = format!(
                "none of the response types {:?} is known here: 0 is SAMPLES, 1 STREAMED_XOR_CHUNKS",
                self.accepted
            );
            ApiError::new(Kind::BadData, message)
        })
    }
}

fn decode_query(mut message: Message<'_>) -> Result<Query, ApiError> {
    let (mut start, mut end) = (0, 0);
    let mut matchers = Vec::new();
    while let Some(field) = message.next()? {
        match field.number {
            1 => start = field.number()? as i64,
            2 => end = field.number()? as i64,
            3 => matchers.push(decode_matcher(field.message()?)?),
            // Hints, which change nothing of what is answered.
            _ => {}
        }
    }
    Ok(Query {
        matchers,
        range: TimeRange::new(Timestamp::from_ms(start), Timestamp::from_ms(end)),
    })
}

fn decode_matcher(message: Message<'_>) -> Result<Matcher, ApiError> {
    let (kind, name, value) = matcher_fields(message)?;
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        _ => {
            let message = format!("a matcher for label {name:?} has the unknown type {kind}");
            return Err(ApiError::new(Kind::BadData, message));
        }
    };
    Matcher::new(name, op, value).map_err(|error| ApiError::caused(Kind::BadData, &error))
}

fn matcher_fields(mut message: Message<'_>) -> Result<(u64, &str, &str), Error> {
    let (mut kind, mut name, mut value) = (0, "", "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => kind = field.number()?,
            2 => name = field.message()?.text()?,
            3 => value = field.message()?.text()?,
            _ => {}
        }
    }
    Ok((kind, name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = ReadRequest::decode(&bytes) {
                let _kind = request.response_type();
            }
        }
    }

    /// The first known form of a request with these, packed.
    fn chosen(accepted: &[u8]) -> Option<ResponseType> {
        let mut bytes = vec![0x12, accepted.len() as u8];
        bytes.extend(accepted);
        ReadRequest::decode(&bytes).unwrap().response_type().ok()
    }

    #[test]
    fn the_first_form_that_is_known_is_chosen() {
        use ResponseType::{Samples, StreamedXorChunks};
        assert_eq!(chosen(&[1, 0]), Some(StreamedXorChunks));
        assert_eq!(chosen(&[0, 1]), Some(Samples));
        assert_eq!(chosen(&[7, 1]), Some(StreamedXorChunks));
        assert_eq!(chosen(&[7]), None);
        assert_eq!(chosen(&[]), Some(Samples));
        // Not packed, as old encoders write it.
        let request = ReadRequest::decode(&[0x10, 1]).unwrap();
        assert_eq!(request.response_type().unwrap(), StreamedXorChunks);
    }

    #[test]
    fn a_matcher_that_cannot_be_used_is_named() {
        // One query with one matcher: type, name "job", value "(".
        let bytes = |kind: u8| {
            [
                0x0a, 12, 0x1a, 10, 0x08, kind, 0x12, 3, b'j', b'o', b'b', 0x1a, 1, b'(',
            ]
        };
        let said = |kind| format!("{:?}", ReadRequest::decode(&bytes(kind)).unwrap_err());
        assert!(
            said(9).contains(r#"label \"job\" has the unknown type 9"#),
            "{}",
            said(9)
        );
        assert!(said(2).contains(r#"label \"job\""#), "{}", said(2));
        assert!(ReadRequest::decode(&bytes(0)).is_ok());
    }
}
