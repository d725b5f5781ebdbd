//! The one place where the state changes: `update(&mut State, Action) -> Option<Effect>`.
//!
//! Pure: the same state and action always give the same result. It decides when to ask the server and
//! for what, but asks nobody itself.

mod asking;
mod typing;

use self::asking::{fetch_at_tick, fetch_screen, note_refused, note_unreachable, take_answer};
use self::typing::{accept, cancel, edit, evaluate, follow_filter, recall, type_text, typed_input};
use super::action::{Action, Command, Effect};
use super::state::{AnomalyRow, CdcPanel, Follow, Input, Mode, SPANS, Screen, State};
use super::view;

/// Rows that a page key moves.
const PAGE: usize = 10;

/// Takes in what happened; answers what is to be done about it.
pub fn update(state: &mut State, action: Action) -> Option<Effect> {
    match action {
        Action::Command(command) => command_given(state, command),
        Action::Type(character) => type_text(state, &character.to_string()),
        Action::Paste(text) => type_text(state, &text),
        Action::Resize { width, height } => {
            state.size = (width, height);
            None
        }
        Action::Tick { now, monotonic } => {
            state.local_now = now;
            state.monotonic = monotonic;
            let due = !state.fetching && monotonic >= state.next_fetch_at;
            due.then(|| fetch_at_tick(state))
        }
        Action::Loaded(loaded) => take_answer(state, *loaded),
        Action::Unreachable { reason } => {
            note_unreachable(state, reason);
            None
        }
        Action::Refused { reason } => {
            note_refused(state, reason);
            None
        }
    }
}

fn command_given(state: &mut State, command: Command) -> Option<Effect> {
    if state.mode == Mode::Help {
        return read_help(state, command);
    }
    match command {
        Command::Quit => Some(Effect::Quit),
        Command::Suspend => Some(Effect::Suspend),
        Command::Help => {
            state.mode = Mode::Help;
            state.help_offset = 0;
            None
        }
        Command::ShowOverview => show(state, Screen::Overview),
        Command::ShowCdc => show(state, Screen::Cdc),
        Command::ShowAnomalies => show(state, Screen::Anomalies),
        Command::ShowExplore => show(state, Screen::Explore),
        Command::NextScreen => show(state, state.screen.next()),
        Command::PreviousScreen => show(state, state.screen.previous()),
        Command::Up => select(state, |place, _| place.saturating_sub(1)),
        Command::Down => select(state, |place, _| place + 1),
        Command::PageUp => select(state, |place, _| place.saturating_sub(PAGE)),
        Command::PageDown => select(state, |place, _| place + PAGE),
        Command::First => select(state, |_, _| 0),
        Command::Last => select(state, |_, last| last),
        Command::NextPanel => {
            state.cdc.panel = match state.cdc.panel {
                CdcPanel::Tables => CdcPanel::Partitions,
                CdcPanel::Partitions => CdcPanel::Tables,
            };
            None
        }
        Command::Open => open_query(state),
        Command::Back => go_back(state),
        Command::Refresh => Some(fetch_screen(state)),
        Command::PauseOrResume
        | Command::Live
        | Command::Earlier
        | Command::Later
        | Command::ZoomIn
        | Command::ZoomOut => move_in_time(state, command),
        Command::Filter => {
            state.mode = Mode::Filter;
            None
        }
        Command::Edit => {
            let effect = (state.screen != Screen::Explore).then(|| visit(state, Screen::Explore));
            state.mode = Mode::Edit;
            effect.flatten()
        }
        Command::Accept => accept(state),
        Command::Cancel => cancel(state),
        Command::OlderExpression => recall(state, |place, _| place.saturating_sub(1)),
        Command::NewerExpression => recall(state, |place, len| (place + 1).min(len)),
        Command::CursorLeft
        | Command::CursorRight
        | Command::CursorStart
        | Command::CursorEnd
        | Command::DeleteBefore
        | Command::DeleteAfter
        | Command::DeleteWord
        | Command::DeleteLine => {
            edit(typed_input(state), command);
            follow_filter(state)
        }
    }
}

/// In the help the movements scroll, and only leaving does anything else.
fn read_help(state: &mut State, command: Command) -> Option<Effect> {
    let page = PAGE as u16;
    match command {
        Command::Quit => return Some(Effect::Quit),
        Command::Suspend => return Some(Effect::Suspend),
        Command::Back => state.mode = Mode::Normal,
        Command::Up => state.help_offset = state.help_offset.saturating_sub(1),
        Command::Down => state.help_offset = state.help_offset.saturating_add(1),
        Command::PageUp => state.help_offset = state.help_offset.saturating_sub(page),
        Command::PageDown => state.help_offset = state.help_offset.saturating_add(page),
        Command::First => state.help_offset = 0,
        Command::Last => state.help_offset = u16::MAX,
        _ => {}
    }
    // A key held down past the end would else have to be unwound as often as it was pressed.
    state.help_offset = state.help_offset.min(view::help::offset_max(state));
    None
}

