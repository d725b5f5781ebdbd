//! Whether a value is an anomaly: when one begins, goes on, and is over.

use serde::{Deserialize, Serialize};

use super::extremes::{Extremes, Runs};
use super::habit::{Habit, Habits};
use super::usual::{Deviations, Lesson};
use crate::model::Timestamp;

/// Judges what lasts: three of five values in a row have to be beyond the limit, or two of three far
/// beyond it.
///
/// The limits are learned from normal times only. Alarms that come often and are only just beyond say
/// that the limits are too narrow, and widen them for a while. What comes back at its time of the day or
/// regularly is no alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Alarm {
    level: Runs,
    chart: Extremes,
    time_of_day: Extremes,
    last_levels: Last,
    last_times: Last,
    last_beyonds: Last,
    state: State,
    /// Values since one was beyond a limit: of all, and of those that judge the last values alone.
    calm: u32,
    calm_of_late: u32,
    /// The alarms of late.
    alarms: f32,
    habits: Habits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    #[default]
    Quiet,
    /// An anomaly goes on, since so many values; the largest excess so far that was told.
    Open {
        values: u32,
        told: f32,
        habit: Option<Habit>,
    },
}

/// What lasts of the deviations.
struct Lasting {
    level: f64,
    beyond: f64,
    time_of_day: Option<f64>,
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

/// When a value was measured, in a series that usually has one in so many seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) interval_seconds: f64,
}

/// What a value comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Excess {
    /// The worst deviation as a multiple of its limit; above 1 is an anomaly.
    pub(super) multiple: f64,
    /// Below what is expected, or still.
    pub(super) is_low: bool,
    pub(super) cause: Cause,
    /// It begins here, or has become much worse.
    pub(super) is_news: bool,
    pub(super) lesson: Lesson,
    /// The last values are normal again, whatever their average remembers.
    pub(super) is_past: bool,
}

/// Values of a series before the first alarm.
pub(super) const VALUES_MIN: u32 = 100;
/// Two of three values have to be so many times farther off than three of five.
const BRIEF: f32 = 1.4;
/// No limit is lower: what lasts of normal noise hardly ever exceeds it.
const LIMIT_MIN: f64 = 4.0;
/// The average strays for long in normal times, too: its limit is widened by this.
const CHART_MARGIN: f64 = 1.2;
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
/// An anomaly is news again when it is so many times as bad as was told...
const WORSE: f64 = 1.5;
/// ...of its first values, which show how bad it is.
const SETTLED_VALUES: u32 = 5;
/// So many of an anomaly's values pull at the level. More would make room for the next one like it.
const PULLING_VALUES: u32 = 20;
/// What is remembered of an alarm after one more value: half after 1,000.
const ALARM_REMEMBERED: f32 = 0.999_3;
/// More alarms of late than so many widen the limits, up to this factor.
const ALARMS_MAX: f32 = 1.5;
const WIDENED_MAX: f32 = 2.0;
/// An alarm that is farther beyond its limit than this says less of the limit.
const WEAK: f64 = 1.3;

impl Alarm {
    /// Nothing but what comes back.
    pub(super) fn relearn(self) -> Self {
        Self {
            habits: self.habits,
            ..Self::default()
        }
    }

