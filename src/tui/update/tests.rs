use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::super::action::{Loaded, LoadedPart, Scope};
use super::super::state::{
    AnomalyRow, CdcData, CdcTableRow, Curve, HealthRow, LagKind, LagReading, LagState,
    MigrationRow, OperationRates, Phase, Severity, TableId,
};
use super::super::state::{Link, Window};
use super::typing::INPUT_CHARS_MAX;
use super::*;
use crate::model::Timestamp;

const START: Timestamp = Timestamp::from_ms(1_773_489_784_000);

fn state() -> State {
    State::new("http://server", TimeZone::UTC, START)
}

fn tick(state: &mut State, second: u64) -> Option<Effect> {
    let monotonic = Duration::from_secs(second);
    let now = START.after(monotonic);
    update(state, Action::Tick { now, monotonic })
}

fn press(state: &mut State, command: Command) -> Option<Effect> {
    update(state, Action::Command(command))
}

fn type_in(state: &mut State, text: &str) {
    for character in text.chars() {
        update(state, Action::Type(character));
    }
}

fn answer(state: &mut State, part: LoadedPart) -> Option<Effect> {
    answer_with(state, Vec::new(), part)
}

fn answer_with(state: &mut State, anomalies: Vec<AnomalyRow>, part: LoadedPart) -> Option<Effect> {
    let health = HealthRow {
        version: "0.1.0".into(),
        started_at: START,
        now: state.local_now,
        caption: String::new(),
        troubles: Vec::new(),
    };
    let loaded = Loaded {
        health,
        anomalies,
        window: state.window(),
        part,
    };
    update(state, Action::Loaded(Box::new(loaded)))
}

fn scope(effect: Option<Effect>) -> Option<Scope> {
    match effect {
        Some(Effect::Fetch(request)) => Some(request.scope),
        _ => None,
    }
}

fn migration(id: &str) -> MigrationRow {
    MigrationRow {
        id: id.into(),
        route: String::new(),
        phase: Phase::Streaming,
        rows_total: 0,
        rate: None,
        expected_rate: None,
        progress: None,
        eta_seconds: None,
        errors_total: 0,
        lag: LagReading::UNKNOWN,
        tables: Vec::new(),
    }
}

fn overview(ids: &[&str]) -> LoadedPart {
    LoadedPart::Overview {
        migrations: ids.iter().map(|id| migration(id)).collect(),
        throughput: Vec::new(),
        lag: Vec::new(),
    }
}

fn anomaly(opened: i64, closed: Option<i64>) -> AnomalyRow {
    let second = |second| START.offset_ms(second * 1000);
    AnomalyRow {
        watch: "throughput".into(),
        labels: BTreeMap::new(),
        detector: "ewma".into(),
        direction: "low".into(),
        severity: Severity::Warning,
        opened_at: second(opened),
        closed_at: closed.map(second),
        score: None,
        score_max: None,
        observed: None,
        expected: None,
        lower: None,
        upper: None,
        summary: String::new(),
        expr: "rate(x[1m])".into(),
    }
}

fn table(name: &str) -> CdcTableRow {
    CdcTableRow {
        id: TableId {
            source: "shop".into(),
            table: name.into(),
        },
        rates: OperationRates::default(),
        events_total: 0.0,
        lag: LagReading::UNKNOWN,
    }
}

#[test]
fn the_first_tick_asks_and_the_next_waits_for_the_answer() {
    let mut state = state();
    assert_eq!(scope(tick(&mut state, 0)), Some(Scope::Overview));
    answer(&mut state, overview(&[]));
    assert_eq!(tick(&mut state, 1), None);
    assert_eq!(scope(tick(&mut state, 2)), Some(Scope::Overview));
    assert_eq!(tick(&mut state, 60), None);
}

#[test]
fn a_slow_server_is_asked_less_often() {
    let mut state = state();
    tick(&mut state, 0);
    tick(&mut state, 5);
    answer(&mut state, overview(&[]));
    assert_eq!(tick(&mut state, 24), None);
    assert!(tick(&mut state, 25).is_some());
}

