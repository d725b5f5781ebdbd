//! Between which values a series has kept.

use serde::{Deserialize, Serialize};

/// The least and the largest value so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    least: f64,
    largest: f64,
}

impl Range {
    pub(super) fn of(value: f64) -> Self {
        Self {
            least: value,
            largest: value,
        }
    }

    pub(super) fn width(&self) -> f64 {
        self.largest - self.least
    }

    /// How far a value lies outside, negative below.
    pub(super) fn beyond(&self, value: f64) -> f64 {
        value - value.clamp(self.least, self.largest)
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        (self.least, self.largest)
    }

    pub(super) fn learn(&mut self, value: f64) {
        self.least = self.least.min(value);
        self.largest = self.largest.max(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_inside_or_beyond() {
        let mut range = Range::of(5.0);
        range.learn(3.0);
        range.learn(20.0);
        assert_eq!((range.width(), range.ends()), (17.0, (3.0, 20.0)));
        let beyond = [21.0, 4.0, 2.0].map(|value| range.beyond(value));
        assert_eq!(beyond, [1.0, 0.0, -1.0]);
    }
}
