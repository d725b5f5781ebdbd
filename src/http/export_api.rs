//! `GET /api/v1/export`: stored samples as text, written while they are sent.
//!
//! A thread reads and writes pieces; the connection takes them as it has room. When reading fails halfway
//! the connection breaks off, so that what arrived is not taken for all there is: the last line of a whole
//! text is `# EOF`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::store;

use super::error::ApiError;
use super::export::Export;
use super::params::Params;
use super::prom_api::Selection;
use super::router::{Api, off_runtime};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bytes gathered before they are handed on.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the connection.
const CHUNKS_WAITING: usize = 2;

type Chunk = Result<Bytes, store::Error>;

pub(super) async fn export(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let selection = Selection::required(&params)?;
    let reader = api.state.reader.clone();
    let turn = api.turn().await?;
    // The first chunk before the answer begins: what is wrong at the start is answered as an error.
    let (first, mut export, is_over) = off_runtime(move || {
        let mut export = Export::new(&reader, &selection.selectors, selection.range)?;
        let (first, is_over) = fill(&mut export)?;
        Ok((first, export, is_over))
    })
    .await?;
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    if !is_over {
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            loop {
                let filled = fill(&mut export);
                let is_over = filled.as_ref().map_or(true, |(_, is_over)| *is_over);
                if let Err(error) = &filled {
                    tracing::error!(%error, "an export broke off");
                }
                // Nobody takes it any more when the client has hung up.
                let is_taken = chunks.blocking_send(filled.map(|(chunk, _)| chunk)).is_ok();
                if is_over || !is_taken {
                    return;
                }
            }
        });
    }
    let body = Body::new(Chunks {
        first: Some(first),
        waiting,
    });
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response())
}

/// The next chunk, and whether it is the last.
fn fill(export: &mut Export) -> Result<(Bytes, bool), store::Error> {
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK_BYTES {
        if !export.write_next(&mut chunk)? {
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
