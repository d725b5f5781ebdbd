//! Migrations from their announcement to their end: over HTTP, from CDC, across restarts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use cutover::client::Client;
use cutover::http::wire;
use cutover::migration::{Config, GRID, Phase, Tracker, run};
use cutover::model::{METRIC_NAME, Matcher, Sample, TimeRange, is_stale};
use cutover::shutdown::{GRACE, Shutdown};
use cutover::telemetry::health::State;

use crate::api::{Api, START};

/// All samples of the one series that a metric has with these labels.
fn samples(api: &Api, metric: &str, labels: &[(&str, &str)]) -> Vec<Sample> {
    let matchers: Vec<_> = std::iter::once((METRIC_NAME, metric))
        .chain(labels.iter().copied())
        .map(|(name, value)| Matcher::equal(name, value))
        .collect();
    let reader = api.store.reader();
    let snapshot = reader.snapshot().unwrap();
    let columns = snapshot.select(&matchers, TimeRange::ALL, 10_000).unwrap();
    assert!(columns.len() <= 1, "{columns:?}");
    columns
        .iter()
        .flat_map(|column| column.timestamps.iter().zip(&column.values))
        .map(|(at, value)| Sample::new(*at, *value))
        .collect()
}

fn last(api: &Api, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    samples(api, metric, labels)
        .last()
        .map(|sample| sample.value)
}

fn rows(api: &Api, table: &str) -> Vec<f64> {
    let labels = [("migration_id", "users"), ("table_name", table)];
    let samples = samples(api, "migration_rows_total", &labels);
    samples.iter().map(|sample| sample.value).collect()
}

