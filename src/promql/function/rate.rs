//! `rate`, `increase`, `delta` and their instant kin.

use crate::promql::annotation::{Annotation, is_counter_name, metric_of};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::Range;
use crate::promql::value::{Grid, Series};
use crate::promql::window::{Window, evaluate, spans};

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
        let range_seconds = range.window_ms as f64 / 1e3;
        let mut results = Vec::with_capacity(samples.len());
        for one in samples {
            let resets = if matches!(self, Self::Rate | Self::Increase) {
                resets(&one.values)
            } else {
                Vec::new()
            };
            let values = evaluate(
                &one.timestamps,
                &one.values,
                &spans,
                evaluator.guard(),
                |window, _| match self {
                    Self::Rate => {
                        extrapolated(&window, Some(&resets)).map(|v| v.over(range_seconds))
                    }
                    Self::Increase => extrapolated(&window, Some(&resets)).map(|v| v.over(1.0)),
                    Self::Delta => extrapolated(&window, None).map(|v| v.over(1.0)),
                    Self::Irate => instant(&window, true),
                    Self::Idelta => instant(&window, false),
                },
            )?;
            let series = Series {
                labels: one.labels,
                drop_name: one.drop_name,
                values,
            };
            if series.is_empty() {
                continue;
            }
            if matches!(self, Self::Rate | Self::Increase) {
                let metric = metric_of(&series.labels);
                if !metric.is_empty() && !is_counter_name(&metric) {
                    evaluator.annotate(&Annotation::PossibleNonCounter { metric }, at);
                }
            }
            results.push(series);
        }
        if is_fixed(range.shift) {
            spread(&mut results, steps);
        }
        drop_names(&mut results);
        Ok(results)
    }
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

/// A difference over the samples of a window and what it takes to stretch it over all of it.
#[derive(Clone, Copy, Debug)]
struct Extrapolated {
    difference: f64,
    /// The window's share that the samples stand for, over the span between them.
    factor: f64,
}

impl Extrapolated {
    /// Divided before it is multiplied, for the last bit's sake.
    fn over(self, seconds: f64) -> f64 {
        self.difference * (self.factor / seconds)
    }
}

/// The difference between the last and the first sample, stretched to the window's bounds as
/// Prometheus' `extrapolatedRate` does: all the way where the outer samples are close to a bound,
/// else by half the mean distance between samples. `None` with fewer than two samples.
///
/// With `resets`, the indices of all resets of the series, it is the increase of a counter: a reset
/// adds what was lost, and the stretch to the left stops where the counter would have been zero.
fn extrapolated(window: &Window<'_>, resets: Option<&[usize]>) -> Option<Extrapolated> {
    let (first, last) = (*window.values.first()?, *window.values.last()?);
    let (first_ms, last_ms) = (
        window.timestamps.first()?.ms(),
        window.timestamps.last()?.ms(),
    );
    let gaps = window.values.len() - 1;
    if gaps == 0 {
        return None;
    }
    let mut difference = last - first;
    if let Some(resets) = resets {
        let begin = resets.partition_point(|index| *index <= window.first);
        for index in &resets[begin..] {
            match window.values.get(index - window.first) {
                Some(_) => difference += window.values[index - window.first - 1],
                None => break,
            }
        }
    }

    let seconds = |span_ms: i64| span_ms as f64 / 1e3;
    let mut to_start = seconds(first_ms.saturating_sub(window.span.start_ms));
    let mut to_end = seconds(window.span.end_ms.saturating_sub(last_ms));
    let sampled = seconds(last_ms.saturating_sub(first_ms));
    let mean_gap = sampled / gaps as f64;
    let threshold = mean_gap * 1.1;
    if to_start >= threshold {
        to_start = mean_gap / 2.0;
    }
    if resets.is_some() && difference > 0.0 && first >= 0.0 {
        let to_zero = sampled * (first / difference);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = mean_gap / 2.0;
    }
    Some(Extrapolated {
        difference,
        factor: (sampled + to_start + to_end) / sampled,
    })
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
    use crate::model::Timestamp;
    use crate::promql::window::Span;

    fn increase(samples: &[(i64, f64)], start_ms: i64, end_ms: i64) -> Option<f64> {
        let timestamps: Vec<_> = samples
            .iter()
            .map(|(at_ms, _)| Timestamp::from_ms(*at_ms))
            .collect();
        let values: Vec<_> = samples.iter().map(|(_, value)| *value).collect();
        let window = Window {
            timestamps: &timestamps,
            values: &values,
            first: 0,
            span: Span {
                start_ms,
                end_ms,
                step_ms: end_ms,
            },
        };
        extrapolated(&window, Some(&resets(&values))).map(|found| found.over(1.0))
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
