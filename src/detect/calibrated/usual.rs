//! What is usual for a series, and how a value deviates from it.
//!
//! [`Usual`] holds what was learned: a level with a short memory and one with a long, the size of
//! moves, the time of the day, the range, the longest stretch without a move. Everything is learned
//! with bounds, so that an outlier moves it no more than a large normal value.

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::level::Level;
use super::range::Range;
use crate::model::Timestamp;

/// Values before deviations mean anything.
const COUNT_MIN: u32 = 20;

/// Weights of the newest value.
const LEVEL_WEIGHT: f64 = 0.002_4;
const BASE_WEIGHT: f64 = 0.000_5;
const MOVE_WEIGHT: f64 = 0.008;
const CHART_WEIGHT: f64 = 0.03;
/// Of what is not normal, this part.
const ABNORMAL_WEIGHT: f64 = 0.23;

/// The usual deviation is at least this part of the level...
const SCALE_MIN_RATIO: f64 = 0.003;
/// ...and this part of a typical move: a count that is mostly 0 has one of 1 now and then.
const SCALE_OF_MOVE: f64 = 0.3;
const SCALE_MIN: f64 = 1e-9;
/// What is left when the time of the day is taken off has a deviation of at least these parts of the
/// moves' and the level's, since the quarters are means of few days, and of how far all of it has shifted.
const REST_OF_MOVES: f64 = 0.7;
const REST_OF_LEVEL: f64 = 0.2;
const REST_OF_SHIFT: f64 = 0.5;

/// So many usual deviations are learned of what deviates more.
const LEARNED_MAX: f64 = 3.6;
const CHARTED_MAX: f64 = 6.0;
const MOVED_MAX: f64 = 6.0;
const REST_MAX: f64 = 4.0;
const DAY_MAX: f64 = 3.0;

/// The range of all values counts as at least this part of the level.
const RANGE_MIN_RATIO: f64 = 0.02;

/// A stretch without a move means something from `BASE + OF_LONGEST * longest` values on: four equal
/// values of a series that never had two.
const STRETCH_BASE: f64 = 1.4;
const STRETCH_OF_LONGEST: f64 = 2.5;
const STRETCH_AFTER: u32 = 200;
/// What is forgotten of the longest stretch at each move.
const STRETCH_FORGOTTEN: f32 = 1e-5;

/// How a value deviates from what is usual, each in multiples of its own measure; negative below it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deviations {
    /// From the level.
    pub(super) level: f64,
    /// Of the moving average from the level of a long time, and from that of late.
    pub(super) chart: f64,
    pub(super) chart_of_late: f64,
    /// From what is usual at this time of the day, once that is known.
    pub(super) time_of_day: Option<f64>,
    /// How far beyond all normal values so far, in parts of their range, and how far beyond all.
    pub(super) beyond: f64,
    pub(super) beyond_all: f64,
    /// The present stretch without a move, of a series that moves; in multiples of how long one has to
    /// be to mean something.
    pub(super) standstill: f64,
}

/// What is expected at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) value: f64,
    /// A usual deviation from it.
    pub(super) scale: f64,
    /// Whether the time of the day has a say.
    pub(super) is_by_time: bool,
}

/// What a value teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    Normal,
    /// It is not normal, but may be in the end: it pulls at the level, and at nothing else.
    Abnormal,
    /// The same, but a habit: the time of the day learns it too.
    Habitual,
    Rejected,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    count: u32,
    level: Level,
    base: Level,
    chart: f64,
    moves: Level,
    /// Logarithms of the sizes of moves other than 0.
    sizes: Level,
    /// The part of a typical move that no scale falls below; follows from `sizes`.
    scale_of_move: f64,
    day: Day,
    /// What is left when the time of the day is taken off.
    rest: Level,
    /// Of normal values, and of all.
    range: Range,
    range_of_all: Range,
    /// The last values, the newest last.
    last: [f64; 3],
    stretch: f32,
    stretch_max: f32,
}

