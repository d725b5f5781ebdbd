//! What a series' own history says is still normal: the running far quantile of its deviations.
//!
//! Textbook limits assume independent normal samples. Operations data is neither, so each detector
//! measures deviations as multiples of its textbook limit and learns, per series, how large such a
//! multiple gets in normal times. This file owns that one number; it does not decide what normal is.

use serde::{Deserialize, Serialize};

/// The running 99.9 % quantile of what was accepted as normal.
///
/// Until a thousand numbers are in, the quantile is their largest. From then on it is a stochastic
/// approximation (Robbins and Monro 1951) on the logarithm: a larger number raises it by a tenth, any
/// other lowers it by a thousandth of that, which balances where one number in a thousand is larger.
/// Four numbers of state, whatever the history; it halves in about seven thousand.
///
/// A run of numbers beyond the quantile is learned when it is over: a shift that builds up slowly would
/// else push the limit along in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    level: f64,
    count: u64,
    /// The present run of numbers beyond the level: how many, and the largest.
    run: u32,
    run_max: f64,
}

/// Numbers that are learned at once, before there is a level that could be exceeded.
const COUNT_MIN: u64 = 50;
const BEYOND: f64 = 0.001;
const RISE: f64 = 0.1;
/// A level of 0 could not rise by factors.
const LEVEL_MIN: f64 = 0.05;

/// How far beyond the quantile the limit lies, and how much farther while little is known: the
/// largest of 100 numbers is still well under the quantile of a skewed series.
const MARGIN: f64 = 1.75;
const MARGIN_YOUNG: f64 = 40.0;

/// No series is so regular that less than this multiple of the textbook limit is an anomaly: at 3
/// standard deviations on 4 samples a minute, it is exceeded by chance every day.
const LIMIT_MIN: f64 = 1.4;

impl Tail {
    /// Precondition: `multiple` is finite and not negative.
    pub fn learn(&mut self, multiple: f64) {
        debug_assert!(multiple.is_finite() && multiple >= 0.0);
        self.count += 1;
        if self.count < COUNT_MIN {
            self.level = self.level.max(multiple);
        } else if multiple > self.level {
            self.run = self.run.saturating_add(1);
            self.run_max = self.run_max.max(multiple);
        } else if self.run > 0 {
            self.end_run();
        } else if self.count as f64 * BEYOND >= 1.0 {
            self.level *= 1.0 - RISE * BEYOND;
        }
        self.level = self.level.max(LEVEL_MIN);
    }

    /// Raises the level as often as the run was long, but not beyond the run's largest number unless
    /// by the one tenth that every run is worth.
    fn end_run(&mut self) {
        let is_young = self.count as f64 * BEYOND < 1.0;
        self.level = if is_young {
            self.run_max
        } else {
            let raised = self.level * (1.0 + RISE).powi(self.run.min(100) as i32);
            raised.min(self.run_max).max(self.level * (1.0 + RISE))
        };
        self.reject();
    }

    /// The present run turned out not to be normal: it is not learned.
    pub fn reject(&mut self) {
        (self.run, self.run_max) = (0, 0.0);
    }

    /// An excess over the limit turned out to be a blip that normal times have too.
    pub fn concede(&mut self) {
        self.level = self.level.max(LIMIT_MIN / MARGIN) * (1.0 + RISE);
    }

    /// The multiple of the textbook limit from which on a deviation is anomalous.
    pub fn limit(&self) -> f64 {
        let margin = MARGIN * (1.0 + MARGIN_YOUNG / self.count.max(1) as f64);
        (margin * self.level).max(LIMIT_MIN)
    }

    #[cfg(test)]
    pub(super) fn level(&self) -> f64 {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::noise::Noise;

    #[test]
    fn the_level_is_the_far_quantile_whatever_the_distribution() {
        // Of |N(0,1)| it is 3.29, of the exponential distribution -ln 0.001 = 6.91.
        for seed in 1..=5 {
            let mut noise = Noise::new(seed);
            let (mut normal, mut exponential) = (Tail::default(), Tail::default());
            for _ in 0..50_000 {
                normal.learn(noise.normal().abs());
                exponential.learn(-noise.uniform().ln());
            }
            let (normal, exponential) = (normal.level(), exponential.level());
            assert!((2.6..4.1).contains(&normal), "seed {seed}: {normal}");
            assert!(
                (5.4..8.7).contains(&exponential),
                "seed {seed}: {exponential}"
            );
        }
    }

    #[test]
    fn a_larger_scale_is_learned_soon_and_forgotten_slowly() {
        let mut tail = Tail::default();
        let learn = |tail: &mut Tail, multiple, times| {
            for _ in 0..times {
                tail.learn(multiple);
            }
        };
        learn(&mut tail, 1.0, 2_000);
        let before = tail.level();
        for _ in 0..12 {
            learn(&mut tail, 4.0 * before, 5);
            learn(&mut tail, 0.0, 1);
        }
        assert!(tail.level() > 3.0 * before);
        learn(&mut tail, 0.0, 1_000);
        assert!(tail.level() > 2.7 * before);
    }

    #[test]
    fn a_run_is_learned_when_it_is_over_unless_it_was_no_normal_one() {
        let mut tail = Tail::default();
        for _ in 0..2_000 {
            tail.learn(1.0);
        }
        tail.learn(0.0);
        let before = tail.level();
        for _ in 0..3 {
            tail.learn(2.0);
        }
        assert_eq!(tail.level(), before);
        let mut rejected = tail;
        rejected.reject();
        rejected.learn(0.0);
        assert!(rejected.level() <= before);
        // Three numbers, three tenths; a longer run does not raise the level above its largest.
        tail.learn(0.0);
        assert!((tail.level() / before - 1.1_f64.powi(3)).abs() < 1e-9);
        for _ in 0..50 {
            tail.learn(2.0);
        }
        tail.learn(0.0);
        assert_eq!(tail.level(), 2.0);
    }

    #[test]
    fn a_series_without_deviations_keeps_the_least_limit() {
        let mut tail = Tail::default();
        for _ in 0..5_000 {
            tail.learn(0.0);
        }
        assert_eq!(tail.limit(), LIMIT_MIN);
        tail.concede();
        assert!(tail.limit() > LIMIT_MIN);
    }

    #[test]
    fn little_history_widens_the_limit() {
        let mut young = Tail::default();
        let mut old = Tail::default();
        for _ in 0..100 {
            young.learn(1.0);
        }
        for _ in 0..999 {
            old.learn(1.0);
        }
        assert!(young.limit() > 1.2 * old.limit());
    }
}
