//! PromQL over the store: parsing, evaluation, limits.
//!
//! The language is that of Prometheus 3 on floats. Evaluation is by column: a query has a grid of
//! steps, an instant query being one step, and every operator works on whole series over that grid.
//! All that a query reads comes from one snapshot, each selector once.
//!
//! What is not supported answers [`Error::BadData`] naming the construct, never a wrong value:
//! `integral` and `start_timestamp`, durations that depend on the query's range or step, `smoothed` and
//! `anchored`, all of them experimental upstream. There are no native histograms in the store.
//!
//! Nothing here knows HTTP, rules or dashboards; callers get a [`Value`] with the warnings and infos
//! that Prometheus would give.

mod aggregate;
mod annotation;
mod binary;
mod cache;
mod check;
mod error;
mod eval;
mod fold;
mod function;
mod group;
mod limit;
mod lower;
mod parse;
mod plan;
mod select;
mod statistic;
mod tree;
mod value;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

pub use check::{Checked, check};
pub use error::{Error, ErrorKind, Exceeded};
pub use limit::Limits;

use crate::model::{Column, Labels, Matcher, Sample, Timestamp};
use crate::store::Reader;
use cache::Cache;
use eval::{Evaluator, Outcome};
use limit::Guard;
use plan::{Kind, Plan, ValueType};
use value::{EvalValue, Grid, QuerySpan};

/// What a caller may change about a single query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Shorter than the limit's, never longer.
    pub timeout: Option<Duration>,
    pub lookback: Option<Duration>,
    /// Set from outside to stop the query.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Where the samples that it reads are counted.
    pub samples_read: Option<Arc<AtomicUsize>>,
}

/// The steps of a range query: `start`, `start + step`, ... up to and including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step: Duration,
}

/// Evaluates queries. Cloning is cheap. Calls block: run them off the async runtime.
#[derive(Clone, Debug)]
pub struct Engine {
    reader: Reader,
    limits: Arc<Limits>,
    plans: Arc<Cache>,
}

/// A query's value with what it wants to say about itself.
#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Sample),
    String {
        at: Timestamp,
        text: String,
    },
    /// In the order that the query asked for, else by labels.
    Vector(Vec<VectorSample>),
    /// By labels; no column is empty.
    Matrix(Vec<Column>),
}

#[derive(Clone, Debug)]
pub struct VectorSample {
    pub labels: Labels,
    pub sample: Sample,
}

/// The alternatives of a series selector, as `match[]` has it: a series is meant when it passes all
/// matchers of any of them.
pub fn parse_selector(selector: &str, limits: &Limits) -> Result<Vec<Vec<Matcher>>, Error> {
    check_text(selector, limits)?;
    let mut plan = lower::plan(selector)?;
    match &plan.root.kind {
        Kind::Select(select) if select.shift == plan::Shift::NONE => {
            Ok(plan.selections.swap_remove(select.selection).branches)
        }
        _ => Err(Error::bad_data(format!(
            "expected a series selector without modifiers, got {selector:?}"
        ))),
    }
}

/// Refuses a text that is too long or nested too deep, and says how deep it is.
fn check_text(query: &str, limits: &Limits) -> Result<usize, Error> {
    if query.len() > limits.query_bytes_max {
        return Err(Exceeded::QueryBytes {
            bytes: query.len(),
            bytes_max: limits.query_bytes_max,
        }
        .into());
    }
    let depth = parse::depth(query);
    if depth > limits.depth_max {
        return Err(Exceeded::Depth {
            depth,
            depth_max: limits.depth_max,
        }
        .into());
    }
    Ok(depth)
}

/// Nesting up to which a query runs on the caller's thread. Beyond it the query gets a thread whose
/// stack grows with the nesting.
const DEPTH_ON_CALLER: usize = 32;
/// Stack per level of nesting: a debug build's frames of evaluation, with room to spare.
const STACK_BYTES_PER_LEVEL: usize = 32 << 10;
const STACK_BYTES_MIN: usize = 2 << 20;

impl Engine {
    pub fn new(reader: Reader, limits: Limits) -> Self {
        Self {
            reader,
            limits: Arc::new(limits),
            plans: Arc::default(),
        }
    }

    /// Evaluates a query at one point in time.
    pub fn instant(
        &self,
        query: &str,
        at: Timestamp,
        options: &QueryOptions,
    ) -> Result<Answer, Error> {
        self.on_a_fitting_stack(query, || {
            let plan = self.plans.plan(query)?;
            let span = QuerySpan {
                start_ms: at.ms(),
                end_ms: at.ms(),
                step_ms: 0,
            };
            let (outcome, annotations) = self.run(&plan, span, Grid::single(at.ms()), options)?;
            let value = match outcome {
                Outcome::Value(EvalValue::Text(text)) => Value::String { at, text },
                Outcome::Value(EvalValue::Scalar(values)) => {
                    Value::Scalar(Sample::new(at, values[0]))
                }
                Outcome::Value(EvalValue::Vector(series)) => {
                    Value::Vector(value::into_samples(series, at, plan.root.keeps_order())?)
                }
                Outcome::Ranges(columns) => Value::Matrix(columns),
            };
            Ok(annotations.into_answer(value, query))
        })
    }

