//! What is usual for a series, and how a value deviates from it.
//!
//! [`Usual`] holds what was learned: a level with a short memory and one with a long, the size of
//! moves, the time of the day, the range, the longest stretch without a move. Everything is learned
//! with bounds, so that an outlier moves it no more than a large normal value.

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::level::Level;

/// Values before deviations mean anything.
const COUNT_MIN: u32 = 20;

/// Weights of the newest value.
const LEVEL_WEIGHT: f64 = 0.002_4;
const BASE_WEIGHT: f64 = 0.000_5;
const MOVE_WEIGHT: f64 = 0.008;
const CHART_WEIGHT: f64 = 0.03;
/// Of what is not normal, the level learns this part.
const ABNORMAL_WEIGHT: f64 = 0.23;

/// The usual deviation is at least this part of the level.
const SCALE_MIN_RATIO: f64 = 0.015;
/// ...and this part of a typical move: a count that is mostly 0 has one of 1 now and then.
const SCALE_OF_MOVE: f64 = 0.3;
const SCALE_MIN: f64 = 1e-9;
/// Deviations beyond so many usual ones are learned as if they were no larger.
const LEARNED_MAX: f64 = 3.6;
const CHARTED_MAX: f64 = 6.0;

/// How a value deviates from what is usual, each in multiples of its own measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deviations {
    /// From the level.
    pub(super) level: f64,
    /// Of the moving average from the level of a long time, and from that of late.
    pub(super) chart: f64,
    pub(super) chart_of_late: f64,
    /// From what is usual at this time of the day, once that is known.
    pub(super) time_of_day: Option<f64>,
    /// How far beyond all values so far, in parts of their range.
    pub(super) beyond: f64,
    /// The present stretch without a move, of a series that moves; in multiples of how long one has to
    /// be to mean something.
    pub(super) standstill: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    count: u32,
    at_seconds: f64,
    interval_seconds: f64,
    level: Level,
    base: Level,
    chart: f64,
    moves: Level,
    /// Logarithms of the sizes of moves other than 0.
    sizes: Level,
    day: Day,
    /// What is left when the time of the day is taken off.
    rest: Level,
    range: Range,
    /// The last values, the newest last.
    last: [f64; 3],
    stretch: f32,
    stretch_max: f32,
}

impl Usual {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    #[cfg(test)]
    pub(super) fn day_bytes(&self) -> usize {
        self.day.bytes()
    }

    /// The usual value at a time, a usual deviation from it, and whether the time of the day counts.
    pub(super) fn expected(&self, at_seconds: f64) -> (f64, f64, bool) {
        match self.day.usual(at_seconds) {
            Some(usual) => (usual + self.rest.mean(), self.rest_scale(), true),
            None => (self.level.mean(), self.scale(&self.level), false),
        }
    }

    fn typical_move(&self) -> f64 {
        if self.sizes.count() == 0 {
            return 0.0;
        }
        SCALE_OF_MOVE * self.sizes.mean().exp()
    }

    fn scale(&self, level: &Level) -> f64 {
        level
            .deviation()
            .max(SCALE_MIN_RATIO * level.mean().abs())
            .max(self.typical_move())
            .max(SCALE_MIN)
    }

    fn rest_scale(&self) -> f64 {
        self.rest
            .deviation()
            .max(SCALE_MIN_RATIO * self.level.mean().abs())
            .max(0.7 * self.moves.deviation())
            .max(0.2 * self.level.deviation())
            .max(self.typical_move())
            .max(SCALE_MIN)
    }

    /// Takes a value as the newest, and says how it deviates; `None` while nothing is usual yet.
    pub(super) fn deviations(&mut self, at_seconds: f64, value: f64) -> Option<Deviations> {
        if self.count == 0 {
            self.last = [value; 3];
            self.chart = value;
            (self.stretch, self.stretch_max) = (1.0, 1.0);
            self.interval_seconds = 900.0;
        } else {
            self.interval_seconds = (at_seconds - self.at_seconds).max(1.0);
        }
        self.at_seconds = at_seconds;
        let step = value - self.last[2];
        if self.count > 0 && step == 0.0 {
            self.stretch += 1.0;
        }
        self.count = self.count.saturating_add(1);
        if self.count <= COUNT_MIN {
            return None;
        }
        let level_scale = self.scale(&self.level);
        let base_scale = self.scale(&self.base);
        let (level, base) = (self.level.mean(), self.base.mean());
        let charted = value.clamp(
            base - CHARTED_MAX * base_scale,
            base + CHARTED_MAX * base_scale,
        );
        self.chart += CHART_WEIGHT * (charted - self.chart);
        let chart_scale = (CHART_WEIGHT / (2.0 - CHART_WEIGHT)).sqrt();
        Some(Deviations {
            level: (value - level).abs() / level_scale,
            chart: (self.chart - base).abs() / (base_scale * chart_scale),
            chart_of_late: (self.chart - level).abs() / (level_scale * chart_scale),
            time_of_day: self
                .day
                .usual(at_seconds)
                .map(|usual| (value - usual - self.rest.mean()).abs() / self.rest_scale()),
            beyond: self.range.beyond(value, 0.02 * level.abs()),
            standstill: self.standstill(),
        })
    }

