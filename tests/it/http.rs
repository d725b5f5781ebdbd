//! The HTTP API as its clients see it: Grafana, a browser, a probe, our own client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod auth;
mod bad;
mod compress;
mod federate;
mod grafana;
mod openapi;
mod read;
mod status;
mod surface;
mod tls;

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use cutover::client::{Client, Error, Readiness};
use cutover::detect::anomaly::{ANOMALIES, Anomaly, Direction, Severity};
use cutover::http::{serve, wire};
use cutover::model::{Batch, MetricKind, MetricMetadata};
use cutover::shutdown::{GRACE, Shutdown};
use cutover::telemetry::health::State;
use hyper::Method;
use tokio::net::TcpListener;

use crate::api::{Api, START, request};

fn populated() -> Api {
    let api = Api::new();
    api.write(&[
        ("up", &[("job", "a"), ("service.name", "x y")], 1.0),
        ("up", &[("job", "b")], 0.0),
        ("rows_total", &[("table", "users")], 7.0),
    ]);
    let metadata = MetricMetadata {
        kind: MetricKind::Counter,
        help: "Rows.".into(),
        unit: String::new(),
    };
    let batch = Batch {
        metadata: vec![("rows_total".into(), metadata)],
        ..Batch::default()
    };
    api.store.writer().write_blocking(batch).unwrap();
    api
}

