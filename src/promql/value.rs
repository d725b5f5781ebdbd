//! Values between operators: series over a grid of steps.
//!
//! A [`Series`] has a value for every step of its grid, [`ABSENT`] where there is none. `ABSENT` has
//! the bits of the stale marker, which no operator can produce and no selector lets through, so it
//! is told from every NaN that arithmetic makes. It must not itself go into arithmetic.

use std::collections::HashMap;
use std::sync::Arc;

use super::VectorSample;
use super::error::Error;
use crate::model::{Column, Labels, STALE_NAN, Sample, Timestamp, is_stale};

/// No value at this step.
pub(super) const ABSENT: f64 = STALE_NAN;

pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

pub(super) fn is_present(value: f64) -> bool {
    !is_stale(value)
}

/// The steps at which something is evaluated; may be none for a subquery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grid {
    pub(super) start_ms: i64,
    pub(super) step_ms: i64,
    pub(super) len: usize,
}

/// What the whole query was asked for. Its end may lie beyond the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each time carries its unit")]
pub(super) struct QuerySpan {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: i64,
}

impl Grid {
    pub(super) fn single(at_ms: i64) -> Self {
        Self {
            start_ms: at_ms,
            step_ms: 0,
            len: 1,
        }
    }

    /// The multiples of `step_ms` in `(after_ms, end_ms]`.
    pub(super) fn multiples(step_ms: i64, after_ms: i64, end_ms: i64) -> Self {
        let start_ms = after_ms
            .div_euclid(step_ms)
            .saturating_add(1)
            .saturating_mul(step_ms);
        let len = if start_ms > end_ms {
            0
        } else {
            usize::try_from((i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms))
                .unwrap_or(usize::MAX - 1)
                + 1
        };
        Self {
            start_ms,
            step_ms,
            len,
        }
    }

    pub(super) fn time(self, index: usize) -> i64 {
        self.start_ms
            .saturating_add(self.step_ms.saturating_mul(index as i64))
    }

    pub(super) fn end_ms(self) -> i64 {
        self.time(self.len.saturating_sub(1))
    }

    pub(super) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.len).map(move |index| self.time(index))
    }

    pub(super) fn moved(self, by_ms: i64) -> Self {
        Self {
            start_ms: self.start_ms.saturating_add(by_ms),
            ..self
        }
    }
}

/// One series over a grid.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    /// The metric's name goes when the query is done: until then it still tells series apart.
    pub(super) drop_name: bool,
    /// One a step, [`ABSENT`] where there is none.
    pub(super) values: Vec<f64>,
}

/// What an expression comes to on a grid.
#[derive(Clone, Debug)]
pub(super) enum EvalValue {
    Scalar(Vec<f64>),
    Vector(Vec<Series>),
    Text(String),
}

impl Series {
    /// A series without labels.
    pub(super) fn plain(values: Vec<f64>) -> Self {
        Self {
            labels: Labels::empty(),
            drop_name: false,
            values,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_absent(*value))
    }

    /// The name as it will be in the answer.
    fn final_labels(&self) -> Labels {
        if self.drop_name {
            self.labels.without_metric()
        } else {
            self.labels.clone()
        }
    }
}

/// Applies `map` to every value that is there.
pub(super) fn map_present(values: &mut [f64], map: impl Fn(f64) -> f64) {
    for value in values {
        if is_present(*value) {
            *value = map(*value);
        }
    }
}

/// Puts a value where there is none.
pub(super) fn replace_absent(values: &mut [f64], replacement: f64) {
    for value in values {
        if is_absent(*value) {
            *value = replacement;
        }
    }
}

/// Series by labels, as an operator puts them out: parts of one series that arrive separately are
/// joined, and two values for one step are an error.
#[derive(Debug, Default)]
pub(super) struct Merged {
    series: Vec<Series>,
    index: HashMap<(Labels, bool), usize>,
}

impl Merged {
    /// Adds a series; `Err` when it has a value where its namesake has one already.
    pub(super) fn push(&mut self, series: Series) -> Result<(), Duplicate> {
        let key = (series.labels.clone(), series.drop_name);
        if let Some(at) = self.index.get(&key) {
            let target = &mut self.series[*at].values;
            for (old, new) in target.iter_mut().zip(series.values) {
                if is_present(new) {
                    if is_present(*old) {
                        return Err(Duplicate);
                    }
                    *old = new;
                }
            }
        } else {
            self.index.insert(key, self.series.len());
            self.series.push(series);
        }
        Ok(())
    }