fn show(state: &mut State, screen: Screen) -> Option<Effect> {
    state.back_to = None;
    turn_to(state, screen)
}

/// Shows a screen from which Esc leads back.
fn visit(state: &mut State, screen: Screen) -> Option<Effect> {
    let from = state.screen;
    let effect = turn_to(state, screen);
    state.back_to = (from != screen).then_some(from);
    effect
}

fn turn_to(state: &mut State, screen: Screen) -> Option<Effect> {
    if state.screen == screen {
        return None;
    }
    state.screen = screen;
    Some(fetch_screen(state))
}

fn go_back(state: &mut State) -> Option<Effect> {
    if !state.filter().is_empty() {
        *state.filter_mut() = Input::default();
        return refresh_chart(state);
    }
    let screen = state.back_to.take()?;
    turn_to(state, screen)
}

fn select(state: &mut State, to: impl Fn(usize, usize) -> usize) -> Option<Effect> {
    let (keys, selection) = state.visible_list();
    let place = selection.resolve(&keys)?;
    let last = keys.len() - 1;
    selection.select(&keys, to(place, last));
    refresh_chart(state)
}

/// Asks again when the chart on the screen is not that of the selected row.
fn refresh_chart(state: &mut State) -> Option<Effect> {
    let stands = match state.screen {
        Screen::Overview | Screen::Explore => true,
        Screen::Cdc => {
            let chart = state.cdc.data.as_ref().and_then(|data| data.chart.as_ref());
            state.selected_table().map(|row| &row.id) == chart.map(|chart| &chart.table)
        }
        Screen::Anomalies => {
            let charted = state.anomalies.chart.as_ref().map(|(key, _)| key.clone());
            state.selected_anomaly().map(AnomalyRow::key) == charted
        }
    };
    (!stands).then(|| fetch_screen(state))
}

fn move_in_time(state: &mut State, command: Command) -> Option<Effect> {
    let now = state.now();
    let half = state.span() / 2;
    let end = match state.follow {
        Follow::Live => now,
        Follow::Paused { end } => end,
    };
    match (command, state.follow) {
        (Command::PauseOrResume, Follow::Live) => {
            // The charts stand where they are: what was drawn is what is paused.
            state.follow = Follow::Paused { end };
            return None;
        }
        (Command::PauseOrResume | Command::Live, _) => state.follow = Follow::Live,
        (Command::Earlier, _) => {
            state.follow = Follow::Paused {
                end: end.before(half),
            };
        }
        (Command::Later, _) => {
            let later = end.after(half);
            state.follow = if later >= now {
                Follow::Live
            } else {
                Follow::Paused { end: later }
            };
        }
        (Command::ZoomIn, _) => state.zoom = state.zoom.saturating_sub(1),
        (Command::ZoomOut, _) => state.zoom = (state.zoom + 1).min(SPANS.len() - 1),
        _ => {}
    }
    Some(fetch_screen(state))
}

/// The query behind the selected row, on the explore screen.
fn open_query(state: &mut State) -> Option<Effect> {
    let expr = match state.screen {
        Screen::Overview => {
            let id = quoted(&state.selected_migration()?.id);
            format!("sum by (table_name) (rate(migration_rows_total{{migration_id={id}}}[1m]))")
        }
        Screen::Cdc if state.cdc.panel == CdcPanel::Tables => {
            let table = &state.selected_table()?.id;
            let (source, table) = (quoted(&table.source), quoted(&table.table));
            format!(
                "sum by (operation) (rate(cdc_events_processed_total{{source={source},table={table}}}[1m]))"
            )
        }
        Screen::Cdc => {
            let row = state.selected_partition()?;
            let (topic, partition) = (quoted(&row.topic), quoted(&row.partition));
            format!("cdc_consumer_lag_messages{{topic={topic},partition={partition}}}")
        }
        Screen::Anomalies => state.selected_anomaly()?.expr.clone(),
        Screen::Explore => return None,
    };
    state.explore.input.set(&expr);
    evaluate(state, expr);
    visit(state, Screen::Explore)
}

/// A text as a PromQL string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
