//! Answers that are read from the store while they are sent.
//!
//! A thread reads and writes pieces; the connection takes them as it has room, so that an answer of any
//! size costs a few chunks of memory. When reading fails halfway the connection breaks off: what arrived
//! must not be taken for all there is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::store;

use super::error::ApiError;
use super::router::Api;
use super::turn::off_runtime;

/// Bytes gathered before they are handed on.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the connection.
const CHUNKS_WAITING: usize = 2;

/// What writes an answer.
pub(super) trait Source: Send + 'static {
    /// Appends the next piece; false when the answer is complete.
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, store::Error>;
}

type Chunk = Result<Bytes, store::Error>;

/// Answers with what a source writes, when its turn has come.
pub(super) async fn respond<S: Source>(
    api: &Api,
    content_type: &'static str,
    begin: impl FnOnce() -> Result<S, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let turn = api.stream_turn().await?;
    // The first chunk before the answer begins: what is wrong at the start is answered as an error.
    let (first, mut source, is_over) = off_runtime(move || {
        let mut source = begin()?;
        let (first, is_over) = fill(&mut source)?;
        Ok((first, source, is_over))
    })
    .await?;
    let headers = [(header::CONTENT_TYPE, content_type)];
    if is_over {
        return Ok((headers, first).into_response());
    }
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        loop {
            let filled = fill(&mut source);
            let is_over = filled.as_ref().map_or(true, |(_, is_over)| *is_over);
            if let Err(error) = &filled {
                tracing::error!(%error, "a streamed answer broke off");
            }
            // Nobody takes it any more when the client has hung up.
            let is_taken = chunks.blocking_send(filled.map(|(chunk, _)| chunk)).is_ok();
            if is_over || !is_taken {
                return;
            }
        }
    });
    let body = Body::new(Chunks {
        first: Some(first),
        waiting,
    });
    Ok((headers, body).into_response())
}

/// The next chunk, and whether it is the last.
fn fill(source: &mut impl Source) -> Result<(Bytes, bool), store::Error> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK_BYTES {
        if !source.write_next(&mut chunk)? {
            return Ok((chunk.into(), true));
        }
    }
    Ok((chunk.into(), false))
}

/// The body: the first chunk, then those that the thread hands on.
struct Chunks {
    first: Option<Bytes>,
    waiting: mpsc::Receiver<Chunk>,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = store::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, store::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.waiting
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
