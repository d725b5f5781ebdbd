//! The explore screen: an expression, its chart, its series; or the server's own words why not.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::super::state::{Curve, Mode, State};
use super::super::theme::{Theme, Tone};
use super::chart::{self, Base, Chart, Point, Unit};
use super::footer::input_spans;
use super::panel;
use super::table::{self, Cell, Column, Table};
use super::text;

const COLUMNS: &[Column] = &[
    Column::left("", 2, 2, 0),
    Column::left("SERIES", 16, 160, 0),
    Column::right("LAST", 9, 0),
    Column::right("MIN", 9, 2),
    Column::right("AVG", 9, 3),
    Column::right("MAX", 9, 1),
];

/// Lines of one chart; more is a tangle, and the table has them all.
const LINES_MAX: usize = 24;

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let [prompt, rest] = Layout::vertical([Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    let note = panel::window_note(state.explore.window, state);
    let title = vec![Span::styled(
        "Expression",
        theme.title(state.mode == Mode::Edit),
    )];
    let line = panel::open(frame, prompt, title, &note, theme);
    render_prompt(frame, line, state, theme);
    match &state.explore.result {
        _ if state.explore.expr.is_empty() => panel::advise(frame, rest, &advice(), theme),
        None => panel::waiting(frame, rest, state, theme),
        Some(Err(words)) => render_error(frame, rest, words, theme),
        Some(Ok(curves)) if curves.is_empty() => {
            let line = format!(
                "no series in these {}; - looks further back",
                text::span(state.span())
            );
            panel::advise(frame, rest, &[line], theme);
        }
        Some(Ok(curves)) => render_result(frame, rest, state, curves, theme),
    }
}

/// The expression; the part around the cursor when it is longer than the line.
fn render_prompt(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let input = &state.explore.input;
    let room = usize::from(area.width).saturating_sub(6);
    let spans = if state.mode == Mode::Edit {
        let after = text::truncate_end(&input.after, (room / 3).max(1));
        let left = room.saturating_sub(text::width(&after));
        input_spans("> ", &tail(&input.before, left), &after, theme)
    } else if input.is_empty() {
        vec![Span::styled(" > : types an expression", theme.muted())]
    } else {
        let text = text::truncate_end(&input.text(), room);
        vec![Span::styled(" > ", theme.key()), Span::raw(text)]
    };
    frame
        .buffer_mut()
        .set_line(area.x, area.y, &Line::from(spans), area.width);
}

/// The end of a text, in at most `room` columns.
fn tail(text: &str, room: usize) -> String {
    let mut kept = text;
    while text::width(kept) > room {
        let mut characters = kept.chars();
        characters.next();
        kept = characters.as_str();
    }
    kept.to_owned()
}

fn advice() -> Vec<String> {
    vec![
        "Type a PromQL expression with : and see it drawn. For example:".to_owned(),
        String::new(),
        "  sum by (table) (rate(cdc_events_processed_total[1m]))".to_owned(),
        "  migration_data_lag_seconds".to_owned(),
        "  topk(5, cdc_consumer_lag_messages)".to_owned(),
        "  cutover_anomaly_score > 1".to_owned(),
        String::new(),
        "Enter on a row of another screen brings its query here.".to_owned(),
    ]
}

fn render_error(frame: &mut Frame<'_>, area: Rect, words: &str, theme: Theme) {
    let style = theme.tone(Tone::Critical);
    let room = usize::from(area.width).saturating_sub(4);
    let lines = words
        .lines()
        .flat_map(|line| text::wrap(&text::clean(line), room));
    let buffer = frame.buffer_mut();
    for (line, row) in lines.zip(area.rows()) {
        buffer.set_line(row.x + 2, row.y, &Line::styled(line, style), row.width - 2);
    }
}

fn render_result(frame: &mut Frame<'_>, area: Rect, state: &State, curves: &[Curve], theme: Theme) {
    let visible = state.visible_curves();
    let table_wanted = (visible.len() as u16).saturating_add(2).max(3);
    let table_height = table_wanted.min(area.height * 2 / 5).max(3);
    let [chart_area, table_area] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(table_height)]).areas(area);

    let selected = state.selected_curve();
    if let Some(window) = state.explore.window {
        render_chart(frame, chart_area, state, &visible, selected, window, theme);
    }

    let rows: Vec<Vec<Cell>> = visible
        .iter()
        .map(|(number, curve)| cells(*number, curve))
        .collect();
    let table = Table {
        columns: COLUMNS,
        rows: &rows,
        selected: selected
            .and_then(|selected| visible.iter().position(|(number, _)| *number == selected)),
        focused: state.mode == Mode::Normal,
    };
    let total = state.explore.series_total;
    let mut counts = format!("  {total}");
    if total > curves.len() {
        counts.push_str(&format!(", the first {} listed", curves.len()));
    }
    if visible.len() > LINES_MAX {
        counts.push_str(&format!(", {} and the selected one drawn", LINES_MAX - 1));
    }
    let mut title = panel::title("Series", false, state, theme);
    title.push(Span::styled(counts, theme.muted()));
    let note = table::extent(
        &table,
        Rect {
            height: table_area.height.saturating_sub(1),
            ..table_area
        },
    );
    let inner = panel::open(frame, table_area, title, &note, theme);
    table::render(frame, inner, &table, theme);
}

fn render_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    visible: &[(usize, &Curve)],
    selected: Option<usize>,
    window: super::super::state::Window,
    theme: Theme,
) {
    // A line keeps its colour, which is its number in the answer, whatever the filter leaves.
    let count = visible
        .iter()
        .map(|(number, _)| number + 1)
        .max()
        .unwrap_or(0);
    let mut lines: Vec<&[Point]> = vec![&[]; count];
    let first = visible.iter().take(LINES_MAX - 1);
    let chosen = visible
        .iter()
        .filter(|(number, _)| selected == Some(*number));
    for (number, curve) in first.chain(chosen) {
        lines[*number] = &curve.points;
    }
    let chart = Chart {
        lines: &lines,
        strong: selected,
        start: window.start,
        end: window.end,
        gap: window.gap(),
        unit: Unit::Number,
        base: Base::Fitting,
        band: None,
        moments: &[],
        levels: &[],
    };
    chart::render(frame, area, &chart, &state.zone, theme);
}

fn cells(number: usize, curve: &Curve) -> Vec<Cell> {
    let values = || {
        curve
            .points
            .iter()
            .map(|&(_, value)| value)
            .filter(|value| !value.is_nan())
    };
    let count = values().count();
    let average = (count > 0).then(|| values().sum::<f64>() / count as f64);
    vec![
        Cell::Swatch(number),
        Cell::plain(&curve.name),
        Cell::plain(text::maybe(curve.last())),
        Cell::plain(text::maybe(values().reduce(f64::min))),
        Cell::plain(text::maybe(average)),
        Cell::plain(text::maybe(values().reduce(f64::max))),
    ]
}
