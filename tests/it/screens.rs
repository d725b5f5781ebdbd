//! Whole screens as text, at four sizes, with a fixed clock, in UTC and without colour.
//!
//! Each snapshot holds one state of one screen at every size; a change is to be read as a user would.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover::model::Timestamp;
use cutover::tui::action::{Action, Command, Effect, Loaded, LoadedPart};
use cutover::tui::keymap;
use cutover::tui::state::{
    AnomalyRow, CdcChart, CdcData, CdcTableRow, Curve, DeadLetterCount, HealthRow, LagKind,
    LagReading, LagState, MigrationRow, OperationRates, PartitionRow, Phase, Screen, Severity,
    State, TableId, TableProgress, Trouble,
};
use cutover::tui::theme::{ColorLevel, Theme};
use cutover::tui::update::update;
use cutover::tui::view;
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::text::Span;

const SIZES: [(u16, u16); 4] = [(60, 15), (80, 24), (120, 40), (200, 60)];

/// 2026-03-14 12:03:04 UTC.
const NOW: Timestamp = Timestamp::from_ms(1_773_489_784_000);

fn ago(seconds: u64) -> Timestamp {
    NOW.before(Duration::from_secs(seconds))
}

pub(crate) fn draw(state: &State, width: u16, height: u16, level: ColorLevel) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::render(frame, state, Theme::new(level)))
        .unwrap();
    terminal.backend().buffer().clone()
}

