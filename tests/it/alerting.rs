//! Alerting over HTTP and on the command line: what is posted, silenced and listed.

use std::time::Duration;

use axum::body::Body;
use cutover::alert::dispatch::{Config, anomaly, run};
use cutover::alert::{Inbox, inbox};
use cutover::detect::anomaly::{ANOMALIES, Anomaly, Direction, Severity};
use cutover::http::ApiState;
use cutover::model::{Batch, Clock, Timestamp};
use cutover::shutdown::Shutdown;
use hyper::Method;
use serde_json::{Value, json};

use crate::api::{Api, START, request as http_request};
use crate::support::{Server, cutover, file, output, request, wait_for};

/// An API with a dispatcher that tells at once, to the log.
fn api() -> (Api, Inbox, Shutdown) {
    let (inbox, posted) = inbox();
    let shutdown = Shutdown::default();
    let start = |state: &mut ApiState| {
        let config = Config {
            group_wait: Duration::ZERO,
            ..Config::default()
        };
        let parts = run::Parts {
            reader: state.reader.clone(),
            writer: state.writer.clone(),
            clock: state.clock.clone(),
            metrics: state.metrics.clone(),
            health: state.health.clone(),
        };
        state.alerts = run::start(config, Vec::new(), posted, parts, &shutdown).unwrap();
    };
    let api = Api::with(&[], start);
    (api, inbox, shutdown)
}

async fn alerting(api: &Api) -> Value {
    api.get("/api/v1/alerting").await.json()["data"].clone()
}

async fn delete(api: &Api, path: &str) -> crate::api::Answer {
    api.send(http_request(Method::DELETE, path, Body::empty()))
        .await
}

const LAG: &str = r#"[{"labels": {"alertname": "lag", "migration_id": "shop"},
    "annotations": {"summary": "it lags"}, "startsAt": "2023-11-14T22:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p/g", "more": 1}]"#;

#[tokio::test]
async fn a_posted_alert_is_listed_with_its_group_and_who_was_told() {
    let (api, _inbox, _shutdown) = api();
    let posted = api.post("/api/v2/alerts", LAG).await;
    assert_eq!((posted.status, &*posted.body), (200, ""));
    let listed = alerting(&api).await;
    let alert = &listed["alerts"][0];
    assert_eq!(alert["labels"]["alertname"], "lag");
    assert_eq!(alert["annotations"]["summary"], "it lags");
    assert_eq!(alert["state"], "active");
    assert_eq!(alert["starts_at_ms"], 1_699_999_200_000_i64);
    assert_eq!(alert["ends_at_ms"], Value::Null);
    assert_eq!(alert["group"], "{migration_id=\"shop\"}");
    assert_eq!(alert["generator_url"], "http://p/g");
    let group = &listed["groups"][0];
    assert_eq!(
        (&group["key"], &group["alerts"]),
        (&json!("{migration_id=\"shop\"}"), &json!(1))
    );
    assert_eq!(listed["channels"][0]["name"], "log");
}

#[tokio::test]
async fn an_alert_that_is_over_is_not_begun() {
    let (api, _inbox, _shutdown) = api();
    let over = LAG
        .replace("0001-01-01", "2023-11-14")
        .replace("T00:00:00Z", "T22:10:00Z");
    assert_eq!(api.post("/api/v2/alerts", &over).await.status, 200);
    assert_eq!(alerting(&api).await["alerts"], json!([]));
}

#[tokio::test]
async fn what_is_no_alert_is_named_and_the_rest_is_taken() {
    let (api, _inbox, _shutdown) = api();
    let posted = json!([
        {"labels": {"alertname": "good"}},
        {"labels": {"alertname": ""}},
        {"labels": {"alertname": "late"}, "startsAt": "yesterday"},
    ]);
    let answer = api.post("/api/v2/alerts", &posted.to_string()).await;
    let (status, kind, message) = answer.error();
    assert_eq!((status, &*kind), (400, "bad_data"));
    assert_eq!(message, "alert 1: it has no labels");
    let listed = alerting(&api).await;
    assert_eq!(listed["alerts"].as_array().unwrap().len(), 1);
    let not_a_list = api.post("/api/v2/alerts", "{}").await.error();
    assert!(
        not_a_list.2.starts_with("the body is not a list of alerts"),
        "{}",
        not_a_list.2
    );
    let backwards = json!([{"labels": {"a": "b"}, "startsAt": "2023-11-15T00:00:00Z",
        "endsAt": "2023-11-14T00:00:00Z"}]);
    let refused = api
        .post("/api/v2/alerts", &backwards.to_string())
        .await
        .error();
    assert_eq!(refused.2, "alert 0: it ends before it begins");
    let large = json!([{"labels": {"a": "b"}, "annotations": {"c": "x".repeat(70_000)}}]);
    let refused = api.post("/api/v2/alerts", &large.to_string()).await.error();
    assert_eq!(refused.2, "alert 0: its texts have more than 64 KiB");
}

