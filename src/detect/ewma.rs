//! The EWMA control chart: small lasting shifts, found in the moving average before any single value
//! stands out.
//!
//! [`Chart`] is the textbook (Roberts 1959; Lucas and Saccucci 1990), [`Baseline`] what the chart is
//! drawn around, [`Ewma`] the detector made of both for one series of real data.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::calibration::Tail;
use super::verdict::{Manner, Terms, Usual, Verdict};
use crate::model::Timestamp;

/// The design of a chart: how fast it forgets and how wide its limits are.
///
/// `z_t = λ x_t + (1 - λ) z_{t-1}` signals outside `μ ± L σ sqrt(λ/(2-λ) (1 - (1-λ)^{2t}))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chart {
    /// λ, in (0, 1].
    lambda: f64,
    /// L, in standard deviations of the average.
    width: f64,
}

impl Chart {
    /// # Panics
    /// When `lambda` is not in (0, 1] or `width` is not positive.
    pub fn new(lambda: f64, width: f64) -> Self {
        assert!(lambda > 0.0 && lambda <= 1.0 && width > 0.0);
        Self { lambda, width }
    }

    /// The chart that alarms by chance once in `run_length` independent normal samples.
    ///
    /// # Panics
    /// When `lambda` is not in (0, 1].
    pub fn for_run_length(lambda: f64, run_length: f64) -> Self {
        // Regula falsi, Illinois: the logarithm of the run length rises with the width and is nearly
        // straight, and a bracket is kept all the way.
        let missing = |width| (Self::new(lambda, width).run_length(0.0) / run_length).ln();
        let (mut low, mut high) = (0.5, 6.0);
        let (mut at_low, mut at_high) = (missing(low), missing(high));
        for _ in 0..40 {
            let width = low + (high - low) * at_low / (at_low - at_high);
            let at_width = missing(width);
            if at_width.abs() < 1e-9 || high - low < 1e-9 {
                return Self::new(lambda, width);
            }
            // The end that stays counts half, or one end would stay for ever.
            if at_width < 0.0 {
                (low, at_low) = (width, at_width);
                at_high /= 2.0;
            } else {
                (high, at_high) = (width, at_width);
                at_low /= 2.0;
            }
        }
        Self::new(lambda, high)
    }

    /// The mean number of samples until the chart signals, when the mean lies `shift` standard
    /// deviations off and the limits are the steady ones.
    ///
    /// Brook and Evans (1972): the average as a Markov chain over equal slices between the limits.
    pub fn run_length(&self, shift: f64) -> f64 {
        const STATES: usize = 101;
        let normal = Normal::standard();
        let limit = self.limit(u32::MAX);
        let slice = 2.0 * limit / STATES as f64;
        let center = |state: usize| (state as f64 + 0.5) * slice - limit;
        // Rows of (I - Q | 1), solved for the expected number of steps from each state.
        let mut rows: Vec<Vec<f64>> = (0..STATES)
            .map(|from| {
                let edge = |state: usize| state as f64 * slice - limit;
                let kept = (1.0 - self.lambda) * center(from);
                let reach: Vec<f64> = (0..=STATES)
                    .map(|state| normal.cdf((edge(state) - kept) / self.lambda - shift))
                    .collect();
                let mut row: Vec<f64> = (0..STATES)
                    .map(|to| f64::from(u8::from(from == to)) - (reach[to + 1] - reach[to]))
                    .collect();
                row.push(1.0);
                row
            })
            .collect();
        // The matrix is diagonally dominant, so elimination needs no pivoting.
        for column in 0..STATES {
            let (done, rest) = rows.split_at_mut(column + 1);
            let pivot = &done[column];
            for row in rest {
                let factor = row[column] / pivot[column];
                for (cell, above) in row[column..].iter_mut().zip(&pivot[column..]) {
                    *cell -= factor * above;
                }
            }
        }
        let mut steps = [0.0; STATES];
        for state in (0..STATES).rev() {
            let row = &rows[state];
            let known: f64 = (state + 1..STATES)
                .map(|later| row[later] * steps[later])
                .sum();
            steps[state] = (row[STATES] - known) / row[state];
        }
        steps[STATES / 2]
    }

