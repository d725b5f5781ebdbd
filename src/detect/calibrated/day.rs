//! What is usual at each time of the day.

use serde::{Deserialize, Serialize};

/// The usual value of each quarter of an hour.
///
/// Of no use until a quarter was seen on some days. Single precision is plenty for means of noisy
/// numbers, and keeps a series' state small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Day {
    usual: Vec<f32>,
    /// On how many days each quarter was seen.
    days: Vec<u8>,
    /// The present quarter, and how many values it had so far.
    quarter: u8,
    values: u32,
}

const QUARTERS: usize = 96;
const QUARTER_SECONDS: f64 = 900.0;
const DAY_SECONDS: f64 = 86_400.0;
const DAYS_MIN: u8 = 3;
/// The weight of the newest day among many.
const NEWEST_DAY: f64 = 0.05;
/// Beyond it, single precision has no numbers.
const VALUE_MAX: f64 = 1e38;

impl Default for Day {
    fn default() -> Self {
        Self {
            usual: vec![0.0; QUARTERS],
            days: vec![0; QUARTERS],
            quarter: u8::MAX,
            values: 0,
        }
    }
}

fn quarter(at_seconds: f64) -> usize {
    (at_seconds.rem_euclid(DAY_SECONDS) / QUARTER_SECONDS) as usize % QUARTERS
}

impl Day {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.usual.as_slice()) + size_of_val(self.days.as_slice())
    }

    /// The usual value at a time, once enough days say it.
    pub(super) fn usual(&self, at_seconds: f64) -> Option<f64> {
        let quarter = quarter(at_seconds);
        (self.days[quarter] >= DAYS_MIN).then(|| f64::from(self.usual[quarter]))
    }

    /// Takes a value into its quarter. `bounded` keeps a deviation from the usual value within what is
    /// normal; `first` does so with the value as long as there is no usual one.
    pub(super) fn learn(
        &mut self,
        at_seconds: f64,
        interval_seconds: f64,
        value: f64,
        first: impl Fn(f64) -> f64,
        bounded: impl Fn(f64) -> f64,
    ) {
        let quarter = quarter(at_seconds);
        let days = &mut self.days[quarter];
        if usize::from(self.quarter) != quarter {
            self.quarter = quarter as u8;
            self.values = 0;
            *days = days.saturating_add(1);
        }
        self.values = self.values.saturating_add(1);
        let weight = if *days < 2 {
            1.0 / f64::from(self.values)
        } else {
            let values_a_day = (QUARTER_SECONDS / interval_seconds).max(1.0);
            (1.0 / f64::from(*days)).max(NEWEST_DAY) / values_a_day
        };
        let usual = f64::from(self.usual[quarter]);
        let deviation = if *days < DAYS_MIN {
            first(value) - usual
        } else {
            bounded(value - usual)
        };
        let moved = usual + weight * deviation;
        self.usual[quarter] = moved.clamp(-VALUE_MAX, VALUE_MAX) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_known_when_three_days_have_shown_it() {
        let mut day = Day::default();
        let noon = 12.0 * 3_600.0;
        for passed in 0..5 {
            let at = f64::from(passed) * DAY_SECONDS + noon;
            assert_eq!(day.usual(at).is_some(), passed >= 3, "day {passed}");
            // Three values of 7 at noon, then one of 9 in the next quarter.
            for (minute, value) in [(0.0, 7.0), (5.0, 7.0), (10.0, 7.0), (15.0, 9.0)] {
                day.learn(at + 60.0 * minute, 300.0, value, |value| value, |by| by);
            }
        }
        assert_eq!(day.usual(noon), Some(7.0));
        assert_eq!(day.usual(noon + 900.0), Some(9.0));
        assert_eq!(day.usual(0.0), None);
    }

    #[test]
    fn a_new_day_moves_what_is_usual_a_little() {
        let mut day = Day::default();
        for passed in 0..40 {
            let at = f64::from(passed) * DAY_SECONDS;
            let value = if passed < 39 { 1.0 } else { 2.0 };
            // One value of the quarter, then one of another.
            day.learn(at, 900.0, value, |value| value, |by| by);
            day.learn(at + 900.0, 900.0, 0.0, |value| value, |by| by);
        }
        assert!((day.usual(0.0).unwrap() - 1.05).abs() < 1e-6);
    }
}
