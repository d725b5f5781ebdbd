//! Answers compressed as the client asks: gzip or zstd, at their fastest.
//!
//! A body is compressed as it is sent, piece by piece, so that a streamed answer stays streamed and an
//! encoder's window is all that is held. What waits in an encoder is flushed when the body itself has
//! to wait. Small answers go out as they are.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body as _, Frame};

/// Smaller answers fit one packet anyway.
const BYTES_MIN: u64 = 1 << 10;

/// Compressed bytes gathered before they are handed on.
const CHUNK_BYTES: usize = 16 << 10;

/// The fastest of zstd that still looks for repetitions well: JSON of samples becomes a tenth.
const ZSTD_LEVEL: i32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The middleware around all routes.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let coding = match *request.method() {
        Method::HEAD => None,
        _ => choose(request.headers()),
    };
    let mut response = next.run(request).await;
    if !is_worth_it(&response) {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding else {
        return response;
    };
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    response.map(|body| match Encoder::new(coding) {
        Ok(encoder) => Body::new(Compressed {
            body,
            encoder: Some(encoder),
            has_waiting: false,
        }),
        Err(error) => Body::new(Broken(Some(error))),
    })
}

/// Whether an answer is a text of some size that is not compressed yet.
fn is_worth_it(response: &Response) -> bool {
    let headers = response.headers();
    let is_text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| {
            [
                "application/json",
                "application/openmetrics-text",
                "text/plain",
            ]
            .iter()
            .any(|kind| text.starts_with(kind))
        });
    is_text
        && !headers.contains_key(CONTENT_ENCODING)
        && response
            .body()
            .size_hint()
            .upper()
            .is_none_or(|bytes| bytes >= BYTES_MIN)
}

/// What the client likes best of what we can do, zstd where it does not care; `None`: as it is.
fn choose(headers: &HeaderMap) -> Option<Coding> {
    let mut wishes: Vec<(&str, f32)> = Vec::new();
    for value in headers.get_all(ACCEPT_ENCODING) {
        let text = value.to_str().unwrap_or_default();
        wishes.extend(text.split(',').map(wish));
    }
    let weight = |names: &[&str]| {
        let named = |wanted: &str| {
            let mut wishes = wishes.iter();
            wishes.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        let found = names.iter().find_map(|name| named(name));
        found.map(|(_, weight)| *weight)
    };
    let gzip = weight(&["gzip", "x-gzip", "*"]).unwrap_or(0.0);
    let zstd = weight(&["zstd", "*"]).unwrap_or(0.0);
    let plain = weight(&["identity"]).unwrap_or(0.0);
    let (coding, weight) = if zstd >= gzip {
        (Coding::Zstd, zstd)
    } else {
        (Coding::Gzip, gzip)
    };
    (weight > 0.0 && weight >= plain).then_some(coding)
}

/// A name and its weight, 1 unless it says otherwise.
fn wish(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
    (name, weight)
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        let sink = Vec::new();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(sink, Compression::fast())),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL)?),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }

    /// What has come out so far.
    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }
}

/// A body that is compressed as it is sent.
struct Compressed {
    body: Body,
    /// Gone when the body has ended.
    encoder: Option<Encoder>,
    /// Whether something went in that has not come out.
    has_waiting: bool,
}

impl Compressed {
    /// Puts a piece in, and takes a chunk out when there is one.
    fn encode(&mut self, piece: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(None);
        };
        encoder.write(piece)?;
        self.has_waiting = true;
        let out = encoder.out();
        Ok((out.len() >= CHUNK_BYTES).then(|| std::mem::take(out)))
    }

    /// All that went in so far.
    fn flush(&mut self) -> io::Result<Vec<u8>> {
        self.has_waiting = false;
        match &mut self.encoder {
            Some(encoder) => {
                encoder.flush()?;
                Ok(std::mem::take(encoder.out()))
            }
            None => Ok(Vec::new()),
        }
    }
}

