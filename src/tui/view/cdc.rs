//! The CDC screen: tables by the rate of their changes, partitions by what is left to read.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Span;

use super::super::state::{CdcData, CdcPanel, CdcTableRow, PartitionRow, State};
use super::super::theme::{LAG_CRITICAL, LAG_WARN, Theme, Tone};
use super::chart::Unit;
use super::overview::{lag_cell, lag_state_cell, lag_words, open_cell};
use super::panel::{self, CurvePanel};
use super::table::{self, Cell, Column, Table};
use super::text;

const TABLE_COLUMNS: &[Column] = &[
    Column::left("TABLE", 14, 48, 0),
    Column::left("SOURCE", 8, 24, 7),
    Column::right("ALL/S", 6, 0),
    Column::right("CREATE", 6, 3),
    Column::right("UPDATE", 6, 3),
    Column::right("DELETE", 6, 3),
    Column::right("READ", 6, 4),
    Column::right("OTHER", 6, 6),
    Column::right("EVENTS", 6, 5),
    Column::right("LAG", 7, 0),
    Column::left("STATE", 9, 9, 0),
    Column::right("AGE", 6, 1),
    Column::right("OPEN", 4, 2),
];

const PARTITION_COLUMNS: &[Column] = &[
    Column::left("TOPIC", 20, 60, 0),
    Column::right("PART", 4, 0),
    Column::right("LAG MESSAGES", 12, 0),
];

/// Rows of the charts with their title; fewer would not be read.
const CHARTS_HEIGHT_MIN: u16 = 7;

/// From this height on the charts have a third of it even when the lists want more.
const HEIGHT_WITH_CHARTS: u16 = 26;

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some(data) = &state.cdc.data else {
        let title = vec![Span::styled("Changes", theme.title(true))];
        let inner = panel::open(frame, area, title, "", theme);
        panel::waiting(frame, inner, state, theme);
        return;
    };
    if data.tables.is_empty() && data.partitions.is_empty() {
        let title = vec![Span::styled("Changes", theme.title(true))];
        let inner = panel::open(frame, area, title, "", theme);
        panel::advise(frame, inner, &advice(), theme);
        return;
    }
    let tables = state.visible_tables();
    let partitions = state.visible_partitions();
    // Tables take what they need, but leave the partitions at least a third.
    let partitions_wanted = (partitions.len() as u16).saturating_add(2).max(4);
    let tables_wanted = (tables.len() as u16).saturating_add(2).max(4);
    let left_over = area
        .height
        .saturating_sub(tables_wanted.saturating_add(partitions_wanted));
    let charts_height = match left_over {
        rows if area.height >= HEIGHT_WITH_CHARTS => rows.max(area.height / 3),
        rows if rows >= CHARTS_HEIGHT_MIN => rows,
        _ => 0,
    };
    let lists = area.height - charts_height;
    let tables_height = tables_wanted.min(lists - partitions_wanted.min(lists / 3));
    let [tables_area, partitions_area, charts] = Layout::vertical([
        Constraint::Length(tables_height),
        Constraint::Fill(1),
        Constraint::Length(charts_height),
    ])
    .areas(area);
    render_tables(frame, tables_area, state, &tables, data, theme);
    render_partitions(frame, partitions_area, state, &partitions, data, theme);
    if charts_height > 0 {
        render_charts(frame, charts, state, theme);
    }
}

fn advice() -> Vec<String> {
    vec![
        "No changes seen yet. Name the brokers and topics in the configuration:".to_owned(),
        String::new(),
        "  [kafka]".to_owned(),
        "  brokers = [\"localhost:9092\"]".to_owned(),
        "  topics = [\"shop.public.orders\"]".to_owned(),
        String::new(),
        "cutover demo plays a recorded stream.".to_owned(),
    ]
}

fn render_tables(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    rows: &[&CdcTableRow],
    data: &CdcData,
    theme: Theme,
) {
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| table_cells(row, state)).collect();
    let selected = state.selected_table();
    let table = Table {
        columns: TABLE_COLUMNS,
        rows: &cells,
        selected: selected.and_then(|one| rows.iter().position(|row| row.id == one.id)),
        focused: state.cdc.panel == CdcPanel::Tables,
    };
    let rate: f64 = data.tables.iter().map(|row| row.rates.total()).sum();
    let mut title = panel::title("Tables", table.focused, state, theme);
    let counts = format!("  {}  {} events/s", data.tables.len(), text::number(rate));
    title.push(Span::styled(counts, theme.muted()));
    let note = table::extent(
        &table,
        Rect {
            height: area.height.saturating_sub(1),
            ..area
        },
    );
    let inner = panel::open(frame, area, title, &note, theme);
    table::render(frame, inner, &table, theme);
}

