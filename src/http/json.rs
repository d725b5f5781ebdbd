//! JSON answers in Prometheus' envelope, written piece by piece.
//!
//! A large answer never exists as a tree or as one text: a [`Pieces`] writes the next bit into a buffer
//! whenever the connection has room. Small answers go out whole, with their length.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;

use crate::model::Labels;

use super::turn::Held;

/// Writes an answer bit by bit.
pub(super) trait Pieces: Send + Unpin + 'static {
    /// Appends the next piece, some kilobytes at most; false when the answer is complete.
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool;
}

/// Bytes gathered before they are handed to the connection.
const CHUNK_BYTES: usize = 64 << 10;

/// An answer of any size, with its share of the memory for answers.
pub(super) fn respond(mut pieces: impl Pieces, held: Option<Held>) -> Response {
    let mut first = Vec::new();
    let body = if fill(&mut pieces, &mut first) {
        Body::from(first)
    } else {
        Body::new(Streamed {
            first: Some(first),
            pieces: Some(pieces),
            _held: held,
        })
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// An answer that is small or whose parts serde knows how to write.
pub(super) fn success(data: &impl Serialize) -> Response {
    success_with(data, &[])
}

/// The same, with warnings.
pub(super) fn success_with(data: &impl Serialize, warnings: &[String]) -> Response {
    let mut json = br#"{"status":"success","data":"#.to_vec();
    serde_json::to_writer(&mut json, data).expect("plain values become JSON");
    end(&mut json, warnings, &[]);
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Closes the envelope after its data.
pub(super) fn end(out: &mut Vec<u8>, warnings: &[String], infos: &[String]) {
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            out.extend(format!(",\"{name}\":").as_bytes());
            serde_json::to_writer(&mut *out, texts).expect("texts become JSON");
        }
    }
    out.push(b'}');
}

/// A text in quotes, escaped.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    // Hardly any name or value needs escapes, and to see that is cheaper than to look for them.
    if text.as_bytes().iter().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("texts become JSON");
    }
}

/// A label set as an object.
pub(super) fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (at, label) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, &label.name);
        out.push(b':');
        text(out, &label.value);
    }
    out.push(b'}');
}

/// Fills a chunk; true when the answer is complete with it.
fn fill(pieces: &mut impl Pieces, chunk: &mut Vec<u8>) -> bool {
    while chunk.len() < CHUNK_BYTES {
        if !pieces.write_next(chunk) {
            return true;
        }
    }
    false
}

/// A body that is written as it is sent.
struct Streamed<P> {
    first: Option<Vec<u8>>,
    pieces: Option<P>,
    _held: Option<Held>,
}

impl<P: Pieces> hyper::body::Body for Streamed<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.first.take().or_else(|| {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
            if fill(self.pieces.as_mut()?, &mut chunk) {
                self.pieces = None;
            }
            Some(chunk)
        });
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}

/// The label sets of `/api/v1/series`.
pub(super) struct SeriesList {
    series: std::vec::IntoIter<Labels>,
    warnings: Vec<String>,
    /// What goes before the next series; `None` when the list has ended.
    before: Option<&'static str>,
}

impl SeriesList {
    pub(super) fn new(series: Vec<Labels>, warnings: Vec<String>) -> Self {
        Self {
            series: series.into_iter(),
            warnings,
            before: Some(r#"{"status":"success","data":["#),
        }
    }
}

impl Pieces for SeriesList {
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(before) = self.before else {
            return false;
        };
        let next = self.series.next();
        if next.is_some() || before != "," {
            out.extend(before.as_bytes());
        }
        self.before = next.is_some().then_some(",");
        if let Some(series) = next {
            labels(out, &series);
        } else {
            out.push(b']');
            end(out, &self.warnings, &[]);
        }
        self.before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::body;

    async fn read(response: Response) -> String {
        let bytes = body::read(response.into_body(), 1 << 24, Duration::from_secs(5))
            .await
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_small_answer_has_a_length_and_a_large_one_is_the_same_text_streamed() {
        let series = |count| {
            let each = |at: usize| Labels::of("m", &[("at", at.to_string().as_str())]);
            (0..count).map(each).collect::<Vec<_>>()
        };
        let small = respond(SeriesList::new(series(2), vec![]), None);
        assert_eq!(
            hyper::body::Body::size_hint(small.body()).exact(),
            Some(81),
            "a small answer is sent whole"
        );
        assert_eq!(
            read(small).await,
            r#"{"status":"success","data":[{"__name__":"m","at":"0"},{"__name__":"m","at":"1"}]}"#
        );
        let large = respond(SeriesList::new(series(10_000), vec!["cut".into()]), None);
        assert_eq!(hyper::body::Body::size_hint(large.body()).exact(), None);
        let text = read(large).await;
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["data"].as_array().unwrap().len(), 10_000);
        assert_eq!(parsed["warnings"][0], "cut");
    }

    #[tokio::test]
    async fn an_empty_list_is_a_list() {
        let response = respond(SeriesList::new(vec![], vec![]), None);
        assert_eq!(read(response).await, r#"{"status":"success","data":[]}"#);
    }
}
