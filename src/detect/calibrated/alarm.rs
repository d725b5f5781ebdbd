//! Whether a value is an anomaly: when one begins, goes on, and is over.

use serde::{Deserialize, Serialize};

use super::extremes::Extremes;
use super::usual::{Deviations, Lesson};

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
    /// Values since one was beyond a limit: of all, and of those that judge the last values alone.
    calm: u32,
    calm_of_late: u32,
    /// The alarms of late.
    alarms: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Quiet,
    /// An anomaly goes on, since so many values; the largest excess so far that was told.
    Open { values: u32, told: f64 },
}

/// Which of the judgements is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Level,
    Chart,
    TimeOfDay,
    Beyond,
    Standstill,
}

/// What a value comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Excess {
    /// The worst deviation as a multiple of its limit; above 1 is an anomaly.
    pub(super) multiple: f64,
    pub(super) cause: Cause,
    /// It begins here, or has become much worse.
    pub(super) is_news: bool,
    pub(super) lesson: Lesson,
    /// The last values are normal again, whatever their average remembers.
    pub(super) is_past: bool,
}

/// Values of a series before the first alarm.
pub(super) const VALUES_MIN: u32 = 100;
/// No limit is lower: two of three normal values exceed it once in weeks.
const LIMIT_MIN: f64 = 5.0;
/// Beyond the range of all values by this part of it, and farther while there are few values.
const BEYOND_LIMIT: f64 = 0.19;
const BEYOND_YOUNG: f64 = 60.0;
/// What is unusual for the time of the day is none if it is this close to the level of late.
const NEAR_LEVEL: f64 = 0.8;
/// Deviations from the time of the day before they say what is usual.
const TIMES_MIN: u32 = 200;
const TIMES_MANY: u32 = 500;
/// What is usual at this time of the day counts for less.
const EXPLAINED: f64 = 0.6;

/// An anomaly is over, or another one begins, after so many values within the limits.
const CALM_VALUES: u32 = 20;
/// The average counts no more once so many of the last values were well within the limits.
const PAST_VALUES: u32 = 3;
const WORSE: f64 = 1.5;
/// So many of an anomaly's values pull at the level. More would make room for the next one like it.
const PULLING_VALUES: u32 = 50;
/// What is remembered of an alarm after one more value: half after 1,400.
const ALARM_REMEMBERED: f32 = 0.999_5;
/// More alarms of late than so many widen the limits.
const ALARMS_MAX: f32 = 1.5;

impl Alarm {
    /// `count` values were seen of the series; among the first no alarm is raised. What lasts longer
    /// than `open_max` values is taken for the new normal.
    pub(super) fn judge(
        &mut self,
        deviations: &Deviations,
        count: u32,
        open_max: Option<u32>,
    ) -> Excess {
        let level = lasting(&mut self.last_levels, deviations.level);
        let beyond = lasting(&mut self.last_beyonds, deviations.beyond);
        let time = deviations
            .time_of_day
            .map(|time| lasting(&mut self.last_times, time));
        let chart = deviations.chart_of_late;
        self.alarms *= ALARM_REMEMBERED;
        let (of_late, cause) = self.of_late(level, time, beyond, deviations.standstill, count);
        let is_young = count <= VALUES_MIN;
        let widened = if is_young {
            f64::INFINITY
        } else {
            self.widened()
        };
        let of_late = of_late / widened;
        let explained = self.explained(time);
        let chart_excess = explained * chart / self.chart.limit(LIMIT_MIN) / widened;
        let (multiple, cause) = if chart_excess > of_late {
            (chart_excess, Cause::Chart)
        } else {
            (of_late, cause)
        };
        let excess = self.turn(multiple, of_late, cause, open_max);
        if multiple > 1.0 {
            // The average and the time of the day stray for long in normal times, too.
            self.level.reject();
        } else if excess.lesson == Lesson::Normal {
            self.level.learn_run(level);
            self.chart.learn(chart);
            if let Some(time) = time {
                self.time_of_day.learn(time);
            }
        }
        excess
    }