    /// The limit after `step` samples, in standard deviations of a single sample, with the exact
    /// start-up term: narrow at first, steady after some `2/λ` steps.
    pub fn limit(&self, step: u32) -> f64 {
        let remembered = (1.0 - self.lambda).powi(step.saturating_mul(2).min(1 << 20) as i32);
        self.width * (self.lambda / (2.0 - self.lambda) * (1.0 - remembered)).sqrt()
    }

    pub fn average(&self, average: f64, value: f64) -> f64 {
        self.lambda * value + (1.0 - self.lambda) * average
    }

    pub fn lambda(&self) -> f64 {
        self.lambda
    }
}

/// Mean and variance of accepted samples, exponentially forgotten in time.
///
/// The first samples are weighed equally, so that the start is exact; later ones by the time they
/// stand for, so that evaluating more often does not forget faster. A gap counts as a few intervals,
/// not as its length: one sample after a silent night does not replace what was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    count: u64,
    mean: f64,
    variance: f64,
    seen_at: Option<Timestamp>,
    has_negative: bool,
}

/// Intervals that a gap counts for.
const GAP_INTERVALS: u32 = 4;

impl Baseline {
    /// Precondition: `value` is finite.
    pub fn learn(&mut self, at: Timestamp, value: f64, memory: Duration, every: Duration) {
        debug_assert!(value.is_finite());
        let elapsed = self
            .seen_at
            .map_or(every, |seen_at| at.since(seen_at))
            .min(every * GAP_INTERVALS);
        let forgotten = -(-elapsed.as_secs_f64() / memory.as_secs_f64()).exp_m1();
        let weight = forgotten.max(1.0 / (self.count + 1) as f64);
        let deviation = value - self.mean;
        self.mean += weight * deviation;
        self.variance = (1.0 - weight) * (self.variance + weight * deviation * deviation);
        self.count += 1;
        self.seen_at = Some(at);
        self.has_negative |= value < 0.0;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn usual(&self) -> Usual {
        Usual {
            center: self.mean,
            deviation: self.variance.max(0.0).sqrt(),
            is_nonnegative: !self.has_negative,
        }
    }
}

/// The chart over one series: limits around its own baseline, stretched by its own history.
///
/// Two guards make it fit for real data. One outlier alone never signals: a value counts only as far
/// as it can take the average two thirds to the limit. And the average never strays farther than a
/// quarter beyond the limit, so that it is back a few steps after the values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ewma {
    baseline: Baseline,
    tail: Tail,
    average: f64,
    /// Samples since the chart was started; the limits widen with it.
    step: u32,
    /// The last deviation as a multiple of the textbook limit, learned when it is accepted.
    multiple: f64,
    /// Since the last accepted sample.
    has_exceeded: bool,
}

/// Samples before a deviation from their mean says anything.
const BASELINE_MIN: u64 = 20;
/// How close to the limit one outlier can take the average.
const OUTLIER_MAX: f64 = 0.65;
/// How far beyond the limit the average can go, in limits from the centre.
const AVERAGE_MAX: f64 = 1.25;

impl Ewma {
    /// Takes a value into the average and judges it; `None` during the warm-up.
    pub fn judge(&mut self, value: f64, terms: &Terms) -> Option<Verdict> {
        if self.baseline.count() < BASELINE_MIN {
            return None;
        }
        let usual = self.baseline.usual();
        if self.step == 0 {
            self.average = usual.center;
        }
        self.step = self.step.saturating_add(1);
        let textbook = terms.chart.limit(self.step);
        let reach = terms.reach(&usual, textbook, &self.tail);
        let outlier = OUTLIER_MAX * reach / terms.chart.lambda();
        let bounded = value.clamp(usual.center - outlier, usual.center + outlier);
        let stray = AVERAGE_MAX * reach;
        self.average = terms
            .chart
            .average(self.average, bounded)
            .clamp(usual.center - stray, usual.center + stray);
        self.multiple = terms.relevant(self.average - usual.center) / (usual.scale().0 * textbook);
        if self.baseline.count() < terms.warmup_samples {
            return None;
        }
        let verdict = terms.judge(self.average, &usual, reach);
        if verdict.score > 1.0 {
            self.tail.reject();
            self.has_exceeded = true;
        }
        let manner = match verdict.manner {
            Manner::Far => Manner::Average,
            manner => manner,
        };
        Some(Verdict { manner, ..verdict })
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, at: Timestamp, value: f64, terms: &Terms) {
        if self.step > 0 {
            self.tail.learn(self.multiple);
        }
        self.baseline.learn(at, value, terms.memory, terms.every);
        self.has_exceeded = false;
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        if self.has_exceeded {
            self.tail.concede();
        }
    }

