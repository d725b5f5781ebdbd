//! The overview: every migration in a row, and the selected one's throughput and lag beneath.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Span;

use super::super::state::{AnomalyRow, Curve, LagReading, MigrationRow, Severity, State, Window};
use super::super::theme::{LAG_CRITICAL, LAG_WARN, Theme, Tone};
use super::anomalies;
use super::chart::Unit;
use super::panel::{self, CurvePanel};
use super::table::{self, Cell, Column, Table};
use super::text;

const COLUMNS: &[Column] = &[
    Column::left("MIGRATION", 10, 40, 0),
    Column::left("ROUTE", 32, 44, 9),
    Column::left("PHASE", 9, 9, 0),
    Column::left("DONE", 6, 26, 1),
    Column::right("ROWS", 6, 5),
    Column::right("ROWS/S", 6, 3),
    Column::left("TREND", 10, 24, 7),
    Column::right("ETA", 6, 4),
    Column::right("LAG", 7, 0),
    Column::left("STATE", 9, 9, 0),
    Column::right("AGE", 6, 2),
    Column::right("ERRORS", 6, 6),
    Column::right("OPEN", 4, 2),
];

/// Points of the sparkline: as many as its widest column.
const TREND_POINTS: usize = 24;

/// Rows of the charts beneath the list, with their title; fewer would not be read.
const CHARTS_HEIGHT_MIN: u16 = 6;

/// Rows beneath the list from which on the anomalies have a panel of their own.
const HEIGHT_WITH_ANOMALIES: u16 = 26;

/// Columns of the list of a migration's tables, where there is room for one.
const TABLES_WIDTH: u16 = 46;

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let rows = state.visible_migrations();
    let wanted = (rows.len() as u16).saturating_add(2).max(4);
    let list_height = if area.height >= 4 + CHARTS_HEIGHT_MIN && !rows.is_empty() {
        let charts = CHARTS_HEIGHT_MIN.max(area.height / 2);
        wanted.min(area.height - charts)
    } else {
        area.height
    };
    let [list, charts] =
        Layout::vertical([Constraint::Length(list_height), Constraint::Fill(1)]).areas(area);
    render_list(frame, list, state, &rows, theme);
    let Some(selected) = state.selected_migration().filter(|_| charts.height > 0) else {
        return;
    };
    // A tall terminal has room for both the charts and what was found in them.
    let found_height = if charts.height >= HEIGHT_WITH_ANOMALIES {
        match state.anomalies.rows.as_ref().map_or(0, Vec::len) {
            0 => 0,
            rows => (rows as u16).saturating_add(2).min(charts.height / 3),
        }
    } else {
        0
    };
    let [charts, found] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(found_height)]).areas(charts);
    render_selected(frame, charts, state, selected, theme);
    if found_height > 0 {
        anomalies::render_recent(frame, found, state, theme);
    }
}

fn render_list(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    rows: &[&MigrationRow],
    theme: Theme,
) {
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row, state)).collect();
    let selected = state.selected_migration();
    let table = Table {
        columns: COLUMNS,
        rows: &cells,
        selected: selected.and_then(|one| rows.iter().position(|row| row.id == one.id)),
        focused: true,
    };
    let mut title = panel::title("Migrations", true, state, theme);
    if let Some(all) = state
        .overview
        .migrations
        .as_ref()
        .filter(|all| !all.is_empty())
    {
        title.push(Span::styled(format!("  {}", summary(all)), theme.muted()));
    }
    let note = table::extent(
        &table,
        Rect {
            height: area.height.saturating_sub(1),
            ..area
        },
    );
    let inner = panel::open(frame, area, title, &note, theme);
    match &state.overview.migrations {
        None => panel::waiting(frame, inner, state, theme),
        Some(all) if all.is_empty() => panel::advise(frame, inner, &advice(state), theme),
        Some(all) if rows.is_empty() => {
            let line = format!(
                "none of {} migrations passes the filter; Esc clears it",
                all.len()
            );
            panel::advise(frame, inner, &[line], theme);
        }
        Some(_) => table::render(frame, inner, &table, theme),
    }
}

/// `3 (2 running)  1.2k rows/s  12.3M rows`
fn summary(rows: &[MigrationRow]) -> String {
    let running = rows.iter().filter(|row| row.phase.is_running()).count();
    let rate: f64 = rows.iter().filter_map(|row| row.rate).sum();
    let total: f64 = rows.iter().map(|row| row.rows_total as f64).sum();
    format!(
        "{} ({running} running)  {} rows/s  {} rows",
        rows.len(),
        text::number(rate),
        text::number(total)
    )
}

/// What to do when there is nothing to see.
fn advice(state: &State) -> Vec<String> {
    vec![
        "No migrations yet. Start one:".to_owned(),
        String::new(),
        format!(
            "  curl {}/api/v1/migrations \\",
            state.server.trim_end_matches('/')
        ),
        "    -H 'content-type: application/json' \\".to_owned(),
        "    -d '{\"id\": \"orders\", \"expected_rows\": 1000000}'".to_owned(),
        String::new(),
        "or bind CDC tables to one in the configuration:".to_owned(),
        String::new(),
        "  [[migration]]".to_owned(),
        "  id = \"orders\"".to_owned(),
        "  tables = [\"public.orders\"]".to_owned(),
        String::new(),
        "cutover demo shows a whole one; 2 shows the stream of changes.".to_owned(),
    ]
}

