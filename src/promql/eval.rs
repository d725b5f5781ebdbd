//! Evaluates a plan over a grid of steps.
//!
//! `Evaluator::value` is the one recursion over the plan. Families of operators live in their own
//! modules and ask it for their operands.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::annotation::{Annotation, Annotations};
use super::error::Error;
use super::limit::Guard;
use super::plan::{Kind, Node, Range, Select, Source};
use super::select::{Data, Reading, Samples, subquery_grid};
use super::value::{ABSENT, EvalValue, Grid, QuerySpan, Series, is_present, map_present};
use super::window::{PerTimes, Window, bounds, each_series, evaluate, spans, threads_worth};
use super::{aggregate, binary, function};
use crate::model::{Column, Timestamp};
use crate::store::parallel;

/// What a whole query comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    Value(EvalValue),
    /// The samples of a range selector, as an instant query may ask for them.
    Ranges(Vec<Column>),
}

/// One query in evaluation.
pub(super) struct Evaluator<'a> {
    data: &'a Data,
    reading: &'a Reading,
    guard: &'a Guard,
    annotations: RefCell<Annotations>,
    /// The values of expressions that the query repeats, by their number and steps.
    repeated: RefCell<HashMap<(usize, Grid), EvalValue>>,
}

/// What an instant selector yields of each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yield {
    Value,
    /// The time of the sample in seconds.
    Time,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(data: &'a Data, reading: &'a Reading, guard: &'a Guard) -> Self {
        Self {
            data,
            reading,
            guard,
            annotations: RefCell::default(),
            repeated: RefCell::default(),
        }
    }

    pub(super) fn into_annotations(self) -> Annotations {
        self.annotations.into_inner()
    }

    pub(super) fn guard(&self) -> &Guard {
        self.guard
    }

    /// What the whole query was asked for.
    pub(super) fn query(&self) -> QuerySpan {
        self.reading.query
    }

    pub(super) fn annotate(&self, annotation: &Annotation, at: usize) {
        self.annotations.borrow_mut().add(annotation, at);
    }

    /// The whole query: an expression at every step, or the samples of a range selector.
    pub(super) fn query_root(&self, root: &Node, steps: Grid) -> Result<Outcome, Error> {
        match &root.kind {
            Kind::Range(range) => self.raw_ranges(range).map(Outcome::Ranges),
            _ => self.value(root, steps).map(Outcome::Value),
        }
    }

    /// The value of an expression at every step, worked out once where the query repeats it.
    fn value(&self, node: &Node, steps: Grid) -> Result<EvalValue, Error> {
        let Some(number) = node.repeated else {
            return self.value_anew(node, steps);
        };
        if let Some(value) = self.repeated.borrow().get(&(number, steps)) {
            return Ok(value.clone());
        }
        let remarks = self.annotations.borrow().len();
        let value = self.value_anew(node, steps)?;
        // A remark is made at each place, so what makes one is evaluated at each.
        if self.annotations.borrow().len() == remarks {
            let mut repeated = self.repeated.borrow_mut();
            repeated.insert((number, steps), value.clone());
        }
        Ok(value)
    }

    /// A range vector has no value: its functions ask for its windows.
    fn value_anew(&self, node: &Node, steps: Grid) -> Result<EvalValue, Error> {
        self.guard.check()?;
        Ok(match &node.kind {
            Kind::Number(number) => {
                self.guard.check_size(1, steps.len)?;
                EvalValue::Scalar(vec![*number; steps.len])
            }
            Kind::Text(text) => EvalValue::Text(text.clone()),
            Kind::Select(select) => EvalValue::Vector(self.select(select, steps, Yield::Value)?),
            Kind::Range(_) => {
                return Err(Error::bad_data(
                    "a range vector has no value outside of a function",
                ));
            }
            Kind::Negate(expr) => match self.value(expr, steps)? {
                EvalValue::Scalar(mut values) => {
                    map_present(&mut values, |value| -value);
                    EvalValue::Scalar(values)
                }
                EvalValue::Vector(mut series) => {
                    for one in &mut series {
                        map_present(&mut one.values, |value| -value);
                        one.drop_name = true;
                    }
                    EvalValue::Vector(series)
                }
                text @ EvalValue::Text(_) => text,
            },
            Kind::Binary(operation) => binary::evaluate(self, operation, steps)?,
            Kind::Aggregate(operation) => {
                EvalValue::Vector(aggregate::evaluate(self, operation, steps)?)
            }
            Kind::Call(call) => function::evaluate(self, call, steps)?,
        })
    }

    /// The value of a scalar expression at every step.
    pub(super) fn scalar(&self, node: &Node, steps: Grid) -> Result<Vec<f64>, Error> {
        match self.value(node, steps)? {
            EvalValue::Scalar(values) => Ok(values),
            EvalValue::Vector(_) | EvalValue::Text(_) => Err(Error::bad_data("expected a scalar")),
        }
    }

    /// The series of a vector expression.
    pub(super) fn vector(&self, node: &Node, steps: Grid) -> Result<Vec<Series>, Error> {
        match self.value(node, steps)? {
            EvalValue::Vector(series) => Ok(series),
            EvalValue::Scalar(_) | EvalValue::Text(_) => {
                Err(Error::bad_data("expected an instant vector"))
            }
        }
    }

    /// Of each series the newest sample in the lookback at every step, unless it marks the end.
    pub(super) fn select(
        &self,
        select: &Select,
        steps: Grid,
        yields: Yield,
    ) -> Result<Vec<Series>, Error> {
        let refs = select.shift.apply(steps, self.reading.query);
        let lookback_ms = self.reading.lookback_ms;
        let columns = self.data.columns(select.selection, refs, lookback_ms);
        self.guard.check_size(columns.len(), steps.len)?;
        let threads = threads_worth(columns.len().saturating_mul(steps.len));
        let parts = parallel::split(columns, threads, |part| {
            let mut known = PerTimes::default();
            let mut selected = Vec::with_capacity(part.len());
            for column in part {
                self.guard.check()?;
                let newest = known.get(&column.timestamps, |it| newest(it, refs, lookback_ms));
                let mut values = yields.values(column, &newest);
                if refs.len == 1 {
                    values.resize(steps.len, values[0]);
                }
                let series = Series {
                    labels: column.labels.clone(),
                    drop_name: false,
                    values,
                };
                if !series.is_empty() {
                    selected.push(series);
                }
            }
            Ok::<_, Error>(selected)
        });
        let mut selected = Vec::with_capacity(columns.len());
        for part in parts {
            selected.append(&mut part?);
        }
        Ok(selected)
    }

    /// The samples that the windows of a range vector are cut from, series by series.
    pub(super) fn samples(&self, range: &Range, steps: Grid) -> Result<Vec<Samples<'a>>, Error> {
        let refs = range.shift.apply(steps, self.reading.query);
        match &range.source {
            Source::Samples(selection) => Ok(self
                .data
                .columns(*selection, refs, range.window_ms)
                .iter()
                .map(Samples::of)
                .collect()),
            Source::Subquery { expr, step_ms } => {
                let inner = subquery_grid(refs, range.window_ms, *step_ms);
                self.guard.check_size(1, inner.len)?;
                let series = match self.value(expr, inner)? {
                    EvalValue::Vector(series) => series,
                    EvalValue::Scalar(values) => vec![Series::plain(values)],
                    EvalValue::Text(_) => Vec::new(),
                };
                let times = inner.times().map(Timestamp::from_ms).collect();
                Ok(series
                    .into_iter()
                    .map(|one| present_samples(one, &times))
                    .collect())
            }
        }
    }

    /// For every series of a range vector the value of `function` at each step. Series for which it
    /// never has one are left out. The function has a scratch of its own in each thread.
    pub(super) fn over_windows<S: Default>(
        &self,
        range: &Range,
        steps: Grid,
        function: impl Fn(&mut S, Window<'_>, usize) -> Option<f64> + Sync,
    ) -> Result<Vec<Series>, Error> {
        let samples = self.samples(range, steps)?;
        self.guard.check_size(samples.len(), steps.len)?;
        let refs = range.shift.apply(steps, self.reading.query);
        let spans = spans(steps, refs, range.window_ms);
        each_series(
            &samples,
            steps.len,
            self.guard,
            |(known, scratch): &mut (PerTimes<(usize, usize)>, S), one| {
                let bounds = known.get(&one.timestamps, |times| bounds(times, &spans));
                evaluate(one, &bounds, &spans, self.guard, |window, step| {
                    function(scratch, window, step)
                })
            },
        )
    }

    /// The samples themselves of a range vector at the query's one step.
    fn raw_ranges(&self, range: &Range) -> Result<Vec<Column>, Error> {
        let steps = Grid::single(self.reading.query.start_ms);
        let refs = range.shift.apply(steps, self.reading.query);
        let spans = spans(steps, refs, range.window_ms);
        let mut columns = Vec::new();
        for one in self.samples(range, steps)? {
            let bounds = bounds(&one.timestamps, &spans);
            let Some(&(low, high)) = bounds.first().filter(|(low, high)| low < high) else {
                continue;
            };
            columns.push(Column {
                labels: if one.drop_name {
                    one.labels.without_metric()
                } else {
                    one.labels
                },
                timestamps: one.timestamps[low..high].into(),
                values: one.values[low..high].to_vec(),
            });
        }
        columns.sort_by(|left, right| left.labels.cmp(&right.labels));
        if columns
            .windows(2)
            .any(|pair| pair[0].labels == pair[1].labels)
        {
            return Err(super::value::Duplicate.into());
        }
        Ok(columns)
    }
}