    /// Starts the average anew, after a gap: what it remembers is too old to be averaged with.
    pub fn restart(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::noise::Noise;
    use crate::detect::watch::Sides;

    /// The mean run length of `runs` simulated charts and its standard error.
    fn simulate(chart: Chart, shift: f64, runs: u32, seed: u64) -> (f64, f64) {
        let mut noise = Noise::new(seed);
        let limit = chart.limit(u32::MAX);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..runs {
            let (mut average, mut length) = (0.0_f64, 0.0);
            while average.abs() <= limit {
                average = chart.average(average, noise.normal() + shift);
                length += 1.0;
            }
            sum += length;
            squares += length * length;
        }
        let n = f64::from(runs);
        let mean = sum / n;
        (mean, ((squares / n - mean * mean) / n).sqrt())
    }

    /// λ, L, then the published run lengths in control and at shifts of 0.5, 1, 1.5, 2 and 3 σ (Lucas and
    /// Saccucci 1990, and the same by a Markov chain of 101 states).
    const PUBLISHED: [(f64, f64, [f64; 6]); 11] = [
        (0.05, 2.492, [370.0, 26.5, 10.7, 6.8, 5.0, 3.3]),
        (0.05, 2.615, [497.0, 28.8, 11.4, 7.1, 5.2, 3.5]),
        (0.10, 2.703, [371.0, 28.3, 9.7, 5.8, 4.2, 2.8]),
        (0.10, 2.814, [498.0, 31.3, 10.3, 6.1, 4.4, 2.9]),
        (0.20, 2.860, [371.0, 36.2, 9.8, 5.2, 3.6, 2.3]),
        (0.20, 2.962, [499.0, 41.8, 10.5, 5.5, 3.7, 2.4]),
        (0.20, 3.000, [559.0, 44.1, 10.8, 5.6, 3.8, 2.4]),
        (0.25, 2.898, [370.0, 41.1, 10.3, 5.2, 3.5, 2.2]),
        (0.25, 2.998, [499.0, 48.3, 11.1, 5.5, 3.6, 2.3]),
        (0.40, 3.054, [500.0, 71.2, 14.3, 5.9, 3.5, 2.0]),
        (1.00, 3.000, [370.0, 155.0, 43.9, 15.0, 6.3, 2.0]),
    ];
    const SHIFTS: [f64; 6] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0];

    #[test]
    fn computed_run_lengths_are_the_published_ones() {
        for (lambda, width, lengths) in PUBLISHED {
            for (shift, length) in SHIFTS.into_iter().zip(lengths) {
                let computed = Chart::new(lambda, width).run_length(shift);
                // The table is rounded to a digit after the point, or to whole samples.
                let rounding = if length > 100.0 { 0.01 * length } else { 0.1 };
                assert!(
                    (computed - length).abs() <= rounding,
                    "λ {lambda}, L {width}, shift {shift}: {computed}, published {length}"
                );
            }
        }
    }

    #[test]
    fn simulated_run_lengths_agree_within_their_error() {
        for (lambda, width, lengths) in PUBLISHED {
            let chart = Chart::new(lambda, width);
            for (shift, length) in SHIFTS.into_iter().zip(lengths) {
                let runs = if shift == 0.0 { 3_000 } else { 6_000 };
                let (mean, error) = simulate(chart, shift, runs, 42);
                let rounding = if length > 100.0 { 1.0 } else { 0.05 };
                assert!(
                    (mean - length).abs() <= 3.0 * error + rounding,
                    "λ {lambda}, L {width}, shift {shift}: {mean} ± {error}, published {length}"
                );
            }
        }
    }

