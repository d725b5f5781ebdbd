//! The dashboard over the real API: keys in, frames out, everything between as it runs.
//!
//! Only the terminal is left out: what the loop does with an effect is done here by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use cutover::client::Client;
use cutover::detect::anomaly::{ANOMALIES, Anomaly, Direction, Severity};
use cutover::model::{Batch, Clock, ManualClock};
use cutover::telemetry::health;
use cutover::tui::action::{Action, Effect};
use cutover::tui::state::{Mode, State};
use cutover::tui::theme::ColorLevel;
use cutover::tui::{fetch, keymap, update};
use jiff::tz::TimeZone;

use crate::api::{Api, START};
use crate::screens;

struct Dashboard {
    state: State,
    client: Client,
    clock: Arc<ManualClock>,
}

impl Dashboard {
    fn new(api: &Api) -> Self {
        Self {
            state: State::new("http://server", TimeZone::UTC, api.clock.now()),
            client: Client::in_process(api.router.clone()),
            clock: api.clock.clone(),
        }
    }

    /// Does what the loop does with an action, until nothing is on its way.
    async fn act(&mut self, action: Action) {
        let mut next = Some(action);
        while let Some(action) = next.take() {
            if let Some(Effect::Fetch(request)) = update::update(&mut self.state, action) {
                next = Some(fetch::fetch(&self.client, request).await);
            }
        }
    }

    async fn wait(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        self.act(Action::Tick { now, monotonic }).await;
    }

    async fn press(&mut self, code: KeyCode) {
        let event = Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        let action = keymap::resolve(&event, &self.state).unwrap();
        self.act(action).await;
    }

    async fn type_in(&mut self, text: &str) {
        for character in text.chars() {
            self.press(KeyCode::Char(character)).await;
        }
    }

    fn frame(&self) -> String {
        screens::text(&screens::draw(&self.state, 120, 40, ColorLevel::None))
    }

    /// The line of the frame that has this text.
    fn line(&self, part: &str) -> String {
        let frame = self.frame();
        let line = frame.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("{part:?} is not in\n{frame}"))
            .to_owned()
    }
}

