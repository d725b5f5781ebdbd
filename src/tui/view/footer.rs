//! The footer: the server's caption, then the filter being typed or the keys that hold here.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::keymap::BINDINGS;
use super::super::state::{Mode, State};
use super::super::theme::Theme;
use super::text;

pub(super) fn height(state: &State) -> u16 {
    if caption(state).is_empty() { 1 } else { 2 }
}

fn caption(state: &State) -> &str {
    state.health.as_ref().map_or("", |health| &health.caption)
}

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let mut rows = area.rows();
    let caption = caption(state);
    if !caption.is_empty()
        && let Some(row) = rows.next()
    {
        let text = text::truncate_end(&text::clean(caption), usize::from(row.width) - 2);
        let line = Line::styled(format!(" {text}"), theme.title(true));
        frame.buffer_mut().set_line(row.x, row.y, &line, row.width);
    }
    let Some(row) = rows.next() else {
        return;
    };
    let mut spans = filter(state, theme);
    let mut room = usize::from(row.width).saturating_sub(spans.iter().map(Span::width).sum());
    for (key, word) in hints(state) {
        let width = text::width(&key) + text::width(word) + 3;
        if width > room {
            break;
        }
        room -= width;
        spans.push(Span::styled(format!(" {key}"), theme.key()));
        spans.push(Span::styled(format!(" {word} "), theme.muted()));
    }
    frame
        .buffer_mut()
        .set_line(row.x, row.y, &Line::from(spans), row.width);
}

/// The filter with its cursor while it is typed, or as a reminder that rows are hidden.
fn filter(state: &State, theme: Theme) -> Vec<Span<'static>> {
    let filter = state.filter();
    if state.mode == Mode::Filter {
        return input_spans("/", &filter.before, &filter.after, theme);
    }
    if filter.is_empty() {
        return Vec::new();
    }
    let text = text::truncate_middle(&text::clean(&filter.text()), 20);
    vec![Span::styled(format!(" filter {text} "), theme.selected())]
}

/// A line being typed, with the cursor on the character that it stands before.
pub(super) fn input_spans(
    prompt: &str,
    before: &str,
    after: &str,
    theme: Theme,
) -> Vec<Span<'static>> {
    let mut rest = after.chars();
    let under = rest.next().unwrap_or(' ');
    vec![
        Span::styled(format!(" {prompt}"), theme.key()),
        Span::raw(before.to_owned()),
        Span::styled(under.to_string(), theme.selected()),
        Span::raw(format!("{} ", rest.as_str())),
    ]
}

/// The keys that hold here and have a place in the footer, in the key table's order.
fn hints(state: &State) -> impl Iterator<Item = (String, &'static str)> {
    BINDINGS
        .iter()
        .filter(|binding| binding.holds(state.mode, state.screen))
        .filter_map(|binding| {
            let key = binding.keys.first()?;
            Some((key.name(), binding.footer?))
        })
}
