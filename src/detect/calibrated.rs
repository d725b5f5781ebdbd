//! The default detector: a score that is calibrated on the series' own history.
//!
//! Two judgements of every value make one score. The *alarm* asks whether something is wrong: a
//! deviation that lasts, beyond what normal times of this very series ever show.
//! The *surprise* ranks all other values below 1, for those who want to look at less.
//!
//! Nothing is tuned to a series and nothing has to be known of it: counters are told by how they move,
//! the time of the day is learned. Memory is bounded, under 1 KiB a series; a value costs under 200
//! nanoseconds. What is learned, and with which bounds, is in `usual`.

mod alarm;
mod counter;
mod day;
mod extremes;
mod habit;
mod level;
mod pace;
mod range;
mod surprise;
#[cfg(test)]
mod tests;
mod usual;

use serde::{Deserialize, Serialize};

use self::alarm::{Alarm, Cause, Excess, Moment};
use self::counter::Counter;
use self::pace::Pace;
use self::surprise::{MUTED_VALUES, Surprise};
use self::usual::{Expected, Lesson, Usual};
use super::anomaly::Direction;
use super::verdict::{Manner, SCORE_MAX, Terms, Verdict, is_measurement};
use super::watch::Sides;
use crate::model::Timestamp;

/// Values of a series before a surprise is told.
const SURPRISE_AFTER: u32 = 52;
/// Scores of an anomaly that goes on, and for a while after.
const MUTED_MAX: f64 = 0.3;
/// What lasts for more values is the new normal, where no watch says otherwise.
const OPEN_VALUES_MAX: u32 = 200;

/// The state of one series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    pace: Pace,
    counter: Counter,
    usual: Usual,
    surprise: Surprise,
    alarm: Alarm,
    /// Values since an anomaly was told.
    since_told: Option<u32>,
}

/// What is said of one value of a series that is scored on its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Above 1 is an anomaly; 0 to [`SCORE_MAX`].
    pub score: f64,
    pub expectation: Expectation,
}

/// The value that is expected, and between which values is normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
    /// A usual deviation from what is expected. All four are NaN before the first value.
    pub scale: f64,
}

impl Expectation {
    /// Before the first value.
    const UNKNOWN: Self = Self {
        expected: f64::NAN,
        lower: f64::NAN,
        upper: f64::NAN,
        scale: f64::NAN,
    };
}

/// What one value came to.
struct Step {
    expectation: Expectation,
    /// `None` while nothing is usual yet.
    excess: Option<Excess>,
    surprise: f64,
    /// What the series lies above what was judged of it.
    base: f64,
}

impl Calibrated {
    /// Judges the next value, and learns from it. What is no finite number is no measurement: it
    /// scores 0 and teaches nothing.
    ///
    /// An anomaly scores above 1 when it begins, and again when it has become much worse or comes
    /// back; in between, and for a while after, scores are low. What lasts is accepted.
    pub fn score(&mut self, at: Timestamp, value: f64) -> Scored {
        if !is_measurement(value) {
            return Scored {
                score: 0.0,
                expectation: self.expectation(&self.usual.expected(at), self.counter.base()),
            };
        }
        let step = self.step(at, value, |_expectation| Some(OPEN_VALUES_MAX));
        Scored {
            score: step
                .excess
                .map_or(0.0, |excess| self.tell(&excess, step.surprise)),
            expectation: step.expectation,
        }
    }

