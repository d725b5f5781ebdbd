//! Whether a series is a counter, and what it then says: its increase.

use serde::{Deserialize, Serialize};

/// Tells counters from other series by how they move, and makes rises of them.
///
/// A counter rises nearly always, is never negative, and falls only to less than half, when whatever
/// counts was restarted. Such a fall is not a drop: the rise before it stands for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counter {
    last: f64,
    rise: f64,
    seen: u32,
    rises: u32,
    resets: u32,
    /// It moved as no counter does, once and for all.
    is_refuted: bool,
    /// It is taken for a counter.
    counts: bool,
}

/// Values before a series can be taken for a counter.
const SEEN_MIN: u32 = 10;

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Meaning {
    pub(super) value: f64,
    /// What came before meant something else.
    pub(super) is_other: bool,
}

impl Counter {
    pub(super) fn read(&mut self, value: f64) -> Meaning {
        let rise = value - self.last;
        if value < 0.0 {
            self.is_refuted = true;
        } else if self.seen > 0 {
            if rise > 0.0 {
                self.rises += 1;
            } else if rise < 0.0 && value < 0.5 * self.last {
                self.resets += 1;
            } else if rise < 0.0 {
                self.is_refuted = true;
            }
            if rise >= 0.0 {
                self.rise = rise;
            }
        }
        self.last = value;
        let did_count = self.counts;
        self.counts = !self.is_refuted
            && self.seen >= SEEN_MIN
            && f64::from(self.rises) > 0.9 * f64::from(self.seen)
            && f64::from(self.resets) <= 1.0 + 0.02 * f64::from(self.seen);
        self.seen = self.seen.saturating_add(1);
        Meaning {
            value: if self.counts { self.rise } else { value },
            is_other: self.counts != did_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[f64]) -> Vec<Meaning> {
        let mut counter = Counter::default();
        values.iter().map(|value| counter.read(*value)).collect()
    }

    #[test]
    fn what_only_rises_is_a_counter_and_its_reset_no_drop() {
        let mut values: Vec<f64> = (0..20).map(|step| 5.0 * f64::from(step)).collect();
        values.extend([3.0, 9.0]);
        let meanings = read(&values);
        assert!(meanings[..10].iter().all(|meaning| !meaning.is_other));
        assert!(meanings[10].is_other && meanings[10].value == 5.0);
        let last: Vec<f64> = meanings[19..].iter().map(|meaning| meaning.value).collect();
        assert_eq!(last, [5.0, 5.0, 6.0]);
    }

    #[test]
    fn a_small_fall_says_that_it_is_no_counter() {
        let mut values: Vec<f64> = (0..20).map(f64::from).collect();
        values.extend([18.5, 19.5]);
        let meanings = read(&values);
        assert!(meanings[20].is_other);
        assert_eq!(meanings[21].value, 19.5);
        assert!(!meanings[21].is_other);
    }
}
