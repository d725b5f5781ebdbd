//! The seasonal baseline: what is usual at each hour of the week, once some weeks have shown it.
//!
//! Migrations run beside a business that has working days. An hour says nothing before it was seen in
//! two weeks, so where there is less history there is no verdict, and another detector of the
//! watch has to speak.

use serde::{Deserialize, Serialize};

use super::band::Band;
use super::verdict::{Terms, Usual, Verdict};
use crate::model::Timestamp;

/// Mean and deviation of every hour of the week, in UTC.
///
/// In single precision, which is plenty for means of noisy numbers and keeps 168 hours under 2 KiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seasonal {
    means: Vec<f32>,
    variances: Vec<f32>,
    /// In how many weeks each hour was seen to its end.
    weeks: Vec<u8>,
    /// The hour of the newest accepted value, and how many it has had.
    hour: u8,
    values: u32,
    band: Band,
}

const HOURS: usize = 168;
const HOUR_MS: i64 = 3_600_000;
const HOUR_SECONDS: f64 = 3_600.0;
/// 1970 began on a Thursday.
const FIRST_HOUR: i64 = 3 * 24;
const WEEKS_MIN: u8 = 2;
/// The weight of the newest week among many.
const NEWEST_WEEK: f64 = 0.2;
/// Larger values count as this large: their squares would leave the range of single precision.
const VALUE_MAX: f64 = 1e18;

impl Default for Seasonal {
    fn default() -> Self {
        Self {
            means: vec![0.0; HOURS],
            variances: vec![0.0; HOURS],
            weeks: vec![0; HOURS],
            hour: u8::MAX,
            values: 0,
            band: Band::default(),
        }
    }
}

/// Hours since Monday, 0:00 UTC.
fn hour(at: Timestamp) -> usize {
    let hours = at.ms().div_euclid(HOUR_MS) + FIRST_HOUR;
    hours.rem_euclid(HOURS as i64) as usize
}

impl Seasonal {
    /// Judges a value; `None` during the warm-up, and where too few weeks have shown the hour.
    pub fn judge(&mut self, at: Timestamp, value: f64, terms: &Terms) -> Option<Verdict> {
        let hour = hour(at);
        if self.weeks[hour] < WEEKS_MIN {
            return None;
        }
        let usual = Usual {
            center: f64::from(self.means[hour]),
            deviation: f64::from(self.variances[hour]).sqrt(),
            is_nonnegative: self.band.is_nonnegative(),
        };
        let (width, warmup) = (terms.zscore_width, terms.warmup_samples);
        self.band
            .judge(bounded(value), &usual, width, warmup, terms)
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, at: Timestamp, value: f64, terms: &Terms) {
        let hour = hour(at);
        self.band.accept(value, self.weeks[hour] >= WEEKS_MIN);
        if usize::from(self.hour) != hour {
            if let Some(weeks) = self.weeks.get_mut(usize::from(self.hour)) {
                *weeks = weeks.saturating_add(1);
            }
            (self.hour, self.values) = (hour as u8, 0);
        }
        self.values = self.values.saturating_add(1);
        let weight = if self.weeks[hour] == 0 {
            1.0 / f64::from(self.values)
        } else {
            let values_an_hour = (HOUR_SECONDS / terms.every.as_secs_f64()).max(1.0);
            let week = 1.0 / (f64::from(self.weeks[hour]) + 1.0);
            week.max(NEWEST_WEEK) / values_an_hour
        };
        let (mean, variance) = (f64::from(self.means[hour]), f64::from(self.variances[hour]));
        let deviation = bounded(value) - mean;
        self.means[hour] = (mean + weight * deviation) as f32;
        self.variances[hour] =
            ((1.0 - weight) * (variance + weight * deviation * deviation)) as f32;
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        self.band.concede();
    }
}

fn bounded(value: f64) -> f64 {
    value.clamp(-VALUE_MAX, VALUE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::noise::Noise;
    use crate::detect::watch::Sides;

    const EVERY_MS: i64 = 300_000;
    const WEEK: i64 = 7 * 86_400_000 / EVERY_MS;

    fn at(step: i64) -> Timestamp {
        Timestamp::from_ms(step * EVERY_MS)
    }

    fn terms() -> Terms {
        Terms {
            every: std::time::Duration::from_millis(EVERY_MS as u64),
            ..Terms::plain(Sides::Both)
        }
    }

    /// 1,000 rows a second from 8 to 18 o'clock on working days, else 100.
    fn rate(step: i64) -> f64 {
        let hour = hour(at(step)) as i64;
        let works = hour / 24 < 5 && (8..18).contains(&(hour % 24));
        if works { 1_000.0 } else { 100.0 }
    }

    fn warm(weeks: i64) -> Seasonal {
        let terms = terms();
        let mut noise = Noise::new(9);
        let mut seasonal = Seasonal::default();
        for step in 0..weeks * WEEK {
            let value = rate(step) * (1.0 + 0.05 * noise.normal());
            seasonal.judge(at(step), value, &terms);
            seasonal.accept(at(step), value, &terms);
        }
        seasonal
    }

    #[test]
    fn the_week_begins_on_monday() {
        // 1970-01-05 was a Monday.
        let monday = Timestamp::from_ms(4 * 86_400_000);
        assert_eq!(hour(monday), 0);
        assert_eq!(hour(monday.offset_ms(-1)), 167);
        assert_eq!(hour(Timestamp::MIN) % 168, hour(Timestamp::MIN));
    }

    #[test]
    fn there_is_no_verdict_before_two_weeks() {
        let terms = terms();
        let mut seasonal = warm(2);
        let almost = warm(1).judge(at(WEEK), 100.0, &terms);
        assert_eq!(almost, None);
        assert!(seasonal.judge(at(2 * WEEK), 100.0, &terms).is_some());
    }

    #[test]
    fn what_is_usual_by_day_is_an_anomaly_at_night() {
        let terms = terms();
        let mut seasonal = warm(4);
        // Tuesday of the fifth week, at noon and at midnight; 1970 began on a Thursday.
        let midnight = 4 * WEEK + 5 * 288;
        let noon = midnight + 144;
        let score = |seasonal: &mut Seasonal, step, value| {
            seasonal.judge(at(step), value, &terms).unwrap().score
        };
        assert!(score(&mut seasonal, noon, 1_000.0) < 0.5);
        assert!(score(&mut seasonal, midnight, 1_000.0) > 5.0);
        assert!(score(&mut seasonal, noon, 100.0) > 2.0);
        assert!(score(&mut seasonal, midnight, 100.0) < 0.5);
    }

    #[test]
    fn the_state_is_under_two_kibibytes_and_extreme_values_are_survived() {
        let terms = terms();
        let mut seasonal = warm(3);
        let bytes = size_of::<Seasonal>() + HOURS * (2 * size_of::<f32>() + size_of::<u8>());
        assert!(bytes < 2_048, "{bytes}");
        for step in 3 * WEEK..5 * WEEK {
            let value = if step % 2 == 0 { 1e150 } else { -1e150 };
            let verdict = seasonal.judge(at(step), value, &terms).unwrap();
            assert!((0.0..=1_000.0).contains(&verdict.score), "{verdict:?}");
            seasonal.accept(at(step), value, &terms);
        }
    }
}