    /// In the order in which their labels first came.
    pub(super) fn into_series(self) -> Vec<Series> {
        self.series
    }
}

/// Two values for one label set at one step.
#[derive(Debug)]
pub(super) struct Duplicate;

impl From<Duplicate> for Error {
    fn from(_: Duplicate) -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }
}

/// Joins series that have become namesakes.
pub(super) fn merge(series: Vec<Series>) -> Result<Vec<Series>, Error> {
    let mut merged = Merged::default();
    for one in series {
        merged.push(one)?;
    }
    Ok(merged.into_series())
}

/// Takes away the names that are to go, empty series too.
fn finish(series: Vec<Series>) -> Result<Vec<Series>, Error> {
    let finished: Vec<_> = series
        .into_iter()
        .filter(|one| !one.is_empty())
        .map(|one| Series {
            labels: one.final_labels(),
            drop_name: false,
            values: one.values,
        })
        .collect();
    // What comes sorted, as most does, has no namesakes but neighbours.
    if finished.is_sorted_by(|left, right| left.labels < right.labels) {
        return Ok(finished);
    }
    merge(finished)
}

pub(super) fn into_samples(
    series: Vec<Series>,
    at: Timestamp,
    keep_order: bool,
) -> Result<Vec<VectorSample>, Error> {
    let mut samples: Vec<_> = finish(series)?
        .into_iter()
        .map(|one| VectorSample {
            labels: one.labels,
            sample: Sample::new(at, one.values[0]),
        })
        .collect();
    if !keep_order {
        samples.sort_by(|left, right| left.labels.cmp(&right.labels));
    }
    Ok(samples)
}

pub(super) fn into_columns(series: Vec<Series>, grid: Grid) -> Result<Vec<Column>, Error> {
    let all_times: Arc<[Timestamp]> = grid.times().map(Timestamp::from_ms).collect();
    let mut columns: Vec<_> = finish(series)?
        .into_iter()
        .map(|one| {
            if one.values.iter().copied().all(is_present) {
                return Column {
                    labels: one.labels,
                    timestamps: all_times.clone(),
                    values: one.values,
                };
            }
            let points = all_times.iter().copied().zip(one.values);
            let (timestamps, values): (Vec<_>, Vec<_>) =
                points.filter(|(_, value)| is_present(*value)).unzip();
            Column {
                labels: one.labels,
                timestamps: timestamps.into(),
                values,
            }
        })
        .collect();
    columns.sort_by(|left, right| left.labels.cmp(&right.labels));
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(metric: &str, drop_name: bool, values: &[f64]) -> Series {
        Series {
            labels: Labels::of(metric, &[("a", "1")]),
            drop_name,
            values: values.to_vec(),
        }
    }

    #[test]
    fn multiples_begin_after_the_bound_and_include_the_end() {
        let grid = Grid::multiples(10, 20, 40);
        assert_eq!(grid.times().collect::<Vec<_>>(), [30, 40]);
        assert_eq!(Grid::multiples(10, -7, 0).times().collect::<Vec<_>>(), [0]);
        assert_eq!(Grid::multiples(10, 21, 29).len, 0);
    }

    #[test]
    fn names_go_at_the_end_and_what_remains_is_joined() {
        let parts = vec![
            series("x", true, &[1.0, ABSENT]),
            series("y", true, &[ABSENT, 2.0]),
        ];
        let joined = finish(parts).unwrap();
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0].labels.to_string(), "{a=\"1\"}");
        assert_eq!(joined[0].values, [1.0, 2.0]);
    }

    #[test]
    fn two_values_for_one_step_are_an_error() {
        let parts = vec![series("x", true, &[1.0]), series("y", true, &[2.0])];
        let error = finish(parts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vector cannot contain metrics with the same labelset"
        );
    }

    #[test]
    fn nan_is_a_value_and_absent_is_not() {
        assert!(is_present(f64::NAN) && is_absent(ABSENT));
        assert!(is_present(ABSENT + 1.0), "arithmetic quiets the marker");
    }
}