    /// `count` values were seen of the series; among the first no alarm is raised. What lasts longer
    /// than `open_max` values is taken for the new normal.
    pub(super) fn judge(
        &mut self,
        moment: Moment,
        deviations: &Deviations,
        count: u32,
        open_max: Option<u32>,
    ) -> Excess {
        let lasting = Lasting {
            level: self.last_levels.lasting_with(deviations.level),
            beyond: self.last_beyonds.lasting_with(deviations.beyond),
            time_of_day: deviations
                .time_of_day
                .map(|time| self.last_times.lasting_with(time)),
        };
        let chart = deviations.chart_of_late;
        let explained = self.explained(lasting.time_of_day);
        self.alarms *= ALARM_REMEMBERED;
        let widened = if count > VALUES_MIN {
            self.widened()
        } else {
            f64::INFINITY
        };
        let (of_late, cause) = self.of_late(&lasting, explained, deviations.standstill, count);
        let of_late = of_late / widened;
        let by_chart = explained * chart / (CHART_MARGIN * self.chart.limit(LIMIT_MIN)) / widened;
        let (signed, cause) = if by_chart.abs() > of_late.abs() {
            (by_chart, Cause::Chart)
        } else {
            (of_late, cause)
        };
        let excess = self.turn(moment, signed, of_late.abs(), cause, open_max);
        if signed.abs() > 1.0 {
            // The average and the time of the day stray for long in normal times, too.
            self.level.reject();
        } else if excess.lesson == Lesson::Normal {
            self.level.learn(lasting.level.abs());
            self.chart.learn(chart.abs());
            if let Some(time) = lasting.time_of_day {
                self.time_of_day.learn(time.abs());
            }
        }
        excess
    }

    /// The worst of what judges the last values alone, in multiples of its limit.
    fn of_late(
        &self,
        lasting: &Lasting,
        explained: f64,
        standstill: f64,
        count: u32,
    ) -> (f64, Cause) {
        let by_level = explained * lasting.level / self.level.limit(LIMIT_MIN);
        let by_time = match lasting.time_of_day {
            Some(time)
                if self.time_of_day.count() > TIMES_MIN && lasting.level.abs() >= NEAR_LEVEL =>
            {
                explained * time / self.time_of_day.limit(LIMIT_MIN)
            }
            _ => 0.0,
        };
        [
            (by_level, Cause::Level),
            (by_time, Cause::TimeOfDay),
            (lasting.beyond / beyond_limit(count), Cause::Beyond),
            (-standstill, Cause::Standstill),
        ]
        .into_iter()
        .fold((0.0_f64, Cause::Level), |worst, one| {
            if one.0.abs() > worst.0.abs() {
                one
            } else {
                worst
            }
        })
    }

    /// What a deviation counts for, by how usual it is at this time of the day.
    fn explained(&self, time: Option<f64>) -> f64 {
        match time {
            Some(time)
                if self.time_of_day.count() > TIMES_MANY
                    && self.time_of_day.is_usual(time.abs()) =>
            {
                EXPLAINED
            }
            _ => 1.0,
        }
    }

    fn widened(&self) -> f64 {
        f64::from((self.alarms - (ALARMS_MAX - 1.0)).clamp(1.0, WIDENED_MAX))
    }

    /// Takes the state where the excess leads it.
    fn turn(
        &mut self,
        moment: Moment,
        signed: f64,
        of_late: f64,
        cause: Cause,
        open_max: Option<u32>,
    ) -> Excess {
        let multiple = signed.abs();
        let has_returned = of_late > 1.0 && self.calm_of_late >= CALM_VALUES;
        self.calm = calm(self.calm, multiple);
        self.calm_of_late = calm(self.calm_of_late, of_late);
        let mut excess = Excess {
            multiple,
            is_low: signed < 0.0,
            cause,
            is_news: false,
            lesson: Lesson::Normal,
            is_past: self.calm_of_late == PAST_VALUES,
        };
        let is_quiet = matches!(self.state, State::Quiet);
        if (is_quiet && multiple > 1.0) || has_returned {
            self.begin(moment, signed, &mut excess);
        } else if !is_quiet {
            self.go_on(of_late, open_max, &mut excess);
        }
        if open_max.is_none() && excess.lesson == Lesson::Abnormal {
            excess.lesson = Lesson::Rejected;
        }
        if let State::Open { habit: Some(_), .. } = self.state {
            excess.multiple = multiple.min(1.0);
            if excess.lesson != Lesson::Normal && open_max.is_some() {
                excess.lesson = Lesson::Habitual;
            }
        }
        excess
    }

