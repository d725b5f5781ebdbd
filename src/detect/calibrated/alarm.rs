//! Whether a value is an anomaly: when one begins, goes on, and is over.

use serde::{Deserialize, Serialize};

use super::extremes::Extremes;
use super::usual::Deviations;

/// Judges what lasts: of three values in a row two have to be beyond the limit.
///
/// The limits are learned from normal times only. Alarms that come often say that the limits are too
/// narrow, and widen them for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Alarm {
    level: Extremes,
    chart: Extremes,
    time_of_day: Extremes,
    last_levels: [f32; 2],
    last_times: [f32; 2],
    last_beyonds: [f32; 2],
    state: State,
    calm: u32,
    /// The alarms of late.
    alarms: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Quiet,
    /// An anomaly goes on, since so many values; the largest excess so far that was told.
    Open { values: u32, told: f64 },
    /// It lasts so long that it has to be the new normal: no alarm until it is calm.
    Accepting,
}

/// What a value comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Excess {
    /// The worst deviation as a multiple of its limit; above 1 is an anomaly.
    pub(super) multiple: f64,
    /// It begins here, or has become much worse.
    pub(super) is_news: bool,
    /// Whether the value may be learned from.
    pub(super) is_normal: bool,
}

/// Values of a series before the first alarm.
const VALUES_MIN: u32 = 100;
/// No limit is lower: two of three normal values exceed it once in weeks.
const LIMIT_MIN: f64 = 5.0;
/// Beyond the range of all values by this part of it.
const BEYOND_LIMIT: f64 = 0.19;
const BEYOND_YOUNG: f64 = 60.0;
/// What is unusual for the time of the day is none if it is this close to the level of late.
const NEAR_LEVEL: f64 = 0.8;
/// Deviations from the time of the day before they say what is usual.
const TIMES_MIN: u32 = 200;
const TIMES_MANY: u32 = 500;
/// What is usual at this time of the day counts for less.
const EXPLAINED: f64 = 0.6;

/// An anomaly is over after so many values within the limits.
const CALM_VALUES: u32 = 20;
const OPEN_VALUES_MAX: u32 = 200;
const WORSE: f64 = 1.5;
/// What is remembered of an alarm after one more value: half after 1,400.
const ALARM_REMEMBERED: f32 = 0.999_5;
const ALARMS_MAX: f32 = 1.5;

impl Alarm {
    /// `count` values were seen of the series; among the first no alarm is raised.
    pub(super) fn judge(&mut self, deviations: &Deviations, count: u32) -> Excess {
        let level = lasting(&mut self.last_levels, deviations.level);
        let beyond = lasting(&mut self.last_beyonds, deviations.beyond);
        let time = deviations
            .time_of_day
            .map(|time| lasting(&mut self.last_times, time));
        let mut excess = (level / self.level.limit(LIMIT_MIN))
            .max(deviations.chart_of_late / self.chart.limit(LIMIT_MIN));
        if let Some(time) = time {
            if self.time_of_day.count() > TIMES_MIN && level >= NEAR_LEVEL {
                excess = excess.max(time / self.time_of_day.limit(LIMIT_MIN));
            }
            if self.time_of_day.count() > TIMES_MANY && self.time_of_day.is_usual(time) {
                excess *= EXPLAINED;
            }
        }
        let beyond_limit = BEYOND_LIMIT * (1.0 + BEYOND_YOUNG / f64::from(count));
        excess = excess.max(beyond / beyond_limit).max(deviations.standstill);
        self.alarms *= ALARM_REMEMBERED;
        excess /= f64::from((self.alarms - (ALARMS_MAX - 1.0)).max(1.0));
        let excess = self.turn(if count > VALUES_MIN { excess } else { 0.0 });
        if excess.is_normal {
            self.level.learn(level);
            self.chart.learn(deviations.chart_of_late);
            if let Some(time) = time {
                self.time_of_day.learn(time);
            }
        }
        excess
    }

    /// Takes the state where the excess leads it.
    fn turn(&mut self, excess: f64) -> Excess {
        self.calm = if excess > 1.0 {
            0
        } else {
            self.calm.saturating_add(1)
        };
        let is_calm = self.calm >= CALM_VALUES;
        match &mut self.state {
            State::Quiet if excess > 1.0 => {
                self.alarms += 1.0;
                self.state = State::Open {
                    values: 1,
                    told: excess,
                };
                Excess {
                    multiple: excess,
                    is_news: true,
                    is_normal: false,
                }
            }
            State::Quiet => Excess {
                multiple: excess,
                is_news: false,
                is_normal: true,
            },
            State::Open { values, told } => {
                *values += 1;
                let is_news = excess > WORSE * *told;
                if is_news {
                    *told = excess;
                }
                let lasts_long = *values > OPEN_VALUES_MAX;
                if is_calm {
                    self.state = State::Quiet;
                } else if lasts_long {
                    self.state = State::Accepting;
                    self.calm = 0;
                }
                Excess {
                    multiple: excess,
                    is_news,
                    is_normal: lasts_long && !is_calm,
                }
            }
            State::Accepting => {
                if is_calm {
                    self.state = State::Quiet;
                }
                Excess {
                    multiple: excess.min(0.99),
                    is_news: false,
                    is_normal: true,
                }
            }
        }
    }

    /// How far from what is expected a value may lie, in usual deviations.
    pub(super) fn reach(&self, has_time_of_day: bool) -> f64 {
        if has_time_of_day {
            self.time_of_day.limit(LIMIT_MIN)
        } else {
            self.level.limit(LIMIT_MIN)
        }
    }
}

/// The second largest of the last three, which is their median.
fn lasting(last: &mut [f32; 2], newest: f64) -> f64 {
    let [first, second] = last.map(f64::from);
    *last = [last[1], newest.min(f64::from(f32::MAX)) as f32];
    first.max(second).min(first.min(second).max(newest))
}