#[test]
fn an_unreachable_server_is_tried_again_at_growing_pauses() {
    let mut state = state();
    let mut second = 0;
    let mut pauses = Vec::new();
    assert!(tick(&mut state, second).is_some());
    for _ in 0..6 {
        let reason = "refused".to_owned();
        update(&mut state, Action::Unreachable { reason });
        let from = second;
        while tick(&mut state, second).is_none() {
            second += 1;
        }
        pauses.push(second - from);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    let Link::Disconnected { since, .. } = state.link else {
        panic!("{:?}", state.link);
    };
    assert_eq!(since, START);
    answer(&mut state, overview(&[]));
    assert_eq!(state.link, Link::Connected);
}

#[test]
fn data_outlives_the_connection_and_its_lag_turns_stale() {
    let mut state = state();
    tick(&mut state, 0);
    let mut row = migration("orders");
    row.lag = LagReading {
        seconds: Some(2.0),
        age_seconds: Some(1.0),
        kind: LagKind::Source,
        state: LagState::Fresh,
    };
    let lag = row.lag;
    let part = LoadedPart::Overview {
        migrations: vec![row],
        throughput: Vec::new(),
        lag: Vec::new(),
    };
    answer(&mut state, part);
    assert_eq!(state.as_of_now(lag), lag);

    tick(&mut state, 2);
    let reason = "refused".to_owned();
    update(&mut state, Action::Unreachable { reason });
    tick(&mut state, 7);
    assert_eq!(state.visible_migrations().len(), 1);
    let now = state.as_of_now(lag);
    assert_eq!((now.age_seconds, now.state), (Some(8.0), LagState::Stale));
}

#[test]
fn a_refusal_is_not_a_lost_connection() {
    let mut state = state();
    tick(&mut state, 0);
    let reason = "query timed out".to_owned();
    update(
        &mut state,
        Action::Refused {
            reason: reason.clone(),
        },
    );
    assert_eq!(state.link, Link::Connected);
    assert_eq!(state.refusal, Some(reason));
    tick(&mut state, 2);
    answer(&mut state, overview(&[]));
    assert_eq!(state.refusal, None);
}

#[test]
fn the_selection_stays_with_its_row_when_the_list_reorders() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a", "b", "c"]));
    press(&mut state, Command::Down);
    answer(&mut state, overview(&["c", "x", "b", "a"]));
    assert_eq!(state.selected_migration().unwrap().id, "b");
    // When the row has gone, its place is the next best.
    answer(&mut state, overview(&["c", "x"]));
    assert_eq!(state.selected_migration().unwrap().id, "x");
}

#[test]
fn movements_stop_at_the_ends() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a", "b", "c"]));
    press(&mut state, Command::Up);
    assert_eq!(state.selected_migration().unwrap().id, "a");
    press(&mut state, Command::PageDown);
    assert_eq!(state.selected_migration().unwrap().id, "c");
    press(&mut state, Command::First);
    assert_eq!(state.selected_migration().unwrap().id, "a");
    press(&mut state, Command::Last);
    assert_eq!(state.selected_migration().unwrap().id, "c");
}

#[test]
fn paused_charts_stand_and_only_the_connection_is_looked_after() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a"]));
    let window = state.window();
    assert_eq!(press(&mut state, Command::PauseOrResume), None);
    let effect = tick(&mut state, 30);
    assert_eq!(scope(effect), Some(Scope::Link));
    assert_eq!(state.window(), window);
    let resumed = press(&mut state, Command::PauseOrResume);
    assert_eq!(scope(resumed), Some(Scope::Overview));
    assert_ne!(state.window(), window);
}

#[test]
fn what_a_paused_screen_still_waits_for_is_asked_again() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a"]));
    press(&mut state, Command::PauseOrResume);
    press(&mut state, Command::ShowCdc);
    let reason = "refused".to_owned();
    update(&mut state, Action::Unreachable { reason });
    assert_eq!(
        scope(tick(&mut state, 30)),
        Some(Scope::Cdc { charted: None })
    );
}

#[test]
fn scrubbing_moves_by_half_a_chart_and_ends_at_now() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a"]));
    let half = state.span() / 2;
    press(&mut state, Command::Earlier);
    press(&mut state, Command::Earlier);
    let end = START.before(half * 2);
    assert_eq!(state.follow, Follow::Paused { end });
    press(&mut state, Command::Later);
    press(&mut state, Command::Later);
    assert_eq!(state.follow, Follow::Live);
}

#[test]
fn the_zoom_stops_at_its_ends() {
    let mut state = state();
    for _ in 0..50 {
        press(&mut state, Command::ZoomIn);
    }
    assert_eq!(state.span(), SPANS[0]);
    for _ in 0..50 {
        press(&mut state, Command::ZoomOut);
    }
    assert_eq!(state.span(), SPANS[SPANS.len() - 1]);
}

