use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::super::state::{LagState, Phase};
use super::*;
use crate::client::LabelMap;
use crate::model::Timestamp;

const AT: Timestamp = Timestamp::from_ms(1_773_489_783_000);

/// A server that answers by path, and by what the body of a query contains.
fn server(answers: &'static [(&'static str, &'static str)]) -> (Client, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let router = Router::new()
        .fallback(
            move |Shared(seen): Shared<Arc<Mutex<Vec<String>>>>, request: HttpRequest| async move {
                let path = request.uri().to_string();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let asked = format!("{path} {}", String::from_utf8_lossy(&body));
                seen.lock().unwrap().push(asked.clone());
                answer(answers, &asked)
            },
        )
        .with_state(seen.clone());
    (Client::in_process(router), seen)
}

fn answer(answers: &[(&str, &str)], asked: &str) -> Response {
    if let Some((_, data)) = answers.iter().find(|(part, _)| asked.contains(part)) {
        return format!(r#"{{"status":"success","data":{data}}}"#).into_response();
    }
    let body = r#"{"status":"error","errorType":"bad_data","error":"not that one"}"#;
    (StatusCode::BAD_REQUEST, body).into_response()
}

const HEALTH: (&str, &str) = (
    "/api/v1/health",
    r#"{"version":"0.1.0","started_at_ms":1000,"now_ms":2000,"caption":"demo","parts":[
        {"name":"store","state":"ok","since_ms":1000,"message":""},
        {"name":"kafka","state":"failed","since_ms":1500,"message":"no broker"}]}"#,
);
const NO_ANOMALIES: (&str, &str) = ("/api/v1/anomalies", "[]");
const EMPTY_MATRIX: (&str, &str) = ("query_range", r#"{"resultType":"matrix","result":[]}"#);

fn request(scope: Scope) -> Request {
    Request {
        window: Window::ending_at(AT, Duration::from_secs(900)),
        at: AT,
        scope,
    }
}

async fn loaded(client: &Client, scope: Scope) -> Loaded {
    match fetch(client, request(scope)).await {
        Action::Loaded(loaded) => *loaded,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_link_brings_health_and_only_the_parts_in_trouble() {
    let (client, _) = server(&[HEALTH, NO_ANOMALIES]);
    let loaded = loaded(&client, Scope::Link).await;
    assert_eq!(loaded.health.caption, "demo");
    let parts: Vec<&str> = loaded
        .health
        .troubles
        .iter()
        .map(|one| &*one.part)
        .collect();
    assert_eq!(parts, ["kafka"]);
    assert!(matches!(loaded.part, LoadedPart::Nothing));
}

#[tokio::test]
async fn the_overview_brings_migrations_and_their_curves() {
    const MIGRATIONS: (&str, &str) = (
        "/api/v1/migrations",
        r#"[{"id":"orders","source":"mysql","target":null,"phase":"streaming","started_at_ms":1,
            "finished_at_ms":null,"updated_at_ms":2,"expected_rows":null,"expected_rate":null,
            "rows_total":7,"rate":1.5,"progress":null,"eta_seconds":null,"errors_total":0,
            "lag":{"seconds":2.5,"age_seconds":1,"kind":"source","state":"idle"},"tables":[]}]"#,
    );
    const RATE: (&str, &str) = (
        "migration_rows_total",
        r#"{"resultType":"matrix","result":[
            {"metric":{"migration_id":"orders"},"values":[[1773489780,"1.5"]]}]}"#,
    );
    let (client, seen) = server(&[HEALTH, NO_ANOMALIES, MIGRATIONS, RATE, EMPTY_MATRIX]);
    let LoadedPart::Overview {
        migrations,
        throughput,
        lag,
    } = loaded(&client, Scope::Overview).await.part
    else {
        panic!("another screen's");
    };
    assert_eq!(migrations[0].route, "mysql → ?");
    assert_eq!(migrations[0].phase, Phase::Streaming);
    assert_eq!(migrations[0].lag.state, LagState::Idle);
    let points = vec![(Timestamp::from_ms(1_773_489_780_000), 1.5)];
    let name = "orders".to_owned();
    assert_eq!(throughput, [Curve { name, points }]);
    assert!(lag.is_empty());
    let seen = seen.lock().unwrap();
    let steps = seen.iter().filter(|asked| asked.contains("step=3s"));
    assert_eq!(steps.count(), 2, "{seen:#?}");
}

