//! Flapping: an alert that comes and goes is told once, and then held firing until it is steady.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::unit::format_duration;

/// When an alert counts as flapping: at more than `changes` changes within `window`. Without changes it
/// never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) changes: usize,
    pub(super) window: Duration,
}

/// How often an alert changed lately between firing and over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// The times of the latest changes, the oldest first; those in the window, and never more than tell.
    changes: Vec<Timestamp>,
    flapping_since: Option<Timestamp>,
}

impl Limits {
    /// How long a flapping alert has to stay as it is to be steady.
    pub(super) fn steady(self) -> Duration {
        self.window / 2
    }

    /// What is told of an alert that flaps.
    pub(super) fn text(self) -> String {
        format!(
            "changed more than {} times within {}; held firing until it has not changed for {}",
            self.changes,
            format_duration(self.window),
            format_duration(self.steady()),
        )
    }
}

impl History {
    pub(super) fn flapping_since(&self) -> Option<Timestamp> {
        self.flapping_since
    }

    /// Takes note of a change; whether the alert begins to flap with it.
    pub(super) fn change(&mut self, now: Timestamp, limits: Limits) -> bool {
        if limits.changes == 0 {
            return false;
        }
        self.changes.retain(|at| now.since(*at) < limits.window);
        self.changes.push(now);
        if self.changes.len() <= limits.changes {
            return false;
        }
        let surplus = self.changes.len() - limits.changes - 1;
        self.changes.drain(..surplus);
        let begins = self.flapping_since.is_none();
        self.flapping_since.get_or_insert(now);
        begins
    }

    /// When an alert that flaps is steady if nothing changes before; `None` where it does not flap.
    pub(super) fn steady_at(&self, limits: Limits) -> Option<Timestamp> {
        self.flapping_since?;
        let last = self.changes.last()?;
        Some(last.after(limits.steady()))
    }

    /// Whether the alert stops flapping at this moment.
    pub(super) fn settle(&mut self, now: Timestamp, limits: Limits) -> bool {
        let is_steady = self.steady_at(limits).is_some_and(|at| at <= now);
        if is_steady {
            *self = Self::default();
        }
        is_steady
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_over(&self, now: Timestamp, limits: Limits) -> bool {
        let last = self.changes.last();
        last.is_none_or(|last| now.since(*last) >= limits.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        changes: 3,
        window: Duration::from_secs(100),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1_000)
    }

    #[test]
    fn more_changes_than_the_limit_within_the_window_are_flapping_and_begin_once() {
        let mut history = History::default();
        let begins: Vec<bool> = [0, 10, 20, 30, 40, 50]
            .map(|time| history.change(at(time), LIMITS))
            .into();
        assert_eq!(begins, [false, false, false, true, false, false]);
        assert_eq!(history.flapping_since(), Some(at(30)));
        assert_eq!(history.changes.len(), 4);
    }

    #[test]
    fn changes_that_lie_further_apart_are_not() {
        let mut history = History::default();
        // Of every four in a row, the first is 102 s older than the last.
        assert!((0..50).all(|index| !history.change(at(index * 34), LIMITS)));
    }

    #[test]
    fn an_alert_is_steady_when_half_the_window_passed_without_a_change() {
        let mut history = History::default();
        for time in [0, 10, 20, 30, 60] {
            history.change(at(time), LIMITS);
        }
        assert_eq!(history.steady_at(LIMITS), Some(at(110)));
        assert!(!history.settle(at(109), LIMITS));
        assert!(history.settle(at(110), LIMITS));
        assert_eq!(history, History::default());
        assert!(!history.settle(at(300), LIMITS));
    }

    #[test]
    fn without_a_limit_nothing_flaps() {
        let limits = Limits {
            changes: 0,
            ..LIMITS
        };
        let mut history = History::default();
        assert!((0..50).all(|time| !history.change(at(time), limits)));
    }
}
