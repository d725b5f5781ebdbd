//! The z-score over a rolling window: single values and large shifts, found at once.

use serde::{Deserialize, Serialize};

use super::band::Band;
use super::verdict::{Terms, Usual, Verdict};
use super::window::Window;
use crate::model::Timestamp;

/// How many standard deviations a value lies from the mean of the window's accepted values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZScore {
    window: Window,
    band: Band,
}

/// Samples before a deviation from their mean says anything.
const WINDOW_MIN: u64 = 20;

impl ZScore {
    /// Judges a value; `None` during the warm-up.
    pub fn judge(&mut self, value: f64, terms: &Terms) -> Option<Verdict> {
        let moments = self.window.moments();
        if moments.count < WINDOW_MIN {
            return None;
        }
        let usual = Usual {
            center: moments.mean,
            deviation: moments.deviation(),
            is_nonnegative: self.band.is_nonnegative(),
        };
        self.band.judge(
            value,
            &usual,
            terms.zscore_width,
            terms.warmup_samples,
            terms,
        )
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, at: Timestamp, value: f64, terms: &Terms) {
        self.band.accept(value, self.band.accepted() >= WINDOW_MIN);
        self.window.push(at, value, terms.memory);
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        self.band.concede();
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