impl Usual {
    /// Nothing but the course of a day.
    pub(super) fn relearn(self) -> Self {
        Self {
            day: self.day,
            ..Self::default()
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    #[cfg(test)]
    pub(super) fn day_bytes(&self) -> usize {
        self.day.bytes()
    }

    /// Nothing has ever moved.
    pub(super) fn is_constant(&self) -> bool {
        self.sizes.count() == 0
    }

    pub(super) fn expected(&self, at: Timestamp) -> Expected {
        match self.day.usual(at) {
            Some(usual) => Expected {
                value: usual + self.rest.mean(),
                scale: self.rest_scale(),
                is_by_time: true,
            },
            None => Expected {
                value: self.level.mean(),
                scale: self.scale(&self.level),
                is_by_time: false,
            },
        }
    }

    /// The least and the largest value that lie no more than a part of the range outside it.
    pub(super) fn bounds(&self, beyond: f64) -> (f64, f64) {
        let (least, largest) = self.range.ends();
        let margin = beyond * self.width(&self.range);
        (least - margin, largest + margin)
    }

    /// Values since the last move.
    pub(super) fn stretch(&self) -> f64 {
        f64::from(self.stretch)
    }

    pub(super) fn average(&self) -> f64 {
        self.chart
    }

    /// The average begins anew at the level: what it remembers is over.
    pub(super) fn restart_chart(&mut self) {
        self.chart = self.level.mean();
    }

    fn width(&self, range: &Range) -> f64 {
        range
            .width()
            .max(RANGE_MIN_RATIO * self.level.mean().abs())
            .max(SCALE_MIN)
    }

    fn scale(&self, level: &Level) -> f64 {
        level
            .deviation()
            .max(SCALE_MIN_RATIO * level.mean().abs())
            .max(self.scale_of_move)
            .max(SCALE_MIN)
    }

    fn rest_scale(&self) -> f64 {
        self.rest
            .deviation()
            .max(SCALE_MIN_RATIO * self.level.mean().abs())
            .max(REST_OF_MOVES * self.moves.deviation())
            .max(REST_OF_LEVEL * self.level.deviation())
            .max(REST_OF_SHIFT * self.rest.mean().abs())
            .max(self.scale_of_move)
            .max(SCALE_MIN)
    }

    /// Takes a value as the newest, and says how it deviates from what was expected and else; `None`
    /// while nothing is usual yet.
    pub(super) fn deviations(&mut self, value: f64, expected: &Expected) -> Option<Deviations> {
        if self.count == 0 {
            self.last = [value; 3];
            self.chart = value;
            (self.stretch, self.stretch_max) = (1.0, 1.0);
        } else if value == self.last[2] {
            self.stretch += 1.0;
        }
        self.count = self.count.saturating_add(1);
        if self.count <= COUNT_MIN {
            // Many series begin with values that never come again.
            (self.range, self.range_of_all) = (Range::of(value), Range::of(value));
            return None;
        }
        let (level, base) = (self.level.mean(), self.base.mean());
        let (level_scale, base_scale) = (self.scale(&self.level), self.scale(&self.base));
        let charted = around(base, CHARTED_MAX * base_scale, value);
        self.chart += CHART_WEIGHT * (charted - self.chart);
        let chart_scale = (CHART_WEIGHT / (2.0 - CHART_WEIGHT)).sqrt();
        Some(Deviations {
            level: (value - level) / level_scale,
            chart: (self.chart - base) / (base_scale * chart_scale),
            chart_of_late: (self.chart - level) / (level_scale * chart_scale),
            time_of_day: expected
                .is_by_time
                .then(|| (value - expected.value) / expected.scale),
            beyond: self.range.beyond(value) / self.width(&self.range),
            beyond_all: self.range_of_all.beyond(value) / self.width(&self.range_of_all),
            standstill: self.standstill(),
        })
    }

    fn standstill(&self) -> f64 {
        let moves_mostly = f64::from(self.sizes.count()) > 0.5 * f64::from(self.count);
        if self.count >= STRETCH_AFTER && moves_mostly {
            let longest = f64::from(self.stretch_max);
            f64::from(self.stretch) / (STRETCH_BASE + STRETCH_OF_LONGEST * longest)
        } else {
            0.0
        }
    }

    /// Learns the newest value. `interval_seconds` is the usual one.
    pub(super) fn learn(
        &mut self,
        at: Timestamp,
        interval_seconds: f64,
        value: f64,
        lesson: Lesson,
    ) {
        let is_normal = lesson == Lesson::Normal;
        let step = value - self.last[2];
        if step != 0.0 {
            if is_normal && self.count > 1 {
                let longest = self.stretch_max * (1.0 - STRETCH_FORGOTTEN);
                self.stretch_max = longest.max(self.stretch);
            }
            self.stretch = 1.0;
        }
        let (level_scale, base_scale) = (self.scale(&self.level), self.scale(&self.base));
        if is_normal {
            // An excursion is told by three values, so only the one before them is known to be none.
            if self.count > COUNT_MIN {
                self.range.learn(self.last[0]);
            }
            self.learn_moves(self.last[1] - self.last[0]);
        }
        self.range_of_all.learn(self.last[0]);
        if matches!(lesson, Lesson::Normal | Lesson::Habitual) {
            self.learn_day(at, interval_seconds, value);
        }
        let weight = match lesson {
            Lesson::Normal => LEVEL_WEIGHT,
            Lesson::Abnormal | Lesson::Habitual => LEVEL_WEIGHT * ABNORMAL_WEIGHT,
            Lesson::Rejected => 0.0,
        };
        if weight > 0.0 {
            let level = self.bounded(self.level.mean(), LEARNED_MAX * level_scale, value);
            self.level.learn(level, weight);
        }
        let base = self.bounded(self.base.mean(), LEARNED_MAX * base_scale, value);
        self.base.learn(base, BASE_WEIGHT);
        if self.count <= COUNT_MIN {
            self.chart = self.base.mean();
        }
        self.last = [self.last[1], self.last[2], value];
    }

    /// A value within reach of a center, except among the first, which say where the center is.
    fn bounded(&self, center: f64, reach: f64, value: f64) -> f64 {
        if self.count <= COUNT_MIN {
            value
        } else {
            around(center, reach, value)
        }
    }

    fn learn_moves(&mut self, step: f64) {
        let deviation = self.moves.deviation();
        let bounded = if self.moves.count() > COUNT_MIN && deviation > 0.0 {
            around(0.0, MOVED_MAX * deviation, step)
        } else {
            step
        };
        self.moves.learn(bounded, MOVE_WEIGHT);
        if step != 0.0 {
            self.sizes.learn(step.abs().ln(), MOVE_WEIGHT);
            self.scale_of_move = SCALE_OF_MOVE * self.sizes.mean().exp();
        }
    }

    fn learn_day(&mut self, at: Timestamp, interval_seconds: f64, value: f64) {
        let scale = self.rest_scale();
        if let Some(usual) = self.day.usual(at) {
            let rest = value - usual;
            let bounded = if self.rest.count() > COUNT_MIN {
                around(self.rest.mean(), REST_MAX * scale, rest)
            } else {
                rest
            };
            self.rest.learn(bounded, LEVEL_WEIGHT);
        }
        let (least, largest) = self.range.ends();
        let first = |value: f64| value.clamp(least, largest);
        let bounded = |deviation: f64| around(0.0, DAY_MAX * scale, deviation);
        self.day.learn(at, interval_seconds, value, first, bounded);
    }
}

/// The value, or the nearest within reach of a center.
fn around(center: f64, reach: f64, value: f64) -> f64 {
    value.clamp(center - reach, center + reach)
}