#[test]
fn a_window_is_aligned_to_its_step() {
    let span = Duration::from_secs(900);
    let window = Window::ending_at(Timestamp::from_ms(10_000_500), span);
    assert_eq!(window.step, Duration::from_secs(3));
    assert_eq!(window.end, Timestamp::from_ms(9_999_000));
    assert_eq!(window.span(), span);
}

#[test]
fn the_chart_of_the_first_row_is_asked_for_once_it_is_known() {
    let mut state = state();
    press(&mut state, Command::ShowCdc);
    let mut data = CdcData {
        tables: vec![table("orders"), table("lines")],
        ..CdcData::default()
    };
    let id = data.tables[0].id.clone();
    let effect = answer(&mut state, LoadedPart::Cdc(data.clone()));
    let charted = Some(id.clone());
    assert_eq!(scope(effect), Some(Scope::Cdc { charted }));
    data.chart = Some(super::super::state::CdcChart {
        table: id,
        rate: None,
        lag: None,
    });
    assert_eq!(answer(&mut state, LoadedPart::Cdc(data)), None);
    // Another row wants another chart.
    assert!(press(&mut state, Command::Down).is_some());
}

#[test]
fn open_anomalies_stand_before_closed_ones_and_the_newest_first() {
    let mut state = state();
    press(&mut state, Command::ShowAnomalies);
    let rows = vec![
        anomaly(-50, Some(-40)),
        anomaly(-500, None),
        anomaly(-10, None),
    ];
    answer_with(&mut state, rows, LoadedPart::Anomalies { chart: None });
    let opened: Vec<i64> = state
        .visible_anomalies()
        .iter()
        .map(|row| row.opened_at.ms_since(START) / 1000)
        .collect();
    assert_eq!(opened, [-10, -500, -50]);
}

#[test]
fn an_anomaly_that_opens_while_paused_gets_its_chart() {
    let mut state = state();
    press(&mut state, Command::ShowAnomalies);
    let first = anomaly(-50, None);
    let chart = Some((first.key(), None));
    answer_with(
        &mut state,
        vec![first.clone()],
        LoadedPart::Anomalies { chart },
    );
    press(&mut state, Command::PauseOrResume);
    assert_eq!(scope(tick(&mut state, 10)), Some(Scope::Link));
    let rows = vec![first, anomaly(-5, None)];
    let effect = answer_with(&mut state, rows, LoadedPart::Nothing);
    let Some(Scope::Anomalies {
        charted: Some(query),
    }) = scope(effect)
    else {
        panic!("no chart was asked for");
    };
    assert_eq!(query.key, anomaly(-5, None).key());
}

#[test]
fn an_anomaly_of_long_ago_is_charted_where_it_was() {
    let mut state = state();
    press(&mut state, Command::ShowAnomalies);
    let rows = vec![anomaly(-90_000, Some(-80_000))];
    let effect = answer_with(&mut state, rows, LoadedPart::Anomalies { chart: None });
    let Some(Effect::Fetch(request)) = effect else {
        panic!("{effect:?}");
    };
    let closed_at = START.offset_ms(-80_000_000);
    assert!(request.window.start < closed_at && closed_at < request.window.end);
}

#[test]
fn an_accepted_expression_is_evaluated_and_remembered_once() {
    let mut state = state();
    press(&mut state, Command::Edit);
    for expr in ["up", "down", "up"] {
        press(&mut state, Command::Edit);
        press(&mut state, Command::DeleteLine);
        type_in(&mut state, expr);
        let effect = press(&mut state, Command::Accept);
        let expr = expr.to_owned();
        assert_eq!(scope(effect), Some(Scope::Explore { expr }));
    }
    assert_eq!(state.explore.history, ["down", "up"]);
    press(&mut state, Command::Edit);
    press(&mut state, Command::OlderExpression);
    press(&mut state, Command::OlderExpression);
    press(&mut state, Command::OlderExpression);
    assert_eq!(state.explore.input.text(), "down");
    press(&mut state, Command::NewerExpression);
    press(&mut state, Command::NewerExpression);
    assert_eq!(state.explore.input.text(), "");
    press(&mut state, Command::Cancel);
    assert_eq!(state.explore.input.text(), "up");
}

