//! OTLP metrics over HTTP: content types, answers, errors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use axum::body::Body;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, Request};

use crate::api::{Api, START, request};
use crate::push::gzip;

const PATH: &str = "/api/v1/otlp/v1/metrics";

fn post(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request(Method::POST, PATH, body.into());
    let content_type = content_type.parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
}

fn gauge(name: &str) -> String {
    let point = serde_json::json!({
        "timeUnixNano": format!("{}000000", START.ms()), "asDouble": 1.5
    });
    let exponential = serde_json::json!({"dataPoints": [{}]});
    let metrics = serde_json::json!([
        {"name": name, "gauge": {"dataPoints": [point]}},
        {"name": "e", "exponentialHistogram": exponential},
    ]);
    serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).to_string()
}

#[tokio::test]
async fn an_answer_is_written_as_the_request_was() {
    let api = Api::new();
    let mut json = post(
        "application/json; charset=utf-8",
        gzip(gauge("a.b").as_bytes()),
    );
    let headers = json.headers_mut();
    headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    let answer = api.send(json).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "1");
    let found = api.get("/api/v1/query?query=a_b").await.json();
    assert_eq!(found["data"]["result"][0]["value"][1], "1.5");

    let empty = api
        .send(post("application/x-protobuf", Body::empty()))
        .await;
    assert_eq!((empty.status, empty.body.as_str()), (200, ""));
    assert_eq!(empty.headers["content-type"], "application/x-protobuf");
    let metrics = api.get("/metrics").await.body;
    let line = "cutover_ingest_samples_total{source=\"otlp\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn an_error_is_a_status_in_the_same_content_type() {
    let api = Api::new();
    let answer = api.send(post("application/json", "{")).await;
    assert_eq!(answer.status, 400);
    let status = answer.json();
    assert_eq!(status["code"], 3);
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("malformed JSON: EOF"), "{message}");

    let answer = api.send(post("application/x-protobuf", "\x0a")).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    assert!(answer.body.contains("malformed protobuf"), "{answer:?}");

    let answer = api.send(post("text/plain", "")).await;
    assert_eq!(answer.error().0, 415);
}