    /// The worst of what judges the last values alone, in multiples of its limit.
    fn of_late(
        &self,
        level: f64,
        time: Option<f64>,
        beyond: f64,
        standstill: f64,
        count: u32,
    ) -> (f64, Cause) {
        let explained = self.explained(time);
        let by_level = explained * level / self.level.limit(LIMIT_MIN);
        let by_time = match time {
            Some(time) if self.time_of_day.count() > TIMES_MIN && level >= NEAR_LEVEL => {
                explained * time / self.time_of_day.limit(LIMIT_MIN)
            }
            _ => 0.0,
        };
        [
            (by_level, Cause::Level),
            (by_time, Cause::TimeOfDay),
            (beyond / beyond_limit(count), Cause::Beyond),
            (standstill, Cause::Standstill),
        ]
        .into_iter()
        .fold((0.0, Cause::Level), |worst, one| {
            if one.0 > worst.0 { one } else { worst }
        })
    }

    /// What a deviation counts for, by how usual it is at this time of the day.
    fn explained(&self, time: Option<f64>) -> f64 {
        match time {
            Some(time)
                if self.time_of_day.count() > TIMES_MANY && self.time_of_day.is_usual(time) =>
            {
                EXPLAINED
            }
            _ => 1.0,
        }
    }

    fn widened(&self) -> f64 {
        f64::from((self.alarms - (ALARMS_MAX - 1.0)).max(1.0))
    }

    /// Takes the state where the excess leads it.
    fn turn(&mut self, multiple: f64, of_late: f64, cause: Cause, open_max: Option<u32>) -> Excess {
        let has_returned = of_late > 1.0 && self.calm_of_late >= CALM_VALUES;
        self.calm = calm(self.calm, multiple);
        self.calm_of_late = calm(self.calm_of_late, of_late);
        let is_past = self.calm_of_late == PAST_VALUES;
        let mut excess = Excess {
            multiple,
            cause,
            is_news: false,
            lesson: if open_max.is_some() {
                Lesson::Abnormal
            } else {
                Lesson::Rejected
            },
            is_past,
        };
        match &mut self.state {
            State::Quiet if multiple <= 1.0 => excess.lesson = Lesson::Normal,
            State::Quiet => {
                excess.is_news = true;
                self.alarms += 1.0;
                self.state = State::Open {
                    values: 1,
                    told: multiple,
                };
            }
            State::Open { values, told } => {
                *values = values.saturating_add(1);
                let is_accepted = open_max.is_some_and(|most| *values > most);
                if has_returned {
                    excess.is_news = true;
                    self.alarms += 1.0;
                    (*values, *told) = (1, multiple);
                } else if multiple > WORSE * *told {
                    excess.is_news = true;
                    *told = multiple;
                } else if self.calm >= CALM_VALUES {
                    self.state = State::Quiet;
                } else if is_accepted {
                    excess.lesson = Lesson::Normal;
                    excess.multiple = multiple.min(1.0);
                } else if *values > PULLING_VALUES {
                    excess.lesson = Lesson::Rejected;
                }
            }
        }
        excess
    }

    /// How far from what is expected a value may lie, in usual deviations.
    pub(super) fn reach(&self, is_by_time: bool) -> f64 {
        let limits = if is_by_time {
            self.time_of_day
        } else {
            self.level
        };
        limits.limit(LIMIT_MIN) * self.widened()
    }

    /// How far outside all values so far a value may lie, in parts of their range.
    pub(super) fn reach_beyond(&self, count: u32) -> f64 {
        beyond_limit(count) * self.widened()
    }
}

fn beyond_limit(count: u32) -> f64 {
    BEYOND_LIMIT * (1.0 + BEYOND_YOUNG / f64::from(count.max(1)))
}

fn calm(values: u32, multiple: f64) -> u32 {
    if multiple > 1.0 {
        0
    } else {
        values.saturating_add(1)
    }
}

/// The second largest of the last three, which is their median.
fn lasting(last: &mut [f32; 2], newest: f64) -> f64 {
    let [first, second] = last.map(f64::from);
    *last = [last[1], newest.min(f64::from(f32::MAX)) as f32];
    first.max(second).min(first.min(second).max(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_the_median_of_three() {
        let mut last = [0.0; 2];
        let lasted: Vec<f64> = [9.0, 1.0, 7.0, 8.0, 2.0]
            .into_iter()
            .map(|newest| lasting(&mut last, newest))
            .collect();
        assert_eq!(lasted, [0.0, 1.0, 7.0, 7.0, 7.0]);
    }
}
