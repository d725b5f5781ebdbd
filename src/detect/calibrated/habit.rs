//! Which excursions come back: at the same time of the day, or regularly.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The last excursions: when each began, how far it went, how long it lasted.
///
/// What begins at the time of the day when another one began on one of the last days, or at the same
/// interval as the last three, goes the same way, no farther and no longer, is a habit of the series: a
/// nightly job, the beginning of office hours, an hourly batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Habits {
    excursions: [Excursion; REMEMBERED],
    current: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Excursion {
    /// Unix time; it wraps, which differences survive.
    began_seconds: u32,
    /// The largest excess, negative for one that goes down.
    excess: f32,
    values: u16,
}

/// What a new excursion may do and still be a habit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Habit {
    pub(super) excess_max: f32,
    pub(super) values_max: u32,
}

const REMEMBERED: usize = 6;
const DAY_SECONDS: f64 = 86_400.0;
/// So many days before: yesterday or the day before, a week ago.
const DAYS: [f64; 3] = [1.0, 2.0, 7.0];
/// How much earlier or later than before it may begin, in seconds, and in intervals where they are long.
const TOLERANCE_SECONDS: f64 = 300.0;
const JITTER_INTERVALS: f64 = 1.5;
/// Shorter periods than so many times the jitter could not be told.
const PERIOD_MIN_JITTERS: f64 = 10.0;
/// How much farther it may go, and how much longer it may last.
const FARTHER: f32 = 1.5;
const LONGER: f64 = 1.5;
const LONGER_VALUES: f64 = 10.0;

impl Habits {
    /// An excursion begins, `excess` being negative if it goes down; whether it is a habit.
    pub(super) fn begin(
        &mut self,
        at: Timestamp,
        interval_seconds: f64,
        excess: f64,
    ) -> Option<Habit> {
        let began_seconds = at.ms().div_euclid(1_000) as u32;
        let ages = self.excursions.map(|excursion| {
            let is_alike = f64::from(excursion.excess) * excess > 0.0;
            is_alike.then(|| f64::from(began_seconds.wrapping_sub(excursion.began_seconds)))
        });
        let jitter = JITTER_INTERVALS * interval_seconds;
        let before = by_the_day(&ages, jitter).or_else(|| by_the_period(&ages, jitter));
        let oldest = || {
            let ages = self.excursions.iter().map(|excursion| {
                let is_free = excursion.values == 0;
                (is_free, began_seconds.wrapping_sub(excursion.began_seconds))
            });
            let oldest = ages.enumerate().max_by_key(|(_, age)| *age);
            oldest.map_or(0, |(place, _)| place)
        };
        let habit = before.map(|before| self.excursions[before.like].habit());
        let place = before.map_or_else(oldest, |before| before.replaced);
        self.current = place as u8;
        self.excursions[place] = Excursion {
            began_seconds,
            excess: excess as f32,
            values: 1,
        };
        habit.filter(|habit| excess.abs() <= f64::from(habit.excess_max))
    }

    /// The present excursion goes on; for how many values by now.
    pub(super) fn go_on(&mut self, excess: f64) -> u32 {
        let current = &mut self.excursions[usize::from(self.current)];
        current.values = current.values.saturating_add(1);
        if excess.abs() > f64::from(current.excess).abs() {
            current.excess = (excess.abs() as f32).copysign(current.excess);
        }
        u32::from(current.values)
    }
}

impl Excursion {
    fn habit(&self) -> Habit {
        Habit {
            excess_max: FARTHER * self.excess.abs(),
            values_max: (LONGER * f64::from(self.values) + LONGER_VALUES) as u32,
        }
    }
}

/// Which excursion a new one is like, and which one it may take the place of.
#[derive(Clone, Copy)]
struct Before {
    like: usize,
    replaced: usize,
}

/// Ages in seconds of the excursions that went the same way.
type Ages = [Option<f64>; REMEMBERED];

/// The place of an excursion of this age.
fn of_age(ages: &Ages, wanted: f64, tolerance: f64) -> Option<usize> {
    ages.iter()
        .position(|age| age.is_some_and(|age| (age - wanted).abs() <= tolerance))
}

fn by_the_day(ages: &Ages, jitter: f64) -> Option<Before> {
    let tolerance = jitter.max(TOLERANCE_SECONDS);
    DAYS.into_iter().find_map(|days| {
        let like = of_age(ages, days * DAY_SECONDS, tolerance)?;
        Some(Before {
            like,
            replaced: like,
        })
    })
}

/// The last three came at equal intervals, and so does the new one.
fn by_the_period(ages: &Ages, jitter: f64) -> Option<Before> {
    ages.iter().enumerate().find_map(|(like, age)| {
        let period = (*age)?;
        if period < PERIOD_MIN_JITTERS * jitter {
            return None;
        }
        of_age(ages, 2.0 * period, 2.0 * jitter)?;
        let replaced = of_age(ages, 3.0 * period, 3.0 * jitter)?;
        Some(Before { like, replaced })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn begin(habits: &mut Habits, day: i64, minute: i64, excess: f64) -> Option<Habit> {
        let at = Timestamp::from_ms(day * DAY_MS + minute * 60_000);
        habits.begin(at, 15.0, excess)
    }

    #[test]
    fn what_came_at_this_time_on_one_of_the_last_days_is_a_habit() {
        let mut habits = Habits::default();
        assert_eq!(begin(&mut habits, 100, 600, 4.0), None);
        for _ in 1..40 {
            habits.go_on(5.0);
        }
        assert_eq!(begin(&mut habits, 101, 620, 4.0), None, "too late");
        assert_eq!(begin(&mut habits, 101, 599, -4.0), None, "the other way");
        let habit = begin(&mut habits, 102, 605, 4.0).unwrap();
        assert_eq!((habit.excess_max, habit.values_max), (7.5, 70));
        assert_eq!(begin(&mut habits, 103, 605, 6.1), None, "farther");
        assert!(begin(&mut habits, 110, 605, 6.1).is_some());
        assert_eq!(begin(&mut habits, 120, 605, 6.1), None, "too long ago");
    }

    #[test]
    fn what_came_at_equal_intervals_three_times_is_a_habit() {
        let mut habits = Habits::default();
        for time in 0..3 {
            assert_eq!(begin(&mut habits, 100, 50 * time, 2.0), None);
        }
        for time in 3..12 {
            assert!(begin(&mut habits, 100, 50 * time, 2.0).is_some(), "{time}");
        }
        assert_eq!(begin(&mut habits, 100, 50 * 12 + 5, 2.0), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut habits = Habits::default();
        let minutes = [0, 60, 150, 270, 420, 600, 810];
        assert_eq!(minutes.len(), REMEMBERED + 1);
        for minute in minutes {
            assert_eq!(begin(&mut habits, 100, minute, 2.0), None);
        }
        assert_eq!(begin(&mut habits, 101, 0, 2.0), None);
        assert!(begin(&mut habits, 101, 810, 2.0).is_some());
    }
}
