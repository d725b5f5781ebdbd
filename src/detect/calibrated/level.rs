//! Mean and deviation of a stream, forgotten exponentially.

use serde::{Deserialize, Serialize};

/// The first numbers are weighed equally, so that the start is exact. The deviation is kept, not its
/// square: it is asked for more often than it changes. Single precision is plenty for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    mean: f64,
    deviation: f32,
    count: u32,
}

/// Beyond it, single precision has no numbers.
const DEVIATION_MAX: f64 = 1e38;

impl Level {
    /// `weight` is that of the newest number once there are many.
    pub(super) fn learn(&mut self, value: f64, weight: f64) {
        self.count = self.count.saturating_add(1);
        let weight = weight.max(1.0 / f64::from(self.count));
        let deviation = value - self.mean;
        self.mean += weight * deviation;
        let before = f64::from(self.deviation);
        let variance = before * before + weight * deviation * deviation;
        let after = ((1.0 - weight) * variance).sqrt();
        self.deviation = after.min(DEVIATION_MAX) as f32;
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    pub(super) fn deviation(&self) -> f64 {
        f64::from(self.deviation)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_weigh_the_same() {
        let mut level = Level::default();
        for value in [1.0, 2.0, 3.0, 4.0] {
            level.learn(value, 0.001);
        }
        assert!((level.mean() - 2.5).abs() < 1e-12);
        // Variance of 1, 2, 3, 4: (2.25 + 0.25 + 0.25 + 2.25) / 4.
        assert!((level.deviation() - 1.25_f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn later_numbers_are_forgotten_exponentially() {
        let mut level = Level::default();
        for _ in 0..1_000 {
            level.learn(0.0, 0.1);
        }
        level.learn(1.0, 0.1);
        level.learn(0.0, 0.1);
        assert!((level.mean() - 0.09).abs() < 1e-12);
    }
}
