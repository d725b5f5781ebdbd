//! The anomalies screen: the open ones first, and beneath them the selected one's series, the band that
//! was expected of it, and what it says in one sentence.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::super::state::{AnomalyRow, Screen, State};
use super::super::theme::{Theme, Tone};
use super::chart::{self, Base, Chart, Unit};
use super::panel;
use super::table::{self, Cell, Column, Table};
use super::text;

const COLUMNS: &[Column] = &[
    Column::left("SEVERITY", 11, 11, 0),
    Column::left("STATE", 6, 6, 0),
    Column::left("WATCH", 14, 32, 0),
    Column::left("SERIES", 16, 72, 1),
    Column::left("SIDE", 4, 4, 5),
    Column::left("DETECTOR", 10, 10, 6),
    Column::right("OPENED", 11, 3),
    Column::right("LASTED", 6, 2),
    Column::right("SCORE", 5, 4),
    Column::right("MAX", 5, 4),
];

/// Rows of the chart with its title, its sentence and its axis.
const DETAIL_HEIGHT_MIN: u16 = 8;

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let rows = state.visible_anomalies();
    let wanted = (rows.len() as u16).saturating_add(2).max(4);
    let list_height = if rows.is_empty() || area.height < 4 + DETAIL_HEIGHT_MIN {
        area.height
    } else {
        wanted.min(area.height - DETAIL_HEIGHT_MIN.max(area.height * 3 / 5))
    };
    let [list, detail] =
        Layout::vertical([Constraint::Length(list_height), Constraint::Fill(1)]).areas(area);
    render_list(frame, list, state, &rows, theme);
    if let Some(selected) = state.selected_anomaly()
        && detail.height > 0
    {
        render_detail(frame, detail, state, selected, theme);
    }
}

/// The list alone, the open ones first, for another screen.
pub(super) fn render_recent(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let rows: Vec<&AnomalyRow> = state.anomalies.rows.iter().flatten().collect();
    render_list(frame, area, state, &rows, theme);
}

fn render_list(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    rows: &[&AnomalyRow],
    theme: Theme,
) {
    let cells: Vec<Vec<Cell>> = rows.iter().map(|row| cells(row, state)).collect();
    let focused = state.screen == Screen::Anomalies;
    let selected = state
        .selected_anomaly()
        .filter(|_| focused)
        .map(AnomalyRow::key);
    let table = Table {
        columns: COLUMNS,
        rows: &cells,
        selected: selected.and_then(|key| rows.iter().position(|row| row.key() == key)),
        focused,
    };
    let mut title = panel::title("Anomalies", focused, state, theme);
    if let Some(all) = &state.anomalies.rows {
        let open = all.iter().filter(|row| row.is_open()).count();
        let counts = format!("  {open} open, {} closed", all.len() - open);
        title.push(Span::styled(counts, theme.muted()));
    }
    let note = table::extent(
        &table,
        Rect {
            height: area.height.saturating_sub(1),
            ..area
        },
    );
    let inner = panel::open(frame, area, title, &note, theme);
    match &state.anomalies.rows {
        None => panel::waiting(frame, inner, state, theme),
        Some(all) if all.is_empty() => {
            let advice = [
                "No anomalies. The built-in watches cover:".to_owned(),
                String::new(),
                "  throughput of each migration and its tables".to_owned(),
                "  data lag, replication lag, consumer lag".to_owned(),
                "  error ratio, and events of each source table".to_owned(),
                String::new(),
                "A detector says nothing until it has learnt what is normal.".to_owned(),
            ];
            panel::advise(frame, inner, &advice, theme);
        }
        Some(all) if rows.is_empty() => {
            let line = format!(
                "none of {} anomalies passes the filter; Esc clears it",
                all.len()
            );
            panel::advise(frame, inner, &[line], theme);
        }
        Some(_) => table::render(frame, inner, &table, theme),
    }
}