#[tokio::test]
async fn grafana_finds_a_prometheus() {
    let api = populated();
    let answer = api.get("/api/v1/status/buildinfo").await;
    let application = env!("CARGO_PKG_VERSION");
    assert_eq!(
        answer.body,
        format!(
            concat!(
                r#"{{"status":"success","data":{{"version":"3.8.0","revision":"","branch":"","#,
                r#""buildUser":"","buildDate":"","goVersion":"","application_version":"{}"}}}}"#
            ),
            application
        )
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    let exemplars = api.post_form("/api/v1/query_exemplars", "query=test").await;
    assert_eq!(exemplars.body, r#"{"status":"success","data":[]}"#);
    let metadata = api.get("/api/v1/metadata?metric=rows_total").await;
    assert_eq!(
        metadata.body,
        r#"{"status":"success","data":{"rows_total":[{"type":"counter","help":"Rows.","unit":""}]}}"#
    );
}

#[tokio::test]
async fn grafana_tests_its_connection_and_draws_a_panel() {
    let api = populated();
    let test = api.post_form("/api/v1/query", "query=1%2B1&time=4").await;
    assert_eq!(
        test.body,
        r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
    );
    let vector = api
        .get("/api/v1/query?query=up{job=%22b%22}&time=1700000060.5")
        .await;
    assert_eq!(
        vector.body,
        concat!(
            r#"{"status":"success","data":{"resultType":"vector","result":["#,
            r#"{"metric":{"__name__":"up","job":"b"},"value":[1700000060.500,"0"]}]}}"#
        )
    );
    let range = "query=rows_total%2F0&start=1700000000&end=1700000015&step=15";
    let matrix = api.post_form("/api/v1/query_range", range).await;
    assert_eq!(
        matrix.body,
        concat!(
            r#"{"status":"success","data":{"resultType":"matrix","result":["#,
            r#"{"metric":{"table":"users"},"values":[[1700000000,"+Inf"],[1700000015,"+Inf"]]}]}}"#
        )
    );
    let cut = api.get("/api/v1/query?query=up&limit=1").await.json();
    assert_eq!(cut["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(cut["warnings"][0], "results truncated due to limit");
}

#[tokio::test]
async fn a_query_that_cannot_be_answered_says_why() {
    let api = populated();
    let parse = api.get("/api/v1/query?query=up%20%2B").await.error();
    assert_eq!((parse.0, parse.1.as_str()), (400, "bad_data"));
    let start = r#"invalid parameter "query": "#;
    assert!(parse.2.starts_with(start), "{}", parse.2);
    let empty = api.get("/api/v1/query").await.error();
    assert_eq!((empty.0, empty.1.as_str()), (400, "bad_data"));
    let matching = "/api/v1/query?query=up%20*%20on()%20up";
    let execution = api.get(matching).await.error();
    assert_eq!((execution.0, execution.1.as_str()), (422, "execution"));
    let timeout = api.get("/api/v1/query?query=up&timeout=0s").await.error();
    assert_eq!((timeout.0, timeout.1.as_str()), (503, "timeout"));
}

#[tokio::test]
async fn a_lookback_may_be_asked_for() {
    let api = populated();
    let at = "/api/v1/query?query=up{job=%22b%22}&time=1700000060";
    let found = async |path: &str| {
        let json = api.get(path).await.json();
        json["data"]["result"].as_array().unwrap().len()
    };
    assert_eq!(found(at).await, 1);
    assert_eq!(found(&format!("{at}&lookback_delta=30s")).await, 0);
}

#[tokio::test]
async fn grafana_fills_its_pickers() {
    let api = populated();
    for (path, data) in [
        (
            "/api/v1/labels?match[]=up",
            r#"["__name__","job","service.name"]"#,
        ),
        ("/api/v1/label/job/values", r#"["a","b"]"#),
        ("/api/v1/label/U__service_2e_name/values", r#"["x y"]"#),
        (
            "/api/v1/label/job/values?match[]=up{job!=%22a%22}",
            r#"["b"]"#,
        ),
        ("/api/v1/label/absent/values", "[]"),
        ("/api/v1/label/job/values?start=1&end=2", "[]"),
        (
            "/api/v1/series?match[]=up{job=%22b%22}&match[]=rows_total&match[]=up{job=%22b%22}",
            r#"[{"__name__":"rows_total","table":"users"},{"__name__":"up","job":"b"}]"#,
        ),
    ] {
        let answer = api.get(path).await;
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!((answer.status, answer.body), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn a_form_asks_the_same_as_a_query_string() {
    let api = populated();
    let form = api.post_form("/api/v1/series", "match%5B%5D=up").await;
    let query = api.get("/api/v1/series?match[]=up").await;
    assert_eq!((form.status, form.body), (200, query.body));
    let labels = api.post_form("/api/v1/labels?match[]=up", "start=1").await;
    assert_eq!(labels.json()["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_limit_cuts_and_says_so() {
    let api = populated();
    let cut = api.get("/api/v1/label/job/values?limit=1").await;
    assert_eq!(
        cut.body,
        r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#
    );
    let series = api.get("/api/v1/series?match[]=up&limit=1").await.json();
    assert_eq!(series["data"].as_array().unwrap().len(), 1);
    assert_eq!(series["warnings"][0], "results truncated due to limit");
    let all = api.get("/api/v1/label/job/values?limit=0").await;
    assert_eq!(all.body, r#"{"status":"success","data":["a","b"]}"#);
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let api = Api::new();
    let range = "/api/v1/query_range?query=up&";
    for (path, error) in [
        ("/api/v1/series".to_owned(), "no match[] parameter provided"),
        (
            "/api/v1/series?match[]=%7B%7D".to_owned(),
            r#"invalid parameter "match[]": parse error: vector selector must contain at least one non-empty matcher"#,
        ),
        (
            "/api/v1/labels?start=yesterday".to_owned(),
            r#"invalid parameter "start": Invalid time value for 'start': cannot parse "yesterday" to a valid timestamp"#,
        ),
        (
            "/api/v1/query?query=up&time=NaN".to_owned(),
            r#"invalid parameter "time": Invalid time value for 'time': cannot parse "NaN" to a valid timestamp"#,
        ),
        (
            "/api/v1/query?query=up&timeout=soon".to_owned(),
            r#"invalid parameter "timeout": cannot parse "soon" to a valid duration"#,
        ),
        (
            format!("{range}start=1&end=2"),
            r#"invalid parameter "step": cannot parse "" to a valid duration"#,
        ),
        (
            format!("{range}start=1&end=2&step=0"),
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            format!("{range}start=2&end=1&step=1"),
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            format!("{range}start=0&end=11001&step=1"),
            r#"invalid parameter "step": exceeded maximum resolution of 11000 points per timeseries: 11002 asked for, increase the step (query.points_max)"#,
        ),
        (
            "/api/v1/label/U__a_zz_/values".to_owned(),
            r#"invalid label name: "U__a_zz_""#,
        ),
        (
            "/api/v1/anomalies?state=gone".to_owned(),
            r#"invalid parameter "state": "gone" is none of open, closed, all"#,
        ),
    ] {
        let found = api.get(&path).await.error();
        assert_eq!(found, (400, "bad_data".into(), error.into()), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_route_and_a_wrong_method_are_errors_of_the_api() {
    let api = Api::new();
    let unknown = api.get("/api/v1/nothing?x=1").await;
    let message = r#"there is no "/api/v1/nothing" here"#.to_owned();
    assert_eq!(unknown.error(), (404, "not_found".into(), message));
    let wrong = api.post("/api/v1/migrations/x", "{}").await;
    assert_eq!(wrong.headers["allow"], "GET,HEAD");
    let message = r#""/api/v1/migrations/x" does not take POST"#.to_owned();
    assert_eq!(wrong.error(), (405, "method_not_allowed".into(), message));
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let api = populated();
    let head = request(Method::HEAD, "/api/v1/labels", Body::empty());
    let answer = api.send(head).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let full = api.get("/api/v1/labels").await;
    assert_eq!(
        answer.headers["content-length"],
        full.body.len().to_string().as_str()
    );
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let api = Api::with(&[], |state| state.limits.body_bytes_max = 10);
    let form = api
        .post_form("/api/v1/labels", "match[]=much_too_long")
        .await;
    let message = "the body is larger than 10 bytes".to_owned();
    assert_eq!(form.error(), (413, "too_large".into(), message));
    let json = api
        .post("/api/v1/migrations", r#"{"id":"much too long"}"#)
        .await;
    assert_eq!(json.status, 413);
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    let api = Api::new();
    let answer = api.post("/api/v1/query", r#"{"query":"up"}"#).await;
    let message =
        r#"content type "application/json" is not application/x-www-form-urlencoded"#.to_owned();
    assert_eq!(answer.error(), (400, "bad_data".into(), message));
}

#[tokio::test]
async fn a_foreign_page_is_refused_also_when_it_only_reads() {
    let api = Api::new();
    for (header, value) in [
        ("host", "rebound.example:9490"),
        ("host", "192.168.1.5:9490"),
        ("host", "not a host"),
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
    ] {
        let mut read = request(Method::GET, "/api/v1/labels", Body::empty());
        read.headers_mut().insert(header, value.parse().unwrap());
        let (status, kind, message) = api.send(read).await.error();
        assert_eq!((status, kind.as_str()), (403, "forbidden"), "{value}");
        assert!(message.contains(value), "{message}");
    }
    let mut own = request(Method::POST, "/api/v1/labels", Body::empty());
    let origin = "http://localhost:9490".parse().unwrap();
    own.headers_mut().insert("origin", origin);
    assert_eq!(api.send(own).await.status, 200);
}

#[tokio::test]
async fn ready_names_the_parts_that_are_not() {
    let api = Api::new();
    assert_eq!(api.get("/-/healthy").await.status, 200);
    api.health.set("store", State::Ok, "");
    api.health.set("detect", State::Degraded, "one watch fails");
    api.health
        .set("kafka", State::Starting, "connecting to b:9092");
    let waiting = api.get("/-/ready").await;
    assert_eq!(
        (waiting.status, waiting.body.as_str()),
        (
            503,
            "cutover is not ready: kafka is starting: connecting to b:9092\n"
        )
    );
    let client = Client::in_process(api.router.clone());
    assert!(matches!(client.ready().await, Ok(Readiness::NotReady(_))));
    api.health.set("kafka", State::Ok, "");
    assert_eq!(api.get("/-/ready").await.status, 200);
    assert_eq!(client.ready().await.unwrap(), Readiness::Ready);
}

#[tokio::test]
async fn health_lists_the_parts_with_the_caption() {
    let api = Api::with(&[], |state| state.health.set_caption("a demo"));
    api.clock.advance(Duration::from_secs(5));
    api.health.set("store", State::Failed, "disk full");
    let health = Client::in_process(api.router.clone())
        .health()
        .await
        .unwrap();
    assert_eq!(
        health,
        wire::Health {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at_ms: START.ms(),
            now_ms: START.ms() + 5_000,
            parts: vec![wire::PartHealth {
                name: "store".into(),
                state: "failed".into(),
                since_ms: START.ms() + 5_000,
                message: "disk full".into(),
            }],
            caption: "a demo".into(),
        }
    );
}

#[tokio::test]
async fn requests_are_counted_by_route_and_code() {
    let api = Api::new();
    api.get("/api/v1/migrations/a").await;
    api.get("/api/v1/migrations/b").await;
    api.get("/nowhere/at/all").await;
    let metrics = api.get("/metrics").await;
    assert_eq!(
        metrics.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        r#"cutover_http_requests_total{code="404",handler="/api/v1/migrations/{id}"} 2"#,
        r#"cutover_http_requests_total{code="404",handler="unknown"} 1"#,
    ] {
        assert!(metrics.body.contains(line), "{}", metrics.body);
    }
}

fn anomaly(watch: &str, opened_s: u64, open: bool) -> Anomaly {
    let opened_at = START.after(Duration::from_secs(opened_s));
    Anomaly {
        watch: watch.into(),
        labels: BTreeMap::from([("table".to_owned(), "users".to_owned())]),
        detector: "ewma".into(),
        direction: Direction::High,
        severity: Severity::Warning,
        opened_at,
        updated_at: opened_at,
        closed_at: (!open).then_some(opened_at),
        score: 1.5,
        score_max: f64::INFINITY,
        observed: f64::NAN,
        expected: 2.0,
        lower: 1.0,
        upper: 3.0,
        summary: "unusual".into(),
    }
}

#[tokio::test]
async fn anomalies_come_newest_first_with_their_expression() {
    let api = Api::with(&[], |state| {
        let watches = [("lag".to_owned(), "max(lag)".to_owned())];
        state.watches = Arc::new(watches.into());
    });
    let mut batch = Batch::default();
    for anomaly in [
        anomaly("lag", 1, false),
        anomaly("rate", 3, true),
        anomaly("lag", 2, true),
    ] {
        batch.mutations.push(ANOMALIES.put(anomaly.key(), &anomaly));
    }
    api.store.writer().write_blocking(batch).unwrap();
    let client = Client::in_process(api.router.clone());
    let listed = async |state, limit| {
        let list = client.anomalies(state, limit).await.unwrap();
        let opened = |anomaly: &wire::Anomaly| (anomaly.opened_at_ms - START.ms()) / 1000;
        list.iter().map(opened).collect::<Vec<_>>()
    };
    assert_eq!(listed("all", 10).await, [3, 2, 1]);
    assert_eq!(listed("all", 2).await, [3, 2]);
    assert_eq!(listed("open", 1).await, [3]);
    assert_eq!(listed("closed", 10).await, [1]);
    let answer = api.get("/api/v1/anomalies?limit=2").await;
    let ms = START.ms() + 2_000;
    let last = format!(
        concat!(
            r#"{{"watch":"lag","labels":{{"table":"users"}},"detector":"ewma","direction":"high","#,
            r#""severity":"warning","opened_at_ms":{ms},"updated_at_ms":{ms},"closed_at_ms":null,"#,
            r#""score":1.5,"score_max":null,"observed":null,"expected":2.0,"lower":1.0,"upper":3.0,"#,
            r#""summary":"unusual","expr":"max(lag)"}}]}}"#
        ),
        ms = ms
    );
    assert!(answer.body.ends_with(&last), "{}", answer.body);
}

#[tokio::test]
async fn dead_letters_are_asked_for_with_the_limit() {
    let api = Api::with(&[], |state| {
        state.dead_letters = Arc::new(|limit| {
            let letter = wire::DeadLetter {
                topic: "t".into(),
                partition: 0,
                offset: limit as i64,
                reason: "not_json".into(),
                detail: String::new(),
                at_ms: 0,
                excerpt: "{".into(),
                value_bytes: 1,
            };
            Ok(vec![letter])
        });
    });
    let client = Client::in_process(api.router.clone());
    assert_eq!(client.dead_letters(7).await.unwrap()[0].offset, 7);
}

/// An API whose dead letters are answered when the sender says so, and a receiver of the news that
/// somebody asked.
fn slow_api() -> (
    Api,
    std::sync::mpsc::SyncSender<()>,
    std::sync::mpsc::Receiver<()>,
) {
    let (release, released) = sync_channel::<()>(8);
    let (asked, seen) = sync_channel::<()>(8);
    let released = Mutex::new(released);
    let api = Api::with(&[], |state| {
        state.dead_letters = Arc::new(move |_| {
            asked.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            Ok(vec![])
        });
    });
    (api, release, seen)
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_serves() {
    let (api, release, seen) = slow_api();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::default();
    shutdown.spawn(
        "http",
        serve(listener, None, api.router.clone(), shutdown.clone()),
    );
    let client = Client::connect(&url).unwrap();
    assert_eq!(client.migrations().await.unwrap(), []);
    let stop = async {
        tokio::task::spawn_blocking(move || seen.recv())
            .await
            .unwrap()
            .unwrap();
        shutdown.begin();
        release.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(client.dead_letters(1), stop);
    assert_eq!(answer.unwrap(), []);
    shutdown.wait(GRACE).await.unwrap();
    assert!(matches!(
        client.migrations().await,
        Err(Error::Unreachable { .. })
    ));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let api = Api::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::default();
    shutdown.spawn(
        "http",
        serve(listener, None, api.router.clone(), shutdown.clone()),
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n";
    stream.write_all(head).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
    // The second head lacks its end.
    stream.write_all(head).await.unwrap();
    tokio::time::pause();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest));
    ended.await.expect("the connection is closed").unwrap();
    assert_eq!(rest, b"");
}