    #[test]
    fn limits_follow_from_the_run_length() {
        for (lambda, run_length, width) in [
            (0.2, 370.0, 2.860),
            (0.2, 500.0, 2.962),
            (0.1, 370.0, 2.703),
            (1.0, 370.4, 3.0),
        ] {
            let chart = Chart::for_run_length(lambda, run_length);
            assert!(
                (chart.width - width).abs() < 0.003,
                "{chart:?} for {run_length}"
            );
        }
    }

    #[test]
    fn limits_start_narrow_and_become_steady() {
        let chart = Chart::new(0.2, 3.0);
        // L σ λ after one sample, L σ sqrt(λ / (2 - λ)) = 3 · 1/3 in the end.
        assert!((chart.limit(1) - 0.6).abs() < 1e-12);
        // 3 · sqrt(1/9 · (1 - 0.8^4)) = sqrt(1 - 0.4096)
        assert!((chart.limit(2) - 0.590_4_f64.sqrt()).abs() < 1e-12);
        assert!((chart.limit(u32::MAX) - 1.0).abs() < 1e-12);
    }

    fn at(step: i64) -> Timestamp {
        Timestamp::from_ms(step * 15_000)
    }

    #[test]
    fn a_baseline_forgets_by_time_and_not_by_samples() {
        let hour = Duration::from_secs(3_600);
        let learn = |every_s: i64| {
            let mut baseline = Baseline::default();
            let every = Duration::from_secs(every_s.unsigned_abs());
            for step in 0..100_000 / every_s {
                let value = if step * every_s < 90_000 { 0.0 } else { 1.0 };
                baseline.learn(
                    Timestamp::from_ms(step * every_s * 1_000),
                    value,
                    hour,
                    every,
                );
            }
            baseline.usual().center
        };
        // 10,000 s at the new level: 1 - e^(-10000/3600) = 0.938.
        assert!((learn(1) - 0.938).abs() < 0.01 && (learn(15) - 0.938).abs() < 0.01);
    }

    #[test]
    fn a_sample_after_a_gap_does_not_replace_the_baseline() {
        let terms = Terms::plain(Sides::Both);
        let mut baseline = Baseline::default();
        for step in 0..1_000 {
            baseline.learn(at(step), 1.0, terms.memory, terms.every);
        }
        baseline.learn(at(1_000_000), 2.0, terms.memory, terms.every);
        assert!(baseline.usual().center < 1.02);
    }

    fn warm(noise: &mut Noise, terms: &Terms) -> Ewma {
        let mut ewma = Ewma::default();
        for step in 0..500 {
            let value = noise.normal();
            ewma.judge(value, terms);
            ewma.accept(at(step), value, terms);
        }
        ewma
    }

    #[test]
    fn no_verdict_before_the_warm_up_is_over() {
        let terms = Terms::plain(Sides::Both);
        let mut ewma = Ewma::default();
        for step in 0..100 {
            assert_eq!(ewma.judge(1e6, &terms), None);
            ewma.accept(at(step), 1.0, &terms);
        }
        assert!(ewma.judge(1.0, &terms).is_some());
    }

    #[test]
    fn a_single_outlier_does_not_signal_and_two_do() {
        let terms = Terms::plain(Sides::Both);
        let mut ewma = warm(&mut Noise::new(7), &terms);
        let score = |ewma: &mut Ewma, value| ewma.judge(value, &terms).unwrap().score;
        let calm = score(&mut ewma, 0.0);
        assert!(calm < 0.5);
        assert!(score(&mut ewma.clone(), 1e9) < 1.0 + calm);
        score(&mut ewma, 1e9);
        assert!(score(&mut ewma, 1e9) > 1.0);
    }

    #[test]
    fn a_long_excess_is_over_a_few_steps_after_the_values_are_back() {
        let terms = Terms::plain(Sides::Both);
        let mut ewma = warm(&mut Noise::new(8), &terms);
        for _ in 0..1_000 {
            ewma.judge(1e6, &terms);
        }
        let scores: Vec<_> = (0..5)
            .map(|_| ewma.judge(0.0, &terms).unwrap().score)
            .collect();
        assert!(scores[0] > 1.0 && scores[4] < 0.7, "{scores:?}");
    }
}