fn cells(row: &AnomalyRow, state: &State) -> Vec<Cell> {
    // A closed one is history: it keeps its words and loses its colour.
    let tone = if row.is_open() {
        Tone::of_severity(row.severity)
    } else {
        Tone::Muted
    };
    let severity = match (row.is_open(), tone.mark()) {
        (true, mark @ ("!" | "!!")) => format!("{mark} {}", row.severity.name()),
        _ => row.severity.name().to_owned(),
    };
    let end = row.closed_at.unwrap_or(state.now());
    let lasted = end.since(row.opened_at).as_secs() as f64;
    let muted = if row.is_open() {
        Tone::Plain
    } else {
        Tone::Muted
    };
    vec![
        Cell::toned(severity, tone),
        Cell::toned(if row.is_open() { "open" } else { "closed" }, tone),
        Cell::toned(&row.watch, muted),
        Cell::toned(row.series_values(), muted),
        Cell::toned(&row.direction, muted),
        Cell::toned(&row.detector, muted),
        Cell::toned(text::moment(row.opened_at, state.now(), &state.zone), muted),
        Cell::toned(text::age(Some(lasted)), muted),
        Cell::toned(text::maybe(row.score), muted),
        Cell::toned(text::maybe(row.score_max), muted),
    ]
}

fn render_detail(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    selected: &AnomalyRow,
    theme: Theme,
) {
    let note = panel::window_note(state.anomalies.window, state);
    let name = format!("{}  ", selected.watch);
    let title = vec![
        Span::styled(name, theme.title(false)),
        Span::styled(selected.series(), theme.muted()),
    ];
    let inner = panel::open(frame, area, title, &note, theme);
    let sentence = text::wrap(
        &text::clean(&selected.summary),
        usize::from(inner.width).saturating_sub(4),
    );
    let sentence_max = usize::from(inner.height / 4).max(1);
    let numbers = numbers(selected, state);
    let shown = sentence.len().min(sentence_max);
    let [words, figures, chart_area] = Layout::vertical([
        Constraint::Length(shown as u16),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(inner);
    let buffer = frame.buffer_mut();
    for (line, row) in sentence.into_iter().zip(words.rows()) {
        buffer.set_line(row.x + 2, row.y, &Line::raw(line), row.width - 2);
    }
    let line = Line::styled(
        text::truncate_end(&numbers, usize::from(figures.width).saturating_sub(4)),
        theme.muted(),
    );
    buffer.set_line(
        figures.x + 2,
        figures.y,
        &line,
        figures.width.saturating_sub(2),
    );
    render_chart(frame, chart_area, state, selected, theme);
}

/// `observed 3.2  expected 120 (90 to 150)  · band  ┊ opened 12:03:04, closed 12:05:10`
fn numbers(row: &AnomalyRow, state: &State) -> String {
    let moment = |at| text::moment(at, state.now(), &state.zone);
    let closed = row
        .closed_at
        .map_or(String::new(), |at| format!(", closed {}", moment(at)));
    let band = match (row.lower, row.upper) {
        (None, None) => String::new(),
        (Some(lower), None) => format!(" (at least {})", text::number(lower)),
        (None, Some(upper)) => format!(" (at most {})", text::number(upper)),
        (Some(lower), Some(upper)) => {
            format!(" ({} to {})", text::number(lower), text::number(upper))
        }
    };
    format!(
        "observed {}  expected {}{band}  · band  ┊ opened {}{closed}",
        text::maybe(row.observed),
        text::maybe(row.expected),
        moment(row.opened_at),
    )
}

fn render_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    selected: &AnomalyRow,
    theme: Theme,
) {
    let row = Rect {
        height: area.height.min(1),
        ..area
    };
    let chart = state.anomalies.chart.as_ref();
    let charted = chart.filter(|(key, _)| *key == selected.key());
    let (Some((_, curve)), Some(window)) = (charted, state.anomalies.window) else {
        panel::waiting(frame, row, state, theme);
        return;
    };
    let Some(curve) = curve else {
        let line = format!(
            "no samples of this series in these {}",
            text::span(state.span())
        );
        panel::advise(frame, row, &[line], theme);
        return;
    };
    let mut moments = vec![selected.opened_at];
    moments.extend(selected.closed_at);
    let chart = Chart {
        lines: &[&curve.points],
        strong: None,
        start: window.start,
        end: window.end,
        gap: window.gap(),
        unit: Unit::Number,
        base: Base::Fitting,
        band: Some((selected.lower, selected.upper))
            .filter(|(lower, upper)| lower.is_some() || upper.is_some()),
        moments: &moments,
        levels: &[],
    };
    chart::render(frame, area, &chart, &state.zone, theme);
}