    /// Evaluates a query at every step; the value is always a matrix.
    pub fn range(
        &self,
        query: &str,
        steps: Steps,
        options: &QueryOptions,
    ) -> Result<Answer, Error> {
        let grid = self.grid(steps)?;
        let span = QuerySpan {
            start_ms: grid.start_ms,
            end_ms: steps.end.ms(),
            step_ms: grid.step_ms,
        };
        self.on_a_fitting_stack(query, || {
            let plan = self.plans.plan(query)?;
            let kind = plan.root.value_type();
            if matches!(kind, ValueType::Text | ValueType::Range) {
                return Err(Error::BadData {
                    message: format!(
                        "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                        kind.name()
                    ),
                });
            }
            let (outcome, annotations) = self.run(&plan, span, grid, options)?;
            let columns = match outcome {
                Outcome::Value(EvalValue::Scalar(values)) => {
                    value::into_columns(vec![value::Series::plain(values)], grid)?
                }
                Outcome::Value(EvalValue::Vector(series)) => value::into_columns(series, grid)?,
                Outcome::Value(EvalValue::Text(_)) | Outcome::Ranges(_) => {
                    unreachable!("refused above by the expression's type")
                }
            };
            Ok(annotations.into_answer(Value::Matrix(columns), query))
        })
    }

    /// How far back a selector of instants looks unless a query says otherwise.
    pub fn lookback(&self) -> Duration {
        self.limits.lookback
    }

    /// The syntax tree of a query, in the shape of Prometheus' `parse_query`.
    pub fn tree(&self, query: &str) -> Result<serde_json::Value, Error> {
        self.on_a_fitting_stack(query, || tree::tree(query))
    }

    /// A query in the canonical form, split over lines where it is long.
    pub fn format(&self, query: &str) -> Result<String, Error> {
        self.on_a_fitting_stack(query, || tree::format(query))
    }

    fn run(
        &self,
        plan: &Plan,
        query: QuerySpan,
        grid: Grid,
        options: &QueryOptions,
    ) -> Result<(Outcome, annotation::Annotations), Error> {
        let lookback = options.lookback.unwrap_or(self.limits.lookback);
        let guard = Guard::new(&self.limits, options);
        let reading = select::Reading {
            lookback_ms: i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX),
            query,
        };
        let data = select::read(&self.reader, plan, grid, &reading, &guard)?;
        let evaluator = Evaluator::new(&data, &reading, &guard);
        let outcome = evaluator.query_root(&plan.root, grid)?;
        Ok((outcome, evaluator.into_annotations()))
    }

    fn grid(&self, steps: Steps) -> Result<Grid, Error> {
        let bad = |message: &str| Error::BadData {
            message: message.to_owned(),
        };
        let step_ms = i64::try_from(steps.step.as_millis()).unwrap_or(i64::MAX);
        if step_ms == 0 {
            return Err(bad(
                "zero or negative query resolution step widths are not accepted",
            ));
        }
        if steps.end < steps.start {
            return Err(bad("end timestamp must not be before start time"));
        }
        let span_ms = i128::from(steps.end.ms()) - i128::from(steps.start.ms());
        let points = usize::try_from(span_ms / i128::from(step_ms))
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        if points > self.limits.points_max {
            return Err(Exceeded::Points {
                points,
                points_max: self.limits.points_max,
            }
            .into());
        }
        Ok(Grid {
            start_ms: steps.start.ms(),
            step_ms,
            len: points,
        })
    }

    fn on_a_fitting_stack<T: Send>(
        &self,
        query: &str,
        work: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        on_a_fitting_stack(query, &self.limits, work)
    }
}

/// Checks the text's size and nesting, then runs `work` where the stack suffices for it: the
/// parser, the plan and the evaluation all recurse as deep as the query is nested.
fn on_a_fitting_stack<T: Send>(
    query: &str,
    limits: &Limits,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let depth = check_text(query, limits)?;
    if depth <= DEPTH_ON_CALLER {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("promql".into())
            .stack_size(STACK_BYTES_MIN.saturating_add(depth * STACK_BYTES_PER_LEVEL))
            .spawn_scoped(scope, work)
            .map_err(|source| Error::Execution {
                message: format!("no thread for a query nested {depth} deep: {source}"),
            })?;
        match thread.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