    /// Judges the next value on a watch's terms, and learns from it; `None` during the warm-up.
    ///
    /// The verdict holds as long as the anomaly does, and only the watch can accept it. What does not
    /// matter to the watch is accepted as by [`Calibrated::score`].
    pub fn judge(&mut self, at: Timestamp, value: f64, terms: &Terms) -> Option<Verdict> {
        if !is_measurement(value) {
            return None;
        }
        let was_constant = self.usual.is_constant();
        let step = self.step(at, value, |expectation| {
            let deviation = value - expectation.expected;
            (!terms.matters(deviation, expectation.expected)).then_some(OPEN_VALUES_MAX)
        });
        let excess = step.excess?;
        let count = u64::from(self.usual.count());
        if count <= terms.warmup_samples.max(u64::from(alarm::VALUES_MIN)) {
            return None;
        }
        let Expectation {
            expected,
            lower,
            upper,
            scale,
        } = step.expectation;
        let (observed, manner) = match excess.cause {
            Cause::Standstill => (value, Manner::Still),
            Cause::Chart => (step.base + self.usual.average(), Manner::Average),
            _ if was_constant => (value, Manner::Novel),
            Cause::Level | Cause::TimeOfDay | Cause::Beyond => (value, Manner::Far),
        };
        let deviation = observed - expected;
        let matters = match manner {
            Manner::Still => terms.sides != Sides::High,
            // The last value may be normal again where most of the last ones were not.
            Manner::Far | Manner::Average | Manner::Novel => {
                excess.is_low == (deviation < 0.0) && terms.matters(deviation, expected)
            }
        };
        let score_max = if matters { SCORE_MAX } else { 1.0 };
        Some(Verdict {
            score: excess.multiple.min(score_max),
            direction: match manner {
                Manner::Still => Direction::Low,
                _ => Direction::of(deviation),
            },
            observed,
            expected,
            lower,
            upper,
            deviations: match manner {
                Manner::Still => self.usual.stretch(),
                _ => deviation.abs() / scale,
            },
            manner,
        })
    }

    /// Begins anew at whatever values come next; what is usual in the course of a day is kept.
    pub fn relearn(&mut self) {
        *self = Self {
            pace: self.pace,
            counter: self.counter,
            usual: std::mem::take(&mut self.usual).relearn(),
            alarm: self.alarm.relearn(),
            ..Self::default()
        };
    }

    /// Judges and learns. `open_max` says how many values an anomaly may last until it is accepted.
    fn step(
        &mut self,
        at: Timestamp,
        value: f64,
        open_max: impl FnOnce(&Expectation) -> Option<u32>,
    ) -> Step {
        let intervals = self.pace.pass(at.seconds());
        let interval_seconds = self.pace.interval_seconds();
        let meaning = self.counter.read(value, intervals);
        if meaning.is_other {
            *self = Self {
                pace: self.pace,
                counter: self.counter,
                ..Self::default()
            };
        }
        let expected = self.usual.expected(at);
        let expectation = self.expectation(&expected, meaning.base);
        let mut step = Step {
            expectation,
            excess: None,
            surprise: 0.0,
            base: meaning.base,
        };
        if let Some(deviations) = self.usual.deviations(meaning.value, &expected) {
            let count = self.usual.count();
            step.surprise = self.surprise.judge(&deviations, count <= SURPRISE_AFTER);
            let moment = Moment {
                at,
                interval_seconds,
            };
            let open_max = open_max(&expectation);
            let excess = self.alarm.judge(moment, &deviations, count, open_max);
            if excess.is_past {
                self.usual.restart_chart();
            }
            step.excess = Some(excess);
        }
        let lesson = step.excess.map_or(Lesson::Normal, |excess| excess.lesson);
        self.usual
            .learn(at, interval_seconds, meaning.value, lesson);
        step
    }

    /// One score of the two judgements, that tells an anomaly once.
    fn tell(&mut self, excess: &Excess, surprise: f64) -> f64 {
        self.since_told = self.since_told.map(|values| values.saturating_add(1));
        if excess.is_news {
            self.since_told = Some(0);
            return excess.multiple.min(SCORE_MAX);
        }
        let is_muted =
            excess.multiple > 1.0 || self.since_told.is_some_and(|values| values < MUTED_VALUES);
        if is_muted {
            surprise.min(MUTED_MAX)
        } else {
            surprise
        }
    }

    /// What is expected of a series that lies `base` above what is judged of it.
    fn expectation(&self, expected: &Expected, base: f64) -> Expectation {
        if self.usual.count() == 0 {
            return Expectation::UNKNOWN;
        }
        let reach = expected.scale * self.alarm.reach(expected.is_by_time);
        let beyond = self.alarm.reach_beyond(self.usual.count());
        let (least, largest) = self.usual.bounds(beyond);
        let value = expected.value;
        Expectation {
            expected: base + value,
            lower: base + (value - reach).max(least.min(value)),
            upper: base + (value + reach).min(largest.max(value)),
            scale: expected.scale,
        }
    }
}
