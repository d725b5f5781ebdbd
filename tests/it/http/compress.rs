//! Answers compressed as clients ask.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use cutover::model::{Batch, Labels, Sample};
use cutover::net::body;
use flate2::read::GzDecoder;
use hyper::header::ACCEPT_ENCODING;
use hyper::{HeaderMap, Method};
use tower::ServiceExt;

use crate::api::{Api, START, request};

/// An API whose list of series is some megabytes.
fn large() -> Api {
    let api = Api::new();
    let mut batch = Batch::default();
    for id in 0..20_000 {
        let labels = [
            ("id", &*id.to_string()),
            ("table", "orders"),
            ("source", "shop"),
        ];
        batch.push(Labels::of("wide", &labels), Sample::new(START, 1.0));
    }
    api.store.writer().write_blocking(batch).unwrap();
    api
}

async fn get(api: &Api, path: &str, accept: Option<&str>) -> (HeaderMap, Vec<u8>) {
    let mut request = request(Method::GET, path, Body::empty());
    if let Some(accept) = accept {
        let accept = accept.parse().unwrap();
        request.headers_mut().insert(ACCEPT_ENCODING, accept);
    }
    let response = api.router.clone().oneshot(request).await.unwrap();
    let (head, answer) = response.into_parts();
    let bytes = body::read(answer, 1 << 26, Duration::from_secs(30)).await;
    (head.headers, bytes.unwrap().to_vec())
}

#[tokio::test]
async fn large_answers_are_compressed_as_the_client_asks() {
    let api = large();
    let path = "/api/v1/query?query=wide";
    let (headers, plain) = get(&api, path, None).await;
    assert!(plain.len() > 1_000_000);
    assert_eq!(headers["vary"], "accept-encoding");
    assert!(!headers.contains_key("content-encoding"));

    let (headers, gzip) = get(&api, path, Some("gzip")).await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert!(!headers.contains_key("content-length"));
    assert!(gzip.len() * 5 < plain.len(), "{}", gzip.len());
    let mut read = Vec::new();
    GzDecoder::new(&*gzip).read_to_end(&mut read).unwrap();
    assert_eq!(read, plain);

    let (headers, zstd) = get(&api, path, Some("gzip, zstd")).await;
    assert_eq!(headers["content-encoding"], "zstd");
    assert!(zstd.len() * 5 < plain.len(), "{}", zstd.len());
    assert_eq!(zstd::stream::decode_all(&*zstd).unwrap(), plain);
}

#[tokio::test]
async fn small_answers_go_out_as_they_are() {
    let api = Api::new();
    let (headers, body) = get(&api, "/api/v1/query?query=1", Some("gzip")).await;
    assert!(!headers.contains_key("content-encoding"), "{headers:?}");
    assert!(body.starts_with(b"{\"status\":\"success\""));
}
