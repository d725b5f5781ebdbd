//! The screens: pure functions from the state to a frame.
//!
//! A view reads the state and the theme and draws; it keeps nothing and asks nobody. One file a panel.
//! Every screen stands in the same frame:
//!
//! ```text
//! ┌───────────────────────────────────────────────┐
//! │ 1 Overview  2 CDC  3 Anomalies ...   12:03:04 │ header
//! │ ● live  http://127.0.0.1:9490     2 anomalies │
//! │ ! kafka degraded 12s: ...                     │ banner, when something is wrong
//! │─ Migrations ──────────────────────────────────│ the screen
//! │ ...                                           │
//! │ demo: snapshot of 3 tables                    │ caption, when the server has one
//! │ ? help  q quit  Tab screen                    │ footer
//! └───────────────────────────────────────────────┘
//! ```

pub mod chart;
pub mod help;
pub mod text;

mod anomalies;
mod cdc;
mod explore;
mod footer;
mod header;
mod overview;
mod panel;
mod table;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::state::{Mode, Screen, State};
use super::theme::Theme;

/// The smallest terminal that the screens are made for.
pub const WIDTH_MIN: u16 = 60;
pub const HEIGHT_MIN: u16 = 15;

/// Draws everything.
pub fn render(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        render_too_small(frame, area, theme);
        return;
    }
    let [header, body, footer] = self::frame(area, state);
    header::render(frame, header, state, theme);
    match state.screen {
        Screen::Overview => overview::render(frame, body, state, theme),
        Screen::Cdc => cdc::render(frame, body, state, theme),
        Screen::Anomalies => anomalies::render(frame, body, state, theme),
        Screen::Explore => explore::render(frame, body, state, theme),
    }
    if state.mode == Mode::Help {
        help::render(frame, body, state, theme);
    }
    footer::render(frame, footer, state, theme);
}

/// The header, the screen's own area and the footer.
fn frame(area: Rect, state: &State) -> [Rect; 3] {
    Layout::vertical([
        Constraint::Length(header::height(state)),
        Constraint::Fill(1),
        Constraint::Length(footer::height(state)),
    ])
    .areas(area)
}

fn render_too_small(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let text = [
        "cutover needs a bigger window:".to_owned(),
        format!(
            "{WIDTH_MIN} columns and {HEIGHT_MIN} rows; this is {} by {}",
            area.width, area.height
        ),
        "q quits".to_owned(),
    ];
    let wrapped = text
        .iter()
        .flat_map(|line| text::wrap(line, area.width.into()));
    let buffer = frame.buffer_mut();
    for (line, row) in wrapped.zip(area.rows()) {
        buffer.set_line(row.x, row.y, &Line::styled(line, theme.strong()), row.width);
    }
}