async fn created() -> Api {
    let api = Api::new();
    let body = r#"{"id":"users","source":"old","target":"new","expected_rows":1000}"#;
    let answer = api.post("/api/v1/migrations", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    api
}

const PROGRESS: &str = "/api/v1/migrations/users/progress";

#[tokio::test]
async fn a_migration_is_reported_from_start_to_finish() {
    let api = created().await;
    api.clock.advance(Duration::from_secs(60));
    let body = r#"{"table":"a","rows_total":250,"errors":{"io":2},"lag_seconds":1.5}"#;
    api.post(PROGRESS, body).await;
    api.clock.advance(Duration::from_secs(50));
    let body = r#"{"table":"a","rows_total":500,"phase":"streaming","lag_seconds":1.5}"#;
    let answer = api.post(PROGRESS, body).await;
    // From 0 to 500 rows in 50 s: the first report brought the counter in at 0.
    assert_eq!(
        answer.body,
        concat!(
            r#"{"status":"success","data":{"id":"users","source":"old","target":"new","#,
            r#""phase":"streaming","started_at_ms":1700000000000,"finished_at_ms":null,"#,
            r#""updated_at_ms":1700000110000,"expected_rows":1000,"expected_rate":null,"#,
            r#""rows_total":500,"rate":10.0,"progress":0.5,"eta_seconds":50.0,"errors_total":2,"#,
            r#""lag":{"seconds":1.5,"age_seconds":0.0,"kind":"apply","state":"fresh"},"#,
            r#""tables":[{"name":"a","rows_total":500,"rate":10.0}]}}"#
        )
    );
    api.clock.advance(Duration::from_secs(290));
    let done = api
        .post("/api/v1/migrations/users/finish", r#"{"status":"done"}"#)
        .await
        .json();
    assert_eq!(done["data"]["phase"], "done");
    assert_eq!(done["data"]["finished_at_ms"], 1_700_000_400_000_i64);
    assert_eq!(done["data"]["lag"]["state"], "unknown");
    // 400 s: above 300, within 600.
    let bucket = |le| {
        let labels = [("migration_id", "users"), ("le", le)];
        last(&api, "migration_duration_seconds_bucket", &labels)
    };
    assert_eq!((bucket("300"), bucket("600")), (Some(0.0), Some(1.0)));
    let id = [("migration_id", "users")];
    assert_eq!(
        last(&api, "migration_duration_seconds_sum", &id),
        Some(400.0)
    );
    assert_eq!(last(&api, "cutover_migration_running", &id), Some(0.0));
    let lag = last(&api, "migration_data_lag_seconds", &id).unwrap();
    assert!(is_stale(lag), "the lag of a finished migration ends: {lag}");
}

#[tokio::test]
async fn creating_the_same_again_changes_nothing_and_another_is_a_conflict() {
    let api = created().await;
    api.post(PROGRESS, r#"{"table":"a","rows_total":5}"#).await;
    let same = r#"{"id":"users","source":"old","target":"new","expected_rows":1000}"#;
    let again = api.post("/api/v1/migrations", same).await.json();
    assert_eq!(again["data"]["rows_total"], 5);
    let other = r#"{"id":"users","source":"old","target":"newer","expected_rows":1000}"#;
    let message = r#"migration "users" exists with another target: it was "new", now "newer""#;
    assert_eq!(
        api.post("/api/v1/migrations", other).await.error(),
        (409, "conflict".into(), message.into())
    );
    let list = api.get("/api/v1/migrations").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["target"], "new");
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_by_name() {
    let api = created().await;
    for (path, body, status, message) in [
        (
            "/api/v1/migrations",
            r#"{"source":"old"}"#,
            400,
            r#"field "id": it is missing"#,
        ),
        (
            "/api/v1/migrations",
            r#"{"id":"x","expected_rows":-1}"#,
            400,
            r#"field "expected_rows": invalid value: integer `-1`, expected u64"#,
        ),
        (
            "/api/v1/migrations",
            r#"{"id":"x","topics":["^("]}"#,
            400,
            r#"field "topics": "^(" is not a pattern"#,
        ),
        (
            "/api/v1/migrations/nobody/progress",
            "{}",
            404,
            r#"migration "nobody" does not exist"#,
        ),
        (
            PROGRESS,
            r#"{"tabel":"a","rows_total":1}"#,
            400,
            r#"field "tabel": it is unknown here, known are phase, table, rows_total"#,
        ),
        (
            PROGRESS,
            r#"{"table":"a","rows_delta":1}"#,
            400,
            r#"field "key": rows_delta needs one"#,
        ),
        (
            PROGRESS,
            r#"{"phase":"halfway"}"#,
            400,
            r#"field "phase": "halfway" is none of"#,
        ),
        (
            PROGRESS,
            r#"{"errors":{"io":"two"}}"#,
            400,
            r#"field "errors": invalid type: string "two", expected u64"#,
        ),
        (
            "/api/v1/migrations/users/finish",
            r#"{"status":"cutover"}"#,
            400,
            r#"field "status": "cutover" is neither done nor failed"#,
        ),
        (
            PROGRESS,
            "{\"table\":",
            400,
            "the body is not a JSON object: EOF",
        ),
    ] {
        let (found, _, text) = api.post(path, body).await.error();
        assert_eq!(found, status, "{body}: {text}");
        assert!(text.starts_with(message), "{body}: {text}");
    }
    assert_eq!(api.get("/api/v1/migrations/nobody").await.status, 404);
    assert_eq!(
        api.get("/api/v1/migrations/nobody/events").await.status,
        404
    );
}

#[tokio::test]
async fn increments_count_once_for_each_key_also_across_a_restart() {
    let api = created().await;
    let client = Client::in_process(api.router.clone());
    let increment = |key: &str| wire::Progress {
        table: Some("a".into()),
        rows_delta: Some(100),
        key: Some(key.into()),
        ..wire::Progress::default()
    };
    for key in ["1", "1", "2"] {
        client
            .migration_progress("users", &increment(key))
            .await
            .unwrap();
    }
    let clock = api.clock.clone();
    let reopened = Tracker::open(api.store.reader(), api.store.writer(), clock, &[]).unwrap();
    let report = cutover::migration::Report {
        table: Some("a".into()),
        rows_delta: Some(100),
        key: Some("2".into()),
        ..Default::default()
    };
    let status = reopened.progress("users", &report).unwrap();
    assert_eq!(status.migration.rows(), 200);
    assert_eq!(status, reopened.list().unwrap()[0]);
    assert_eq!(rows(&api, "a"), [0.0, 100.0, 200.0]);
}

#[tokio::test]
async fn a_total_that_falls_is_a_conflict_and_changes_nothing() {
    let api = created().await;
    api.post(PROGRESS, r#"{"table":"a","rows_total":100}"#)
        .await;
    let late = r#"{"table":"a","rows_total":40,"errors":{"io":1},"phase":"streaming"}"#;
    let (status, kind, message) = api.post(PROGRESS, late).await.error();
    assert_eq!((status, kind.as_str()), (409, "conflict"));
    assert!(message.contains("reported as 100"), "{message}");
    let users = api.get("/api/v1/migrations/users").await.json();
    assert_eq!(users["data"]["rows_total"], 100);
    assert_eq!(users["data"]["errors_total"], 0);
    assert_eq!(users["data"]["phase"], "snapshot");
}

#[tokio::test]
async fn phases_leave_a_trace() {
    let api = created().await;
    let client = Client::in_process(api.router.clone());
    client.migration_phase("users", "streaming").await.unwrap();
    client.migration_phase("users", "streaming").await.unwrap();
    assert!(client.migration_phase("users", "snapshot").await.is_err());
    client.migration_finish("users", "failed").await.unwrap();
    client.migration_finish("users", "failed").await.unwrap();
    assert!(client.migration_finish("users", "done").await.is_err());
    let events = client.migration_events("users").await.unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kind.as_str(), event.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("created", "created"),
            ("phase", "snapshot -> streaming"),
            ("phase", "streaming -> failed"),
        ]
    );
}

#[test]
fn the_series_are_written_on_the_grid_changed_or_not() {
    let config = Config {
        id: "users".into(),
        expected_rate: Some(50.0),
        ..Config::default()
    };
    let api = Api::with(&[config], |_| {});
    for _ in 0..3 {
        api.clock.advance(GRID);
        api.tracker.tick().unwrap();
    }
    let id = [("migration_id", "users")];
    let rate = samples(&api, "cutover_migration_expected_rate", &id);
    let at = |s| Sample::new(START.after(Duration::from_secs(s)), 50.0);
    assert_eq!(rate, [at(0), at(5), at(10), at(15)]);
    assert_eq!(last(&api, "cutover_migration_running", &id), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_running_tracker_keeps_to_the_grid_until_it_is_stopped() {
    let config = Config {
        id: "users".into(),
        ..Config::default()
    };
    let api = Api::with(&[config], |_| {});
    let shutdown = Shutdown::default();
    let running = run(api.tracker.clone(), api.health.clone(), shutdown.clone());
    shutdown.spawn("migrations", running);
    // Three points of the grid, which the test's clock starts on.
    tokio::time::sleep(GRID * 7 / 2).await;
    shutdown.begin();
    shutdown.wait(GRACE).await.unwrap();
    let running = samples(
        &api,
        "cutover_migration_running",
        &[("migration_id", "users")],
    );
    assert_eq!(running.len(), 1 + 3);
    assert_eq!(api.health.parts()["migrations"].state, State::Ok);
}

#[test]
fn a_clock_set_back_does_not_turn_the_series_back() {
    let config = Config {
        id: "users".into(),
        ..Config::default()
    };
    let api = Api::with(std::slice::from_ref(&config), |_| {});
    api.clock.advance(GRID);
    api.tracker.tick().unwrap();
    api.clock.step_to(START);
    // The last timestamp is remembered across a restart.
    let (reader, writer) = (api.store.reader(), api.store.writer());
    let reopened = Tracker::open(reader, writer, api.clock.clone(), &[config]).unwrap();
    reopened.tick().unwrap();
    api.tracker.tick().unwrap();
    let running = samples(
        &api,
        "cutover_migration_running",
        &[("migration_id", "users")],
    );
    let offsets: Vec<_> = running
        .iter()
        .map(|sample| sample.timestamp.ms_since(START))
        .collect();
    assert_eq!(offsets, [0, 5_000, 5_001, 5_002]);
}

/// What CDC has counted of a table, as the Kafka source writes it.
fn write_cdc(api: &Api, table: &str, counts: &[(&str, f64)]) {
    for (operation, count) in counts {
        let labels = [("source", "pg"), ("table", table), ("operation", operation)];
        api.write(&[("cdc_events_processed_total", &labels, *count)]);
    }
}

fn bound() -> Api {
    let config = Config {
        id: "users".into(),
        tables: vec!["public.a".into()],
        topics: vec!["^pg\\.public\\.b".into()],
        expected_rows: Some(1_000),
        ..Config::default()
    };
    Api::with(&[config], |_| {})
}

fn step(api: &Api) {
    api.clock.advance(GRID);
    api.tracker.tick().unwrap();
}

#[test]
fn a_bound_migration_counts_the_events_of_its_tables() {
    let api = bound();
    step(&api);
    assert_eq!(api.tracker.get("users").unwrap().rate, None);
    for reads in [100.0, 200.0, 300.0] {
        write_cdc(&api, "public.a", &[("read", reads)]);
        write_cdc(&api, "public.b1", &[("read", reads)]);
        write_cdc(&api, "public.other", &[("read", reads)]);
        step(&api);
    }
    let status = api.tracker.get("users").unwrap();
    assert_eq!(status.migration.phase, Phase::Snapshot);
    assert_eq!(status.migration.rows(), 600);
    assert_eq!(status.progress, Some(0.6));
    // Each table grew by 200 rows in the 10 s between its first and its last sample.
    assert_eq!(status.rate, Some(40.0));
    assert_eq!(rows(&api, "public.a"), [100.0, 200.0, 300.0]);
    assert_eq!(rows(&api, "public.other"), [0.0; 0]);
}

#[test]
fn the_first_change_after_the_copy_means_streaming() {
    let api = bound();
    write_cdc(&api, "public.a", &[("read", 1_000.0)]);
    step(&api);
    write_cdc(&api, "public.a", &[("update", 50.0), ("delete", 5.0)]);
    step(&api);
    let status = api.tracker.get("users").unwrap();
    assert_eq!(status.migration.phase, Phase::Streaming);
    assert_eq!(status.migration.rows(), 1_055);
    assert_eq!(status.progress, Some(0.99));
    // A report moves it on, and it stays there.
    api.tracker.set_phase("users", Phase::Cutover).unwrap();
    step(&api);
    let status = api.tracker.get("users").unwrap();
    assert_eq!(status.migration.phase, Phase::Cutover);
    assert_eq!(status.progress, Some(1.0));
}

#[test]
fn a_bound_migration_lags_as_its_slowest_table() {
    let api = bound();
    for (table, seconds, state) in [("public.a", 3.0, "fresh"), ("public.b1", 42.0, "stalled")] {
        write_cdc(&api, table, &[("read", 1.0)]);
        let tables = [("source_table", table), ("target_table", table)];
        let [source, target] = tables;
        api.write(&[
            ("cdc_replication_lag_seconds", &tables, seconds),
            ("cutover_lag_age_seconds", &tables, 2.0),
            (
                "cutover_lag_state",
                &[source, target, ("kind", "source"), ("state", state)],
                1.0,
            ),
        ]);
    }
    step(&api);
    let lag = api.tracker.get("users").unwrap().lag.unwrap();
    assert_eq!(
        (lag.seconds, lag.kind.as_str(), lag.state.name()),
        (42.0, "source", "stalled")
    );
    assert_eq!(lag.age, Some(Duration::from_secs(7)));
    let id = [("migration_id", "users")];
    assert_eq!(last(&api, "migration_data_lag_seconds", &id), Some(42.0));
    // Nobody writes the lag any more: it is stale and grows, and is unknown in the end.
    api.clock.advance(Duration::from_secs(55));
    step(&api);
    let lag = api.tracker.get("users").unwrap().lag.unwrap();
    assert_eq!((lag.seconds, lag.state.name()), (107.0, "stale"));
    api.clock.advance(Duration::from_secs(300));
    assert_eq!(api.tracker.get("users").unwrap().lag, None);
}

#[test]
fn a_changed_configuration_is_taken_over_with_the_counts_kept() {
    let api = bound();
    write_cdc(&api, "public.a", &[("read", 10.0)]);
    step(&api);
    let config = Config {
        id: "users".into(),
        tables: vec!["public.a".into()],
        topics: vec!["^pg\\.public\\.b".into()],
        expected_rows: Some(20),
        ..Config::default()
    };
    let open = |config| {
        let (reader, writer) = (api.store.reader(), api.store.writer());
        Tracker::open(reader, writer, api.clock.clone(), &[config])
    };
    let status = open(config.clone()).unwrap().get("users").unwrap();
    assert_eq!((status.migration.rows(), status.progress), (10, Some(0.5)));
    let tracker = open(config.clone()).unwrap();
    let events = tracker.events("users").unwrap();
    assert_eq!(events.len(), 2, "the same again is no event: {events:?}");
    assert_eq!(events[1].message, "expected_rows was 1000, now 20");
    assert_eq!(status.migration.started_at, START);
    let twice = [config.clone(), config];
    let (reader, writer) = (api.store.reader(), api.store.writer());
    let error = Tracker::open(reader, writer, api.clock.clone(), &twice).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"field "id": "users" names both migration 1 and 2"#
    );
}

#[test]
fn a_migration_that_finished_long_ago_is_written_no_more() {
    let config = Config {
        id: "users".into(),
        ..Config::default()
    };
    let api = Api::with(&[config], |_| {});
    api.tracker.finish("users", Phase::Done).unwrap();
    step(&api);
    let id = [("migration_id", "users")];
    let written = samples(&api, "cutover_migration_running", &id).len();
    api.clock.advance(Duration::from_secs(24 * 3600));
    step(&api);
    assert_eq!(
        samples(&api, "cutover_migration_running", &id).len(),
        written
    );
}
