//! How large a measure gets in normal times: its running far quantiles, and what follows from them.

use serde::{Deserialize, Serialize};

/// The running 99 % and 99.9 % quantiles of a measure, and the largest number of late.
///
/// A stochastic approximation (Robbins and Monro 1951) on the logarithm: a number beyond the quantile
/// raises it by a step, any other lowers it by as much as balances that at the quantile. The first
/// hundred numbers only set where it begins. Single precision is plenty: a quantile that rests on a few
/// numbers is known to a tenth at best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Extremes {
    quantile_99: f32,
    quantile_999: f32,
    largest: f32,
    count: u32,
}

/// Extremes of a measure that may build up slowly, which would push its limit along in front of it: a
/// run of numbers beyond the outer quantile is learned when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Runs {
    extremes: Extremes,
    /// The present run: how many numbers, and the largest.
    run: u32,
    run_max: f32,
}

const COUNT_MIN: u32 = 100;
const STEP: f32 = 0.04;
/// A quantile of 0 could not rise by factors.
const QUANTILE_MIN: f32 = 0.02;
/// By which part the largest number is forgotten with each further one: by half in 23,000.
const FORGOTTEN: f32 = 3e-5;
/// Of a longer run no more is learned.
const RUN_MAX: u32 = 100;
/// Numbers beyond any of these measures say no more than this one.
const MEASURE_MAX: f64 = 1e9;

/// From the quantile of one in a hundred to that of one in a thousand is a decade; the limit lies so
/// many further on, as if the tail went on as it began: by equal parts, as that of an exponential
/// distribution does...
const DECADES: f32 = 2.7;
/// ...or by equal factors, as that of a power law does, where this part of three decades is more.
const FACTOR: f32 = 0.65;
/// How much farther while little is known: by as many parts of the count.
const YOUNG: f32 = 100.0;
/// The limit lies at least this much beyond what was normal of late.
const BEYOND_LARGEST: f32 = 1.3;

impl Extremes {
    /// Learns a number at once.
    pub(super) fn learn(&mut self, measure: f64) {
        let measure = measure.min(MEASURE_MAX) as f32;
        self.count = self.count.saturating_add(1);
        self.largest = (self.largest * (1.0 - FORGOTTEN)).max(measure);
        self.approach(measure);
    }

    fn approach(&mut self, measure: f32) {
        if self.count < COUNT_MIN {
            self.quantile_999 = self.quantile_999.max(measure);
            self.quantile_99 = self.quantile_99.max(0.8 * measure);
            return;
        }
        approach(&mut self.quantile_99, measure, 0.01);
        approach(&mut self.quantile_999, measure, 0.001);
        self.quantile_99 = self.quantile_99.max(QUANTILE_MIN);
        self.quantile_999 = self.quantile_999.max(self.quantile_99);
    }

    /// The measure in multiples of what one in a thousand exceeds, or of `floor` where that is less.
    pub(super) fn multiple(&self, measure: f64, floor: f64) -> f64 {
        measure.min(MEASURE_MAX) / f64::from(self.quantile_999).max(floor)
    }

    /// What is hardly ever exceeded in normal times; at least `floor`.
    pub(super) fn limit(&self, floor: f64) -> f64 {
        // Of a measure that is nearly always 0 the lower quantile says nothing.
        let inner = self.quantile_99.max(self.quantile_999 / 3.0);
        let decade = self.quantile_999 / inner.max(QUANTILE_MIN);
        let by_parts = self.quantile_999 + DECADES * (self.quantile_999 - inner);
        let by_factors = FACTOR * self.quantile_999 * decade.powi(3);
        let outer = by_parts.max(by_factors);
        let young = 1.0 + YOUNG / self.count.max(1) as f32;
        let limit = (outer * young).max(BEYOND_LARGEST * self.largest);
        f64::from(limit).max(floor)
    }

    /// Whether a measure is one of the usual hundred.
    pub(super) fn is_usual(&self, measure: f64) -> bool {
        measure < f64::from(self.quantile_99)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

impl Runs {
    /// Learns a number, one beyond the outer quantile when its run is over.
    pub(super) fn learn(&mut self, measure: f64) {
        let bounded = measure.min(MEASURE_MAX) as f32;
        if self.extremes.count >= COUNT_MIN && bounded > self.extremes.quantile_999 {
            self.run = self.run.saturating_add(1);
            self.run_max = self.run_max.max(bounded);
            return;
        }
        if self.run > 0 {
            self.end_run();
        }
        self.extremes.learn(measure);
    }

    /// Learns the run, as if all of it had been as large as its largest.
    fn end_run(&mut self) {
        let (run, largest) = (self.run.min(RUN_MAX), f64::from(self.run_max));
        for _ in 0..run {
            self.extremes.learn(largest);
        }
        self.reject();
    }

    /// The present run turned out not to be normal: it is not learned.
    pub(super) fn reject(&mut self) {
        (self.run, self.run_max) = (0, 0.0);
    }

    pub(super) fn limit(&self, floor: f64) -> f64 {
        self.extremes.limit(floor)
    }
}

/// Moves a quantile that the part `beyond` of all numbers exceeds.
fn approach(quantile: &mut f32, measure: f32, beyond: f32) {
    *quantile *= if measure > *quantile {
        1.0 + STEP * (1.0 - beyond)
    } else {
        1.0 - STEP * beyond
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::noise::Noise;

    /// After 5,000 numbers between 0 and 1.
    fn settled() -> Runs {
        let mut noise = Noise::new(3);
        let mut extremes = Runs::default();
        for _ in 0..5_000 {
            extremes.learn(noise.uniform());
        }
        extremes
    }

    #[test]
    fn the_quantiles_are_found_whatever_the_distribution() {
        // Of the exponential distribution they are -ln 0.01 = 4.61 and -ln 0.001 = 6.91.
        let mut noise = Noise::new(1);
        let mut extremes = Extremes::default();
        for _ in 0..100_000 {
            extremes.learn(-noise.uniform().ln());
        }
        let (inner, outer) = (extremes.quantile_99, extremes.quantile_999);
        assert!((3.9..5.4).contains(&inner), "{inner}");
        assert!((5.5..8.5).contains(&outer), "{outer}");
    }

    #[test]
    fn a_run_does_not_push_the_limit_along_and_is_learned_when_it_is_over() {
        let mut extremes = settled();
        let before = extremes.limit(0.0);
        for step in 0..50 {
            extremes.learn(2.0 + 0.1 * f64::from(step));
        }
        assert_eq!(extremes.limit(0.0), before);
        let mut rejected = extremes;
        rejected.reject();
        rejected.learn(0.5);
        assert!(rejected.limit(0.0) <= before);
        // The largest of the run was 6.9; the limit lies a tenth beyond at least.
        extremes.learn(0.5);
        assert!(extremes.limit(0.0) > 1.1 * 6.89);
    }

    #[test]
    fn nothing_but_zeros_leaves_the_floor() {
        let mut extremes = Extremes::default();
        for _ in 0..1_000 {
            extremes.learn(0.0);
        }
        assert_eq!(extremes.limit(5.0), 5.0);
    }
}