type Piece = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl hyper::body::Body for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Piece {
        let this = &mut *self;
        loop {
            if this.encoder.is_none() {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending if this.has_waiting => {
                    return Poll::Ready(Some(chunk(this.flush())));
                }
                Poll::Pending => return Poll::Pending,
            };
            let Some(frame) = frame else {
                let rest = this.encoder.take().map_or(Ok(Vec::new()), Encoder::finish);
                return Poll::Ready(Some(chunk(rest)));
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => {
                    // When nothing comes out yet, the next piece goes in.
                    if let Some(out) = this.encode(&piece).transpose() {
                        return Poll::Ready(Some(chunk(out)));
                    }
                }
                // Trailers, which no answer of ours has.
                Ok(Err(_)) => {}
                Err(error) => {
                    // What came before it is no whole answer, and must not look like one.
                    this.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

fn chunk(out: io::Result<Vec<u8>>) -> Result<Frame<Bytes>, axum::Error> {
    out.map(|out| Frame::data(out.into()))
        .map_err(axum::Error::new)
}

/// A body that cannot be begun.
struct Broken(Option<io::Error>);

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Piece {
        Poll::Ready(self.0.take().map(|error| Err(axum::Error::new(error))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::net::body;

    fn chosen(accept: &str) -> Option<&'static str> {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accept.parse().unwrap())]);
        choose(&headers).map(Coding::name)
    }

    #[test]
    fn the_client_chooses_by_weight() {
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("GZIP, deflate, br", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("zstd;q=0.5, gzip;q=0.8", Some("gzip")),
            ("zstd; q=0, gzip", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.1, zstd;q=0", Some("gzip")),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("gzip;q=0", None),
            ("gzip;q=many", None),
            ("deflate, br", None),
            ("", None),
        ] {
            assert_eq!(chosen(accept), coding, "{accept}");
        }
        assert_eq!(choose(&HeaderMap::new()), None);
    }

    /// Gives its pieces one by one and waits between them.
    struct Halting {
        pieces: Vec<Bytes>,
        is_waiting: bool,
    }

    impl hyper::body::Body for Halting {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            self.is_waiting = !self.is_waiting;
            if self.is_waiting {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(self.pieces.pop().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn compressed(coding: Coding, body: Body) -> Compressed {
        Compressed {
            body,
            encoder: Some(Encoder::new(coding).unwrap()),
            has_waiting: false,
        }
    }

    fn expand(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => {
                let mut decoder = flate2::read::GzDecoder::new(bytes);
                io::Read::read_to_end(&mut decoder, &mut out).unwrap();
            }
            Coding::Zstd => zstd::stream::copy_decode(bytes, &mut out).unwrap(),
        }
        out
    }

    #[tokio::test]
    async fn what_is_compressed_reads_the_same_and_is_small() {
        let points: Vec<_> = (0..20_000).map(|at| format!("[{at},\"1.5\"]")).collect();
        let text = points.join(",");
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = compressed(coding, Body::from(text.clone()));
            let bytes = body::read(body, 1 << 20, Duration::from_secs(9))
                .await
                .unwrap();
            assert!(bytes.len() * 3 < text.len(), "{coding:?}: {}", bytes.len());
            assert_eq!(expand(coding, &bytes), text.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_body_that_waits_is_sent_as_far_as_it_is() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let pieces = vec![Bytes::from("second"), Bytes::from("first ")];
            let halting = Halting {
                pieces,
                is_waiting: false,
            };
            let mut body = compressed(coding, Body::new(halting));
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(frame.unwrap().into_data().unwrap());
            }
            assert!(frames.len() >= 3, "{coding:?}: {frames:?}");
            assert_eq!(expand(coding, &frames.concat()), b"first second");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_does_not_end_well() {
        struct Failing;
        impl hyper::body::Body for Failing {
            type Data = Bytes;
            type Error = io::Error;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
                Poll::Ready(Some(Err(io::Error::other("the disk is gone"))))
            }
        }
        let mut body = compressed(Coding::Zstd, Body::new(Failing));
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
}
