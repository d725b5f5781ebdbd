//! `rate`, `increase`, `delta` and their instant kin.

use crate::model::Timestamp;
use crate::promql::annotation::{Annotation, is_counter_name};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::Range;
use crate::promql::value::{ABSENT, Grid, Series};
use crate::promql::window::{PerTimes, Span, Window, bounds, each_series, evaluate, spans};

use super::{drop_names, is_fixed, spread};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum Difference {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
}

impl Difference {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            _ => return None,
        })
    }

    pub(super) fn evaluate(
        self,
        evaluator: &Evaluator<'_>,
        range: &Range,
        at: usize,
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let wanted = if is_fixed(range.shift) {
            Grid::single(steps.start_ms)
        } else {
            steps
        };
        let refs = range.shift.apply(wanted, evaluator.query());
        let spans = spans(wanted, refs, range.window_ms);
        let samples = evaluator.samples(range, wanted)?;
        evaluator.guard().check_size(samples.len(), steps.len)?;
        let seconds = match self {
            Self::Rate => range.window_ms as f64 / 1e3,
            _ => 1.0,
        };
        let guard = evaluator.guard();
        let mut results = match self {
            Self::Rate | Self::Increase | Self::Delta => {
                let is_counter = self != Self::Delta;
                each_series(
                    &samples,
                    wanted.len,
                    guard,
                    |known: &mut PerTimes<Frame>, one| {
                        let frames = known.get(&one.timestamps, |times| {
                            let bounds = bounds(times, &spans).into_iter().zip(&spans);
                            bounds
                                .map(|(bounds, span)| Frame::of(times, bounds, *span, seconds))
                                .collect()
                        });
                        Ok(differences(&one.values, &frames, is_counter, seconds))
                    },
                )?
            }
            Self::Irate | Self::Idelta => {
                let is_rate = self == Self::Irate;
                each_series(
                    &samples,
                    wanted.len,
                    guard,
                    |known: &mut PerTimes<(usize, usize)>, one| {
                        let bounds = known.get(&one.timestamps, |times| bounds(times, &spans));
                        evaluate(one, &bounds, &spans, guard, |window, _| {
                            instant(&window, is_rate)
                        })
                    },
                )?
            }
        };
        if matches!(self, Self::Rate | Self::Increase) {
            let mut last = None;
            for one in &results {
                let metric = one.labels.metric();
                if last == Some(metric) {
                    continue;
                }
                last = Some(metric);
                if !metric.is_empty() && !is_counter_name(metric) {
                    let metric = metric.to_owned();
                    evaluator.annotate(&Annotation::PossibleNonCounter { metric }, at);
                }
            }
        }
        if is_fixed(range.shift) {
            spread(&mut results, steps);
        }
        drop_names(&mut results);
        Ok(results)
    }
}

/// One window of a difference, as far as it follows from the timestamps: how far the difference between
/// its first and last sample is stretched, as Prometheus' `extrapolatedRate` does. That is to the
/// window's bounds where the outer samples are close to them, else by half the mean distance between
/// samples.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Of the window's samples: the first, and the one after the last.
    low: usize,
    high: usize,
    /// Seconds between the first and the last sample, and by how many it is stretched on either side.
    sampled: f64,
    to_start: f64,
    to_end: f64,
    /// The window's share that the samples stand for over the span between them, divided by the seconds
    /// that the difference is for: before it is multiplied, for the last bit's sake.
    factor: f64,
}

impl Frame {
    fn of(times: &[Timestamp], (low, high): (usize, usize), span: Span, seconds: f64) -> Self {
        let mut frame = Self {
            low,
            high,
            sampled: 0.0,
            to_start: 0.0,
            to_end: 0.0,
            factor: 0.0,
        };
        if !frame.has_difference() {
            return frame;
        }
        let (first_ms, last_ms) = (times[low].ms(), times[high - 1].ms());
        let in_seconds = |span_ms: i64| span_ms as f64 / 1e3;
        frame.to_start = in_seconds(first_ms.saturating_sub(span.start_ms));
        frame.to_end = in_seconds(span.end_ms.saturating_sub(last_ms));
        frame.sampled = in_seconds(last_ms.saturating_sub(first_ms));
        let mean_gap = frame.sampled / (high - low - 1) as f64;
        let threshold = mean_gap * 1.1;
        if frame.to_start >= threshold {
            frame.to_start = mean_gap / 2.0;
        }
        if frame.to_end >= threshold {
            frame.to_end = mean_gap / 2.0;
        }
        frame.factor = frame.stretched_from(frame.to_start) / seconds;
        frame
    }

