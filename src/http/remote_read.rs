//! `POST /api/v1/read`: Prometheus' remote read.
//!
//! The series of each query, sorted by labels, with every sample of its range, both ends included, stale
//! markers too. Either all samples in one message, which has to fit into memory, or a stream of frames
//! with chunks as Prometheus' own store has them, which is written while it is sent. Errors are plain
//! text, as those of Prometheus.

mod chunk;
mod message;
mod request;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::model::Column;
use crate::net::{body, snappy};
use crate::store::{self, Reader, Walk};

use self::message::{put_bytes, put_double, put_labels, put_number, put_varint};
use self::request::{Query, ReadRequest, ResponseType};
use super::error::{ApiError, Kind};
use super::router::Api;
use super::stream::{self, Source};

/// A request names series, it does not hold them.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A message of all samples, before it is compressed.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A frame is sent when it holds so much, as Prometheus does it.
const FRAME_BYTES: usize = 1 << 20;

const STREAMED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

pub(super) async fn read(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(&api, request)
        .await
        .unwrap_or_else(ApiError::into_plain)
}

async fn answer(api: &Api, request: Request) -> Result<Response, ApiError> {
    let limits = &api.state.limits;
    let block = body::read(request.into_body(), REQUEST_BYTES_MAX, limits.body_timeout).await?;
    let request = ReadRequest::decode(&snappy::decompress(&block, REQUEST_BYTES_MAX)?)?;
    let reader = api.state.reader.clone();
    match request.response_type()? {
        ResponseType::Samples => {
            let queries = request.queries;
            let message = api.read(move |_| read_samples(&reader, &queries)).await?;
            let headers = [
                (CONTENT_TYPE, "application/x-protobuf"),
                (CONTENT_ENCODING, "snappy"),
            ];
            Ok((headers, message).into_response())
        }
        ResponseType::StreamedXorChunks => {
            let queries = request.queries.into();
            let begin = move || Ok(Frames::new(reader, queries));
            stream::respond(api, STREAMED, begin).await
        }
    }
}

/// `prometheus.ReadResponse`, compressed.
fn read_samples(reader: &Reader, queries: &[Query]) -> Result<Vec<u8>, ApiError> {
    let mut response = Vec::new();
    for query in queries {
        let mut result = Vec::new();
        let mut series = Series::of(reader, query)?;
        while let Some(column) = series.next()? {
            let (mut message, mut sample) = (Vec::new(), Vec::new());
            put_labels(&mut message, 1, &column.labels);
            for (timestamp, value) in column.timestamps.iter().zip(&column.values) {
                sample.clear();
                put_double(&mut sample, 1, *value);
                put_number(&mut sample, 2, timestamp.ms() as u64);
                put_bytes(&mut message, 2, &sample);
            }
            put_bytes(&mut result, 1, &message);
            if response.len() + result.len() > MESSAGE_BYTES_MAX {
                let message = format!(
                    "the samples are more than {MESSAGE_BYTES_MAX} bytes: accept STREAMED_XOR_CHUNKS, \
                     or ask for less"
                );
                return Err(ApiError::new(Kind::BadData, message));
            }
        }
        put_bytes(&mut response, 1, &result);
    }
    Ok(snappy::compress(&response))
}

/// The columns of a query in the order of their labels; the samples of one series may come in several,
/// one after the other.
struct Series {
    walk: Option<Walk>,
    columns: VecDeque<Column>,
}

impl Series {
    fn of(reader: &Reader, query: &Query) -> Result<Self, store::Error> {
        let walk = query
            .range
            .map(|range| reader.walk_by_labels(&query.matchers, range));
        Ok(Self {
            walk: walk.transpose()?,
            columns: VecDeque::new(),
        })
    }

    fn next(&mut self) -> Result<Option<Column>, store::Error> {
        let Some(walk) = &mut self.walk else {
            return Ok(None);
        };
        if self.columns.is_empty() {
            match walk.next()? {
                Some(columns) => self.columns.extend(columns),
                None => self.walk = None,
            }
        }
        Ok(self.columns.pop_front())
    }
}

/// The frames of a streamed answer: each some chunks of one series.
struct Frames {
    reader: Reader,
    queries: VecDeque<Query>,
    /// The query that is answered, and its place in the request.
    current: Option<Series>,
    index: u64,
}

impl Frames {
    fn new(reader: Reader, queries: VecDeque<Query>) -> Self {
        Self {
            reader,
            queries,
            current: None,
            index: 0,
        }
    }
}

impl Source for Frames {
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, store::Error> {
        let Some(series) = &mut self.current else {
            let Some(query) = self.queries.pop_front() else {
                return Ok(false);
            };
            self.current = Some(Series::of(&self.reader, &query)?);
            return Ok(true);
        };
        if let Some(column) = series.next()? {
            put_frames(out, &column, self.index);
        } else {
            self.current = None;
            self.index += 1;
        }
        Ok(true)
    }
}

/// The samples of a column as frames.
fn put_frames(out: &mut Vec<u8>, column: &Column, query_index: u64) {
    let mut labels = Vec::new();
    put_labels(&mut labels, 1, &column.labels);
    let mut series = labels.clone();
    let timestamps = column.timestamps.chunks(chunk::SAMPLES_MAX);
    let values = column.values.chunks(chunk::SAMPLES_MAX);
    for (timestamps, values) in timestamps.zip(values) {
        if series.len() > FRAME_BYTES {
            put_frame(out, &series, query_index);
            series.clone_from(&labels);
        }
        let mut chunk = Vec::new();
        let ends = [timestamps.first(), timestamps.last()];
        for (field, end) in (1..).zip(ends.into_iter().flatten()) {
            put_number(&mut chunk, field, end.ms() as u64);
        }
        /// `prometheus.Chunk.Encoding`
        const XOR: u64 = 1;
        put_number(&mut chunk, 3, XOR);
        put_bytes(&mut chunk, 4, &chunk::encode(timestamps, values));
        put_bytes(&mut series, 2, &chunk);
    }
    put_frame(out, &series, query_index);
}

/// A `prometheus.ChunkedReadResponse` behind its length and its CRC-32 by Castagnoli.
fn put_frame(out: &mut Vec<u8>, series: &[u8], query_index: u64) {
    let mut message = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut message, 1, series);
    put_number(&mut message, 2, query_index);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(&crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

/// CRC-32 by Castagnoli, bit by bit reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnoli_s() {
        // RFC 3720, B.4, and the usual check.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
