//! The robust z-score: median and median deviation, which up to half of the values cannot spoil.
//!
//! Iglewicz and Hoaglin (1993): `0.6745 (x - median) / MAD`, unusual beyond 3.5. When more than half of
//! the values are equal the MAD is 0 and the mean deviation takes its place; when all are, what remains
//! is the floor under every scale, see [`Usual::scale`].

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::band::Band;
use super::verdict::{Terms, Usual, Verdict};

/// How many robust deviations a value lies from the median of the last accepted values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RobustZ {
    window: Ranked,
    band: Band,
}

/// The modified z-score that is unusual by the textbook.
const WIDTH: f64 = 3.5;
/// Values before their median says anything.
const WINDOW_MIN: usize = 20;
/// The most values a window holds: an hour of them at the usual interval.
const WINDOW_MAX: u128 = 240;

impl RobustZ {
    /// Judges a value; `None` during the warm-up.
    pub fn judge(&mut self, value: f64, terms: &Terms) -> Option<Verdict> {
        if self.window.len() < WINDOW_MIN {
            return None;
        }
        let center = self.window.median();
        let usual = Usual {
            center,
            deviation: self.window.deviation(center),
            is_nonnegative: self.band.is_nonnegative(),
        };
        self.band
            .judge(value, &usual, WIDTH, terms.warmup_samples, terms)
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, value: f64, terms: &Terms) {
        self.band.accept(value, self.window.len() >= WINDOW_MIN);
        let remembered = terms.memory.as_millis() / terms.every.as_millis().max(1);
        let most = remembered.clamp(WINDOW_MIN as u128, WINDOW_MAX) as usize;
        self.window.push(value, most);
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub fn concede(&mut self) {
        self.band.concede();
    }
}

/// The last values, by time and by size. Stored by time alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<f64>", into = "VecDeque<f64>")]
struct Ranked {
    /// Oldest first.
    by_time: VecDeque<f64>,
    by_size: Vec<f64>,
}

impl From<VecDeque<f64>> for Ranked {
    fn from(by_time: VecDeque<f64>) -> Self {
        let mut by_size: Vec<f64> = by_time.iter().copied().collect();
        by_size.sort_unstable_by(f64::total_cmp);
        Self { by_time, by_size }
    }
}

impl From<Ranked> for VecDeque<f64> {
    fn from(ranked: Ranked) -> Self {
        ranked.by_time
    }
}

/// The MAD of a normal distribution is this part of its standard deviation...
const MAD_OF_NORMAL: f64 = 0.674_5;
/// ...which is so many times its mean absolute deviation, `sqrt(π / 2)`.
const OF_MEAN_DEVIATION: f64 = 1.253_314;

impl Ranked {
    fn len(&self) -> usize {
        self.by_size.len()
    }

    /// Takes a value in, and the oldest out when there are more than `most`.
    fn push(&mut self, value: f64, most: usize) {
        // Exactly: what a `Vec` grows by itself would double the state.
        self.by_time
            .reserve_exact(most.saturating_sub(self.by_time.len()));
        self.by_size
            .reserve_exact(most.saturating_sub(self.by_size.len()));
        while self.by_time.len() >= most
            && let Some(oldest) = self.by_time.pop_front()
        {
            let at = self
                .by_size
                .partition_point(|other| other.total_cmp(&oldest).is_lt());
            self.by_size.remove(at);
        }
        let at = self
            .by_size
            .partition_point(|other| other.total_cmp(&value).is_lt());
        self.by_size.insert(at, value);
        self.by_time.push_back(value);
    }

    /// Precondition: there are values.
    fn median(&self) -> f64 {
        let middle = self.len() / 2;
        if self.len().is_multiple_of(2) {
            f64::midpoint(self.by_size[middle - 1], self.by_size[middle])
        } else {
            self.by_size[middle]
        }
    }

    /// The standard deviation that a normal distribution with these deviations from the median would
    /// have.
    fn deviation(&self, median: f64) -> f64 {
        let mad = self.median_deviation(median);
        if mad > 0.0 {
            return mad / MAD_OF_NORMAL;
        }
        let sum: f64 = self
            .by_size
            .iter()
            .map(|value| (value - median).abs())
            .sum();
        OF_MEAN_DEVIATION * sum / self.len() as f64
    }