fn table_cells(row: &CdcTableRow, state: &State) -> Vec<Cell> {
    let rate = |value: f64| {
        let tone = if value > 0.0 {
            Tone::Plain
        } else {
            Tone::Muted
        };
        Cell::toned(text::number(value), tone)
    };
    let lag = state.as_of_now(row.lag);
    // The events of a source outside any table, such as its messages, have an empty name.
    let name = if row.id.table.is_empty() {
        "(no table)"
    } else {
        &row.id.table
    };
    vec![
        Cell::plain(name),
        Cell::toned(&row.id.source, Tone::Muted),
        rate(row.rates.total()),
        rate(row.rates.create),
        rate(row.rates.update),
        rate(row.rates.delete),
        rate(row.rates.read),
        rate(row.rates.other),
        Cell::plain(text::number(row.events_total)),
        lag_cell(&lag),
        lag_state_cell(&lag),
        Cell::plain(text::age(lag.age_seconds)),
        open_cell(state.open_anomalies().filter(|anomaly| {
            let labels = ["table", "source_table"];
            labels
                .iter()
                .any(|name| anomaly.labels.get(*name) == Some(&row.id.table))
        })),
    ]
}

fn render_partitions(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    rows: &[&PartitionRow],
    data: &CdcData,
    theme: Theme,
) {
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            vec![
                Cell::plain(&row.topic),
                Cell::plain(&row.partition),
                Cell::plain(text::number(row.lag_messages)),
            ]
        })
        .collect();
    let selected = state.selected_partition();
    let table = Table {
        columns: PARTITION_COLUMNS,
        rows: &cells,
        selected: selected.and_then(|one| rows.iter().position(|row| row.key() == one.key())),
        focused: state.cdc.panel == CdcPanel::Partitions,
    };
    let behind: f64 = data.partitions.iter().map(|row| row.lag_messages).sum();
    let mut title = panel::title("Partitions", table.focused, state, theme);
    let counts = format!(
        "  {}  {} behind",
        data.partitions.len(),
        text::number(behind)
    );
    title.push(Span::styled(counts, theme.muted()));
    title.extend(dead_letters(data, theme));
    let note = table::extent(
        &table,
        Rect {
            height: area.height.saturating_sub(1),
            ..area
        },
    );
    let inner = panel::open(frame, area, title, &note, theme);
    table::render(frame, inner, &table, theme);
}

/// `! 3 dead letters (2 json, 1 op)`
fn dead_letters(data: &CdcData, theme: Theme) -> Vec<Span<'static>> {
    let total: f64 = data.dead_letters.iter().map(|row| row.count).sum();
    if total == 0.0 {
        return vec![Span::styled("  no dead letters", theme.muted())];
    }
    let mut reasons: Vec<(&str, f64)> = Vec::new();
    for row in data.dead_letters.iter().filter(|row| row.count > 0.0) {
        match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
            Some((_, count)) => *count += row.count,
            None => reasons.push((&row.reason, row.count)),
        }
    }
    reasons.sort_by(|one, other| other.1.total_cmp(&one.1));
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{} {reason}", text::number(count)))
        .collect();
    let line = format!(
        "  ! {} dead letters ({})",
        text::number(total),
        reasons.join(", ")
    );
    vec![Span::styled(line, theme.tone(Tone::Warn))]
}

fn render_charts(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let Some(selected) = state.selected_table() else {
        return;
    };
    let chart = state.cdc.data.as_ref().and_then(|data| data.chart.as_ref());
    let chart = chart.filter(|chart| chart.table == selected.id);
    let window = chart.and(state.cdc.window);
    let [rate, lag] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)])
        .spacing(1)
        .areas(area);
    CurvePanel {
        title: "Changes",
        unit_name: "events/s",
        value: Some(selected.rates.total()),
        curve: chart.and_then(|chart| chart.rate.as_ref()),
        window,
        unit: Unit::Number,
        levels: &[],
        note: &text::truncate_middle(&text::clean(&selected.id.table), 28),
    }
    .render(frame, rate, state, theme);
    CurvePanel {
        title: "Replication lag",
        unit_name: &lag_words(state.as_of_now(selected.lag)),
        value: selected.lag.seconds,
        curve: chart.and_then(|chart| chart.lag.as_ref()),
        window,
        unit: Unit::Seconds,
        levels: &[LAG_WARN.as_secs_f64(), LAG_CRITICAL.as_secs_f64()],
        note: &panel::window_note(state.cdc.window, state),
    }
    .render(frame, lag, state, theme);
}