pub(crate) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width).map(|row| {
        let mut line = String::new();
        let mut hidden = 0;
        for cell in row {
            // A wide character covers the cell after it.
            if hidden == 0 {
                line.push_str(cell.symbol());
                hidden = Span::raw(cell.symbol()).width();
            }
            hidden = hidden.saturating_sub(1);
        }
        line.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// All sizes of a state in one text.
fn frames(state: &State) -> String {
    let mut frames = String::new();
    for (width, height) in SIZES {
        let mut state = state.clone();
        update(&mut state, Action::Resize { width, height });
        let frame = text(&draw(&state, width, height, ColorLevel::None));
        frames.push_str(&format!("{width}x{height}\n{frame}\n\n"));
    }
    frames
}

/// A dashboard on `screen` whose clock has ticked once; nothing has been answered.
fn connecting(screen: Screen) -> State {
    let mut state = State::new("http://127.0.0.1:9490", TimeZone::UTC, NOW);
    let show = match screen {
        Screen::Overview => Command::ShowOverview,
        Screen::Cdc => Command::ShowCdc,
        Screen::Anomalies => Command::ShowAnomalies,
        Screen::Explore => Command::ShowExplore,
    };
    update(&mut state, Action::Command(show));
    tick(&mut state, 0);
    state
}

fn tick(state: &mut State, second: u64) -> Option<Effect> {
    let monotonic = Duration::from_secs(second);
    let now = NOW.after(monotonic);
    update(state, Action::Tick { now, monotonic })
}

fn health() -> HealthRow {
    HealthRow {
        version: "0.1.0".into(),
        started_at: ago(7_500),
        now: NOW,
        caption: String::new(),
        troubles: Vec::new(),
    }
}

fn answer(state: &mut State, anomalies: Vec<AnomalyRow>, part: LoadedPart) {
    let window = state.window();
    let loaded = Loaded {
        health: health(),
        anomalies,
        window,
        part,
    };
    update(state, Action::Loaded(Box::new(loaded)));
}

/// A curve over the last 15 minutes, a point each 3 s, where `value` gives one for the second.
fn curve(name: &str, value: impl Fn(f64) -> Option<f64>) -> Curve {
    let seconds = (0..=300).map(|step| step * 3);
    let points = seconds.filter_map(|second| {
        let at = ago(900).after(Duration::from_secs(second));
        value(second as f64).map(|value| (at, value))
    });
    Curve {
        name: name.into(),
        points: points.collect(),
    }
}

fn lag(seconds: f64, age: f64, state: LagState) -> LagReading {
    LagReading {
        seconds: Some(seconds),
        age_seconds: Some(age),
        kind: LagKind::Source,
        state,
    }
}

fn migration(id: &str) -> MigrationRow {
    MigrationRow {
        id: id.into(),
        route: "mysql → postgres".into(),
        phase: Phase::Streaming,
        rows_total: 11_342_118,
        rate: Some(1_234.0),
        expected_rate: None,
        progress: Some(0.945_176),
        eta_seconds: Some(533.0),
        errors_total: 0,
        lag: lag(2.4, 1.0, LagState::Fresh),
        tables: vec![
            TableProgress {
                name: "public.orders".into(),
                rows_total: 8_120_400,
                rate: Some(910.0),
            },
            TableProgress {
                name: "public.order_lines".into(),
                rows_total: 3_221_718,
                rate: Some(324.0),
            },
        ],
    }
}

fn migrations() -> Vec<MigrationRow> {
    vec![
        migration("orders"),
        MigrationRow {
            phase: Phase::Snapshot,
            rows_total: 48_213,
            rate: Some(88.4),
            progress: Some(0.120_5),
            eta_seconds: Some(3_980.0),
            errors_total: 17,
            lag: lag(75.0, 3.0, LagState::Throttled),
            route: "postgres → postgres".into(),
            ..migration("customers")
        },
        MigrationRow {
            phase: Phase::Done,
            rows_total: 5_000,
            rate: Some(0.0),
            progress: Some(1.0),
            eta_seconds: None,
            lag: lag(0.0, 4.0, LagState::Idle),
            ..migration("currencies")
        },
        MigrationRow {
            progress: None,
            eta_seconds: None,
            rate: None,
            lag: LagReading::UNKNOWN,
            route: String::new(),
            tables: Vec::new(),
            ..migration("audit-log")
        },
    ]
}

fn overview_part(migrations: Vec<MigrationRow>) -> LoadedPart {
    let wave = |second: f64| 1_200.0 + 150.0 * (second / 60.0).sin();
    LoadedPart::Overview {
        throughput: vec![
            // A gap of two minutes in the middle: the line breaks there.
            curve("orders", |second| {
                (!(400.0..520.0).contains(&second)).then(|| wave(second))
            }),
            curve("customers", |second| Some(second / 10.0)),
            curve("currencies", |second| {
                Some(if second < 300.0 { 40.0 } else { 0.0 })
            }),
        ],
        lag: vec![
            curve("orders", |second| Some(2.0 + (second / 45.0).cos())),
            curve("customers", |second| Some(second / 12.0)),
        ],
        migrations,
    }
}

fn anomaly(watch: &str, severity: Severity, opened_ago: u64) -> AnomalyRow {
    AnomalyRow {
        watch: watch.into(),
        labels: BTreeMap::from([
            ("migration_id".to_owned(), "orders".to_owned()),
            ("table_name".to_owned(), "public.orders".to_owned()),
        ]),
        detector: "ewma".into(),
        direction: "low".into(),
        severity,
        opened_at: ago(opened_ago),
        closed_at: None,
        score: Some(2.31),
        score_max: Some(4.8),
        observed: Some(212.0),
        expected: Some(1_204.0),
        lower: Some(940.0),
        upper: Some(1_470.0),
        summary: "migration_throughput of orders is 212 rows/s, expected 1204 (940 to 1470): \
                  2.3 times beyond its limit for 3m20s"
            .into(),
        expr: "sum by (migration_id, table_name) (rate(migration_rows_total[1m]))".into(),
    }
}

fn anomalies() -> Vec<AnomalyRow> {
    let closed = AnomalyRow {
        closed_at: Some(ago(2_000)),
        direction: "high".into(),
        detector: "zscore".into(),
        labels: BTreeMap::from([("topic".to_owned(), "shop.public.orders".to_owned())]),
        ..anomaly("consumer_lag", Severity::Warning, 2_400)
    };
    let errors = AnomalyRow {
        labels: BTreeMap::from([("migration_id".to_owned(), "customers".to_owned())]),
        detector: "threshold".into(),
        direction: "high".into(),
        ..anomaly("high_error_rate", Severity::Critical, 95)
    };
    vec![
        closed,
        anomaly("migration_throughput", Severity::Warning, 200),
        errors,
    ]
}

fn overview(anomalies: Vec<AnomalyRow>, migrations: Vec<MigrationRow>) -> State {
    let mut state = connecting(Screen::Overview);
    answer(&mut state, anomalies, overview_part(migrations));
    state
}

fn cdc_table(table: &str, rates: OperationRates, lag: LagReading) -> CdcTableRow {
    CdcTableRow {
        id: TableId {
            source: "shop".into(),
            table: table.into(),
        },
        rates,
        events_total: 1_204_331.0,
        lag,
    }
}

fn cdc_data() -> CdcData {
    let rates = OperationRates {
        create: 41.2,
        update: 120.7,
        delete: 3.05,
        read: 0.0,
        other: 0.0,
    };
    let quiet = OperationRates::default();
    CdcData {
        tables: vec![
            cdc_table("public.orders", rates, lag(0.84, 0.0, LagState::Fresh)),
            cdc_table(
                "public.order_lines",
                OperationRates {
                    update: 12.0,
                    ..quiet
                },
                lag(412.0, 2.0, LagState::Stalled),
            ),
            cdc_table("public.countries", quiet, lag(0.0, 9.0, LagState::Idle)),
            cdc_table("public.audit", quiet, LagReading::UNKNOWN),
        ],
        partitions: vec![
            PartitionRow {
                topic: "shop.public.order_lines".into(),
                partition: "0".into(),
                lag_messages: 18_422.0,
            },
            PartitionRow {
                topic: "shop.public.orders".into(),
                partition: "1".into(),
                lag_messages: 12.0,
            },
            PartitionRow {
                topic: "shop.public.orders".into(),
                partition: "0".into(),
                lag_messages: 0.0,
            },
        ],
        dead_letters: vec![
            DeadLetterCount {
                topic: "shop.public.orders".into(),
                reason: "json".into(),
                count: 2.0,
            },
            DeadLetterCount {
                topic: "shop.public.orders".into(),
                reason: "too_large".into(),
                count: 1.0,
            },
        ],
        chart: Some(CdcChart {
            table: TableId {
                source: "shop".into(),
                table: "public.orders".into(),
            },
            rate: Some(curve("rate", |second| {
                Some(160.0 + 20.0 * (second / 30.0).sin())
            })),
            lag: Some(curve("lag", |second| {
                Some(if (300.0..480.0).contains(&second) {
                    second - 300.0
                } else {
                    0.8
                })
            })),
        }),
    }
}

fn cdc(data: CdcData) -> State {
    let mut state = connecting(Screen::Cdc);
    answer(&mut state, anomalies(), LoadedPart::Cdc(data));
    state
}

/// The anomalies screen with the selected one's chart: a drop below the band.
fn anomaly_screen(rows: Vec<AnomalyRow>) -> State {
    let mut state = connecting(Screen::Anomalies);
    answer(
        &mut state,
        rows.clone(),
        LoadedPart::Anomalies { chart: None },
    );
    update(&mut state, Action::Command(Command::Down));
    let chart = state.selected_anomaly().map(|row| {
        let drop = curve("", |second| {
            Some(if second < 690.0 {
                1_200.0 + 80.0 * (second / 25.0).sin()
            } else {
                220.0
            })
        });
        (row.key(), Some(drop))
    });
    answer(&mut state, rows, LoadedPart::Anomalies { chart });
    state
}

fn type_in(state: &mut State, text: &str) {
    for character in text.chars() {
        update(state, Action::Type(character));
    }
}

fn explore(expr: &str, result: Result<Vec<Curve>, String>) -> State {
    let mut state = connecting(Screen::Explore);
    update(&mut state, Action::Command(Command::Edit));
    type_in(&mut state, expr);
    update(&mut state, Action::Command(Command::Accept));
    let expr = expr.to_owned();
    let series_total = result.as_ref().map_or(0, Vec::len);
    let part = LoadedPart::Explore {
        expr,
        result,
        series_total,
    };
    answer(&mut state, Vec::new(), part);
    state
}

fn snapshot(name: &str, state: &State) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, frames(state));
    });
}

