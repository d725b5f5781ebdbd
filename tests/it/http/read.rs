//! Remote read as another Prometheus asks it: sampled and streamed.

use std::time::Duration;

use axum::body::Body;
use cutover::model::{Batch, Labels, STALE_NAN, Sample};
use cutover::net::body;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{HeaderMap, Method};
use prost::Message;
use tower::ServiceExt;

use crate::api::{Api, START, request};
use crate::prometheus::{Pair, Point, TimeSeries};

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelMatcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes, tag = "4")]
    data: Vec<u8>,
}

const SAMPLES: i32 = 0;
const STREAMED: i32 = 1;
const STEP_MS: i64 = 15_000;

/// Two metrics; `rows_total` has 250 samples for each of three tables, the last of which ends stale.
fn populated() -> Api {
    let api = Api::new();
    api.clock.step_to(START.offset_ms(250 * STEP_MS));
    let mut batch = Batch::default();
    for table in ["b", "a", "c"] {
        for at in 0..250 {
            let value = if table == "c" && at == 249 {
                STALE_NAN
            } else {
                at as f64 * 1.5
            };
            let sample = Sample::new(START.offset_ms(at * STEP_MS), value);
            batch.push(Labels::of("rows_total", &[("table", table)]), sample);
        }
    }
    batch.push(Labels::of("up", &[]), Sample::new(START, 1.0));
    api.store.writer().write_blocking(batch).unwrap();
    api
}

fn matcher(kind: i32, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher {
        kind,
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn query(matchers: &[LabelMatcher], from: i64, to: i64) -> Query {
    Query {
        start_ms: START.ms() + from * STEP_MS,
        end_ms: START.ms() + to * STEP_MS,
        matchers: matchers.to_vec(),
    }
}

async fn send(api: &Api, bytes: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = request(Method::POST, "/api/v1/read", Body::from(bytes));
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, "application/x-protobuf".parse().unwrap());
    headers.insert(CONTENT_ENCODING, "snappy".parse().unwrap());
    let response = api.router.clone().oneshot(request).await.unwrap();
    let (head, answer) = response.into_parts();
    let bytes = body::read(answer, 1 << 26, Duration::from_secs(30)).await;
    (head.status.as_u16(), head.headers, bytes.unwrap().to_vec())
}

async fn read(api: &Api, request: &ReadRequest) -> (u16, HeaderMap, Vec<u8>) {
    let block = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec());
    send(api, block.unwrap()).await
}

async fn sampled(api: &Api, queries: Vec<Query>) -> Vec<QueryResult> {
    let request = ReadRequest {
        queries,
        accepted: vec![SAMPLES],
    };
    let (status, headers, body) = read(api, &request).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(headers[CONTENT_TYPE], "application/x-protobuf");
    assert_eq!(headers[CONTENT_ENCODING], "snappy");
    let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    ReadResponse::decode(&*message).unwrap().results
}

/// The frames of a streamed answer, their checksums checked.
fn frames(mut body: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        let length = prost::decode_length_delimiter(&mut body).unwrap();
        let (checksum, rest) = body.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(length);
        assert_eq!(u32::from_be_bytes(*checksum), crc32c(message));
        frames.push(Frame::decode(message).unwrap());
        body = rest;
    }
    frames
}

/// CRC-32 by Castagnoli, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn tables(series: &[TimeSeries]) -> Vec<&str> {
    let table = |series: &TimeSeries| series.labels.iter().position(|pair| pair.name == "table");
    let named = series
        .iter()
        .filter_map(|series| Some((series, table(series)?)));
    named
        .map(|(series, at)| &*series.labels[at].value)
        .collect()
}

#[tokio::test]
async fn samples_are_answered_by_series_sorted_with_both_ends() {
    let api = populated();
    let rows = matcher(0, "__name__", "rows_total");
    let results = sampled(&api, vec![query(std::slice::from_ref(&rows), 10, 12)]).await;
    let series = &results[0].series;
    assert_eq!(tables(series), ["a", "b", "c"]);
    let point = |at: i64| Point {
        value: at as f64 * 1.5,
        timestamp_ms: START.ms() + at * STEP_MS,
    };
    assert_eq!(series[0].samples, [10, 11, 12].map(point));
    let ended = sampled(&api, vec![query(&[rows], 249, 249)]).await;
    let last = ended[0].series[2].samples[0];
    assert_eq!(last.value.to_bits(), STALE_NAN.to_bits());
}

