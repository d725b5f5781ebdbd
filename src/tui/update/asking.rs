//! When to ask the server and for what, and what to make of its answer or its silence.

use std::time::Duration;

use super::super::action::{AnomalyQuery, Effect, Loaded, LoadedPart, Request, Scope};
use super::super::state::{Follow, Link, Screen, State, Window};
use super::refresh_chart;
use crate::model::Timestamp;

/// How often a reachable server is asked.
const POLL: Duration = Duration::from_secs(2);

/// The longest pause between attempts to reach a server that is away.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Asks for what the visible screen shows, at once.
pub(super) fn fetch_screen(state: &mut State) -> Effect {
    state.wanted = true;
    let scope = screen_scope(state);
    fetch(state, scope)
}

/// While paused, only the connection is looked after, unless something is still owed to the screen.
pub(super) fn fetch_at_tick(state: &mut State) -> Effect {
    let scope = if state.follow == Follow::Live || state.wanted {
        screen_scope(state)
    } else {
        Scope::Link
    };
    fetch(state, scope)
}

fn fetch(state: &mut State, scope: Scope) -> Effect {
    state.fetching = true;
    state.fetch_started_at = state.monotonic;
    let at = match state.follow {
        Follow::Live => state.now(),
        Follow::Paused { end } => end,
    };
    Effect::Fetch(Request {
        window: window(state, &scope),
        at,
        scope,
    })
}

fn screen_scope(state: &State) -> Scope {
    match state.screen {
        Screen::Overview => Scope::Overview,
        Screen::Cdc => Scope::Cdc {
            charted: state.selected_table().map(|row| row.id.clone()),
        },
        Screen::Anomalies => Scope::Anomalies {
            charted: state.selected_anomaly().map(|row| AnomalyQuery {
                key: row.key(),
                expr: row.expr.clone(),
                labels: row.labels.clone(),
            }),
        },
        Screen::Explore if state.explore.expr.is_empty() => Scope::Link,
        Screen::Explore => Scope::Explore {
            expr: state.explore.expr.clone(),
        },
    }
}

/// The window to ask for. An anomaly that closed before the live window is shown where it was.
fn window(state: &State, scope: &Scope) -> Window {
    let window = state.window();
    if let (Scope::Anomalies { .. }, Follow::Live) = (scope, state.follow)
        && let Some(closed_at) = state.selected_anomaly().and_then(|row| row.closed_at)
        && closed_at < window.start
    {
        return Window::ending_at(closed_at.after(state.span() / 4), state.span());
    }
    window
}

pub(super) fn take_answer(state: &mut State, loaded: Loaded) -> Option<Effect> {
    state.fetching = false;
    state.link = Link::Connected;
    state.refusal = None;
    state.next_fetch_at = next_fetch_at(state);
    state.clock_offset_ms = clock_offset_ms(loaded.health.now, state.local_now);
    state.answered_at = Some(loaded.health.now);
    state.health = Some(loaded.health);
    let mut anomalies = loaded.anomalies;
    anomalies.sort_by_key(|row| (!row.is_open(), std::cmp::Reverse(row.opened_at)));
    state.anomalies.rows = Some(anomalies);

    let window = Some(loaded.window);
    match loaded.part {
        LoadedPart::Nothing => {
            // Nothing is all that an explore screen without an expression wants.
            state.wanted &= screen_scope(state) != Scope::Link;
            // An anomaly may have opened at the top of the list, with no chart of it yet.
            return refresh_chart(state);
        }
        LoadedPart::Overview {
            migrations,
            throughput,
            lag,
        } => {
            let overview = &mut state.overview;
            overview.migrations = Some(migrations);
            (overview.throughput, overview.lag, overview.window) = (throughput, lag, window);
        }
        LoadedPart::Cdc(data) => {
            (state.cdc.data, state.cdc.window) = (Some(data), window);
        }
        LoadedPart::Anomalies { chart } => {
            (state.anomalies.chart, state.anomalies.window) = (chart, window);
        }
        LoadedPart::Explore {
            expr,
            result,
            series_total,
        } => {
            if expr == state.explore.expr {
                state.explore.series_total = series_total;
                (state.explore.result, state.explore.window) = (Some(result), window);
            }
        }
    }
    state.wanted = false;
    pin_selection(state);
    // The first answer brings the rows, and only then is it known which one to chart.
    refresh_chart(state)
}

/// From the first answer on the selected row is a row, not the top of a list that reorders itself. Only
/// the anomalies stay with the top until the operator moves: that is where a new one appears.
fn pin_selection(state: &mut State) {
    if state.screen != Screen::Anomalies {
        let (keys, selection) = state.visible_list();
        if let Some(place) = selection.resolve(&keys) {
            selection.select(&keys, place);
        }
    }
}

/// How far the server's clock is ahead. Less than two seconds is the road and the tick, not the clock.
fn clock_offset_ms(server: Timestamp, local: Timestamp) -> i64 {
    let offset_ms = server.ms_since(local);
    if offset_ms.abs() < 2_000 {
        0
    } else {
        offset_ms
    }
}

/// A server that refuses is there: what it said is shown, and it is asked again as ever.
pub(super) fn note_refused(state: &mut State, reason: String) {
    state.fetching = false;
    state.link = Link::Connected;
    state.refusal = Some(reason);
    state.next_fetch_at = next_fetch_at(state);
}

/// A server that takes its time is asked less often: it spends at most a fifth of it on this dashboard.
fn next_fetch_at(state: &State) -> Duration {
    let took = state.monotonic.saturating_sub(state.fetch_started_at);
    state.monotonic + POLL.max(took * 4)
}

pub(super) fn note_unreachable(state: &mut State, reason: String) {
    let now = state.now();
    state.fetching = false;
    let (since, attempts) = match state.link {
        Link::Disconnected {
            since, attempts, ..
        } => (since, attempts.saturating_add(1)),
        Link::Connecting | Link::Connected => (now, 1),
    };
    // 1, 2, 4, 8, then every 10 seconds.
    let pause = Duration::from_secs(1 << (attempts - 1).min(4)).min(RETRY_MAX);
    state.next_fetch_at = state.monotonic + pause;
    state.link = Link::Disconnected {
        since,
        attempts,
        reason,
    };
}