#[test]
fn overview_waits_for_its_first_answer() {
    snapshot("overview_loading", &connecting(Screen::Overview));
}

#[test]
fn overview_without_migrations_says_how_to_start_one() {
    snapshot("overview_empty", &overview(Vec::new(), Vec::new()));
}

#[test]
fn overview_in_steady_state() {
    snapshot("overview_steady", &overview(Vec::new(), migrations()));
}

#[test]
fn overview_with_anomalies_and_a_part_in_trouble() {
    let mut state = overview(anomalies(), migrations());
    let mut told = health();
    told.caption = "demo: an error burst in customers, two hours of shifted history".into();
    told.troubles.push(Trouble {
        part: "kafka".into(),
        state: "degraded".into(),
        since: ago(42),
        message: "1 of 3 brokers is down: localhost:9093".into(),
    });
    state.health = Some(told);
    update(&mut state, Action::Command(Command::Down));
    snapshot("overview_anomaly", &state);
}

#[test]
fn overview_keeps_its_data_when_the_server_goes_away() {
    let mut state = overview(anomalies(), migrations());
    tick(&mut state, 2);
    let reason = "connection refused (127.0.0.1:9490)".to_owned();
    update(&mut state, Action::Unreachable { reason });
    tick(&mut state, 8);
    snapshot("overview_disconnected", &state);
}