#[tokio::test]
async fn every_kind_of_matcher_selects() {
    let api = populated();
    let rows = matcher(0, "__name__", "rows_total");
    let of = async |matcher: LabelMatcher| {
        let results = sampled(&api, vec![query(&[rows.clone(), matcher], 0, 0)]).await;
        tables(&results[0].series).concat()
    };
    assert_eq!(of(matcher(0, "table", "a")).await, "a");
    assert_eq!(of(matcher(1, "table", "a")).await, "bc");
    assert_eq!(of(matcher(2, "table", "[ab]")).await, "ab");
    assert_eq!(of(matcher(3, "table", "[ab]")).await, "c");
    assert_eq!(of(matcher(0, "absent", "")).await, "abc");
    let queries = vec![
        query(&[matcher(0, "__name__", "up")], 0, 0),
        query(&[rows], 5, 4),
        query(&[matcher(0, "__name__", "none")], 0, 9),
    ];
    let results = sampled(&api, queries).await;
    let counts: Vec<_> = results.iter().map(|result| result.series.len()).collect();
    assert_eq!(counts, [1, 0, 0]);
}

#[tokio::test]
async fn chunks_are_streamed_series_by_series() {
    let api = populated();
    let queries = vec![
        query(&[matcher(0, "__name__", "rows_total")], 0, 249),
        query(&[matcher(2, "__name__", "u.")], 0, 0),
    ];
    let request = ReadRequest {
        queries,
        accepted: vec![STREAMED, SAMPLES],
    };
    let (status, headers, body) = read(&api, &request).await;
    assert_eq!(status, 200);
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(headers[CONTENT_TYPE], kind);
    assert!(!headers.contains_key(CONTENT_ENCODING));
    let frames = frames(&body);
    assert_eq!(frames.len(), 4);
    let last_labels = |frame: &Frame| frame.series[0].labels.last().unwrap().value.clone();
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| (frame.query_index, last_labels(frame)))
        .collect();
    let expected = [(0, "a"), (0, "b"), (0, "c"), (1, "up")];
    assert_eq!(
        seen,
        expected.map(|(index, value)| (index, value.to_owned()))
    );
    // 250 samples in chunks of 120.
    let chunks = &frames[0].series[0].chunks;
    let spans: Vec<_> = chunks
        .iter()
        .map(|chunk| {
            let at = |ms: i64| (ms - START.ms()) / STEP_MS;
            let samples = u16::from_be_bytes([chunk.data[0], chunk.data[1]]);
            (chunk.encoding, at(chunk.min_ms), at(chunk.max_ms), samples)
        })
        .collect();
    assert_eq!(
        spans,
        [(1, 0, 119, 120), (1, 120, 239, 120), (1, 240, 249, 10)]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_in_plain_text() {
    let api = populated();
    let rows = matcher(0, "__name__", "rows_total");
    let unknown = ReadRequest {
        queries: vec![query(&[rows], 0, 1)],
        accepted: vec![9],
    };
    let (status, headers, body) = read(&api, &unknown).await;
    assert_eq!(status, 400);
    assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    let said = String::from_utf8(body).unwrap();
    assert!(said.contains("STREAMED_XOR_CHUNKS"), "{said}");

    let regex = ReadRequest {
        queries: vec![query(&[matcher(2, "table", "(")], 0, 1)],
        accepted: vec![],
    };
    let (status, _, body) = read(&api, &regex).await;
    let said = String::from_utf8(body).unwrap();
    assert!(status == 400 && said.contains("\"table\""), "{said}");

    for bytes in [b"not snappy".to_vec(), vec![3, 8, 0xff, 0xff, 0xff]] {
        let (status, _, body) = send(&api, bytes).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    }
}
