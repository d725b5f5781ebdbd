//! The functions of the language, by families.
//!
//! [`Function::of`] settles all that depends on the text: literal arguments, regexes, the labels that
//! `absent` answers with. [`evaluate`] hands a call to its family.

mod absent;
mod date;
mod histogram;
pub(super) mod info;
mod label;
mod math;
mod over_time;
mod rate;
mod regression;
mod sort;

use crate::model::Labels;

use super::error::Error;
use super::eval::{Evaluator, Yield};
use super::plan::{Call, Kind, Node, Range, Selection, Shift, Source, ValueType};
use super::value::{ABSENT, EvalValue, Grid, Series, is_present};
use date::DatePart;
use histogram::Histogram;
use info::Info;
use label::{LabelJoin, LabelReplace};
use math::Math;
use over_time::OverTime;
use rate::Difference;
use regression::Regression;
use sort::Sort;

/// A function with its literal arguments resolved.
#[derive(Clone, Debug)]
pub(super) enum Function {
    Difference(Difference),
    OverTime(OverTime),
    Regression(Regression),
    Absent(Labels),
    AbsentOverTime(Labels),
    Math(Math),
    Date(DatePart),
    Histogram(Histogram),
    Info(Info),
    LabelReplace(LabelReplace),
    LabelJoin(LabelJoin),
    Sort(Sort),
    Constant(Constant),
    /// The smaller or larger of two scalars.
    MinOf,
    MaxOf,
    /// A vector of one series as a scalar.
    Scalar,
    /// A scalar as a vector of one series.
    Vector,
    Timestamp,
}

/// Scalars that need no argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Time,
    Pi,
    QueryStart,
    QueryEnd,
    QueryStep,
    QueryRange,
}

impl Function {
    /// The function of a name; its arguments have the declared types.
    pub(super) fn of(name: &str, args: &[Node], selections: &[Selection]) -> Result<Self, Error> {
        let families = [
            Difference::of(name).map(Self::Difference),
            OverTime::of(name).map(Self::OverTime),
            Regression::of(name).map(Self::Regression),
            Math::of(name).map(Self::Math),
            DatePart::of(name).map(Self::Date),
            Constant::of(name).map(Self::Constant),
        ];
        if let Some(function) = families.into_iter().flatten().next() {
            return Ok(function);
        }
        Ok(match name {
            "absent" => Self::Absent(absent_labels(args, selections)),
            "absent_over_time" => Self::AbsentOverTime(absent_labels(args, selections)),
            "label_replace" => Self::LabelReplace(LabelReplace::of(&texts(args))?),
            "label_join" => Self::LabelJoin(LabelJoin::of(&texts(args))?),
            "min_of" => Self::MinOf,
            "max_of" => Self::MaxOf,
            "scalar" => Self::Scalar,
            "vector" => Self::Vector,
            "timestamp" => Self::Timestamp,
            _ => {
                let texts = texts(args);
                if let Some(sort) = Sort::of(name, &texts) {
                    Self::Sort(sort)
                } else if let Some(histogram) = Histogram::of(name, &texts) {
                    Self::Histogram(histogram)
                } else {
                    return Err(Error::bad_data(format!(
                        "function {name:?} is not supported"
                    )));
                }
            }
        })
    }

    pub(super) fn value_type(&self) -> ValueType {
        match self {
            Self::Constant(_) | Self::MinOf | Self::MaxOf | Self::Scalar => ValueType::Scalar,
            _ => ValueType::Vector,
        }
    }

    /// Whether the result of an instant query comes in the order that the function gives it.
    pub(super) fn sorts(&self) -> bool {
        matches!(self, Self::Sort(_))
    }

    /// Whether each series of the first argument becomes one of the result, in the same order.
    pub(super) fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Self::Math(_) | Self::Date(_) | Self::LabelReplace(_) | Self::LabelJoin(_)
        )
    }
}

pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    call: &Call,
    steps: Grid,
) -> Result<EvalValue, Error> {
    let args = &call.args;
    let vector = |index: usize| evaluator.vector(&args[index], steps);
    let scalar = |index: usize| evaluator.scalar(&args[index], steps);
    let series = match &call.function {
        Function::Difference(difference) => {
            difference.evaluate(evaluator, range(args)?, args[0].at, steps)?
        }
        Function::OverTime(function) => function.evaluate(evaluator, args, steps)?,
        Function::Regression(function) => function.evaluate(evaluator, args, steps)?,
        Function::Absent(labels) => absent::absent(&vector(0)?, labels, steps),
        Function::AbsentOverTime(labels) => {
            let present =
                evaluator.over_windows(range(args)?, steps, |(): &mut (), _, _| Some(1.0))?;
            absent::absent(&present, labels, steps)
        }
        Function::Math(function) => function.evaluate(evaluator, args, steps)?,
        Function::Date(part) => {
            let series = match args.first() {
                Some(arg) => evaluator.vector(arg, steps)?,
                None => vec![Series::plain(Constant::Time.values(evaluator, steps))],
            };
            part.evaluate(series)
        }
        Function::Histogram(function) => function.evaluate(evaluator, args, steps)?,
        Function::Info(info) => info.evaluate(evaluator, args, steps)?,
        Function::LabelReplace(replace) => replace.evaluate(vector(0)?)?,
        Function::LabelJoin(join) => join.evaluate(vector(0)?)?,
        Function::Sort(sort) => sort.evaluate(vector(0)?, steps),
        Function::Vector => vec![Series::plain(scalar(0)?)],
        Function::Timestamp => timestamps(evaluator, &args[0], steps)?,
        Function::Constant(constant) => {
            evaluator.guard().check_size(1, steps.len)?;
            return Ok(EvalValue::Scalar(constant.values(evaluator, steps)));
        }
        Function::MinOf | Function::MaxOf => {
            let pick = if matches!(call.function, Function::MinOf) {
                super::statistic::smaller
            } else {
                super::statistic::larger
            };
            let pairs = scalar(0)?.into_iter().zip(scalar(1)?);
            return Ok(EvalValue::Scalar(
                pairs.map(|(left, right)| pick(left, right)).collect(),
            ));
        }
        Function::Scalar => return Ok(EvalValue::Scalar(sole_values(&vector(0)?, steps))),
    };
    Ok(EvalValue::Vector(series))
}