#[test]
fn overview_says_why_there_was_never_an_answer() {
    let mut state = connecting(Screen::Overview);
    let reason = "Connection refused (os error 111)".to_owned();
    update(&mut state, Action::Unreachable { reason });
    tick(&mut state, 0);
    snapshot("overview_never_connected", &state);
}

#[test]
fn overview_cuts_long_names_in_the_middle() {
    let mut rows = migrations();
    rows[0].id = "warehouse-inventory-levels-europe-west-to-postgres-17".into();
    rows[0].route = "mysql-primary.eu-west.example.com → postgres-17.eu-west.example.com".into();
    rows[1].id = "注文テーブル移行プロジェクト東日本".into();
    rows[2].id = "a\u{1b}[2Jb".into();
    rows[3].lag = lag(1e9, 1e8, LagState::Stale);
    rows[3].rows_total = u64::MAX;
    snapshot("overview_long_labels", &overview(anomalies(), rows));
}

#[test]
fn overview_scrolls_a_long_list() {
    let rows = (0..40).map(|number| migration(&format!("shard-{number:02}")));
    let mut state = overview(Vec::new(), rows.collect());
    for _ in 0..2 {
        update(&mut state, Action::Command(Command::PageDown));
    }
    snapshot("overview_many", &state);
}

#[test]
fn cdc_waits_for_its_first_answer() {
    snapshot("cdc_loading", &connecting(Screen::Cdc));
}

#[test]
fn cdc_without_tables_says_how_to_name_topics() {
    snapshot("cdc_empty", &cdc(CdcData::default()));
}

#[test]
fn cdc_in_steady_state() {
    snapshot("cdc_steady", &cdc(cdc_data()));
}

#[test]
fn cdc_with_long_names() {
    let mut data = cdc_data();
    data.tables[1].id = TableId {
        source: "inventory.europe.west.production".into(),
        table: "warehouse_management.inventory_movements_by_location_2026".into(),
    };
    data.partitions[0].topic =
        "inventory.europe.west.production.warehouse_management.inventory_movements_2026".into();
    data.partitions[0].partition = "1023".into();
    snapshot("cdc_long_labels", &cdc(data));
}

#[test]
fn anomalies_without_any() {
    snapshot("anomalies_empty", &anomaly_screen(Vec::new()));
}

