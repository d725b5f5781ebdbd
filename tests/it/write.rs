//! Samples sent over HTTP: by remote write of both versions, as text, and by a real Prometheus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use cutover::http::Limits;
use cutover::model::STALE_NAN;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, Request};
use prost::Message;
use tower::ServiceExt;

use crate::api::{Answer, Api, START, request};
use crate::prometheus::{BINARY, Pair, Point, Prometheus, TimeSeries, WriteRequest};
use crate::push::gzip;
use crate::support::{Server, free_address, skip, wait_for};

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const WRITE: &str = "/api/v1/write";
const IMPORT: &str = "/api/v1/import/prometheus";

#[derive(Clone, PartialEq, Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Point>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Point>,
}

/// A sample so many milliseconds after the start.
fn point(value: f64, after_ms: i64) -> Point {
    Point {
        value,
        timestamp_ms: START.ms() + after_ms,
    }
}

fn series(pairs: &[(&str, &str)], samples: &[Point]) -> TimeSeries {
    let pair = |(name, value): &(&str, &str)| Pair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    TimeSeries {
        labels: pairs.iter().map(pair).collect(),
        samples: samples.to_vec(),
    }
}

fn up(samples: &[Point]) -> TimeSeries {
    series(&[("__name__", "up"), ("job", "a")], samples)
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn write_request(content_type: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = request(Method::POST, WRITE, body.into());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    headers.insert(CONTENT_ENCODING, "snappy".parse().unwrap());
    request
}

async fn write(api: &Api, timeseries: Vec<TimeSeries>) -> Answer {
    let body = WriteRequest { timeseries }.encode_to_vec();
    api.send(write_request(V1, compressed(&body))).await
}

async fn write_v2(api: &Api, symbols: &[&str], timeseries: Vec<SeriesV2>) -> Answer {
    let symbols = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
    let body = RequestV2 {
        symbols,
        timeseries,
    };
    let body = compressed(&body.encode_to_vec());
    api.send(write_request(V2, body)).await
}

async fn import(api: &Api, content_type: &str, text: &str) -> Answer {
    let mut request = request(Method::POST, IMPORT, text.to_owned().into());
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    api.send(request).await
}

/// The values of an instant query so many milliseconds after the start.
async fn values(api: &Api, query: &str, after_ms: i64) -> Vec<String> {
    let seconds = (START.ms() + after_ms) as f64 / 1e3;
    let query = crate::support::percent_encode(query);
    let path = format!("/api/v1/query?query={query}&time={seconds}");
    let json = api.get(&path).await.json();
    let result = json["data"]["result"].as_array().unwrap().iter();
    result
        .map(|one| one["value"][1].as_str().unwrap().to_owned())
        .collect()
}

fn plain_error(answer: &Answer) -> (u16, &str) {
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    (answer.status, answer.body.trim_end())
}

/// Samples, histograms and exemplars that an answer of version 2.0 says are written.
fn counts(answer: &Answer) -> [&str; 3] {
    ["samples", "histograms", "exemplars"].map(|kind| {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        answer.headers[name.as_str()].to_str().unwrap()
    })
}

#[tokio::test]
async fn what_is_written_is_queried() {
    let api = Api::new();
    let answer = write(&api, vec![up(&[point(1.0, -60_000), point(2.0, 0)])]).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert!(
        !answer
            .headers
            .contains_key("x-prometheus-remote-write-samples-written")
    );
    assert_eq!(values(&api, "up{job=\"a\"}", -60_000).await, ["1"]);
    assert_eq!(values(&api, "up{job=\"a\"}", 0).await, ["2"]);
    // Older than what is there, and labels in another order.
    let answer = write(
        &api,
        vec![series(
            &[("job", "a"), ("__name__", "up")],
            &[point(0.5, -120_000)],
        )],
    )
    .await;
    assert_eq!(answer.status, 204);
    assert_eq!(values(&api, "up", -120_000).await, ["0.5"]);
    let empty = write(&api, vec![]).await;
    assert_eq!(empty.status, 204);
}

#[tokio::test]
async fn version_2_counts_what_was_written() {
    let api = Api::new();
    let symbols = ["", "__name__", "up", "latency", "job"];
    let one = |name, samples, histograms| SeriesV2 {
        labels_refs: vec![1, name],
        samples,
        histograms,
    };
    let good = vec![one(2, vec![point(1.0, 0), point(2.0, 1)], vec![])];
    let answer = write_v2(&api, &symbols, good).await;
    assert_eq!(answer.status, 204);
    assert_eq!(counts(&answer), ["2", "0", "0"]);

    let nameless = SeriesV2 {
        labels_refs: vec![4, 2],
        samples: vec![point(1.0, 0)],
        histograms: vec![],
    };
    let partial = vec![
        one(3, vec![], vec![point(1.0, 0)]),
        nameless,
        one(2, vec![point(3.0, 2)], vec![]),
    ];
    let answer = write_v2(&api, &symbols, partial).await;
    let message =
        "{__name__=\"latency\"}: native histograms are not stored (samples refused: 2, stored: 1)";
    assert_eq!(plain_error(&answer), (400, message));
    assert_eq!(counts(&answer), ["1", "0", "0"]);
    assert_eq!(values(&api, "up", 2).await, ["3"]);

    let outside = vec![SeriesV2 {
        labels_refs: vec![1, 9],
        samples: vec![point(1.0, 0)],
        histograms: vec![],
    }];
    let answer = write_v2(&api, &symbols, outside).await;
    let (status, message) = plain_error(&answer);
    assert_eq!(status, 400);
    assert!(
        message.ends_with("in series 0: reference 9 into a table of 5 symbols"),
        "{message}"
    );
    assert_eq!(counts(&answer), ["0", "0", "0"]);
}

#[tokio::test]
async fn series_that_break_a_rule_are_named_and_the_rest_is_stored() {
    for (pairs, refusal) in [
        (
            vec![("job", "a")],
            "{job=\"a\"}: there is no metric name (label __name__)",
        ),
        (
            vec![("__name__", "x"), ("", "a")],
            "{__name__=\"x\",=\"a\"}: a label has an empty name",
        ),
        (
            vec![("__name__", "x"), ("l", "a"), ("l", "a")],
            "{__name__=\"x\",l=\"a\",l=\"a\"}: label \"l\" occurs twice",
        ),
    ] {
        let api = Api::new();
        let bad = series(&pairs, &[point(1.0, 0), point(2.0, 1)]);
        let answer = write(&api, vec![bad, up(&[point(3.0, 0)])]).await;
        let message = format!("{refusal} (samples refused: 2, stored: 1)");
        assert_eq!(plain_error(&answer), (400, message.as_str()));
        assert_eq!(values(&api, "up", 0).await, ["3"]);
        assert!(values(&api, "x", 0).await.is_empty());
    }
}

#[tokio::test]
async fn the_same_again_is_success_and_another_value_is_named() {
    let api = Api::new();
    for _ in 0..2 {
        let answer = write(&api, vec![up(&[point(1.0, 0), point(f64::NAN, 1)])]).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let answer = write(&api, vec![up(&[point(7.0, 0), point(2.0, 2)])]).await;
    let message = "up{job=\"a\"} at 2023-11-14T22:13:20.000Z: another value is stored for this \
                   timestamp (samples refused: 1, stored: 1)";
    assert_eq!(plain_error(&answer), (400, message));
    assert_eq!(values(&api, "up", 0).await, ["1"]);
    assert_eq!(values(&api, "up", 2).await, ["2"]);
}

#[tokio::test]
async fn times_at_the_limits_are_refused_and_do_no_harm() {
    let api = Api::new();
    let at = |timestamp_ms| Point {
        value: 1.0,
        timestamp_ms,
    };
    let samples = [at(i64::MIN), at(i64::MAX), point(5.0, 0)];
    let answer = write(&api, vec![up(&samples)]).await;
    let message = "up{job=\"a\"} at -9223372036854775808 ms: older than the retention (samples refused: 2, \
                   stored: 1)";
    assert_eq!(plain_error(&answer), (400, message));
    assert_eq!(values(&api, "up", 0).await, ["5"]);
    let metrics = api.get("/metrics").await.body;
    for reason in ["too_old", "too_far_ahead"] {
        let line = format!(
            "cutover_ingest_rejected_samples_total{{reason=\"{reason}\",source=\"remote_write\"}} 1"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    let line = "cutover_ingest_samples_total{source=\"remote_write\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_stale_marker_ends_its_series() {
    let api = Api::new();
    let answer = write(&api, vec![up(&[point(1.0, 0), point(STALE_NAN, 15_000)])]).await;
    assert_eq!(answer.status, 204);
    assert_eq!(values(&api, "up", 14_999).await, ["1"]);
    assert!(values(&api, "up", 15_000).await.is_empty());
    // Any other NaN is a value.
    let answer = write(&api, vec![up(&[point(f64::NAN, 30_000)])]).await;
    assert_eq!(answer.status, 204);
    assert_eq!(values(&api, "up", 30_000).await, ["NaN"]);
}

#[tokio::test]
async fn what_is_not_taken_is_told_with_what_is() {
    let api = Api::new();
    let body = compressed(&WriteRequest { timeseries: vec![] }.encode_to_vec());
    for content_type in [
        "application/json",
        "text/plain",
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
    ] {
        let answer = api.send(write_request(content_type, body.clone())).await;
        let (status, message) = plain_error(&answer);
        assert_eq!(status, 415);
        assert!(
            message.contains("io.prometheus.write.v2.Request"),
            "{message}"
        );
    }
    let mut gzip = write_request(V1, body);
    gzip.headers_mut()
        .insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    let answer = api.send(gzip).await;
    let message = "Content-Encoding \"gzip\" is not taken: only snappy and zstd are";
    assert_eq!(plain_error(&answer), (415, message));
    let answer = api.get(WRITE).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn bodies_over_the_limits_are_refused() {
    let limits = Limits {
        body_bytes_max: 1000,
        ..Limits::default()
    };
    let api = Api::with(&[], |state| state.limits = limits);
    let answer = api.send(write_request(V1, vec![0; 1001])).await;
    assert_eq!(
        plain_error(&answer),
        (413, "the body is larger than 1000 bytes")
    );
    let answer = api.send(write_request(V1, compressed(&[0; 1001]))).await;
    let message = "the body becomes 1001 bytes when decompressed, more than 1000";
    assert_eq!(plain_error(&answer), (413, message));
    let answer = import(&api, "text/plain", &"a 1\n".repeat(251)).await;
    assert_eq!(answer.error().0, 413);
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_are_refused_whole() {
    let api = Api::new();
    let send = async |body: Vec<u8>| {
        let answer = api.send(write_request(V1, body)).await;
        let (status, message) = plain_error(&answer);
        assert_eq!(status, 400, "{message}");
        message.to_owned()
    };
    let message = send(b"not a block".to_vec()).await;
    assert!(
        message.starts_with("the body is not a snappy block: "),
        "{message}"
    );
    // 32 MiB are claimed by seven bytes.
    let message = send(vec![0x80, 0x80, 0x80, 0x10, 0, b'x', 0]).await;
    assert_eq!(
        message,
        "the body is not a snappy block: 7 bytes cannot become 33554432"
    );
    let mut body = WriteRequest {
        timeseries: vec![up(&[point(1.0, 0)])],
    }
    .encode_to_vec();
    let good = body.len();
    body.extend([
        0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
    ]);
    let message = send(compressed(&body)).await;
    let at = good + 1;
    assert_eq!(
        message,
        format!(
            "malformed protobuf at byte {at}: a length of 9223372036854775808 goes beyond the end"
        )
    );
    assert!(values(&api, "up", 0).await.is_empty());
}

#[tokio::test]
async fn a_short_body_with_a_million_samples_is_refused() {
    let api = Api::new();
    let name = Pair {
        name: "__name__".into(),
        value: "up".into(),
    };
    let mut series = vec![0x0a, name.encoded_len() as u8];
    series.extend(name.encode_to_vec());
    series.extend([0x12, 0].repeat((1 << 20) + 1));
    let mut body = vec![0x0a];
    prost::encoding::encode_varint(series.len() as u64, &mut body);
    body.extend(series);
    let answer = api.send(write_request(V1, compressed(&body))).await;
    let message = "more than 1048576 samples and metadata in one request: send fewer at once";
    assert_eq!(plain_error(&answer), (413, message));
    // Empty messages by the million hold nothing, and nothing is what is stored.
    let empty = compressed(&[0x0a, 0].repeat(1 << 20));
    assert_eq!(api.send(write_request(V1, empty)).await.status, 204);
}

#[tokio::test]
async fn a_large_request_is_taken_beside_small_ones() {
    let api = Api::new();
    let large = (0..30_000)
        .map(|number: i32| {
            let instance = format!(
                "{:016x}",
                u64::from(number.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            );
            let value = f64::from(number).sqrt();
            series(
                &[("__name__", "large"), ("instance", &instance)],
                &[point(value, 0)],
            )
        })
        .collect();
    let small = async {
        for after_ms in 0..20 {
            let answer = write(&api, vec![up(&[point(1.0, after_ms)])]).await;
            assert_eq!(answer.status, 204);
        }
    };
    let (answer, ()) = tokio::join!(write(&api, large), small);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(values(&api, "count(large)", 0).await, ["30000"]);
    assert_eq!(values(&api, "count_over_time(up[1m])", 19).await, ["20"]);
}

#[tokio::test]
async fn a_store_that_is_closed_asks_to_come_back() {
    let api = Api::new();
    let router = api.router.clone();
    api.store.close().unwrap();
    let body = WriteRequest {
        timeseries: vec![up(&[point(1.0, 0)])],
    };
    let request = write_request(V1, compressed(&body.encode_to_vec()));
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
}

#[tokio::test]
async fn text_is_imported_with_its_times_and_descriptions() {
    let api = Api::new();
    let text = format!(
        "# HELP rows_total Rows.\n# TYPE rows_total counter\nrows_total{{table=\"users\"}} 5 {}\nnow_total 7\n",
        START.ms() - 60_000
    );
    let answer = import(&api, "text/plain; version=0.0.4", &text).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(values(&api, "rows_total", -60_000).await, ["5"]);
    assert_eq!(values(&api, "now_total", 0).await, ["7"]);
    let metadata = api.get("/api/v1/metadata?metric=rows_total").await;
    assert!(
        metadata
            .body
            .contains(r#"{"type":"counter","help":"Rows.","unit":""}"#)
    );

    let text = format!(
        "{{\"a.b\",\"c d\"=\"e\"}} 1.5 {} # {{id=\"1\"}} 1\n# EOF\n",
        START.seconds()
    );
    let answer = import(&api, "application/openmetrics-text; version=1.0.0", &text).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(values(&api, "{\"a.b\"}", 0).await, ["1.5"]);
    let metrics = api.get("/metrics").await.body;
    let line = "cutover_ingest_samples_total{source=\"import\"} 3";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn bad_text_is_refused_whole_and_bad_samples_alone() {
    let api = Api::new();
    let answer = import(&api, "text/plain", "good 1\nbad{ 2\n").await;
    let message = "line 2, column 6: expected a label's name";
    assert_eq!(answer.error(), (400, "bad_data".into(), message.into()));
    assert!(values(&api, "good", 0).await.is_empty());

    let answer = import(&api, "text/plain", "good 1\nold 2 0\n").await;
    let message =
        "old at 1970-01-01T00:00:00.000Z: older than the retention (samples refused: 1, stored: 1)";
    assert_eq!(answer.error(), (400, "bad_data".into(), message.into()));
    assert_eq!(values(&api, "good", 0).await, ["1"]);

    let answer = import(&api, "application/json", "{}").await;
    let (status, kind, message) = answer.error();
    assert_eq!((status, kind.as_str()), (415, "unsupported_media_type"));
    assert!(
        message.contains("application/openmetrics-text"),
        "{message}"
    );
    let mut twice = request(Method::POST, IMPORT, "a 1\n".into());
    twice
        .headers_mut()
        .insert(CONTENT_ENCODING, "gzip, gzip".parse().unwrap());
    assert_eq!(api.send(twice).await.error().0, 415);
}

#[tokio::test]
async fn a_compressed_text_is_imported_and_one_that_becomes_too_large_is_not() {
    let api = Api::with(&[], |state| state.limits.body_bytes_max = 1 << 20);
    let send = async |body: &[u8]| {
        let mut request = request(Method::POST, IMPORT, gzip(body).into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        api.send(request).await
    };
    // Shrinks more than metrics do as a rule, and is within the limit all the same.
    let comment = [b"a 1\n# ".as_slice(), &vec![b'x'; 1 << 19]].concat();
    let answer = send(&comment).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(values(&api, "a", 0).await, ["1"]);
    let (status, _, message) = send(&vec![b'\n'; (1 << 20) + 1]).await.error();
    let expected = "the body becomes more than 1048576 bytes when decompressed";
    assert_eq!((status, message.as_str()), (413, expected));
}

#[tokio::test]
async fn remote_write_may_be_compressed_by_zstd() {
    let api = Api::new();
    let timeseries = vec![up(&[point(1.0, 0)])];
    let body = WriteRequest { timeseries }.encode_to_vec();
    let mut request = write_request(V1, zstd::encode_all(&body[..], 3).unwrap());
    let headers = request.headers_mut();
    headers.insert(CONTENT_ENCODING, "zstd".parse().unwrap());
    let answer = api.send(request).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(values(&api, "up", 0).await, ["1"]);
}

#[test]
fn a_prometheus_delivers_what_it_scrapes() {
    if !Path::new(BINARY).exists() {
        return skip(
            "a_prometheus_delivers_what_it_scrapes",
            "there is no prometheus",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), None, &[]);
    let port = free_address().port();
    let yaml = format!(
        concat!(
            "global:\n  scrape_interval: 1s\n  external_labels: {{site: lab}}\n",
            "scrape_configs:\n  - job_name: self\n    static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            "remote_write:\n  - url: http://{}/api/v1/write\n    metadata_config: {{send_interval: 1s}}\n",
        ),
        port, server.address
    );
    let prometheus = Prometheus::start_at(port, &yaml);
    let found = |query: &str| {
        let found = server.query(query, &["site"])?;
        let (labels, value) = found.into_iter().next()?;
        (labels == ["lab"] || labels == [""]).then_some(value)
    };
    let within = Duration::from_secs(60);
    wait_for("up arrives", within, || {
        found("up{job=\"self\",site=\"lab\"}").filter(|up| *up == 1.0)
    });
    wait_for("several scrapes arrive", within, || {
        found("count_over_time(up{job=\"self\"}[1m])").filter(|count| *count >= 3.0)
    });
    // What Prometheus has of its last scrapes is more than a few series, and all of them are here.
    let scraped = wait_for("what was scraped is counted", within, || {
        found("max_over_time(scrape_samples_post_metric_relabeling{job=\"self\"}[1m])")
    });
    let series = wait_for("its series arrive", within, || {
        let query = "count({job=\"self\",__name__!~\"up|scrape_.*\"})";
        found(query).filter(|series| *series >= scraped)
    });
    assert!(series > 300.0, "{series}");
    wait_for("metadata arrive", within, || {
        let (_, body) = server.get("/api/v1/metadata?metric=prometheus_build_info")?;
        body.contains("\"type\":\"gauge\"").then_some(())
    });
    let (_, metrics) = server.get("/metrics").unwrap();
    let rejected = metrics
        .lines()
        .find(|line| line.starts_with("cutover_ingest_rejected_samples_total"));
    assert_eq!(rejected, None);
    drop(prometheus);
    assert_eq!(server.stop(), Some(0));
}