    /// An anomaly begins, or a habit.
    fn begin(&mut self, moment: Moment, signed: f64, excess: &mut Excess) {
        let habit = self
            .habits
            .begin(moment.at, moment.interval_seconds, signed);
        excess.lesson = Lesson::Abnormal;
        self.state = State::Open {
            values: 1,
            told: excess.multiple as f32,
            habit,
        };
        if habit.is_none() {
            self.tell(excess);
        }
    }

    /// An anomaly goes on, becomes worse, is accepted or is over.
    fn go_on(&mut self, of_late: f64, open_max: Option<u32>, excess: &mut Excess) {
        let State::Open {
            values,
            told,
            habit,
        } = &mut self.state
        else {
            return;
        };
        let multiple = excess.multiple;
        *values = values.saturating_add(1);
        let lasted = if multiple > 1.0 {
            self.habits.go_on(multiple)
        } else {
            0
        };
        excess.lesson = if *values > PULLING_VALUES {
            Lesson::Rejected
        } else {
            Lesson::Abnormal
        };
        if habit.is_some_and(|habit| {
            multiple > f64::from(habit.excess_max) || lasted > habit.values_max
        }) {
            *habit = None;
            *told = multiple as f32;
            self.tell(excess);
        } else if *values < SETTLED_VALUES {
            // What it comes to shows after some values only.
            *told = told.max(of_late as f32);
        } else if habit.is_none() && of_late > WORSE * f64::from(*told) {
            // The average builds up for long without anything becoming worse.
            *told = of_late as f32;
            excess.is_news = true;
        } else if self.calm >= CALM_VALUES {
            self.state = State::Quiet;
        } else if open_max.is_some_and(|most| *values > most) {
            excess.lesson = Lesson::Normal;
            excess.multiple = multiple.min(1.0);
        }
    }

    fn tell(&mut self, excess: &mut Excess) {
        excess.is_news = true;
        self.alarms += (WEAK / excess.multiple).min(1.0) as f32;
    }

    /// How far from what is expected a value may lie, in usual deviations.
    pub(super) fn reach(&self, is_by_time: bool) -> f64 {
        let limit = if is_by_time {
            self.time_of_day.limit(LIMIT_MIN)
        } else {
            self.level.limit(LIMIT_MIN)
        };
        limit * self.widened()
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

/// What lasts of a measure: the median of its last five numbers, or, if that is more, a part of the
/// median of the last three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Last([f32; 4]);

impl Last {
    fn lasting_with(&mut self, newest: f64) -> f64 {
        let bound = f64::from(f32::MAX);
        let newest = newest.clamp(-bound, bound) as f32;
        let [fourth, third, second, first] = self.0;
        self.0 = [third, second, first, newest];
        let of_three = median(newest, first, second);
        // Of five: without the least and the largest of four.
        let (low, high) = (newest.min(first), newest.max(first));
        let (other_low, other_high) = (second.min(third), second.max(third));
        let of_five = median(fourth, low.max(other_low), high.min(other_high));
        let brief = of_three / BRIEF;
        f64::from(if brief.abs() > of_five.abs() {
            brief
        } else {
            of_five
        })
    }
}

fn median(one: f32, two: f32, three: f32) -> f32 {
    one.max(two).min(one.min(two).max(three))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(values: &[f64]) -> Vec<f64> {
        let mut last = Last::default();
        let lasted = values.iter().map(|newest| last.lasting_with(*newest));
        lasted.collect()
    }

    #[test]
    fn three_of_five_last_and_two_of_three_by_a_part() {
        assert_eq!(
            lasting(&[7.0, 7.0, 7.0, 0.0, 0.0, 0.0]),
            [0.0, 5.0, 7.0, 7.0, 7.0, 0.0]
        );
        assert_eq!(lasting(&[-7.0, 0.0, -7.0, 0.0]), [0.0, 0.0, -5.0, 0.0]);
    }

    #[test]
    fn what_goes_both_ways_does_not_last() {
        assert_eq!(lasting(&[9.0, -9.0, 0.0, 9.0, -9.0, 0.0]), [0.0; 6]);
    }
}
