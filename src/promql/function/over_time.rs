//! The `*_over_time` functions, `changes` and `resets`: one number for the samples of a window.

use crate::promql::annotation::Annotation;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::{Node, Range};
use crate::promql::statistic::{mean, quantile, sum, variance};
use crate::promql::value::{ABSENT, Grid, Series, is_present};
use crate::promql::window::{PerTimes, Window, bounds, each_series, evaluate, extremes, spans};

use super::{drop_names, is_fixed, range, spread};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum OverTime {
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Quantile,
    Stddev,
    Stdvar,
    Last,
    First,
    Present,
    Mad,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
    Changes,
    Resets,
}

impl OverTime {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "quantile_over_time" => Self::Quantile,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "last_over_time" => Self::Last,
            "first_over_time" => Self::First,
            "present_over_time" => Self::Present,
            "mad_over_time" => Self::Mad,
            "ts_of_first_over_time" => Self::TimeOfFirst,
            "ts_of_last_over_time" => Self::TimeOfLast,
            "ts_of_min_over_time" => Self::TimeOfMin,
            "ts_of_max_over_time" => Self::TimeOfMax,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            _ => return None,
        })
    }

    pub(super) fn evaluate(
        self,
        evaluator: &Evaluator<'_>,
        args: &[Node],
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let range = range(args)?;
        let mut results = if self == Self::Quantile {
            quantiles(evaluator, &args[0], range, steps)?
        } else {
            let is_fixed = is_fixed(range.shift);
            let wanted = if is_fixed {
                Grid::single(steps.start_ms)
            } else {
                steps
            };
            let mut results = self.windows(evaluator, range, wanted, steps)?;
            if is_fixed {
                spread(&mut results, steps);
            }
            results
        };
        // These two give back samples as they are, and so their name.
        if !matches!(self, Self::Last | Self::First) {
            drop_names(&mut results);
        }
        Ok(results)
    }

    fn windows(
        self,
        evaluator: &Evaluator<'_>,
        range: &Range,
        wanted: Grid,
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let refs = range.shift.apply(wanted, evaluator.query());
        let spans = spans(wanted, refs, range.window_ms);
        let samples = evaluator.samples(range, wanted)?;
        evaluator.guard().check_size(samples.len(), steps.len)?;
        let guard = evaluator.guard();
        each_series(
            &samples,
            wanted.len,
            guard,
            |known: &mut PerTimes<(usize, usize)>, one| {
                let bounds = known.get(&one.timestamps, |times| bounds(times, &spans));
                Ok(match self {
                    Self::Min => extreme_values(&one.values, &bounds, |new, old| new < old),
                    Self::Max => extreme_values(&one.values, &bounds, |new, old| new > old),
                    Self::Changes => counted(&one.values, &bounds, |old, new| {
                        new != old && !(new.is_nan() && old.is_nan())
                    }),
                    Self::Resets => counted(&one.values, &bounds, |old, new| new < old),
                    _ => evaluate(one, &bounds, &spans, guard, |window, _| {
                        self.of_window(&window)
                    })?,
                })
            },
        )
    }

    /// The value for one window, which has at least one sample.
    fn of_window(self, window: &Window<'_>) -> Option<f64> {
        let values = window.values;
        let time = |index: usize| window.timestamps[index].seconds();
        Some(match self {
            Self::Avg => mean(values),
            Self::Sum => sum(values),
            Self::Count => values.len() as f64,
            Self::Stddev => variance(values).sqrt(),
            Self::Stdvar => variance(values),
            Self::Last => *values.last()?,
            Self::First => *values.first()?,
            Self::Present => 1.0,
            Self::Mad => median_deviation(values),
            Self::TimeOfFirst => time(0),
            Self::TimeOfLast => time(values.len() - 1),
            Self::TimeOfMin => time(last_extreme(values, |new, old| new <= old)),
            Self::TimeOfMax => time(last_extreme(values, |new, old| new >= old)),
            Self::Min | Self::Max | Self::Changes | Self::Resets | Self::Quantile => {
                unreachable!("these slide, or have a parameter")
            }
        })
    }
}

fn extreme_values(
    values: &[f64],
    bounds: &[(usize, usize)],
    beats: impl Fn(f64, f64) -> bool,
) -> Vec<f64> {
    extremes(values, bounds, beats)
        .into_iter()
        .map(|index| index.map_or(ABSENT, |index| values[index]))
        .collect()
}

/// Counts, of the neighbours within each window, those that are `counted`.
fn counted(
    values: &[f64],
    bounds: &[(usize, usize)],
    is_counted: impl Fn(f64, f64) -> bool,
) -> Vec<f64> {
    // before[i]: of the first i + 1 samples, how many are counted with their predecessor.
    let mut count = 0_usize;
    let mut before = Vec::with_capacity(values.len());
    before.push(0);
    before.extend(values.windows(2).map(|pair| {
        count += usize::from(is_counted(pair[0], pair[1]));
        count
    }));
    bounds
        .iter()
        .map(|&(low, high)| {
            if low < high {
                (before[high - 1] - before[low]) as f64
            } else {
                ABSENT
            }
        })
        .collect()
}

fn quantiles(
    evaluator: &Evaluator<'_>,
    param: &Node,
    range: &Range,
    steps: Grid,
) -> Result<Vec<Series>, Error> {
    let params = evaluator.scalar(param, steps)?;
    let results =
        evaluator.over_windows(range, steps, |scratch: &mut Vec<f64>, window, step| {
            scratch.clear();
            scratch.extend_from_slice(window.values);
            Some(quantile(params[step], scratch))
        })?;
    for (step, quantile) in params.into_iter().enumerate() {
        let is_used = || results.iter().any(|one| is_present(one.values[step]));
        if !(0.0..=1.0).contains(&quantile) && is_used() {
            evaluator.annotate(&Annotation::QuantileOutOfRange { quantile }, param.at);
        }
    }
    Ok(results)
}

/// The median of the distances from the median.
fn median_deviation(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    let median = quantile(0.5, &mut sorted);
    for value in &mut sorted {
        *value = (*value - median).abs();
    }
    quantile(0.5, &mut sorted)
}

/// The index of the last value that no other beats; NaN is beaten by everything.
fn last_extreme(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> usize {
    let mut extreme = 0;
    for (index, value) in values.iter().enumerate() {
        if beats(*value, values[extreme]) || values[extreme].is_nan() {
            extreme = index;
        }
    }
    extreme
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_deviation_ignores_outliers() {
        // median 2, distances 1, 1, 0, 0, 2, 4, 7: their median is 1
        assert_eq!(median_deviation(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), 1.0);
    }

    #[test]
    fn of_equal_extremes_the_last_gives_its_time() {
        assert_eq!(last_extreme(&[f64::NAN, 3.0, 1.0, 3.0], |a, b| a >= b), 3);
        assert_eq!(last_extreme(&[f64::NAN, 3.0, 1.0, 3.0], |a, b| a <= b), 2);
    }
}
