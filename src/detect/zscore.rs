//! The z-score over a rolling window: single values and large shifts, found at once.

use serde::{Deserialize, Serialize};

use super::calibration::Tail;
use super::verdict::{Terms, Usual, Verdict};
use super::window::Window;
use crate::model::Timestamp;

/// How many standard deviations a value lies from the mean of the window's accepted values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZScore {
    window: Window,
    tail: Tail,
    accepted: u64,
    /// The last deviation as a multiple of the textbook limit, learned when it is accepted.
    multiple: f64,
    has_negative: bool,
    /// Since the last accepted sample.
    has_exceeded: bool,
}

/// Samples before a deviation from their mean says anything.
const WINDOW_MIN: u64 = 20;

impl ZScore {
    /// Judges a value; `None` during the warm-up.
    pub fn judge(&mut self, value: f64, terms: &Terms) -> Option<Verdict> {
        let moments = self.window.moments();
        let usual = Usual {
            center: moments.mean,
            deviation: moments.deviation(),
            is_nonnegative: !self.has_negative,
        };
        self.multiple = if moments.count < WINDOW_MIN {
            0.0
        } else {
            terms.relevant(value - usual.center) / (usual.scale().0 * terms.zscore_width)
        };
        if self.accepted < terms.warmup_samples {
            return None;
        }
        let reach = terms.reach(&usual, terms.zscore_width, &self.tail);
        let verdict = terms.judge(value, &usual, reach);
        if verdict.score > 1.0 {
            self.tail.reject();
            self.has_exceeded = true;
        }
        Some(verdict)
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, at: Timestamp, value: f64, terms: &Terms) {
        if self.accepted >= WINDOW_MIN {
            self.tail.learn(self.multiple);
        }
        self.window.push(at, value, terms.memory);
        self.accepted += 1;
        self.has_negative |= value < 0.0;
        self.has_exceeded = false;
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        if self.has_exceeded {
            self.tail.concede();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::noise::Noise;
    use crate::detect::watch::Sides;

    fn at(step: i64) -> Timestamp {
        Timestamp::from_ms(step * 15_000)
    }

    fn warm(terms: &Terms, mut value: impl FnMut() -> f64) -> ZScore {
        let mut zscore = ZScore::default();
        for step in 0..1_000 {
            let value = value();
            zscore.judge(value, terms);
            zscore.accept(at(step), value, terms);
        }
        zscore
    }

    #[test]
    fn no_verdict_before_the_warm_up_is_over() {
        let terms = Terms::plain(Sides::Both);
        let mut zscore = ZScore::default();
        for step in 0..100 {
            assert_eq!(zscore.judge(1e6, &terms), None);
            zscore.accept(at(step), 1.0, &terms);
        }
        assert!(zscore.judge(1.0, &terms).is_some());
    }

    #[test]
    fn a_far_value_scores_at_once_and_the_band_says_why() {
        let terms = Terms::plain(Sides::Both);
        let mut noise = Noise::new(3);
        let mut zscore = warm(&terms, || 100.0 + noise.normal());
        let verdict = zscore.judge(110.0, &terms).unwrap();
        assert!(verdict.score > 1.5, "{verdict:?}");
        assert!((verdict.deviations - 10.0).abs() < 1.5);
        assert!(verdict.lower > 90.0 && verdict.upper < 110.0);
        assert!(zscore.judge(102.0, &terms).unwrap().score < 0.7);
    }

    #[test]
    fn judging_alone_changes_nothing_that_is_usual() {
        let terms = Terms::plain(Sides::Both);
        let mut noise = Noise::new(4);
        let mut zscore = warm(&terms, || noise.normal());
        let before = zscore.judge(50.0, &terms).unwrap();
        for _ in 0..1_000 {
            zscore.judge(50.0, &terms);
        }
        assert_eq!(zscore.judge(50.0, &terms).unwrap(), before);
    }

    #[test]
    fn a_heavy_tail_widens_its_own_limit() {
        let terms = Terms::plain(Sides::High);
        let (mut noise, mut other) = (Noise::new(5), Noise::new(5));
        let mut normal = warm(&terms, || noise.normal());
        // Log-normal: the same draws, skewed.
        let mut skewed = warm(&terms, || other.normal().exp());
        let score = |zscore: &mut ZScore| {
            let verdict = zscore.judge(0.0, &terms).unwrap();
            let deviation = zscore.window.moments().deviation();
            (verdict.upper - verdict.expected) / deviation
        };
        assert!(score(&mut skewed) > 1.5 * score(&mut normal));
    }
}
