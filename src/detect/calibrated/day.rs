//! What is usual at each time of the day.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The usual value of each quarter of an hour.
///
/// Of no use until a quarter was seen on some days. Single precision is plenty for means of noisy
/// numbers, and keeps a series' state small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Day {
    usual: Box<[f32]>,
    /// On how many days each quarter was seen.
    days: Box<[u8]>,
    /// The present quarter, and how many values it had so far.
    quarter: u8,
    values: u32,
}

const QUARTERS: usize = 96;
const QUARTER_MS: i64 = 900_000;
const QUARTER_SECONDS: f64 = 900.0;
const DAYS_MIN: u8 = 3;
/// The weight of the newest day among many.
const NEWEST_DAY: f64 = 0.05;
/// Beyond it, single precision has no numbers.
const VALUE_MAX: f64 = 1e38;

impl Default for Day {
    fn default() -> Self {
        Self {
            usual: vec![0.0; QUARTERS].into(),
            days: vec![0; QUARTERS].into(),
            quarter: u8::MAX,
            values: 0,
        }
    }
}

fn quarter(at: Timestamp) -> usize {
    let quarters = at.ms().div_euclid(QUARTER_MS);
    quarters.rem_euclid(QUARTERS as i64) as usize
}

impl Day {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.usual) + size_of_val(&*self.days)
    }

    /// The usual value at a time, once enough days say it.
    pub(super) fn usual(&self, at: Timestamp) -> Option<f64> {
        let quarter = quarter(at);
        (self.days[quarter] >= DAYS_MIN).then(|| f64::from(self.usual[quarter]))
    }

    /// Takes a value into its quarter. `bounded` keeps a deviation from the usual value within what is
    /// normal; `first` does so with the value as long as there is no usual one.
    pub(super) fn learn(
        &mut self,
        at: Timestamp,
        interval_seconds: f64,
        value: f64,
        first: impl Fn(f64) -> f64,
        bounded: impl Fn(f64) -> f64,
    ) {
        let quarter = quarter(at);
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

    const NOON: i64 = 48;

    fn at(day: i64, quarter: i64) -> Timestamp {
        Timestamp::from_ms((day * QUARTERS as i64 + quarter) * QUARTER_MS)
    }

    #[test]
    fn a_time_of_day_is_known_when_three_days_have_shown_it() {
        let mut day = Day::default();
        for passed in 0..5 {
            let noon = at(passed, NOON);
            assert_eq!(day.usual(noon).is_some(), passed >= 3, "day {passed}");
            // Three values of 7 at noon, then one of 9 in the next quarter.
            for (minute, value) in [(0, 7.0), (5, 7.0), (10, 7.0), (15, 9.0)] {
                let at = noon.offset_ms(minute * 60_000);
                day.learn(at, 300.0, value, |value| value, |by| by);
            }
        }
        assert_eq!(day.usual(at(-3, NOON)), Some(7.0));
        assert_eq!(day.usual(at(9, NOON + 1)), Some(9.0));
        assert_eq!(day.usual(at(9, 0)), None);
    }

    #[test]
    fn a_new_day_moves_what_is_usual_a_little() {
        let mut day = Day::default();
        for passed in 0..40 {
            let value = if passed < 39 { 1.0 } else { 2.0 };
            // One value of the quarter, then one of another.
            day.learn(at(passed, 0), 900.0, value, |value| value, |by| by);
            day.learn(at(passed, 1), 900.0, 0.0, |value| value, |by| by);
        }
        assert!((day.usual(at(40, 0)).unwrap() - 1.05).abs() < 1e-6);
    }
}