#[tokio::test]
async fn the_overview_tells_what_was_reported() {
    let api = Api::new();
    let mut dashboard = Dashboard::new(&api);
    dashboard.wait(0).await;
    dashboard.line("No migrations yet");

    let new = r#"{"id":"users","source":"old","target":"new","expected_rows":1000}"#;
    api.post("/api/v1/migrations", new).await;
    for rows in [100, 200, 300, 400, 500] {
        let body = format!(r#"{{"table":"a","rows_total":{rows},"lag_seconds":75}}"#);
        api.post("/api/v1/migrations/users/progress", &body).await;
        dashboard.wait(10).await;
    }
    let row = dashboard.line("▸ users");
    for part in [" 50.0%", " 500 ", "!1m", "snapshot"] {
        assert!(row.contains(part), "{part:?} in {row}");
    }
    assert!(!dashboard.state.overview.throughput.is_empty());
    assert!(!dashboard.state.overview.lag.is_empty());
}

#[tokio::test]
async fn the_stream_of_changes_is_told_with_its_lag() {
    let api = Api::new();
    let events = |table, operation| {
        [
            ("source", "shop"),
            ("table", table),
            ("operation", operation),
        ]
    };
    let lag = [
        ("source_table", "public.orders"),
        ("target_table", "public.orders"),
    ];
    let stalled = [lag[0], lag[1], ("kind", "source"), ("state", "stalled")];
    let fresh = [lag[0], lag[1], ("kind", "source"), ("state", "fresh")];
    let partition = [("topic", "shop.public.orders"), ("partition", "3")];
    let dead = [("topic", "shop.public.orders"), ("reason", "not_json")];
    let mut dashboard = Dashboard::new(&api);
    for step in 0..20 {
        let seen = f64::from(step);
        api.write(&[
            (
                "cdc_events_processed_total",
                &events("public.orders", "create"),
                50.0 * seen,
            ),
            (
                "cdc_events_processed_total",
                &events("public.quiet", "read"),
                7.0,
            ),
            ("cdc_consumer_lag_messages", &partition, 42.0),
            ("cdc_replication_lag_seconds", &lag, 400.0),
            ("cutover_lag_age_seconds", &lag, 33.0),
            ("cutover_lag_state", &stalled, 1.0),
            ("cutover_lag_state", &fresh, 0.0),
            ("cutover_cdc_dead_letters_total", &dead, 2.0),
        ]);
        api.clock.advance(Duration::from_secs(5));
    }
    dashboard.wait(0).await;
    dashboard.press(KeyCode::Char('2')).await;
    let row = dashboard.line("▸ public.orders");
    for part in [" 10 ", "!!6m40s stalled", "33s"] {
        assert!(row.contains(part), "{part:?} in {row}");
    }
    dashboard.line("public.quiet");
    assert!(dashboard.line("shop.public.orders").ends_with("42"));
    dashboard.line("2 dead letters (2 not_json)");
    dashboard.line("6m40s stalled, source");
}

#[tokio::test]
async fn an_anomaly_is_listed_and_charted() {
    let api = Api::with(&[], |state| {
        let watches = BTreeMap::from([("rate".to_owned(), "level".to_owned())]);
        state.watches = Arc::new(watches);
    });
    for _ in 0..20 {
        api.write(&[
            ("level", &[("table", "users")], 5.0),
            ("level", &[("table", "other")], 1.0),
        ]);
        api.clock.advance(Duration::from_secs(5));
    }
    let anomaly = Anomaly {
        watch: "rate".into(),
        labels: BTreeMap::from([("table".to_owned(), "users".to_owned())]),
        detector: "ewma".into(),
        direction: Direction::High,
        severity: Severity::Critical,
        opened_at: START.after(Duration::from_secs(60)),
        updated_at: START,
        closed_at: None,
        score: 1.5,
        score_max: 2.5,
        observed: 5.0,
        expected: 2.0,
        lower: 1.0,
        upper: 3.0,
        summary: "users is far above what it was".into(),
    };
    let mut batch = Batch::default();
    batch.mutations.push(ANOMALIES.put(anomaly.key(), &anomaly));
    api.store.writer().write_blocking(batch).unwrap();

    let mut dashboard = Dashboard::new(&api);
    dashboard.wait(0).await;
    dashboard.line("1 critical");
    dashboard.press(KeyCode::Char('3')).await;
    dashboard.line("!! critical open");
    dashboard.line("users is far above what it was");
    let (_, curve) = dashboard.state.anomalies.chart.clone().unwrap();
    assert_eq!(curve.unwrap().last(), Some(5.0));
    dashboard.press(KeyCode::Enter).await;
    dashboard.line("> level");
    dashboard.line(r#"level{table="other"}"#);
}

#[tokio::test]
async fn an_expression_that_is_refused_shows_the_servers_own_words() {
    let api = Api::new();
    let mut dashboard = Dashboard::new(&api);
    dashboard.wait(0).await;
    dashboard.press(KeyCode::Char(':')).await;
    dashboard.type_in("sum(rate(up))").await;
    assert_eq!(dashboard.state.mode, Mode::Edit);
    dashboard.press(KeyCode::Enter).await;
    let path = "/api/v1/query_range?query=sum(rate(up))&start=0&end=60&step=60";
    let (_, _, words) = api.get(path).await.error();
    dashboard.line(&words);
    dashboard.line("● live");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let api = Api::new();
    api.post("/api/v1/migrations", r#"{"id":"users"}"#).await;
    let mut dashboard = Dashboard::new(&api);
    dashboard.wait(0).await;
    dashboard.line("▸ users");

    // Bound and closed again: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let there = std::mem::replace(&mut dashboard.client, Client::connect(&url).unwrap());
    dashboard.wait(2).await;
    dashboard.line("✗ disconnected");
    dashboard.line("stale: 22:13:20");
    dashboard.line("▸ users");

    dashboard.client = there;
    dashboard.wait(1).await;
    dashboard.line("● live");
    assert!(!dashboard.frame().contains("stale:"));
}

#[tokio::test]
async fn a_part_in_trouble_is_told() {
    let api = Api::new();
    api.health
        .set("kafka", health::State::Degraded, "1 of 3 brokers is down");
    let mut dashboard = Dashboard::new(&api);
    dashboard.wait(0).await;
    dashboard.line("! kafka degraded for 0s: 1 of 3 brokers is down");
}
