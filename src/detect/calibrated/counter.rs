//! Whether a series is a counter, and what it then says: its increase.

use serde::{Deserialize, Serialize};

/// Tells counters from other series by how they move, and makes increases of their values.
///
/// A counter rises nearly always, is never negative, and falls only to less than half, when whatever
/// counts was restarted. Such a fall is no drop: the increase before it stands for it. Once a series
/// has moved as no counter does it is none, for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counter {
    nature: Nature,
    last: f64,
    increase: f64,
    seen: u32,
    rises: u32,
    resets: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Nature {
    #[default]
    Unknown,
    Counter,
    Other,
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meaning {
    /// What is judged: the value, or a counter's increase.
    pub(super) value: f64,
    /// What the series lies above that: 0, or a counter's value before.
    pub(super) base: f64,
    /// What came before meant something else.
    pub(super) is_other: bool,
}

/// Values before a series can be taken for a counter.
const SEEN_MIN: u32 = 10;
const RISES_MIN: f64 = 0.9;
/// Resets that are none yet, and the part of all values that may be one.
const RESETS_MAX: f64 = 1.0;
const RESETS_MAX_RATIO: f64 = 0.02;

impl Counter {
    /// What a counter's next increase adds to.
    pub(super) fn base(&self) -> f64 {
        match self.nature {
            Nature::Counter => self.last,
            Nature::Unknown | Nature::Other => 0.0,
        }
    }

    /// `intervals` says how many usual intervals have passed since the last value: what a counter did
    /// in a gap is spread over it.
    pub(super) fn read(&mut self, value: f64, intervals: f64) -> Meaning {
        let before = self.nature;
        if before != Nature::Other {
            self.observe(value, intervals);
        }
        let judged = match self.nature {
            Nature::Counter => self.increase,
            Nature::Unknown | Nature::Other => value,
        };
        let counted = |nature| nature == Nature::Counter;
        Meaning {
            value: judged,
            base: value - judged,
            is_other: counted(self.nature) != counted(before),
        }
    }

    fn observe(&mut self, value: f64, intervals: f64) {
        let rise = value - self.last;
        let is_reset = rise < 0.0 && value < 0.5 * self.last;
        if value < 0.0 || (self.seen > 0 && rise < 0.0 && !is_reset) {
            self.nature = Nature::Other;
            return;
        }
        if self.seen > 0 {
            self.rises += u32::from(rise > 0.0);
            self.resets += u32::from(is_reset);
            if !is_reset {
                self.increase = rise / intervals;
            }
        }
        self.last = value;
        let seen = f64::from(self.seen);
        if f64::from(self.resets) > RESETS_MAX + RESETS_MAX_RATIO * seen {
            self.nature = Nature::Other;
        } else if self.seen >= SEEN_MIN && f64::from(self.rises) > RISES_MIN * seen {
            self.nature = Nature::Counter;
        }
        self.seen = self.seen.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[f64]) -> Vec<Meaning> {
        let mut counter = Counter::default();
        let read = values.iter().map(|value| counter.read(*value, 1.0));
        read.collect()
    }

    fn rising(count: u32) -> Vec<f64> {
        (0..count).map(|step| 5.0 * f64::from(step)).collect()
    }

    #[test]
    fn what_only_rises_is_a_counter_and_its_reset_no_drop() {
        let mut values = rising(20);
        values.extend([3.0, 9.0]);
        let meanings = read(&values);
        assert!(meanings[..10].iter().all(|meaning| !meaning.is_other));
        assert!(meanings[10].is_other && meanings[10].value == 5.0);
        let last: Vec<_> = meanings[19..]
            .iter()
            .map(|meaning| (meaning.value, meaning.base))
            .collect();
        assert_eq!(last, [(5.0, 90.0), (5.0, -2.0), (6.0, 3.0)]);
    }

    #[test]
    fn a_counter_that_stands_still_stays_one() {
        let mut values = rising(20);
        values.extend([95.0; 1_000]);
        let meanings = read(&values);
        assert!(meanings[20..].iter().all(|meaning| meaning.value == 0.0));
    }

    #[test]
    fn a_small_fall_says_for_good_that_it_is_no_counter() {
        let mut values = rising(20);
        values.push(94.0);
        values.extend((95..300).map(f64::from));
        let meanings = read(&values);
        assert!(meanings[20].is_other);
        assert!(
            meanings[21..]
                .iter()
                .all(|meaning| meaning.base == 0.0 && !meaning.is_other)
        );
    }

    #[test]
    fn what_was_counted_in_a_gap_is_spread_over_it() {
        let mut counter = Counter::default();
        for value in rising(20) {
            counter.read(value, 1.0);
        }
        assert_eq!(counter.read(145.0, 10.0).value, 5.0);
    }

    #[test]
    fn what_falls_to_nothing_all_the_time_is_no_counter() {
        // Rises in 29 of 30 values, and a reset in every thirtieth.
        let saw: Vec<f64> = (1..2_000).map(|step| f64::from(step % 30)).collect();
        assert_eq!(read(&saw).last().map(|meaning| meaning.base), Some(0.0));
    }
}