/// Where the newest timestamp in `(time - lookback, time]` lies for each time: its index and one, or
/// zero.
fn newest(timestamps: &[Timestamp], refs: Grid, lookback_ms: i64) -> Vec<u32> {
    let mut next = timestamps.partition_point(|time| time.ms() <= refs.start_ms);
    refs.times()
        .map(|at_ms| {
            while timestamps.get(next).is_some_and(|time| time.ms() <= at_ms) {
                next += 1;
            }
            let is_within =
                next > 0 && timestamps[next - 1].ms() > at_ms.saturating_sub(lookback_ms);
            if is_within { next as u32 } else { 0 }
        })
        .collect()
}

impl Yield {
    /// What a series has at the samples that [`newest`] found.
    fn values(self, column: &Column, newest: &[u32]) -> Vec<f64> {
        let at = newest.iter().map(|next| (*next as usize).checked_sub(1));
        // A stale marker is what is absent.
        let value = |index: Option<usize>| index.map_or(ABSENT, |index| column.values[index]);
        match self {
            Self::Value => at.map(value).collect(),
            Self::Time => at
                .map(|index| match index {
                    Some(index) if is_present(column.values[index]) => {
                        column.timestamps[index].seconds()
                    }
                    _ => ABSENT,
                })
                .collect(),
        }
    }
}

