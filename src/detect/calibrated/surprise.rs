//! How surprising a value is, all its deviations together: a number below 1 that ranks values.

use serde::{Deserialize, Serialize};

use super::extremes::Extremes;
use super::usual::Deviations;

/// Each deviation in multiples of what one in a thousand of its own exceeds, put together so that the
/// largest counts most; what is beyond all values so far counts for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Surprise {
    level: Extremes,
    chart: Extremes,
    time_of_day: Extremes,
    /// The surprise that was told last, and the values since. Until it is long ago, only a larger one
    /// is told.
    told: f32,
    since: u32,
}

/// No quantile counts for less than this: a series may be so regular that nothing surprises.
const LEVEL_FLOOR: f64 = 1.8;
const CHART_FLOOR: f64 = 1.5;
const TIME_OF_DAY_FLOOR: f64 = 2.6;

const LEVEL_WEIGHT: f64 = 0.35;
const CHART_WEIGHT: f64 = 1.5;
const TIME_OF_DAY_WEIGHT: f64 = 0.47;

/// Beyond all values so far by this part of their range...
const BEYOND_MIN: f64 = 0.02;
/// ...a value surprises so many times as much.
const BEYOND_FACTOR: f64 = 7.5;

/// From this surprise on the ones after it are muted, for so many values, unless larger by the factor.
const TOLD_MIN: f64 = 1.5;
pub(super) const MUTED_VALUES: u32 = 130;
const LARGER: f64 = 1.3;
const MUTED: f64 = 0.2;

impl Surprise {
    /// In [0, 1), 0 as long as `is_young`.
    pub(super) fn judge(&mut self, deviations: &Deviations, is_young: bool) -> f64 {
        let terms = [
            LEVEL_WEIGHT * self.level.multiple(deviations.level.abs(), LEVEL_FLOOR),
            CHART_WEIGHT * self.chart.multiple(deviations.chart.abs(), CHART_FLOOR),
            TIME_OF_DAY_WEIGHT
                * self.time_of_day.multiple(
                    deviations.time_of_day.unwrap_or(0.0).abs(),
                    TIME_OF_DAY_FLOOR,
                ),
        ];
        self.learn(deviations);
        if is_young {
            return 0.0;
        }
        let fourth_powers: f64 = terms.iter().map(|term| (term * term) * (term * term)).sum();
        let mut surprise = fourth_powers.sqrt().sqrt();
        if deviations.beyond_all.abs() > BEYOND_MIN {
            surprise *= BEYOND_FACTOR;
        }
        let told = self.mute(surprise);
        told / (told + 1.0)
    }

    fn learn(&mut self, deviations: &Deviations) {
        self.level.learn(deviations.level.abs());
        self.chart.learn(deviations.chart.abs());
        if let Some(deviation) = deviations.time_of_day {
            self.time_of_day.learn(deviation.abs());
        }
    }

    fn mute(&mut self, surprise: f64) -> f64 {
        self.since = self.since.saturating_add(1);
        let is_muted = self.told > 0.0
            && self.since < MUTED_VALUES
            && surprise < LARGER * f64::from(self.told);
        if is_muted {
            return surprise.min(MUTED);
        }
        if surprise >= TOLD_MIN {
            (self.told, self.since) = (surprise as f32, 0);
        }
        surprise
    }
}