fn cells(row: &MigrationRow, state: &State) -> Vec<Cell> {
    let rate_tone = match (row.rate, row.expected_rate) {
        (Some(rate), Some(expected)) if row.phase.is_running() && rate < 0.5 * expected => {
            Tone::Warn
        }
        _ => Tone::Plain,
    };
    let rate = format!("{}{}", rate_tone.mark(), text::maybe(row.rate));
    let eta = match row.eta_seconds {
        Some(seconds) if row.phase.is_running() => text::seconds(seconds),
        _ => text::UNKNOWN.to_owned(),
    };
    let lag = state.as_of_now(row.lag);
    let errors_tone = if row.errors_total > 0 {
        Tone::Warn
    } else {
        Tone::Plain
    };
    vec![
        Cell::plain(&row.id),
        Cell::toned(&row.route, Tone::Muted),
        Cell::toned(row.phase.name(), Tone::of_phase(row.phase)),
        Cell::Progress(row.progress),
        Cell::plain(text::number(row.rows_total as f64)),
        Cell::toned(rate, rate_tone),
        Cell::Trend(trend(
            curve(&state.overview.throughput, &row.id),
            state.overview.window,
        )),
        Cell::plain(eta),
        lag_cell(&lag),
        lag_state_cell(&lag),
        Cell::plain(text::age(lag.age_seconds)),
        Cell::toned(text::number(row.errors_total as f64), errors_tone),
        open_cell(
            state
                .open_anomalies()
                .filter(|anomaly| anomaly.labels.get("migration_id") == Some(&row.id)),
        ),
    ]
}

/// The lag with a mark that says what the colour says.
pub(super) fn lag_cell(lag: &LagReading) -> Cell {
    match lag.seconds {
        Some(seconds) => {
            let tone = Tone::of_lag_seconds(seconds);
            Cell::toned(format!("{}{}", tone.mark(), text::seconds(seconds)), tone)
        }
        None => Cell::toned("?", Tone::Muted),
    }
}

/// `fresh, source`: what the number in a chart's title is to be read with.
pub(super) fn lag_words(lag: LagReading) -> String {
    format!("{}, {}", lag.state.name(), lag.kind.name())
}

pub(super) fn lag_state_cell(lag: &LagReading) -> Cell {
    Cell::toned(lag.state.name(), Tone::of_lag_state(lag.state))
}

/// How many anomalies are open, with the mark of the worst.
pub(super) fn open_cell<'a>(anomalies: impl Iterator<Item = &'a AnomalyRow>) -> Cell {
    let severities: Vec<Severity> = anomalies.map(|row| row.severity).collect();
    match severities.iter().max() {
        Some(worst) => {
            let tone = Tone::of_severity(*worst);
            Cell::toned(format!("{}{}", tone.mark(), severities.len()), tone)
        }
        None => Cell::toned("0", Tone::Muted),
    }
}

fn curve<'a>(curves: &'a [Curve], name: &str) -> Option<&'a Curve> {
    curves.iter().find(|curve| curve.name == name)
}

/// The window in [`TREND_POINTS`] parts, each with its last value.
fn trend(curve: Option<&Curve>, window: Option<Window>) -> Vec<Option<f64>> {
    let mut values = vec![None; TREND_POINTS];
    if let (Some(curve), Some(window)) = (curve, window) {
        let span_ms = window.end.ms_since(window.start).max(1);
        for &(at, value) in &curve.points {
            let passed_ms = at.ms_since(window.start);
            if (0..=span_ms).contains(&passed_ms) {
                let part = passed_ms as usize * TREND_POINTS / span_ms as usize;
                values[part.min(TREND_POINTS - 1)] = Some(value);
            }
        }
    }
    values
}

fn render_selected(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    selected: &MigrationRow,
    theme: Theme,
) {
    let overview = &state.overview;
    let tables_width = if area.width >= 150 && !selected.tables.is_empty() {
        TABLES_WIDTH
    } else {
        0
    };
    let [rate, lag, tables] = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(tables_width),
    ])
    .spacing(1)
    .areas(area);
    CurvePanel {
        title: "Throughput",
        unit_name: "rows/s",
        value: selected.rate,
        curve: curve(&overview.throughput, &selected.id),
        window: overview.window,
        unit: Unit::Number,
        levels: &[],
        note: &text::truncate_middle(&text::clean(&selected.id), 24),
    }
    .render(frame, rate, state, theme);
    CurvePanel {
        title: "Lag",
        unit_name: &lag_words(state.as_of_now(selected.lag)),
        value: selected.lag.seconds,
        curve: curve(&overview.lag, &selected.id),
        window: overview.window,
        unit: Unit::Seconds,
        levels: &[LAG_WARN.as_secs_f64(), LAG_CRITICAL.as_secs_f64()],
        note: &panel::window_note(overview.window, state),
    }
    .render(frame, lag, state, theme);
    if tables_width > 0 {
        render_tables(frame, tables, selected, theme);
    }
}

fn render_tables(frame: &mut Frame<'_>, area: Rect, selected: &MigrationRow, theme: Theme) {
    const TABLE_COLUMNS: &[Column] = &[
        Column::left("TABLE", 10, 26, 0),
        Column::right("ROWS", 6, 0),
        Column::right("ROWS/S", 6, 0),
    ];
    let rows: Vec<Vec<Cell>> = selected
        .tables
        .iter()
        .map(|table| {
            vec![
                Cell::plain(&table.name),
                Cell::plain(text::number(table.rows_total as f64)),
                Cell::plain(text::maybe(table.rate)),
            ]
        })
        .collect();
    let table = Table {
        columns: TABLE_COLUMNS,
        rows: &rows,
        selected: None,
        focused: false,
    };
    let note = table::extent(
        &table,
        Rect {
            height: area.height.saturating_sub(1),
            ..area
        },
    );
    let title = vec![Span::styled("Tables", theme.title(false))];
    let inner = panel::open(frame, area, title, &note, theme);
    table::render(frame, inner, &table, theme);
}