    /// The median of the distances to the median: from the middle outwards, the nearest half of the
    /// values is walked past.
    fn median_deviation(&self, median: f64) -> f64 {
        let split = self.by_size.partition_point(|value| *value < median);
        let (mut below, mut above) = (split, split);
        let mut nearest = || {
            let down = below.checked_sub(1).map(|at| median - self.by_size[at]);
            let up = self.by_size.get(above).map(|value| value - median);
            match (down, up) {
                (Some(down), up) if up.is_none_or(|up| down <= up) => {
                    below -= 1;
                    down
                }
                (_, Some(up)) => {
                    above += 1;
                    up
                }
                (_, None) => 0.0,
            }
        };
        let middle = self.len() / 2;
        let mut last = [0.0; 2];
        for _ in 0..=middle {
            last = [last[1], nearest()];
        }
        if self.len().is_multiple_of(2) {
            f64::midpoint(last[0], last[1])
        } else {
            last[1]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::noise::Noise;
    use crate::detect::verdict::Manner;
    use crate::detect::watch::Sides;

    fn ranked(values: &[f64]) -> Ranked {
        let mut ranked = Ranked::default();
        for value in values {
            ranked.push(*value, 240);
        }
        ranked
    }

    fn naive_median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        }
    }

    #[test]
    fn median_and_deviation_of_a_few_numbers() {
        // 1 1 2 2 4 6 9: median 2, deviations 0 0 1 1 2 4 7, their median 1.
        let seven = ranked(&[9.0, 1.0, 2.0, 6.0, 2.0, 4.0, 1.0]);
        assert_eq!(seven.median(), 2.0);
        assert_eq!(seven.deviation(2.0), 1.0 / 0.674_5);
        // 1 2 4 8: median 3, deviations 1 1 2 5, their median 1.5.
        let four = ranked(&[8.0, 1.0, 4.0, 2.0]);
        assert_eq!(four.median(), 3.0);
        assert_eq!(four.median_deviation(3.0), 1.5);
    }

    #[test]
    fn the_mean_deviation_stands_in_when_most_values_are_equal() {
        let mut values = [5.0; 10];
        values[9] = 15.0;
        let ranked = ranked(&values);
        // One deviation of 10 in ten values.
        assert_eq!(ranked.deviation(ranked.median()), 1.253_314);
        assert_eq!(self::ranked(&[5.0; 10]).deviation(5.0), 0.0);
    }

    fn warm(values: impl Iterator<Item = f64>) -> RobustZ {
        let terms = Terms::plain(Sides::Both);
        let mut robust = RobustZ::default();
        for value in values {
            robust.judge(value, &terms);
            robust.accept(value, &terms);
        }
        robust
    }

    #[test]
    fn outliers_in_the_window_do_not_hide_the_next_one() {
        let terms = Terms::plain(Sides::Both);
        let mut noise = Noise::new(2);
        let values = (0..240).map(|step| {
            let outlier = if step % 3 == 0 { 1_000.0 } else { 0.0 };
            100.0 + noise.normal() + outlier
        });
        let robust = warm(values);
        let center = robust.window.median();
        assert!((center - 100.5).abs() < 1.0, "{center}");
        assert!(robust.window.deviation(center) < 3.0);
        let mut fresh = warm((0..200).map(|step| 100.0 + f64::from(step % 5)));
        assert!(fresh.judge(150.0, &terms).unwrap().score > 1.0);
        assert!(fresh.judge(104.0, &terms).unwrap().score < 1.0);
    }

    #[test]
    fn a_constant_has_the_floor_for_a_scale() {
        let terms = Terms::plain(Sides::Both);
        let mut robust = warm(std::iter::repeat_n(200.0, 200));
        // The scale is 1 % of 200; the least limit 1.4 textbook limits of 3.5 scales.
        let verdict = robust.judge(220.0, &terms).unwrap();
        assert_eq!((verdict.deviations, verdict.manner), (10.0, Manner::Novel));
        assert!((verdict.score - 20.0 / (2.0 * 3.5 * 1.4)).abs() < 1e-12);
    }

    #[test]
    fn the_state_is_under_four_kibibytes_and_comes_back_whole() {
        let mut noise = Noise::new(6);
        let mut robust = warm((0..1_000).map(|_| noise.normal()));
        let values = robust.window.by_time.capacity() + robust.window.by_size.capacity();
        let in_memory = size_of::<RobustZ>() + values * size_of::<f64>();
        assert!(in_memory < 4_096, "{in_memory} bytes");
        let stored = serde_json::to_string(&robust).unwrap();
        let mut restored: RobustZ = serde_json::from_str(&stored).unwrap();
        let terms = Terms::plain(Sides::Both);
        assert_eq!(restored.judge(3.0, &terms), robust.judge(3.0, &terms));
    }

    proptest! {
        #[test]
        fn rolling_equals_recomputing(values in prop::collection::vec(-50_i32..50, 1..400)) {
            let mut ranked = Ranked::default();
            let mut seen: Vec<f64> = Vec::new();
            for value in values {
                ranked.push(f64::from(value), 31);
                seen.push(f64::from(value));
                let kept = seen[seen.len().saturating_sub(31)..].to_vec();
                let median = naive_median(kept.clone());
                prop_assert_eq!(ranked.median(), median);
                let distances = kept.iter().map(|value| (value - median).abs()).collect();
                prop_assert_eq!(ranked.median_deviation(median), naive_median(distances));
            }
        }
    }
}