#[test]
fn anomalies_with_the_selected_ones_chart() {
    snapshot("anomalies_selected", &anomaly_screen(anomalies()));
}

#[test]
fn explore_says_what_to_type() {
    snapshot("explore_empty", &connecting(Screen::Explore));
}

#[test]
fn explore_shows_a_chart_and_its_series() {
    let curves = vec![
        curve("{operation=\"create\"}", |second| {
            Some(40.0 + 5.0 * (second / 40.0).sin())
        }),
        curve("{operation=\"delete\"}", |second| {
            (second > 200.0).then_some(3.0)
        }),
        curve("{operation=\"update\"}", |second| {
            Some(110.0 + 30.0 * (second / 90.0).cos())
        }),
    ];
    let expr = "sum by (operation) (rate(cdc_events_processed_total[1m]))";
    snapshot("explore_result", &explore(expr, Ok(curves)));
}

#[test]
fn explore_shows_the_servers_words_when_it_refuses() {
    let words = "1:5: parse error: unexpected end of input inside braces".to_owned();
    snapshot("explore_error", &explore("sum(up{", Err(words)));
}

#[test]
fn explore_while_typing() {
    let mut state = connecting(Screen::Explore);
    update(&mut state, Action::Command(Command::Edit));
    type_in(&mut state, "rate(migration_rows_total[5m]");
    for _ in 0..4 {
        update(&mut state, Action::Command(Command::CursorLeft));
    }
    snapshot("explore_typing", &state);
}

#[test]
fn help_over_the_overview() {
    let mut state = overview(Vec::new(), migrations());
    update(&mut state, Action::Command(Command::Help));
    snapshot("help", &state);
}

#[test]
fn the_key_table_as_the_readme_has_it() {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("key_table", keymap::markdown());
    });
}

#[test]
fn paused_and_filtered() {
    let mut state = overview(anomalies(), migrations());
    update(&mut state, Action::Command(Command::Earlier));
    answer(&mut state, anomalies(), overview_part(migrations()));
    update(&mut state, Action::Command(Command::Filter));
    type_in(&mut state, "stream");
    snapshot("overview_paused_filtering", &state);
}

#[test]
fn a_terminal_too_small_says_how_much_it_takes() {
    let state = overview(Vec::new(), migrations());
    for (width, height) in [(59, 15), (60, 14), (20, 5)] {
        let frame = text(&draw(&state, width, height, ColorLevel::None));
        assert!(frame.starts_with("cutover needs a"), "{frame}");
    }
    // Nothing is too small to be drawn at all.
    for (width, height) in [(0, 0), (1, 1), (60, 1), (1, 15)] {
        draw(&state, width, height, ColorLevel::None);
    }
}

#[test]
fn no_size_and_no_screen_panics() {
    let expr = "up";
    let curves = (0..60).map(|number| curve(&format!("{{n=\"{number}\"}}"), Some));
    let states = [
        overview(anomalies(), migrations()),
        cdc(cdc_data()),
        anomaly_screen(anomalies()),
        explore(expr, Ok(curves.collect())),
    ];
    for state in &states {
        for width in [60, 61, 73, 97, 149, 150, 151, 320] {
            for height in [15, 16, 17, 19, 23, 25, 31, 90] {
                draw(state, width, height, ColorLevel::Indexed256);
            }
        }
    }
}

/// The screens say the same with and without colour: only the styles differ.
#[test]
fn colour_changes_no_text() {
    let states = [overview(anomalies(), migrations()), cdc(cdc_data())];
    for state in &states {
        let plain = draw(state, 120, 40, ColorLevel::None);
        for level in [
            ColorLevel::Ansi8,
            ColorLevel::Ansi16,
            ColorLevel::Indexed256,
        ] {
            let coloured = draw(state, 120, 40, level);
            assert_eq!(text(&plain), text(&coloured), "{level:?}");
            assert_ne!(plain, coloured, "{level:?}");
        }
    }
}
