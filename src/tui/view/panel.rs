//! The frame of a panel: a rule with a title, and what to say where there is nothing to show.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::state::{Curve, Follow, State, Window};
use super::super::theme::{Theme, Tone};
use super::chart::{self, Base, Chart, Unit};
use super::text;

/// Draws the rule with `title` at its left and `note` at its right; answers the area beneath.
pub(super) fn open(
    frame: &mut Frame<'_>,
    area: Rect,
    title: Vec<Span<'static>>,
    note: &str,
    theme: Theme,
) -> Rect {
    let Some(row) = area.rows().next() else {
        return area;
    };
    let rule = |length: usize| Span::styled("─".repeat(length), theme.rule());
    let room = usize::from(area.width);
    let title_width: usize = title.iter().map(Span::width).sum();
    // The title comes first: a note that leaves it no room is left out.
    let fits = title_width + text::width(note) + 8 <= room;
    let note = if fits { note } else { "" };
    let note_width = if note.is_empty() {
        0
    } else {
        text::width(note) + 3
    };
    let title_room = room.saturating_sub(note_width + 3);
    let mut spans = vec![rule(1), Span::raw(" ")];
    spans.extend(cut(title, title_room));
    spans.push(Span::raw(" "));
    let used: usize = spans.iter().map(Span::width).sum();
    spans.push(rule(room.saturating_sub(used + note_width)));
    if !note.is_empty() {
        spans.push(Span::styled(format!(" {note} "), theme.muted()));
        spans.push(rule(1));
    }
    frame
        .buffer_mut()
        .set_line(row.x, row.y, &Line::from(spans), row.width);
    Rect {
        y: area.y + 1,
        height: area.height - 1,
        ..area
    }
}

/// A panel's name; when the server is away, with the time of what is shown.
pub(super) fn title(name: &str, focused: bool, state: &State, theme: Theme) -> Vec<Span<'static>> {
    let mut spans = vec![Span::styled(name.to_owned(), theme.title(focused))];
    if let (true, Some(at)) = (state.is_stale(), state.answered_at) {
        let at = text::moment(at, state.now(), &state.zone);
        spans.push(Span::styled(
            format!("  stale: {at}"),
            theme.tone(Tone::Warn),
        ));
    }
    spans
}

/// The spans in at most `room` columns; the one that does not fit is cut in its middle.
fn cut(spans: Vec<Span<'static>>, room: usize) -> Vec<Span<'static>> {
    let mut left = room;
    let mut kept = Vec::new();
    for span in spans {
        if left == 0 {
            break;
        }
        let content = text::truncate_middle(&text::clean(&span.content), left);
        left -= text::width(&content).min(left);
        kept.push(Span::styled(content, span.style));
    }
    kept
}

/// Lines of advice in an area: the first strong, the rest as written, cut at the edge.
pub(super) fn advise(frame: &mut Frame<'_>, area: Rect, lines: &[String], theme: Theme) {
    let buffer = frame.buffer_mut();
    for ((number, line), row) in lines.iter().enumerate().zip(area.rows()) {
        let style = if number == 0 {
            theme.strong()
        } else {
            Style::new()
        };
        let text = text::truncate_end(line, usize::from(row.width).saturating_sub(3));
        buffer.set_line(row.x + 2, row.y, &Line::styled(text, style), row.width - 2);
    }
}

/// What stands in a panel that waits for its first answer.
pub(super) fn waiting(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let line = if state.is_stale() {
        "waiting for the server".to_owned()
    } else {
        "loading…".to_owned()
    };
    let row = Rect {
        height: area.height.min(1),
        ..area
    };
    advise(frame, row, &[line], theme);
}

/// A chart of one curve with its name, its value and its window.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurvePanel<'a> {
    pub title: &'a str,
    pub unit_name: &'a str,
    /// The present value, as the row above says it.
    pub value: Option<f64>,
    pub curve: Option<&'a Curve>,
    pub window: Option<Window>,
    pub unit: Unit,
    /// Guide lines.
    pub levels: &'a [f64],
    pub note: &'a str,
}

impl CurvePanel<'_> {
    pub(super) fn render(&self, frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
        let last = match state.follow {
            Follow::Live => self.value,
            Follow::Paused { .. } => self.curve.and_then(Curve::last),
        };
        let last = match (last, self.unit) {
            (None, _) => String::new(),
            (Some(value), Unit::Number) => text::number(value),
            (Some(value), Unit::Seconds) => text::seconds(value),
        };
        let mut title = vec![Span::styled(self.title.to_owned(), theme.title(false))];
        if !last.is_empty() {
            title.push(Span::raw(format!("  {last}")));
            if !self.unit_name.is_empty() {
                title.push(Span::raw(format!(" {}", self.unit_name)));
            }
        }
        let inner = open(frame, area, title, self.note, theme);
        match (self.curve, self.window) {
            (Some(curve), Some(window)) if !curve.points.is_empty() => {
                let chart = Chart {
                    lines: &[&curve.points],
                    strong: None,
                    start: window.start,
                    end: window.end,
                    gap: window.gap(),
                    unit: self.unit,
                    base: Base::Zero,
                    band: None,
                    moments: &[],
                    levels: self.levels,
                };
                chart::render(frame, inner, &chart, &state.zone, theme);
            }
            (_, Some(_)) => {
                let line = format!("no samples in these {}", text::span(state.span()));
                let row = Rect {
                    height: inner.height.min(1),
                    ..inner
                };
                let line = Line::styled(line, theme.muted());
                frame
                    .buffer_mut()
                    .set_line(row.x + 2, row.y, &line, row.width.saturating_sub(2));
            }
            (_, None) => waiting(frame, inner, state, theme),
        }
    }
}

/// The window of the charts in a few words: `last 15m`, `15m to 12:03:04`.
pub(super) fn window_note(window: Option<Window>, state: &State) -> String {
    let span = text::span(state.span());
    match window {
        Some(window)
            if state.now().since(window.end)
                > window.step * 2 + std::time::Duration::from_secs(15) =>
        {
            let end = text::moment(window.end, state.now(), &state.zone);
            format!("{span} to {end}")
        }
        _ => format!("last {span}"),
    }
}