#[test]
fn an_answer_to_an_older_expression_is_not_shown() {
    let mut state = state();
    press(&mut state, Command::Edit);
    type_in(&mut state, "up");
    press(&mut state, Command::Accept);
    let late = LoadedPart::Explore {
        expr: "down".into(),
        result: Ok(vec![Curve {
            name: "down".into(),
            points: Vec::new(),
        }]),
        series_total: 1,
    };
    answer(&mut state, late);
    assert_eq!(state.explore.result, None);
}

#[test]
fn opening_a_row_explores_its_query_and_escape_leads_back() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["a\"b"]));
    let effect = press(&mut state, Command::Open);
    let expr = r#"sum by (table_name) (rate(migration_rows_total{migration_id="a\"b"}[1m]))"#;
    assert_eq!(scope(effect), Some(Scope::Explore { expr: expr.into() }));
    press(&mut state, Command::Back);
    assert_eq!(state.screen, Screen::Overview);
}

#[test]
fn a_filter_narrows_the_list_and_escape_clears_it() {
    let mut state = state();
    tick(&mut state, 0);
    answer(&mut state, overview(&["orders", "lines", "Old-orders"]));
    press(&mut state, Command::Filter);
    type_in(&mut state, "ORD");
    press(&mut state, Command::Accept);
    assert_eq!(state.visible_migrations().len(), 2);
    press(&mut state, Command::Filter);
    press(&mut state, Command::CursorStart);
    type_in(&mut state, "!");
    press(&mut state, Command::Accept);
    let ids: Vec<&str> = state
        .visible_migrations()
        .iter()
        .map(|row| &*row.id)
        .collect();
    assert_eq!(ids, ["lines"]);
    press(&mut state, Command::Back);
    assert_eq!(state.visible_migrations().len(), 3);
}

#[test]
fn a_line_is_edited_at_its_cursor() {
    let mut input = Input::default();
    input.set("rate(äö up)");
    for command in [
        Command::DeleteBefore,
        Command::DeleteWord,
        Command::DeleteBefore,
    ] {
        edit(&mut input, command);
    }
    assert_eq!(input.text(), "rate(äö");
    edit(&mut input, Command::CursorLeft);
    edit(&mut input, Command::DeleteBefore);
    assert_eq!(
        (input.before.as_str(), input.after.as_str()),
        ("rate(", "ö")
    );
    edit(&mut input, Command::DeleteAfter);
    edit(&mut input, Command::DeleteAfter);
    edit(&mut input, Command::CursorRight);
    edit(&mut input, Command::CursorStart);
    edit(&mut input, Command::CursorRight);
    assert_eq!((input.before.as_str(), input.after.as_str()), ("r", "ate("));
}

#[test]
fn pasted_text_is_one_line_of_limited_length() {
    let mut state = state();
    press(&mut state, Command::Edit);
    update(&mut state, Action::Paste("sum(\n\tup)".into()));
    assert_eq!(state.explore.input.text(), "sum(  up)");
    update(&mut state, Action::Paste("x".repeat(INPUT_CHARS_MAX * 2)));
    assert_eq!(state.explore.input.text().chars().count(), INPUT_CHARS_MAX);
}

#[test]
fn a_clock_apart_is_followed_and_a_slow_road_is_not() {
    let mut state = state();
    tick(&mut state, 0);
    for (ahead_ms, offset_ms) in [(1_900, 0), (-90_000, -90_000), (3_600_000, 3_600_000)] {
        let health = HealthRow {
            version: String::new(),
            started_at: START,
            now: START.offset_ms(ahead_ms),
            caption: String::new(),
            troubles: Vec::new(),
        };
        let loaded = Loaded {
            health,
            anomalies: Vec::new(),
            window: state.window(),
            part: LoadedPart::Nothing,
        };
        update(&mut state, Action::Loaded(Box::new(loaded)));
        assert_eq!(state.now(), START.offset_ms(offset_ms));
    }
}

#[test]
fn the_help_scrolls_no_further_than_there_is_help() {
    let mut state = state();
    let (width, height) = (80, 24);
    update(&mut state, Action::Resize { width, height });
    press(&mut state, Command::Help);
    press(&mut state, Command::Last);
    let end = state.help_offset;
    assert!(end > 0);
    press(&mut state, Command::PageDown);
    assert_eq!(state.help_offset, end);
    press(&mut state, Command::Up);
    assert_eq!(state.help_offset, end - 1);
    press(&mut state, Command::Back);
    assert_eq!(state.mode, Mode::Normal);
}
