//! The rolling window: mean and deviation of the recent past in bounded space.
//!
//! A window is a short ring of panes, each holding the moments of the samples that fell into one
//! slice of time. Leaving samples go pane by pane, and moments are merged, never subtracted, so
//! nothing drifts however long it rolls. It knows no limits and gives no verdicts.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// Slices of a window: the oldest part is forgotten in steps of one twelfth.
const PANES: u32 = 12;

/// Count, mean and sum of squared deviations of some numbers.
///
/// Merging is that of Chan, Golub and LeVeque (1979). No numbers: mean 0, deviation 0; one number:
/// deviation 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    pub count: u64,
    pub mean: f64,
    squares: f64,
}

impl Moments {
    /// Precondition: `value` is finite.
    pub fn push(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.count += 1;
        let deviation = value - self.mean;
        self.mean += deviation / self.count as f64;
        self.squares += deviation * (value - self.mean);
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let deviation = other.mean - self.mean;
        self.mean += deviation * m / (n + m);
        self.squares += other.squares + deviation * deviation * n * m / (n + m);
        self.count += other.count;
    }

    /// The standard deviation of the sample (divisor n - 1).
    pub fn deviation(&self) -> f64 {
        match self.count {
            0 | 1 => 0.0,
            n => (self.squares / (n - 1) as f64).max(0.0).sqrt(),
        }
    }
}

/// The moments of the last stretch of time *in which there were samples*.
///
/// Between eleven and twelve twelfths of `span` are covered. A gap takes nothing out: panes leave when
/// newer panes come, not when the clock moves, so a series that returns after an hour's silence still
/// knows what was usual. Samples arrive in rising time; one that does not counts into the newest pane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first.
    panes: VecDeque<Pane>,
    /// All panes but the newest, merged, so that a sample costs one merge and not twelve.
    settled: Moments,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pane {
    start: Timestamp,
    moments: Moments,
}

impl Window {
    /// Precondition: `value` is finite.
    pub fn push(&mut self, at: Timestamp, value: f64, span: Duration) {
        let slice = span / PANES;
        if self
            .panes
            .back()
            .is_none_or(|newest| at.since(newest.start) >= slice)
        {
            while self.panes.len() >= PANES as usize {
                self.panes.pop_front();
            }
            self.settled = Moments::default();
            for pane in &self.panes {
                self.settled.merge(&pane.moments);
            }
            self.panes.push_back(Pane {
                start: at,
                moments: Moments::default(),
            });
        }
        if let Some(newest) = self.panes.back_mut() {
            newest.moments.push(value);
        }
    }

    pub fn moments(&self) -> Moments {
        let mut total = self.settled;
        if let Some(newest) = self.panes.back() {
            total.merge(&newest.moments);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Duration = Duration::from_secs(120);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1_000)
    }

    fn naive(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if values.len() < 2 {
            0.0
        } else {
            (squares / (n - 1.0)).sqrt()
        };
        (mean, deviation)
    }

    #[test]
    fn mean_and_deviation_of_a_few_numbers() {
        let mut moments = Moments::default();
        assert_eq!((moments.mean, moments.deviation()), (0.0, 0.0));
        moments.push(2.0);
        assert_eq!((moments.mean, moments.deviation()), (2.0, 0.0));
        // 2 4 6: mean 4, squares 4 + 0 + 4 = 8, over 2 = 4.
        moments.push(4.0);
        moments.push(6.0);
        assert_eq!((moments.mean, moments.deviation()), (4.0, 2.0));
    }

    #[test]
    fn a_gap_takes_nothing_out() {
        let mut window = Window::default();
        for second in 0..100 {
            window.push(at(second), 5.0, SPAN);
        }
        window.push(at(100_000), 5.0, SPAN);
        assert_eq!(window.moments().count, 101);
    }

    #[test]
    fn space_is_bounded_and_the_oldest_goes_first() {
        let mut window = Window::default();
        for second in 0..10_000 {
            window.push(at(second), second as f64, SPAN);
        }
        assert_eq!(window.panes.len(), PANES as usize);
        // The newest pane started at 9990 and eleven full ones of 10 s come before it.
        assert_eq!(window.moments().count, 120);
        assert_eq!(window.moments().mean, 9_939.5);
    }

    #[test]
    fn a_step_back_in_time_counts_into_the_newest_pane() {
        let mut window = Window::default();
        window.push(at(100), 1.0, SPAN);
        window.push(at(50), 3.0, SPAN);
        assert_eq!((window.panes.len(), window.moments().mean), (1, 2.0));
    }

    proptest! {
        #[test]
        fn rolling_equals_recomputing(
            steps in prop::collection::vec((0_i64..40, -1e6_f64..1e6), 1..300),
        ) {
            let mut window = Window::default();
            let mut seen = Vec::new();
            let mut now = 0;
            for (gap, value) in steps {
                now += gap;
                window.push(at(now), value, SPAN);
                seen.push(value);
                let kept = window.moments();
                let (mean, deviation) = naive(&seen[seen.len() - kept.count as usize..]);
                prop_assert!((kept.mean - mean).abs() <= 1e-6);
                prop_assert!((kept.deviation() - deviation).abs() <= 1e-6 * deviation.max(1.0));
            }
        }
    }
}
