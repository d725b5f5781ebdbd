//! Metrics pushed over HTTP, as to a Pushgateway.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::Write;
use std::time::Duration;

use axum::body::Body;
use cutover::model::Clock;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, Request};

use crate::api::{Answer, Api, request};
use crate::support::percent_encode;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn push(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    request(method, path, body.into())
}

/// What an instant query finds: the labels but the metric's name, and the value.
async fn found(api: &Api, query: &str) -> Vec<(String, String)> {
    let (query, now) = (percent_encode(query), api.clock.now().seconds());
    let path = format!("/api/v1/query?query={query}&time={now}");
    let json = api.get(&path).await.json();
    let result = json["data"]["result"].as_array().unwrap().iter();
    result
        .map(|one| {
            let mut labels = one["metric"].clone();
            labels.as_object_mut().unwrap().remove("__name__");
            let value = one["value"][1].as_str().unwrap();
            (labels.to_string(), value.to_owned())
        })
        .collect()
}

fn plain(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.trim_end())
}

#[tokio::test]
async fn a_push_is_answered_as_by_a_pushgateway() {
    let api = Api::new();
    let path = "/metrics/job@base64/YS9i/instance/i";
    let put = push(
        Method::PUT,
        path,
        "# TYPE x_total counter\nx_total{job=\"no\"} 1\n",
    );
    assert_eq!(plain(&api.send(put).await), (200, ""));
    let labels = "{\"instance\":\"i\",\"job\":\"a/b\"}";
    assert_eq!(
        found(&api, "x_total").await,
        [(labels.to_owned(), "1".to_owned())]
    );
    let time = found(&api, "push_time_seconds").await;
    assert_eq!(time, [(labels.to_owned(), "1700000000".to_owned())]);
    let failure = found(&api, "push_failure_time_seconds").await;
    assert_eq!(failure, [(labels.to_owned(), "0".to_owned())]);

    api.clock.advance(Duration::from_secs(1));
    let post = push(Method::POST, path, "y 2\n");
    assert_eq!(plain(&api.send(post).await), (200, ""));
    assert_eq!(
        found(&api, "{job=\"a/b\",__name__=~\"x_total|y\"}")
            .await
            .len(),
        2
    );

    api.clock.advance(Duration::from_secs(1));
    let delete = push(Method::DELETE, path, Body::empty());
    assert_eq!(plain(&api.send(delete).await), (202, ""));
    assert!(found(&api, "{job=\"a/b\"}").await.is_empty());
    let metrics = api.get("/metrics").await.body;
    let line = "cutover_ingest_samples_total{source=\"push\"} 7";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_bad_push_is_refused_in_plain_text() {
    let api = Api::new();
    let path = "/metrics/job/a";
    for (path, body, message) in [
        ("/metrics/job/", "", "job name is required"),
        ("/metrics/job/a/1x/b", "", "improper label name \"1x\""),
        (path, "x{", "line 1, column 3: expected a label's name"),
        (
            path,
            "x 1 1700000000000",
            "pushed metrics are invalid or inconsistent with existing metrics: x{job=\"a\"} has a \
             timestamp: pushed metrics must not have timestamps",
        ),
    ] {
        let answer = api.send(push(Method::PUT, path, body)).await;
        assert_eq!(plain(&answer), (400, message));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let mut protobuf = push(Method::PUT, path, "\x01");
    let content_type = "application/vnd.google.protobuf; encoding=delimited";
    protobuf
        .headers_mut()
        .insert(CONTENT_TYPE, content_type.parse().unwrap());
    let answer = api.send(protobuf).await;
    assert_eq!(answer.status, 415);
    assert!(answer.body.contains("protobuf"), "{answer:?}");
    assert_eq!(api.get(path).await.status, 405);
    assert!(found(&api, "x").await.is_empty());
}

#[tokio::test]
async fn a_compressed_push_is_taken() {
    let api = Api::new();
    let text = b"x 1\n";
    let mut frames = snap::write::FrameEncoder::new(Vec::new());
    frames.write_all(text).unwrap();
    for (encoding, body) in [
        ("gzip", gzip(text)),
        ("snappy", frames.into_inner().unwrap()),
        ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
    ] {
        let mut put = push(Method::PUT, &format!("/metrics/job/{encoding}"), body);
        put.headers_mut()
            .insert(CONTENT_ENCODING, encoding.parse().unwrap());
        assert_eq!(plain(&api.send(put).await), (200, ""));
    }
    assert_eq!(found(&api, "sum(x)").await[0].1, "3");
}
