//! The value axis: its ends, its round steps, and where a value stands on it.

use super::{Base, Chart, Unit};
use crate::model::Timestamp;

/// The value axis: from `low` to `high` in round steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Scale {
    pub(super) fn of(chart: &Chart<'_>, rows: usize) -> Self {
        let inside = |at: Timestamp| chart.start <= at && at <= chart.end;
        let values = chart.lines.iter().flat_map(|points| points.iter());
        let values = values.filter(|(at, value)| value.is_finite() && inside(*at));
        let bounds = chart
            .band
            .iter()
            .flat_map(|(lower, upper)| [*lower, *upper]);
        let bounds = bounds.flatten().filter(|bound| bound.is_finite());
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.map(|&(_, value)| value).chain(bounds) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let near_zero = chart.base == Base::Zero || low == high || low < 0.6 * high;
        if low >= 0.0 && near_zero {
            low = 0.0;
        } else if high <= 0.0 && near_zero {
            high = 0.0;
        }
        if low == high {
            high = low + 1.0;
        }
        let ticks = (rows / 3).clamp(1, 5);
        let step = match chart.unit {
            Unit::Number if ticks == 1 => round_step(high - low, FINE_STEPS),
            Unit::Number => round_step((high - low) / ticks as f64, STEPS),
            Unit::Seconds => round_step_seconds((high - low) / ticks as f64),
        };
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    pub(super) fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round().min(64.0) as usize;
        (0..=count).map(move |tick| {
            let value = self.low + tick as f64 * self.step;
            // What is left of a subtraction is not a label.
            if value.abs() < self.step * 1e-9 {
                0.0
            } else {
                value
            }
        })
    }

    /// The row of dots of a value, 0 at the top; values outside are cut to the edge.
    pub(super) fn dot_row(self, value: f64, rows: usize) -> usize {
        let last = (4 * rows - 1) as f64;
        let share = (self.high - value) / (self.high - self.low);
        (share * last).round().clamp(0.0, last) as usize
    }
}

/// The round steps of an axis, to be multiplied by a power of ten.
const STEPS: &[f64] = &[1.0, 2.0, 2.5, 5.0];

/// The ends of an axis that has one step only, and no room to waste.
const FINE_STEPS: &[f64] = &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];

/// The next round step.
fn round_step(raw: f64, steps: &[f64]) -> f64 {
    if !raw.is_normal() {
        return 1.0;
    }
    let magnitude = 10f64.powf(raw.log10().floor());
    let fitting = steps
        .iter()
        .find(|step| **step * magnitude >= raw * (1.0 - 1e-9));
    fitting.unwrap_or(&10.0) * magnitude
}

/// The same for seconds, of which sixty make the next unit.
fn round_step_seconds(raw: f64) -> f64 {
    let steps = [
        15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0,
    ];
    match steps.iter().find(|step| **step >= raw) {
        Some(step) if raw > 10.0 => *step,
        Some(_) => round_step(raw, STEPS),
        None => round_step(raw / 86_400.0, STEPS) * 86_400.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(0.3, STEPS), 0.5);
        assert_eq!(round_step(230.0, STEPS), 250.0);
        assert_eq!(round_step(130.0, FINE_STEPS), 150.0);
        assert_eq!(round_step(900.0, FINE_STEPS), 1000.0);
        assert_eq!(round_step_seconds(40.0), 60.0);
        assert_eq!(round_step_seconds(100_000.0), 172_800.0);
    }
}