/// A subquery's series as samples at its steps.
fn present_samples(series: Series, times: &Arc<[Timestamp]>) -> Samples<'static> {
    let (timestamps, values) = if series.values.iter().copied().all(is_present) {
        (times.clone(), series.values)
    } else {
        let samples = times.iter().copied().zip(series.values);
        let (timestamps, values): (Vec<_>, Vec<_>) =
            samples.filter(|(_, value)| is_present(*value)).unzip();
        (timestamps.into(), values)
    };
    Samples {
        labels: series.labels,
        drop_name: series.drop_name,
        timestamps,
        values: Cow::Owned(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, STALE_NAN};

    fn column(samples: &[(i64, f64)]) -> Column {
        Column {
            labels: Labels::empty(),
            timestamps: samples
                .iter()
                .map(|(at_ms, _)| Timestamp::from_ms(*at_ms))
                .collect(),
            values: samples.iter().map(|(_, value)| *value).collect(),
        }
    }

    fn newest_at(samples: &[(i64, f64)], times: Grid, lookback_ms: i64) -> Vec<Option<f64>> {
        let column = column(samples);
        let newest = newest(&column.timestamps, times, lookback_ms);
        Yield::Value
            .values(&column, &newest)
            .into_iter()
            .map(|value| is_present(value).then_some(value))
            .collect()
    }

    #[test]
    fn a_sample_stands_until_just_before_the_lookback_is_over() {
        let times = Grid {
            start_ms: 9,
            step_ms: 1,
            len: 7,
        };
        assert_eq!(
            newest_at(&[(10, 1.0)], times, 5),
            [
                None,
                Some(1.0),
                Some(1.0),
                Some(1.0),
                Some(1.0),
                Some(1.0),
                None
            ]
        );
    }

    #[test]
    fn a_stale_marker_ends_a_series_until_it_comes_back() {
        let times = Grid {
            start_ms: 10,
            step_ms: 10,
            len: 4,
        };
        assert_eq!(
            newest_at(&[(10, 1.0), (20, STALE_NAN), (40, 2.0)], times, 300),
            [Some(1.0), None, None, Some(2.0)]
        );
    }
}