/// The range vector that a window function is given first.
fn range(args: &[Node]) -> Result<&Range, Error> {
    args.iter()
        .find_map(|arg| match &arg.kind {
            Kind::Range(range) => Some(range),
            _ => None,
        })
        .ok_or_else(|| Error::bad_data("expected a range vector"))
}

/// The string arguments, in order.
fn texts(args: &[Node]) -> Vec<String> {
    args.iter()
        .filter_map(|arg| match &arg.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

fn absent_labels(args: &[Node], selections: &[Selection]) -> Labels {
    let selection = args.first().and_then(|arg| match &arg.kind {
        Kind::Select(select) => selections.get(select.selection),
        Kind::Range(Range {
            source: Source::Samples(selection),
            ..
        }) => selections.get(*selection),
        _ => None,
    });
    selection.map_or_else(Labels::empty, absent::labels)
}

/// The value of the only series at each step, NaN where there is none or more than one.
fn sole_values(series: &[Series], steps: Grid) -> Vec<f64> {
    let mut values = vec![ABSENT; steps.len];
    for one in series {
        for (sole, value) in values.iter_mut().zip(&one.values) {
            if is_present(*value) {
                *sole = if is_present(*sole) { f64::NAN } else { *value };
            }
        }
    }
    super::value::replace_absent(&mut values, f64::NAN);
    values
}

/// Of a selector the times of its samples, of any other expression those of the steps.
fn timestamps(evaluator: &Evaluator<'_>, arg: &Node, steps: Grid) -> Result<Vec<Series>, Error> {
    let mut series = if let Kind::Select(select) = &arg.kind {
        evaluator.select(select, steps, Yield::Time)?
    } else {
        let mut series = evaluator.vector(arg, steps)?;
        for one in &mut series {
            for (value, time_ms) in one.values.iter_mut().zip(steps.times()) {
                if is_present(*value) {
                    *value = time_ms as f64 / 1e3;
                }
            }
        }
        series
    };
    drop_names(&mut series);
    Ok(series)
}

fn drop_names(series: &mut [Series]) {
    for one in series {
        one.drop_name = true;
    }
}

/// Whether a call gives the same at every step but for the times it is given: then one step is
/// evaluated for all.
fn is_fixed(shift: Shift) -> bool {
    shift.at.is_some()
}

/// Repeats the value of a single step.
fn spread(series: &mut [Series], steps: Grid) {
    for one in series {
        one.values = vec![one.values[0]; steps.len];
    }
}

impl Constant {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "time" => Self::Time,
            "pi" => Self::Pi,
            "start" => Self::QueryStart,
            "end" => Self::QueryEnd,
            "step" => Self::QueryStep,
            "range" => Self::QueryRange,
            _ => return None,
        })
    }

    fn values(self, evaluator: &Evaluator<'_>, steps: Grid) -> Vec<f64> {
        let seconds = |span_ms: i64| span_ms as f64 / 1e3;
        let query = evaluator.query();
        let constant = match self {
            Self::Time => return steps.times().map(seconds).collect(),
            Self::Pi => std::f64::consts::PI,
            Self::QueryStart => seconds(query.start_ms),
            Self::QueryEnd => seconds(query.end_ms),
            Self::QueryStep => seconds(query.step_ms),
            Self::QueryRange => seconds(query.end_ms.saturating_sub(query.start_ms)),
        };
        vec![constant; steps.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_needs_exactly_one_value() {
        let steps = Grid {
            start_ms: 0,
            step_ms: 1,
            len: 3,
        };
        let series = [
            Series::plain(vec![1.0, 2.0, ABSENT]),
            Series::plain(vec![ABSENT, 3.0, ABSENT]),
        ];
        let values = sole_values(&series, steps);
        assert_eq!(values[0], 1.0);
        assert!(values[1].is_nan() && is_present(values[1]));
        assert!(values[2].is_nan() && is_present(values[2]));
    }

    #[test]
    fn every_function_of_the_parser_is_known_or_refused_by_name() {
        let query = |name: &str, args: &str| format!("{name}({args})");
        for (names, args) in [
            ("time pi start end step range", ""),
            (
                "rate irate increase delta idelta deriv changes resets",
                "x[5m]",
            ),
            ("min_of max_of", "1, 2"),
            (
                "year month hour minute day_of_week day_of_month day_of_year days_in_month",
                "",
            ),
            (
                "absent sgn sort sort_desc timestamp scalar histogram_avg histogram_count",
                "x",
            ),
            (
                "absent_over_time mad_over_time ts_of_max_over_time last_over_time",
                "x[5m]",
            ),
        ] {
            for name in names.split(' ') {
                let query = query(name, args);
                assert!(crate::promql::lower::plan(&query).is_ok(), "{query}");
            }
        }
    }
}
