//! How often a series has values.

use serde::{Deserialize, Serialize};

/// The usual interval between two values: their running median, which gaps do not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    at_seconds: f64,
    interval_seconds: f32,
    count: u32,
}

/// Intervals of which the shortest says where the median begins.
const FIRST: u32 = 10;
const STEP: f32 = 0.02;
const INTERVAL_MIN: f64 = 0.001;
const INTERVAL_MAX: f64 = 1e9;
/// An interval up to so many usual ones is jitter, not a gap.
const JITTER: f64 = 1.5;

impl Pace {
    /// Takes the time of the next value; how many usual intervals have passed, at least 1.
    pub(super) fn pass(&mut self, at_seconds: f64) -> f64 {
        let elapsed = (at_seconds - self.at_seconds).clamp(INTERVAL_MIN, INTERVAL_MAX);
        self.at_seconds = at_seconds;
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            return 1.0;
        }
        let newest = elapsed as f32;
        self.interval_seconds = if self.count == 2 {
            newest
        } else if self.count <= FIRST {
            self.interval_seconds.min(newest)
        } else if newest > self.interval_seconds {
            (self.interval_seconds * (1.0 + STEP)).min(newest)
        } else {
            (self.interval_seconds * (1.0 - STEP)).max(newest)
        };
        let intervals = elapsed / self.interval_seconds();
        if intervals > JITTER { intervals } else { 1.0 }
    }

    pub(super) fn interval_seconds(&self) -> f64 {
        f64::from(self.interval_seconds).max(INTERVAL_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_in_intervals_and_does_not_change_them() {
        let mut pace = Pace::default();
        let passed: Vec<f64> = [0.0, 15.0, 30.0, 45.1, 345.0, 360.0]
            .into_iter()
            .map(|at| pace.pass(at))
            .collect();
        assert_eq!(passed[..4], [1.0; 4]);
        assert!((passed[4] - 20.0).abs() < 0.01, "{passed:?}");
        assert_eq!((passed[5], pace.interval_seconds()), (1.0, 15.0));
    }

    #[test]
    fn another_pace_is_learned_and_a_clock_that_steps_back_is_survived() {
        let mut pace = Pace::default();
        for value in 0..100 {
            pace.pass(f64::from(value) * 15.0);
        }
        for value in 0..200 {
            pace.pass(f64::from(value) * 60.0);
        }
        assert_eq!(pace.interval_seconds(), 60.0);
    }
}
