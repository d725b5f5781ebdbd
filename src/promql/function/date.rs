//! Parts of a date in UTC, from seconds since 1970.

use crate::promql::value::{Series, map_present};

use super::drop_names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const DAY_SECONDS: i64 = 86_400;
/// 2^63, which is no number of 64 bits with a sign.
const LIMIT: f64 = 9_223_372_036_854_775_808.0;
/// Go counts seconds from a year of its own, without a sign: what is earlier comes out 2^64 s later.
const SECONDS_MIN: i64 = -9_223_372_028_715_321_600;

impl DatePart {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    pub(super) fn evaluate(self, mut series: Vec<Series>) -> Vec<Series> {
        for one in &mut series {
            map_present(&mut one.values, |seconds| self.part(seconds));
        }
        drop_names(&mut series);
        series
    }

    fn part(self, seconds: f64) -> f64 {
        // What is no number of 64 bits has a date nevertheless, that which Prometheus gives it: the
        // least such number is what x86-64 makes of it.
        let is_number = (-LIMIT..LIMIT).contains(&seconds);
        let seconds = if is_number { seconds as i64 } else { i64::MIN };
        let wrapped = i128::from(seconds) + i128::from(seconds < SECONDS_MIN) * (1 << 64);
        let days = wrapped.div_euclid(i128::from(DAY_SECONDS)) as i64;
        let second_of_day = wrapped.rem_euclid(i128::from(DAY_SECONDS)) as i64;
        let date = Date::of(days);
        let part = match self {
            Self::Minute => second_of_day / 60 % 60,
            Self::Hour => second_of_day / 3600,
            // 1970 began on a Thursday.
            Self::DayOfWeek => (days + 4).rem_euclid(7),
            Self::DayOfMonth => date.day,
            Self::DayOfYear => days - days_before(date.year, 1) + 1,
            Self::DaysInMonth => match date.month {
                12 => 31,
                month => days_before(date.year, month + 1) - days_before(date.year, month),
            },
            Self::Month => date.month,
            Self::Year => date.year,
        };
        part as f64
    }
}

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// The date of a day counted from 1970-01-01.
    ///
    /// Years are counted from March, so that the leap day ends them, in eras of 400 years; see
    /// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
    fn of(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        }
    }
}

/// The days from 1970-01-01 to the first of a month, the inverse of [`Date::of`].
fn days_before(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(seconds: f64) -> [f64; 6] {
        [
            DatePart::Year,
            DatePart::Month,
            DatePart::DayOfMonth,
            DatePart::DayOfWeek,
            DatePart::DayOfYear,
            DatePart::DaysInMonth,
        ]
        .map(|part| part.part(seconds))
    }

    #[test]
    fn dates_around_leap_days_and_before_1970() {
        // 2024-02-29 was a Thursday.
        assert_eq!(parts(1_709_164_800.0), [2024.0, 2.0, 29.0, 4.0, 60.0, 29.0]);
        // 2023-12-31 was a Sunday.
        assert_eq!(
            parts(1_703_980_800.0),
            [2023.0, 12.0, 31.0, 0.0, 365.0, 31.0]
        );
        // 1900 was no leap year; 1900-03-01 was a Thursday.
        assert_eq!(parts(-2_203_891_200.0), [1900.0, 3.0, 1.0, 4.0, 60.0, 31.0]);
        assert_eq!(parts(-1.0), [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0]);
    }

    #[test]
    fn every_day_of_an_era_is_its_own() {
        for days in -146_097..146_097 {
            let date = Date::of(days);
            assert_eq!(days_before(date.year, date.month) + date.day - 1, days);
        }
    }

    #[test]
    fn what_is_no_number_of_64_bits_has_the_date_that_prometheus_gives_it() {
        // Go prints the least number of seconds as 292277026596-12-04 15:30:08.
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            let date = [DatePart::Year, DatePart::Month, DatePart::DayOfMonth];
            assert_eq!(
                date.map(|part| part.part(seconds)),
                [292_277_026_596.0, 12.0, 4.0]
            );
            let time = [DatePart::Hour, DatePart::Minute];
            assert_eq!(time.map(|part| part.part(seconds)), [15.0, 30.0]);
        }
        assert_eq!(DatePart::Minute.part(119.9), 1.0);
    }
}
