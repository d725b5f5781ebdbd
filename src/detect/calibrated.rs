//! The default detector: a score that is calibrated on the series' own history.
//!
//! Two judgements of every value make one score. The *alarm* asks whether something is wrong: a
//! deviation that lasts two of three values, beyond what normal times of this very series ever show; it
//! scores above 1, once when it begins and again when it becomes much worse. The *surprise* ranks all
//! other values below 1, for those who want to look at less. After either the score stays low for a
//! while, as long as it is the same story.
//!
//! Nothing is tuned to a series and nothing has to be known of it: counters are told by how they move,
//! the time of the day is learned. Memory is bounded, under 1 KiB a series; a value costs some hundred
//! nanoseconds. What is learned, and with which bounds, is in [`Usual`].

mod alarm;
mod counter;
mod day;
mod extremes;
mod level;
mod surprise;
mod usual;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::alarm::{Alarm, Excess};
use self::counter::Counter;
use self::surprise::{MUTED_VALUES, Surprise};
use self::usual::Usual;
use crate::model::Timestamp;

/// Values of a series before a surprise is told.
const SURPRISE_AFTER: u32 = 52;
/// A score of an anomaly ends here.
const SCORE_MAX: f64 = 100.0;
/// Scores of an anomaly that goes on, and for a while after.
const MUTED_MAX: f64 = 0.3;

/// The state of one series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    counter: Counter,
    usual: Usual,
    surprise: Surprise,
    alarm: Alarm,
    since_alarm: Option<u32>,
}

/// What is said of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Above 1 is an anomaly; 0 to 100.
    pub score: f64,
    /// The value that was expected, and the band of what is normal; of a counter its increase.
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
}

impl Calibrated {
    /// Judges the next value, and learns from it. What is no finite number is no measurement: it
    /// scores 0 and teaches nothing.
    pub fn score(&mut self, at: Timestamp, value: f64) -> Scored {
        let at_seconds = at.ms() as f64 / 1e3;
        if !value.is_finite() {
            return self.scored(at_seconds, 0.0);
        }
        let meaning = self.counter.read(value);
        if meaning.is_other {
            *self = Self {
                counter: self.counter,
                ..Self::default()
            };
        }
        let deviations = self.usual.deviations(at_seconds, meaning.value);
        let count = self.usual.count();
        let (score, is_normal) = match deviations {
            None => (0.0, true),
            Some(deviations) => {
                let surprise = self.surprise.judge(&deviations, count <= SURPRISE_AFTER);
                let excess = self.alarm.judge(&deviations, count);
                let score = self.weigh(surprise, &excess);
                (score, excess.is_normal)
            }
        };
        let scored = self.scored(at_seconds, score);
        self.usual.learn(meaning.value, is_normal);
        scored
    }

    /// One score of the two judgements.
    fn weigh(&mut self, surprise: f64, excess: &Excess) -> f64 {
        self.since_alarm = self.since_alarm.map(|values| values.saturating_add(1));
        if excess.is_news {
            self.since_alarm = Some(0);
            return excess.multiple.min(SCORE_MAX);
        }
        let is_muted =
            excess.multiple > 1.0 || self.since_alarm.is_some_and(|values| values < MUTED_VALUES);
        if is_muted {
            surprise.min(MUTED_MAX)
        } else {
            surprise
        }
    }

    fn scored(&self, at_seconds: f64, score: f64) -> Scored {
        let (expected, scale, is_by_time) = self.usual.expected(at_seconds);
        let reach = scale * self.alarm.reach(is_by_time);
        Scored {
            score,
            expected,
            lower: expected - reach,
            upper: expected + reach,
        }
    }
}