    /// At four equal values in a row of a series that never had two.
    fn standstill(&self) -> f64 {
        let moves = f64::from(self.sizes.count()) > 0.5 * f64::from(self.count);
        if self.count >= 200 && moves {
            f64::from(self.stretch) / (1.4 + 2.5 * f64::from(self.stretch_max))
        } else {
            0.0
        }
    }

    /// Learns the newest value, wholly when it `is_normal`.
    pub(super) fn learn(&mut self, value: f64, is_normal: bool) {
        let step = value - self.last[2];
        if step != 0.0 {
            if is_normal && self.count > 1 {
                self.stretch_max = (self.stretch_max * (1.0 - 1e-5)).max(self.stretch);
            }
            self.stretch = 1.0;
        }
        let level_scale = self.scale(&self.level);
        let weight = if is_normal {
            LEVEL_WEIGHT
        } else {
            LEVEL_WEIGHT * ABNORMAL_WEIGHT
        };
        let near_level = self.bounded(value, self.level.mean(), LEARNED_MAX * level_scale);
        let near_base = self.bounded(
            value,
            self.base.mean(),
            LEARNED_MAX * self.scale(&self.base),
        );
        self.range
            .learn(value, self.last[0], is_normal, self.count > COUNT_MIN);
        if is_normal {
            self.learn_moves(step);
            self.learn_day(value, level_scale);
        }
        self.level.learn(near_level, weight);
        self.base.learn(near_base, BASE_WEIGHT);
        if self.count <= COUNT_MIN {
            self.chart = self.base.mean();
        }
        self.last = [self.last[1], self.last[2], value];
    }

    fn bounded(&self, value: f64, center: f64, reach: f64) -> f64 {
        if self.count <= COUNT_MIN {
            return value;
        }
        value.clamp(center - reach, center + reach)
    }

    fn learn_moves(&mut self, step: f64) {
        let deviation = self.moves.deviation();
        let bounded = if self.moves.count() > COUNT_MIN && deviation > 0.0 {
            step.clamp(-6.0 * deviation, 6.0 * deviation)
        } else {
            step
        };
        self.moves.learn(bounded, MOVE_WEIGHT);
        if step != 0.0 {
            self.sizes.learn(step.abs().ln(), MOVE_WEIGHT);
        }
    }

    fn learn_day(&mut self, value: f64, level_scale: f64) {
        let scale = self.rest_scale();
        if let Some(usual) = self.day.usual(self.at_seconds) {
            let rest = value - usual;
            let mean = self.rest.mean();
            let bounded = if self.rest.count() > COUNT_MIN {
                rest.clamp(mean - 4.0 * scale, mean + 4.0 * scale)
            } else {
                rest
            };
            self.rest.learn(bounded, LEVEL_WEIGHT);
        }
        let (level, count) = (self.level.mean(), self.count);
        let first = |value: f64| {
            if count > COUNT_MIN {
                value.clamp(level - 3.0 * level_scale, level + 3.0 * level_scale)
            } else {
                value
            }
        };
        let bounded = |deviation: f64| deviation.clamp(-3.0 * scale, 3.0 * scale);
        self.day.learn(
            self.at_seconds,
            self.interval_seconds,
            value,
            first,
            bounded,
        );
    }
}

/// The least and the largest normal value. What is not normal is taken in when it is over; else it
/// would lead its own bound along.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Range {
    least: f64,
    largest: f64,
    pending_least: f64,
    pending_largest: f64,
}

impl Default for Range {
    fn default() -> Self {
        Self {
            least: f64::INFINITY,
            largest: f64::NEG_INFINITY,
            pending_least: f64::INFINITY,
            pending_largest: f64::NEG_INFINITY,
        }
    }
}

impl Range {
    fn beyond(&self, value: f64, width_min: f64) -> f64 {
        let width = (self.largest - self.least).max(width_min).max(SCALE_MIN);
        (value - self.largest).max(self.least - value).max(0.0) / width
    }

    /// `settled` is the value of two steps ago: an excursion is judged by three values.
    fn learn(&mut self, value: f64, settled: f64, is_normal: bool, has_begun: bool) {
        if !is_normal {
            self.pending_least = self.pending_least.min(value);
            self.pending_largest = self.pending_largest.max(value);
            return;
        }
        self.least = self.least.min(self.pending_least);
        self.largest = self.largest.max(self.pending_largest);
        (self.pending_least, self.pending_largest) = (f64::INFINITY, f64::NEG_INFINITY);
        if has_begun {
            self.least = self.least.min(settled);
            self.largest = self.largest.max(settled);
        }
    }
}
