//! Federation: what another Prometheus scrapes from us.

use std::time::Duration;

use axum::body::Body;
use cutover::model::{Batch, Labels, MetricKind, MetricMetadata, STALE_NAN, Sample};
use hyper::Method;
use hyper::header::ACCEPT;

use crate::api::{Answer, Api, START, request};

fn populated() -> Api {
    let api = Api::new();
    let mut batch = Batch::default();
    let mut push = |metric: &str, labels: &[(&str, &str)], after_ms: i64, value: f64| {
        let sample = Sample::new(START.offset_ms(after_ms), value);
        batch.push(Labels::of(metric, labels), sample);
    };
    push("rows_total", &[("table", "a \"b\"\n")], 0, 1.0);
    push("rows_total", &[("table", "a \"b\"\n")], 60_000, 7.0);
    push("rows_total", &[("table", "old")], -1, 1.0);
    push(
        "lag.seconds",
        &[("source.table", "x")],
        60_000,
        f64::INFINITY,
    );
    push("gone", &[], 0, 1.0);
    push("gone", &[], 60_000, STALE_NAN);
    push("temperature", &[], 90_500, -0.25);
    let known = |kind| MetricMetadata {
        kind,
        help: String::new(),
        unit: String::new(),
    };
    batch.metadata = vec![
        ("rows_total".into(), known(MetricKind::Counter)),
        ("temperature".into(), known(MetricKind::Gauge)),
    ];
    api.store.writer().write_blocking(batch).unwrap();
    // The oldest sample is 5 minutes old now, which is too old.
    api.clock.advance(Duration::from_millis(300_000 - 1));
    api
}

async fn federate(api: &Api, query: &str, accept: &str) -> Answer {
    let path = format!("/federate?{query}");
    let mut request = request(Method::GET, &path, Body::empty());
    request
        .headers_mut()
        .insert(ACCEPT, accept.parse().unwrap());
    api.send(request).await
}

#[tokio::test]
async fn the_newest_samples_are_written_metric_by_metric() {
    let api = populated();
    let all = "match[]=rows_total&match[]=%7B__name__=~%22.%2B%22%7D";
    let answer = federate(&api, all, "text/plain").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(
        answer.body,
        "# TYPE lag_seconds untyped\n\
         lag_seconds{source_table=\"x\"} +Inf 1700000060000\n\
         # TYPE rows_total counter\n\
         rows_total{table=\"a \\\"b\\\"\\n\"} 7 1700000060000\n\
         # TYPE temperature gauge\n\
         temperature -0.25 1700000090500\n"
    );
    let some = federate(&api, "match[]=temperature", "*/*").await;
    assert_eq!(some.body.lines().count(), 2);
    assert_eq!(federate(&api, "", "*/*").await.body, "");
}

#[tokio::test]
async fn a_client_that_reads_all_names_gets_them_quoted() {
    let api = populated();
    let accept = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1";
    let answer = federate(&api, "match[]=%7B%22lag.seconds%22%7D", accept).await;
    assert_eq!(
        answer.body,
        "# TYPE \"lag.seconds\" untyped\n{\"lag.seconds\",\"source.table\"=\"x\"} +Inf 1700000060000\n"
    );
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.ends_with("escaping=allow-utf-8"), "{kind}");
}

#[tokio::test]
async fn a_selector_that_cannot_be_read_is_refused() {
    let api = populated();
    let refused = federate(&api, "match[]=%7B", "*/*").await;
    let (status, kind, _) = refused.error();
    assert_eq!((status, kind.as_str()), (400, "bad_data"));
}