    /// It takes two samples.
    fn has_difference(&self) -> bool {
        self.high - self.low > 1
    }

    fn stretched_from(&self, to_start: f64) -> f64 {
        (self.sampled + to_start + self.to_end) / self.sampled
    }
}

/// The stretched difference between the last and the first sample of each window, for so many seconds.
///
/// Of a counter it is the increase: a reset adds what was lost, and the stretch to the left stops where
/// the counter would have been zero.
fn differences(values: &[f64], frames: &[Frame], is_counter: bool, seconds: f64) -> Vec<f64> {
    let resets = if is_counter {
        resets(values)
    } else {
        Vec::new()
    };
    // The first reset after the first sample of the window; windows only move forward.
    let mut next = 0;
    frames
        .iter()
        .map(|frame| {
            if !frame.has_difference() {
                return ABSENT;
            }
            let (first, last) = (values[frame.low], values[frame.high - 1]);
            let mut difference = last - first;
            while resets.get(next).is_some_and(|index| *index <= frame.low) {
                next += 1;
            }
            let within = resets.get(next..).unwrap_or_default().iter();
            for index in within.take_while(|index| **index < frame.high) {
                difference += values[index - 1];
            }
            if is_counter && difference > 0.0 && first >= 0.0 {
                let to_zero = frame.sampled * (first / difference);
                if to_zero < frame.to_start {
                    return difference * (frame.stretched_from(to_zero) / seconds);
                }
            }
            difference * frame.factor
        })
        .collect()
}

/// The indices of the samples below their predecessor.
fn resets(values: &[f64]) -> Vec<usize> {
    values
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[1] < pair[0])
        .map(|(index, _)| index + 1)
        .collect()
}

/// The difference between the last two samples; per second, and since zero after a reset, as a rate.
fn instant(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let [.., previous, last] = window.values else {
        return None;
    };
    let [.., previous_time, last_time] = window.timestamps else {
        return None;
    };
    if !is_rate {
        return Some(last - previous);
    }
    let difference = if last < previous {
        *last
    } else {
        last - previous
    };
    let seconds = last_time.ms_since(*previous_time) as f64 / 1e3;
    Some(difference / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::value::is_present;

    fn increase(samples: &[(i64, f64)], start_ms: i64, end_ms: i64) -> Option<f64> {
        let times: Vec<_> = samples
            .iter()
            .map(|(at_ms, _)| Timestamp::from_ms(*at_ms))
            .collect();
        let values: Vec<_> = samples.iter().map(|(_, value)| *value).collect();
        let span = Span {
            start_ms,
            end_ms,
            step_ms: end_ms,
        };
        let frame = Frame::of(&times, (0, values.len()), span, 1.0);
        let found = differences(&values, &[frame], true, 1.0)[0];
        is_present(found).then_some(found)
    }

    #[test]
    fn samples_close_to_the_bounds_are_stretched_to_them() {
        // 100 over 10 s, 0.5 s short on the left and 0.75 s on the right: 11.25 s.
        let samples = [(500, 1000.0), (5500, 1050.0), (10_500, 1100.0)];
        assert_eq!(increase(&samples, 0, 11_250), Some(112.5));
    }

    #[test]
    fn far_bounds_get_half_a_gap() {
        // 100 over 10 s, gaps of 5 s: 2.5 s on either side.
        let samples = [(100_000, 1000.0), (105_000, 1050.0), (110_000, 1100.0)];
        assert_eq!(increase(&samples, 0, 200_000), Some(150.0));
    }

    #[test]
    fn a_counter_is_not_stretched_below_zero() {
        // 10 over 10 s from 1: zero was 1 s before the first sample.
        let samples = [(5000, 1.0), (15_000, 11.0)];
        assert_eq!(increase(&samples, 0, 15_000), Some(11.0));
    }

    #[test]
    fn a_reset_adds_what_was_lost() {
        // 100 -> 110, reset to 5, -> 15: 10 + 5 + 10.
        let samples = [(0, 100.0), (1000, 110.0), (2000, 5.0), (3000, 15.0)];
        assert_eq!(increase(&samples, -1, 3000).map(f64::round), Some(25.0));
    }

    #[test]
    fn one_sample_has_no_increase() {
        assert_eq!(increase(&[(0, 1.0)], -1, 1000), None);
    }
}
