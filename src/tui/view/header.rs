//! The header: screens and clock, the connection and what is open, and a banner when something is wrong.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::state::{Follow, Link, Screen, Severity, State};
use super::super::theme::{Theme, Tone};
use super::text;

/// Banners shown at once; the parts that follow are counted in the last one.
const BANNERS_MAX: usize = 2;

pub(super) fn height(state: &State) -> u16 {
    2 + banners(state).len().min(BANNERS_MAX) as u16
}

pub(super) fn render(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let mut rows = area.rows();
    let totals = Line::from(totals(state, theme));
    let room = usize::from(area.width).saturating_sub(totals.width() + 3);
    let lines = [
        (tabs(state, theme), Line::from(clock(state, area.width))),
        (status(state, room, theme), totals),
    ];
    for ((left, right), row) in lines.into_iter().zip(&mut rows) {
        let width = right.width() as u16;
        let buffer = frame.buffer_mut();
        buffer.set_line(row.x, row.y, &Line::from(left), row.width);
        buffer.set_line(row.right().saturating_sub(width + 1), row.y, &right, width);
    }
    for (text, row) in banners(state).into_iter().zip(rows) {
        let text = text::truncate_end(&text::clean(&text), usize::from(row.width) - 2);
        let line = Line::styled(format!(" {text}"), theme.tone(Tone::Warn));
        frame.buffer_mut().set_line(row.x, row.y, &line, row.width);
    }
}

fn tabs(state: &State, theme: Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (number, screen) in Screen::ALL.into_iter().enumerate() {
        let label = format!(" {} {} ", number + 1, screen.title());
        let style = if screen == state.screen {
            theme.selected().patch(theme.strong())
        } else {
            theme.muted()
        };
        spans.push(Span::styled(label, style));
    }
    spans
}

fn clock(state: &State, width: u16) -> Vec<Span<'static>> {
    let pattern = if width >= 100 {
        "%a %Y-%m-%d %H:%M:%S %:z"
    } else {
        "%H:%M:%S %:z"
    };
    vec![Span::raw(text::time(state.now(), &state.zone, pattern))]
}

/// How it stands with the server, which one, and what it runs as far as there is room.
fn status(state: &State, room: usize, theme: Theme) -> Vec<Span<'static>> {
    let (mark, word, tone) = match (&state.link, state.follow) {
        (Link::Disconnected { .. }, _) => ("✗", "disconnected".to_owned(), Tone::Critical),
        (Link::Connecting, _) => ("○", "connecting".to_owned(), Tone::Muted),
        (Link::Connected, Follow::Live) => ("●", "live".to_owned(), Tone::Ok),
        (Link::Connected, Follow::Paused { end }) => {
            let end = text::moment(end, state.now(), &state.zone);
            ("‖", format!("paused at {end}"), Tone::Warn)
        }
    };
    let link = Span::styled(format!(" {mark} {word}  "), theme.tone(tone));
    let room = room.saturating_sub(link.width());
    let server = Span::raw(text::truncate_middle(&text::clean(&state.server), room));
    let mut room = room - server.width();
    let mut spans = vec![link, server];
    if let Some(health) = &state.health {
        let up = text::elapsed(state.now().since(health.started_at));
        let version = format!("  v{}", text::clean(&health.version));
        for part in [version, format!("  up {up}")] {
            let part = Span::styled(part, theme.muted());
            if part.width() > room {
                break;
            }
            room -= part.width();
            spans.push(part);
        }
    }
    spans
}

/// How many anomalies are open, by severity.
fn totals(state: &State, theme: Theme) -> Vec<Span<'static>> {
    if state.anomalies.rows.is_none() {
        return Vec::new();
    }
    let mut spans = Vec::new();
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let count = state
            .open_anomalies()
            .filter(|row| row.severity == severity)
            .count();
        if count > 0 {
            let style = theme.tone(Tone::of_severity(severity));
            spans.push(Span::styled(format!("{count} {}", severity.name()), style));
            spans.push(Span::raw("  "));
        }
    }
    match spans.pop() {
        Some(_) => {}
        None => spans.push(Span::styled("no open anomalies", theme.tone(Tone::Ok))),
    }
    spans
}

/// What is wrong, a line each, the worst first.
fn banners(state: &State) -> Vec<String> {
    let mut lines = Vec::new();
    if let Link::Disconnected { since, reason, .. } = &state.link {
        let away = text::elapsed(
            state
                .now()
                .since(*since)
                .max(std::time::Duration::from_secs(1)),
        );
        let retry = state
            .next_fetch_at
            .saturating_sub(state.monotonic)
            .as_secs()
            .max(1);
        let next = if state.fetching {
            "trying now".to_owned()
        } else {
            format!("next try in {retry}s")
        };
        lines.push(format!("!! no connection for {away}, {next}: {reason}"));
    }
    if let Some(refusal) = &state.refusal {
        lines.push(format!("! the server refused: {refusal}"));
    }
    let troubles = state.health.iter().flat_map(|health| &health.troubles);
    for trouble in troubles.filter(|_| !state.is_stale()) {
        let since = text::elapsed(state.now().since(trouble.since));
        let mark = if trouble.state == "failed" { "!!" } else { "!" };
        let (part, word) = (&trouble.part, &trouble.state);
        lines.push(format!(
            "{mark} {part} {word} for {since}: {}",
            trouble.message
        ));
    }
    if lines.len() > BANNERS_MAX {
        let more = lines.len() - BANNERS_MAX;
        lines.truncate(BANNERS_MAX);
        if let Some(last) = lines.last_mut() {
            *last = format!("(+{more} more) {last}");
        }
    }
    lines
}
