//! Between which values a series has kept.

use serde::{Deserialize, Serialize};

/// The least and the largest normal value so far.
///
/// What is not normal is taken in when it is over; else it would lead its own bound along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    least: f64,
    largest: f64,
    pending_least: f64,
    pending_largest: f64,
}

impl Range {
    pub(super) fn of(value: f64) -> Self {
        Self {
            least: value,
            largest: value,
            pending_least: value,
            pending_largest: value,
        }
    }

    pub(super) fn width(&self) -> f64 {
        self.largest - self.least
    }

    /// How far a value lies outside.
    pub(super) fn beyond(&self, value: f64) -> f64 {
        (value - self.largest).max(self.least - value).max(0.0)
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        (self.least, self.largest)
    }

    /// Takes in a normal value, and what was put off before it.
    pub(super) fn learn(&mut self, value: f64) {
        self.least = self.least.min(self.pending_least).min(value);
        self.largest = self.largest.max(self.pending_largest).max(value);
        (self.pending_least, self.pending_largest) = (self.least, self.largest);
    }

    /// Puts a value off until the next that is normal.
    pub(super) fn put_off(&mut self, value: f64) {
        self.pending_least = self.pending_least.min(value);
        self.pending_largest = self.pending_largest.max(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_normal_widens_the_range_when_it_is_over() {
        let mut range = Range::of(5.0);
        range.learn(3.0);
        range.put_off(20.0);
        assert_eq!((range.beyond(21.0), range.beyond(2.0)), (16.0, 1.0));
        range.learn(4.0);
        assert_eq!((range.beyond(21.0), range.ends()), (1.0, (3.0, 20.0)));
    }
}