#[tokio::test]
async fn a_refused_query_is_not_a_lost_connection() {
    let (client, _) = server(&[HEALTH, NO_ANOMALIES]);
    let action = fetch(&client, request(Scope::Overview)).await;
    assert!(matches!(action, Action::Refused { reason } if reason == "not that one"));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_takes_too_long_is_not_a_lost_connection() {
    let router = Router::new().fallback(|request: HttpRequest| async move {
        if request.uri().path().ends_with("/query_range") {
            std::future::pending::<()>().await;
        }
        let asked = request.uri().to_string();
        answer(
            &[HEALTH, NO_ANOMALIES, ("/api/v1/migrations", "[]")],
            &asked,
        )
    });
    let action = fetch(&Client::in_process(router), request(Scope::Overview)).await;
    assert!(matches!(action, Action::Refused { .. }), "{action:?}");
}

#[tokio::test]
async fn what_is_not_our_api_counts_as_unreachable() {
    let router = Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, "bad gateway") });
    let action = fetch(&Client::in_process(router), request(Scope::Link)).await;
    assert!(matches!(action, Action::Unreachable { .. }), "{action:?}");
}

#[tokio::test]
async fn an_explored_expression_brings_curves_or_the_servers_words() {
    const UP: (&str, &str) = (
        "query=up",
        r#"{"resultType":"matrix","result":[
            {"metric":{"__name__":"up","job":"a"},"values":[[1773489780,"1"]]}]}"#,
    );
    let (client, _) = server(&[HEALTH, NO_ANOMALIES, UP]);
    for (expr, expected) in [
        ("up", Ok("up{job=\"a\"}".to_owned())),
        ("down", Err("not that one".to_owned())),
    ] {
        let scope = Scope::Explore { expr: expr.into() };
        let LoadedPart::Explore { result, .. } = loaded(&client, scope).await.part else {
            panic!("another screen's");
        };
        assert_eq!(result.map(|curves| curves[0].name.clone()), expected);
    }
}

#[tokio::test]
async fn an_anomaly_is_charted_by_its_own_series() {
    const TWO: (&str, &str) = (
        "query_range",
        r#"{"resultType":"matrix","result":[
            {"metric":{"__name__":"x","id":"a"},"values":[[1773489780,"1"]]},
            {"metric":{"__name__":"x","id":"b"},"values":[[1773489780,"2"]]}]}"#,
    );
    let (client, _) = server(&[HEALTH, NO_ANOMALIES, TWO]);
    for (id, value) in [("b", Some(2.0)), ("c", None)] {
        let charted = Some(AnomalyQuery {
            key: "key".into(),
            expr: "x".into(),
            labels: BTreeMap::from([("id".to_owned(), id.to_owned())]),
        });
        let LoadedPart::Anomalies { chart } =
            loaded(&client, Scope::Anomalies { charted }).await.part
        else {
            panic!("another screen's");
        };
        let (key, curve) = chart.unwrap();
        assert_eq!(key, "key");
        assert_eq!(curve.and_then(|curve| curve.last()), value);
    }
}

fn sample(pairs: &[(&str, &str)], value: f64) -> PromSample {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let labels: LabelMap = pairs.iter().map(owned).collect();
    let at = AT;
    PromSample { labels, at, value }
}

#[test]
fn cdc_samples_become_tables_by_rate_and_partitions_by_lag() {
    let rate = |table, operation, value| {
        let labels = [
            ("source", "shop"),
            ("table", table),
            ("operation", operation),
        ];
        sample(&labels, value)
    };
    let level = |name, table, value| sample(&[("__name__", name), ("source_table", table)], value);
    let state = |table, state| sample(&[("source_table", table), ("state", state)], 1.0);
    let events = |table| {
        let labels = [
            ("__name__", "cdc_events_processed_total"),
            ("source", "shop"),
            ("table", table),
        ];
        sample(&labels, 10.0)
    };
    let partition = |partition, value| {
        let labels = [
            ("__name__", "cdc_consumer_lag_messages"),
            ("topic", "t"),
            ("partition", partition),
        ];
        sample(&labels, value)
    };
    let rates = [
        rate("s.a", "create", 1.0),
        rate("s.b", "truncate", 0.5),
        rate("s.b", "update", 2.0),
    ];
    let levels = [
        events("s.a"),
        events("s.quiet"),
        level("cdc_replication_lag_seconds", "s.a", 3.0),
        level("cutover_lag_age_seconds", "s.a", 7.0),
        partition("10", 0.0),
        partition("9", 0.0),
        partition("2", 5.0),
    ];
    let states = [state("s.a", "fresh"), state("s.a", "stalled")];
    let data = rows::cdc(&rates, &levels, &states);

    let names: Vec<&str> = data.tables.iter().map(|row| &*row.id.table).collect();
    assert_eq!(names, ["s.b", "s.a", "s.quiet"]);
    assert_eq!(
        (data.tables[0].rates.update, data.tables[0].rates.other),
        (2.0, 0.5)
    );
    assert_eq!(data.tables[1].events_total, 10.0);
    assert_eq!(data.tables[1].lag.seconds, Some(3.0));
    assert_eq!(data.tables[1].lag.age_seconds, Some(7.0));
    assert_eq!(data.tables[1].lag.state, LagState::Stalled);
    assert_eq!(data.tables[2].lag.state, LagState::Unknown);
    let numbers: Vec<&str> = data.partitions.iter().map(|row| &*row.partition).collect();
    assert_eq!(numbers, ["2", "9", "10"]);
}