#[tokio::test]
async fn a_silence_is_made_listed_changed_and_ended() {
    let (api, _inbox, _shutdown) = api();
    let wish = json!({
        "matchers": [{"name": "alertname", "value": "la.", "isRegex": true}],
        "endsAt": "2023-11-14T23:13:20Z",
        "createdBy": "ops",
        "comment": "planned",
    });
    let made = api.post("/api/v1/silences", &wish.to_string()).await.json();
    let id = made["data"]["silenceID"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/silences/{id}");
    let silence = api.get(&path).await.json()["data"].clone();
    assert_eq!(
        silence,
        json!({
            "id": id,
            "status": {"state": "active"},
            "matchers": [
                {"name": "alertname", "value": "la.", "isRegex": true, "isEqual": true}
            ],
            "startsAt": "2023-11-14T22:13:20.000Z",
            "endsAt": "2023-11-14T23:13:20.000Z",
            "updatedAt": "2023-11-14T22:13:20.000Z",
            "createdBy": "ops",
            "comment": "planned",
        })
    );
    api.post("/api/v2/alerts", LAG).await;
    let alert = alerting(&api).await["alerts"][0].clone();
    assert_eq!(alert["state"], "suppressed");
    assert_eq!(alert["silenced_by"], json!([id]));
    assert_eq!(alert["told"], json!([]));

    let mut longer = wish.clone();
    longer["id"] = json!(id);
    longer["endsAt"] = json!("2023-11-15T00:00:00Z");
    let changed = api
        .post("/api/v1/silences", &longer.to_string())
        .await
        .json();
    assert_eq!(changed["data"]["silenceID"], json!(id));
    let listed = api.get("/api/v1/silences").await.json()["data"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["endsAt"], "2023-11-15T00:00:00.000Z");

    let ended = delete(&api, &path).await.json();
    assert_eq!(ended["data"]["status"]["state"], "expired");
    assert_eq!(alerting(&api).await["alerts"][0]["state"], "active");
    assert_eq!(delete(&api, &path).await.status, 200);
}

#[tokio::test]
async fn a_silence_that_cannot_be_says_why() {
    let (api, _inbox, _shutdown) = api();
    let matchers = json!([{"name": "a", "value": "b"}]);
    for (wish, why) in [
        (
            json!({"endsAt": "2023-11-15T00:00:00Z"}),
            "field \"matchers\": it is missing",
        ),
        (
            json!({"matchers": matchers, "endsAt": "soon"}),
            "field \"endsAt\": \"soon\" is no RFC 3339 time",
        ),
        (
            json!({"matchers": matchers, "endsAt": "2023-01-01T00:00:00Z"}),
            "it ends before it begins",
        ),
        (
            json!({"matchers": [], "endsAt": "2023-11-15T00:00:00Z"}),
            "it would hold back every alert",
        ),
        (
            json!({"matchers": [{"name": "a", "value": "(", "isRegex": true}],
                "endsAt": "2023-11-15T00:00:00Z"}),
            "field \"matchers\": bad regular expression for label \"a\"",
        ),
        (
            json!({"matchers": matchers, "endsAt": "2023-11-15T00:00:00Z", "until": 1}),
            "field \"until\": it is unknown here",
        ),
    ] {
        let (status, kind, message) = api
            .post("/api/v1/silences", &wish.to_string())
            .await
            .error();
        assert_eq!((status, &*kind), (400, "bad_data"), "{message}");
        assert!(message.starts_with(why), "{message}");
    }
    let (status, kind, message) = delete(&api, "/api/v1/silences/none").await.error();
    assert_eq!((status, &*kind), (404, "not_found"));
    assert_eq!(message, "there is no silence \"none\"");
    assert_eq!(api.get("/api/v1/silences/none").await.status, 404);
}

#[tokio::test]
async fn a_dispatcher_that_is_stopping_is_unavailable() {
    let api = Api::new();
    let (status, kind, _) = api.get("/api/v1/alerting").await.error();
    assert_eq!((status, &*kind), (503, "unavailable"));
}

#[tokio::test]
async fn an_open_anomaly_is_an_alert() {
    let (api, inbox, shutdown) = api();
    let opened_at = START.before(Duration::from_secs(60));
    let open = Anomaly {
        watch: "replication_lag".into(),
        labels: [("migration_id".to_owned(), "shop".to_owned())].into(),
        detector: "ewma".into(),
        direction: Direction::High,
        severity: Severity::Critical,
        opened_at,
        updated_at: opened_at,
        closed_at: None,
        score: 3.0,
        score_max: 3.0,
        observed: 90.0,
        expected: 2.0,
        lower: 0.0,
        upper: 5.0,
        summary: "replication_lag is 90, expected 2".into(),
    };
    let batch = Batch {
        mutations: vec![ANOMALIES.put(open.key(), &open)],
        ..Batch::default()
    };
    api.store.writer().write(batch).await.unwrap();
    let (reader, clock) = (api.store.reader(), api.clock.clone());
    let feed = anomaly::run(
        reader,
        inbox,
        clock as std::sync::Arc<dyn Clock>,
        shutdown.clone(),
    );
    shutdown.spawn("feed", feed);
    for _ in 0..500 {
        if alerting(&api).await["alerts"] != json!([]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let alert = alerting(&api).await["alerts"][0].clone();
    assert_eq!(
        alert["labels"],
        json!({"alertname": "replication_lag", "watch": "replication_lag",
            "severity": "critical", "migration_id": "shop"})
    );
    assert_eq!(alert["starts_at_ms"], json!(Timestamp::ms(opened_at)));
    assert_eq!(
        alert["annotations"]["summary"],
        "replication_lag is 90, expected 2"
    );
}

/// What a command prints; it has to succeed.
fn run_alert(server: &Server, args: &[&str]) -> String {
    let url = format!("http://{}", server.address);
    let output = output(cutover().arg("alert").args(args).args(["--server", &url]));
    let (out, err) = (output.stdout, output.stderr);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&err)
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn the_command_line_lists_silences_and_expires() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        "[anomaly]\nenabled = false\n[rules]\nbuilt_in = false\n[alert]\ngroup_wait = \"0\"\n";
    let config = file(dir.path(), "cutover.toml", config);
    let server = Server::start(&dir.path().join("data"), Some(&config), &[]);
    assert!(run_alert(&server, &["list"]).starts_with("No alerts.\n"));
    let body = r#"[{"labels": {"alertname": "lag", "severity": "warning", "table": "a"}}]"#;
    let posted = request(server.address, "POST", "/api/v2/alerts", body);
    assert_eq!(posted.unwrap().0, 200);
    let told = wait_for("the log is told", Duration::from_secs(10), || {
        let listed: Value = serde_json::from_str(&run_alert(&server, &["list", "--json"])).unwrap();
        (listed["alerts"][0]["told"] == json!(["log"])).then_some(listed)
    });
    assert_eq!(told["alerts"][0]["state"], "active");
    let silence = [
        "silence",
        "alertname=lag",
        "table=~a|b",
        "--for",
        "2h",
        "--comment",
        "planned",
        "--by",
        "ops",
    ];
    let made = run_alert(&server, &silence);
    let (id, _) = made.split_once(" until ").unwrap();
    let listed = run_alert(&server, &["list"]);
    assert!(
        listed.contains(&format!("suppressed: silenced by {id}")),
        "{listed}"
    );
    assert!(
        listed.contains("alertname=\"lag\" table=~\"a|b\"  ops  planned"),
        "{listed}"
    );
    assert!(run_alert(&server, &["expire", id]).starts_with(&format!("{id} ended at ")));
    assert!(!run_alert(&server, &["list"]).contains("planned"));
    let (_, health) = server.get("/api/v1/health").unwrap();
    assert!(
        health.contains("\"name\":\"alert channel log\",\"state\":\"ok\""),
        "{health}"
    );
    let (_, metrics) = server.get("/metrics").unwrap();
    let delivered = "cutover_alert_notifications_total{channel=\"log\",result=\"delivered\"} 1";
    assert!(metrics.contains(delivered), "{metrics}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_wrong_wish_is_a_usage_error_or_an_answer_of_the_server() {
    let code = |args: &[&str]| {
        let output = output(cutover().arg("alert").args(args));
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, error) = code(&["silence", "lag", "--for", "1h", "--comment", "x"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("\"lag\" is not a matcher"), "{error}");
    let (status, _) = code(&["silence", "a=b", "--for", "0", "--comment", "x"]);
    assert_eq!(status, Some(2));
    let nobody = format!("http://{}", crate::support::free_address());
    let (status, error) = code(&["expire", "x", "--server", &nobody]);
    assert_eq!(status, Some(3), "{error}");
}
