//! Typing: the filter of a list, and expressions with their history.

use super::super::action::{Command, Effect};
use super::super::state::{Input, Mode, Selection, State};
use super::asking::fetch_screen;
use super::refresh_chart;

/// Accepted expressions that are remembered.
const HISTORY_MAX: usize = 100;

/// Characters in a filter or an expression; what is typed or pasted beyond is left out.
pub(super) const INPUT_CHARS_MAX: usize = 8 * 1024;

/// Makes an expression the explored one and remembers it.
pub(super) fn evaluate(state: &mut State, expr: String) {
    let explore = &mut state.explore;
    explore.history.retain(|older| *older != expr);
    explore.history.push(expr.clone());
    if explore.history.len() > HISTORY_MAX {
        explore.history.remove(0);
    }
    explore.history_place = explore.history.len();
    explore.result = None;
    explore.selection = Selection::default();
    explore.filter = Input::default();
    explore.expr = expr;
}

pub(super) fn accept(state: &mut State) -> Option<Effect> {
    let was_editing = state.mode == Mode::Edit;
    state.mode = Mode::Normal;
    let expr = state.explore.input.text().trim().to_owned();
    if !was_editing || expr.is_empty() {
        return None;
    }
    evaluate(state, expr);
    Some(fetch_screen(state))
}

pub(super) fn cancel(state: &mut State) -> Option<Effect> {
    if state.mode == Mode::Filter {
        *state.filter_mut() = Input::default();
    } else {
        let expr = state.explore.expr.clone();
        state.explore.input.set(&expr);
        state.explore.history_place = state.explore.history.len();
    }
    state.mode = Mode::Normal;
    refresh_chart(state)
}

pub(super) fn recall(state: &mut State, to: impl Fn(usize, usize) -> usize) -> Option<Effect> {
    let explore = &mut state.explore;
    explore.history_place = to(explore.history_place, explore.history.len());
    let text = explore.history.get(explore.history_place).cloned();
    explore.input.set(&text.unwrap_or_default());
    None
}

pub(super) fn typed_input(state: &mut State) -> &mut Input {
    if state.mode == Mode::Edit {
        &mut state.explore.input
    } else {
        state.filter_mut()
    }
}

pub(super) fn type_text(state: &mut State, text: &str) -> Option<Effect> {
    let input = typed_input(state);
    let room = INPUT_CHARS_MAX.saturating_sub(input.text().chars().count());
    // A pasted line break would end nothing here: expressions may be written over several lines.
    let typed = text.chars().map(|character| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    });
    input.before.extend(typed.take(room));
    follow_filter(state)
}

/// Narrowing a list may move its selection, and with it the chart.
pub(super) fn follow_filter(state: &mut State) -> Option<Effect> {
    (state.mode == Mode::Filter)
        .then(|| refresh_chart(state))
        .flatten()
}

pub(super) fn edit(input: &mut Input, command: Command) {
    match command {
        Command::CursorLeft => {
            if let Some(character) = input.before.pop() {
                input.after.insert(0, character);
            }
        }
        Command::CursorRight if !input.after.is_empty() => {
            input.before.push(input.after.remove(0));
        }
        Command::CursorStart => {
            input.after = input.text();
            input.before.clear();
        }
        Command::CursorEnd => {
            input.before = input.text();
            input.after.clear();
        }
        Command::DeleteBefore => {
            input.before.pop();
        }
        Command::DeleteAfter if !input.after.is_empty() => {
            input.after.remove(0);
        }
        Command::DeleteWord => {
            let kept = input.before.trim_end();
            let kept = kept.trim_end_matches(|character: char| !character.is_whitespace());
            input.before = kept.to_owned();
        }
        Command::DeleteLine => *input = Input::default(),
        _ => {}
    }
}
