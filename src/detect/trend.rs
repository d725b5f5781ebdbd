//! The trend: a slow rise or fall, found in the slope of the last values while each of them still
//! looks normal.
//!
//! The slope is that of Theil (1950) and Sen (1968): the median of the slopes between all pairs of
//! points, which three tenths of outliers cannot spoil. With the values' number squared it is the most
//! costly of the detectors, so only every tenth value is judged and its verdict holds until the next.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, OrderStatistics};

use super::band::Band;
use super::ewma::Baseline;
use super::verdict::{Terms, Usual, Verdict};
use crate::model::Timestamp;

/// How far a series rises over its last values, held against how far it usually does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Oldest first.
    points: VecDeque<(Timestamp, f64)>,
    /// Of the rises that were accepted.
    baseline: Baseline,
    band: Band,
    /// Values since the slope was computed.
    since: u32,
    rise: Option<f64>,
}

/// Points that a slope is computed from.
const POINTS: usize = 60;
/// ...and that it is not computed without.
const POINTS_MIN: usize = 30;
/// Values from one slope to the next.
const EVALUATED_EVERY: u32 = 10;
/// The rise is at least this part of the value before it means anything.
const RISE_MIN_RATIO: f64 = 0.01;

/// The span of time that the rise is told for.
pub fn span(terms: &Terms) -> Duration {
    terms.every * POINTS as u32
}

impl Trend {
    /// Takes a value in, and judges the rise over the last values; `None` during the warm-up.
    pub fn judge(&mut self, at: Timestamp, value: f64, terms: &Terms) -> Option<Verdict> {
        if self.points.len() >= POINTS {
            self.points.pop_front();
        }
        self.points.push_back((at, value));
        self.since += 1;
        if self.since >= EVALUATED_EVERY && self.points.len() >= POINTS_MIN {
            self.since = 0;
            self.rise = self
                .slope()
                .map(|slope| slope * span(terms).as_secs_f64())
                .filter(|rise| rise.is_finite());
        }
        let rise = self.rise?;
        let usual = self.baseline.usual();
        let usual = Usual {
            deviation: usual.deviation.max(RISE_MIN_RATIO * value.abs()),
            is_nonnegative: false,
            ..usual
        };
        let warmup = terms.warmup_samples / u64::from(EVALUATED_EVERY);
        self.band
            .judge(rise, &usual, terms.zscore_width, warmup, terms)
    }

    /// Learns from the rise, once, if the value was judged normal.
    pub fn accept(&mut self, at: Timestamp, terms: &Terms) {
        if self.since != 0 {
            return;
        }
        if let Some(rise) = self.rise {
            self.band.accept(rise, self.baseline.count() > 0);
            let every = terms.every * EVALUATED_EVERY;
            self.baseline.learn(at, rise, terms.memory, every);
        }
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        self.band.concede();
    }

    /// Starts anew after a gap: nobody saw what happened in it.
    pub fn restart(&mut self) {
        self.points.clear();
        (self.rise, self.since) = (None, 0);
    }

    /// The median of the slopes of all pairs of points, per second; none where no two differ in time.
    fn slope(&self) -> Option<f64> {
        let mut slopes = Vec::with_capacity(POINTS * (POINTS - 1) / 2);
        for (index, (at, value)) in self.points.iter().enumerate() {
            for (earlier_at, earlier) in self.points.iter().take(index) {
                let seconds = at.since(*earlier_at).as_secs_f64();
                if seconds > 0.0 {
                    slopes.push((value - earlier) / seconds);
                }
            }
        }
        if slopes.is_empty() {
            return None;
        }
        let mut slopes = Data::new(slopes);
        Some(slopes.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::anomaly::Direction;
    use crate::detect::noise::Noise;
    use crate::detect::watch::Sides;

    fn at(step: i64) -> Timestamp {
        Timestamp::from_ms(step * 15_000)
    }

    /// Steps through values, each accepted unless its verdict is an anomaly; the last verdict.
    fn run(trend: &mut Trend, from: i64, values: impl Iterator<Item = f64>) -> Option<Verdict> {
        let terms = Terms::plain(Sides::Both);
        let mut last = None;
        for (step, value) in (from..).zip(values) {
            last = trend.judge(at(step), value, &terms);
            if last.is_none_or(|verdict| verdict.score <= 1.0) {
                trend.accept(at(step), &terms);
            }
        }
        last
    }

    fn noisy(seed: u64, slope: f64, count: i32) -> impl Iterator<Item = f64> {
        let mut noise = Noise::new(seed);
        (0..count).map(move |step| 100.0 + noise.normal() + slope * f64::from(step))
    }

    #[test]
    fn the_slope_is_that_of_most_pairs() {
        let mut trend = Trend::default();
        for step in 0..30 {
            // 0.5 a step, which is 15 s; and two wild values.
            let wild = if step == 11 || step == 20 { 1e6 } else { 0.0 };
            trend.points.push_back((at(step), 0.5 * step as f64 + wild));
        }
        assert!((trend.slope().unwrap() - 0.5 / 15.0).abs() < 1e-12);
        let one_time = Trend {
            points: [(at(1), 1.0), (at(1), 2.0)].into(),
            ..Trend::default()
        };
        assert_eq!(one_time.slope(), None);
    }

    #[test]
    fn a_creeping_rise_is_found_while_its_values_are_normal() {
        let mut trend = Trend::default();
        run(&mut trend, 0, noisy(1, 0.0, 2_000));
        // A fifth of a deviation a sample; after 30 samples it has come to 6 deviations.
        let verdict = run(&mut trend, 2_000, noisy(2, 0.2, 60)).unwrap();
        assert!(verdict.score > 1.0, "{verdict:?}");
        assert_eq!(verdict.direction, Direction::High);
        assert!((verdict.observed - 12.0).abs() < 2.0, "{verdict:?}");
    }

    #[test]
    fn noise_and_steps_of_seasons_are_no_trend() {
        for seed in 1..=5 {
            let mut trend = Trend::default();
            let mut worst: f64 = 0.0;
            for part in 0..100 {
                let verdict = run(&mut trend, part * 100, noisy(seed + part as u64, 0.0, 100));
                worst = verdict.map_or(worst, |verdict| worst.max(verdict.score));
            }
            assert!(worst < 1.0, "seed {seed}: {worst}");
        }
    }

    #[test]
    fn only_every_tenth_value_is_judged_anew() {
        let mut trend = Trend::default();
        run(&mut trend, 0, noisy(3, 0.0, 2_000));
        let terms = Terms::plain(Sides::Both);
        let rises: Vec<f64> = noisy(4, 0.0, 40)
            .zip(2_000..)
            .map(|(value, step)| trend.judge(at(step), value, &terms).unwrap().observed)
            .collect();
        let changes = rises.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((3..=4).contains(&changes), "{rises:?}");
    }

    #[test]
    fn after_a_gap_there_is_no_verdict_until_there_are_points_again() {
        let terms = Terms::plain(Sides::Both);
        let mut trend = Trend::default();
        run(&mut trend, 0, noisy(5, 0.0, 2_000));
        trend.restart();
        let verdicts: Vec<bool> = noisy(6, 0.0, 30)
            .zip(9_000..)
            .map(|(value, step)| trend.judge(at(step), value, &terms).is_some())
            .collect();
        assert_eq!(verdicts.iter().position(|judged| *judged), Some(29));
    }
}
