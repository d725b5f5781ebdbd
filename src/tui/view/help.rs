//! The help overlay: the whole key table, by topic, and how lags are to be read.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use super::super::keymap::{Topic, help};
use super::super::state::State;
use super::super::theme::{ColorLevel, Theme};
use super::{panel, text};

/// Columns of one topic, and of the keys in it.
const TOPIC_WIDTH: u16 = 40;
const KEYS_WIDTH: usize = 12;

/// Where scrolling stops in a terminal of the state's size.
pub fn offset_max(state: &State) -> u16 {
    let (width, height) = state.size;
    let lines = lines(Theme::new(ColorLevel::None)).len();
    let [_, body, _] = super::frame(Rect::new(0, 0, width, height), state);
    let (column, visible) = (lines.div_ceil(columns(body)), visible(body));
    column.saturating_sub(visible) as u16
}

fn columns(area: Rect) -> usize {
    usize::from(area.width / TOPIC_WIDTH).clamp(1, 3)
}

/// Lines under the title.
fn visible(area: Rect) -> usize {
    usize::from(area.height).saturating_sub(1)
}

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    frame.render_widget(Clear, area);
    let lines = lines(theme);
    let lines_a_column = lines.len().div_ceil(columns(area));
    let offset_max = lines_a_column.saturating_sub(visible(area));
    let offset = usize::from(state.help_offset).min(offset_max);
    let note = match (offset_max, offset) {
        (0, _) => "",
        (_, 0) => "more below: ↓",
        (last, offset) if offset == last => "more above: ↑",
        _ => "more: ↑ ↓",
    };
    let title = vec![Span::styled("Keys", theme.title(true))];
    let inner = panel::open(frame, area, title, note, theme);
    let width = inner.width / columns(area) as u16;
    for (number, column) in lines.chunks(lines_a_column).enumerate() {
        let x = inner.x + number as u16 * width;
        for (line, row) in column.iter().skip(offset).zip(inner.rows()) {
            frame.buffer_mut().set_line(x, row.y, line, width);
        }
    }
}

fn lines(theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for topic in Topic::ALL {
        lines.push(Line::styled(format!(" {}", topic.title()), theme.strong()));
        for (keys, hint) in help(topic) {
            let pad = " ".repeat(KEYS_WIDTH.saturating_sub(text::width(&keys)).max(1));
            lines.push(Line::from(vec![
                Span::styled(format!("  {keys}{pad}"), theme.key()),
                Span::raw(hint),
            ]));
        }
    }
    lines.push(Line::styled(" Lag", theme.strong()));
    for (mark, meaning) in [
        ("!  60s", "a minute and more"),
        ("!! 300s", "five minutes and more"),
        ("fresh", "event or heartbeat lately"),
        ("idle", "nothing to do, proven"),
        ("stale", "our own reading is old"),
        ("stalled", "no event, not proven idle"),
        ("skewed", "source's clock is ahead"),
        ("throttled", "the tool holds back"),
    ] {
        let pad = " ".repeat(KEYS_WIDTH.saturating_sub(text::width(mark)));
        lines.push(Line::from(vec![
            Span::styled(format!("  {mark}{pad}"), theme.strong()),
            Span::raw(meaning),
        ]));
    }
    lines
}
