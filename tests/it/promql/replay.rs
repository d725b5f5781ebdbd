//! Runs a script: loads through the store's writer, asks through [`Subject::query`], compares.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cutover::model::{Batch, Labels, ManualClock, Sample, SeriesSamples, Timestamp};
use cutover::promql::{Engine, ErrorKind, Limits, QueryOptions, Steps, Value};
use cutover::store::{Options, Store};

use super::script::{Command, Eval, Series, Text, When, parse};

/// How a replay went.
#[derive(Default)]
pub(super) struct Score {
    pub evaluations: usize,
    pub failures: Vec<Failure>,
}

pub(super) struct Failure {
    pub file: String,
    pub line: usize,
    pub query: String,
    reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            query,
            reason,
        } = self;
        write!(formatter, "{file}:{line}: {query}\n    {reason}")
    }
}

impl Score {
    pub(super) fn report(&self) -> String {
        let mut report = format!(
            "{} of {} evaluations hold",
            self.evaluations - self.failures.len(),
            self.evaluations
        );
        for failure in &self.failures {
            report.push_str(&format!("\n{failure}"));
        }
        report
    }
}

/// What is tested: a store and whoever answers queries over it.
struct Subject {
    store: Store,
    engine: Engine,
    _dir: tempfile::TempDir,
}

/// An answer in the terms of scripts.
struct Reply {
    result: Answered,
    warnings: Vec<String>,
    infos: Vec<String>,
}

enum Answered {
    Scalar(f64),
    Text(String),
    Vector(Vec<(Labels, f64)>),
    Matrix(Vec<(Labels, BTreeMap<i64, f64>)>),
}

struct Refusal {
    is_parse_error: bool,
    message: String,
}

impl Subject {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options {
            retention: None,
            ..Options::default()
        };
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(100_000_000_000)));
        let store = Store::open(dir.path(), options, clock).expect("an empty store opens");
        Self {
            engine: Engine::new(store.reader(), Limits::default()),
            store,
            _dir: dir,
        }
    }

    fn load(&self, series: Vec<Series>) {
        let batch = Batch {
            samples: series
                .into_iter()
                .map(|one| SeriesSamples {
                    labels: one.labels,
                    samples: one
                        .samples
                        .into_iter()
                        .map(|(at_ms, value)| Sample::new(Timestamp::from_ms(at_ms), value))
                        .collect(),
                })
                .filter(|one| !one.samples.is_empty())
                .collect(),
            ..Batch::default()
        };
        let written = self
            .store
            .writer()
            .write_blocking(batch)
            .expect("the store takes a load");
        assert_eq!(written.rejected, 0, "{:?}", written.first_rejection);
    }

    /// The one place that asks.
    fn query(&self, query: &str, when: When) -> Result<Reply, Refusal> {
        let options = QueryOptions::default();
        let answer = match when {
            When::Instant(at_ms) => self
                .engine
                .instant(query, Timestamp::from_ms(at_ms), &options),
            When::Range {
                start_ms,
                end_ms,
                step_ms,
            } => {
                let steps = Steps {
                    start: Timestamp::from_ms(start_ms),
                    end: Timestamp::from_ms(end_ms),
                    step: Duration::from_millis(step_ms.unsigned_abs()),
                };
                self.engine.range(query, steps, &options)
            }
        };
        let answer = answer.map_err(|error| Refusal {
            is_parse_error: error.kind() == ErrorKind::BadData,
            message: error.to_string(),
        })?;
        let result = match answer.value {
            Value::Scalar(sample) => Answered::Scalar(sample.value),
            Value::String { text, .. } => Answered::Text(text),
            Value::Vector(samples) => Answered::Vector(
                samples
                    .into_iter()
                    .map(|one| (one.labels, one.sample.value))
                    .collect(),
            ),
            Value::Matrix(columns) => Answered::Matrix(
                columns
                    .into_iter()
                    .map(|column| {
                        let times = column.timestamps.iter().map(|time| time.ms());
                        (column.labels, times.zip(column.values).collect())
                    })
                    .collect(),
            ),
        };
        Ok(Reply {
            result,
            warnings: answer.warnings,
            infos: answer.infos,
        })
    }
}

/// Replays one script.
pub(super) fn replay(folder: &Path, file: &Path, score: &mut Score) {
    let script = std::fs::read_to_string(file).unwrap_or_else(|error| {
        panic!("{}: {error}", file.display());
    });
    let name = file
        .strip_prefix(folder)
        .unwrap_or(file)
        .display()
        .to_string();
    let mut subject = Subject::new();
    for command in parse(&script) {
        match command {
            Command::Clear => subject = Subject::new(),
            Command::Load(series) => subject.load(series),
            Command::Eval(eval) => {
                score.evaluations += 1;
                if let Err(reason) = check(&subject, &eval) {
                    score.failures.push(Failure {
                        file: name.clone(),
                        line: eval.line,
                        query: eval.query.clone(),
                        reason,
                    });
                }
            }
        }
    }
}

fn check(subject: &Subject, eval: &Eval) -> Result<(), String> {
    check_one(subject, eval, eval.when)?;
    if let When::Instant(at_ms) = eval.when
        && eval.expect.string.is_none()
    {
        const MINUTE_MS: i64 = 60_000;
        let alone = When::Range {
            start_ms: at_ms,
            end_ms: at_ms,
            step_ms: MINUTE_MS,
        };
        check_one(subject, eval, alone).map_err(|reason| format!("as a range: {reason}"))?;
        // These know the whole query's steps.
        let sees_the_range = ["start()", "end()", "range()", "step()"]
            .iter()
            .any(|part| eval.query.contains(part));
        if eval.expect.fail.is_none() && !sees_the_range {
            let amid = When::Range {
                start_ms: at_ms - MINUTE_MS,
                end_ms: at_ms + MINUTE_MS,
                step_ms: MINUTE_MS,
            };
            check_step(subject, eval, amid, at_ms)
                .map_err(|reason| format!("amid a range: {reason}"))?;
        }
    }
    Ok(())
}

fn check_one(subject: &Subject, eval: &Eval, when: When) -> Result<(), String> {
    let reply = match (subject.query(&eval.query, when), &eval.expect.fail) {
        (Err(refusal), Some(expected)) => {
            if refusal.is_parse_error {
                return Err(format!("refused as text: {}", refusal.message));
            }
            if !expected.accepts(&refusal.message) {
                return Err(format!("refused with {:?}", refusal.message));
            }
            return Ok(());
        }
        (Ok(_), Some(_)) => return Err("answered, though it should fail".into()),
        (Err(refusal), None) => return Err(format!("refused: {}", refusal.message)),
        (Ok(reply), None) => reply,
    };
    let expect = &eval.expect;
    check_remarks(
        "warning",
        &reply.warnings,
        expect.warn.as_ref(),
        expect.no_warn,
    )?;
    check_remarks("info", &reply.infos, expect.info.as_ref(), expect.no_info)?;
    match reply.result {
        Answered::Scalar(value) => match expect.scalar {
            Some(expected) if agree(expected, value) => Ok(()),
            expected => Err(format!("scalar {value}, expected {expected:?}")),
        },
        Answered::Text(text) => match &expect.string {
            Some(expected) if *expected == text => Ok(()),
            expected => Err(format!("string {text:?}, expected {expected:?}")),
        },
        Answered::Vector(samples) => check_vector(eval, &samples),
        Answered::Matrix(series) => check_matrix(eval, when, series),
    }
}

fn check_remarks(
    kind: &str,
    remarks: &[String],
    expected: Option<&Text>,
    none: bool,
) -> Result<(), String> {
    if none && !remarks.is_empty() {
        return Err(format!("{kind} {remarks:?}"));
    }
    if let Some(expected) = expected
        && !remarks.iter().any(|remark| expected.accepts(remark))
    {
        return Err(format!("{kind}s {remarks:?}, expected {expected:?}"));
    }
    Ok(())
}

fn check_vector(eval: &Eval, samples: &[(Labels, f64)]) -> Result<(), String> {
    let rows = &eval.expect.rows;
    if eval.expect.ordered {
        let order: Vec<_> = samples.iter().map(|(labels, _)| labels).collect();
        let expected: Vec<_> = rows.iter().map(|(labels, _)| labels).collect();
        if order != expected {
            return Err(format!("order {order:?}, expected {expected:?}"));
        }
    }
    check_values(eval, samples.iter().cloned().collect())
}

/// The values of one step against the rows.
fn check_values(eval: &Eval, mut found: BTreeMap<Labels, f64>) -> Result<(), String> {
    if let Some(expected) = eval.expect.scalar {
        return match found.remove(&Labels::empty()) {
            Some(value) if agree(expected, value) && found.is_empty() => Ok(()),
            value => Err(format!("{value:?} and {found:?}, expected {expected}")),
        };
    }
    for (labels, values) in &eval.expect.rows {
        let expected = values.first().copied().flatten();
        match (found.remove(labels), expected) {
            (Some(value), Some(expected)) if agree(expected, value) => {}
            (value, expected) => {
                return Err(format!(
                    "{labels}: {value:?}, expected {expected:?}; also {found:?}"
                ));
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("not expected: {found:?}"))
    }
}

fn check_matrix(
    eval: &Eval,
    when: When,
    series: Vec<(Labels, BTreeMap<i64, f64>)>,
) -> Result<(), String> {
    let (start_ms, step_ms) = match (when, eval.when) {
        (When::Range { start_ms, .. }, When::Instant(_)) => {
            return check_values(eval, at_step(series, start_ms));
        }
        (
            When::Range {
                start_ms, step_ms, ..
            },
            When::Range { .. },
        ) => (start_ms, step_ms),
        (When::Instant(_), _) => return Err("a matrix, which scripts cannot describe".into()),
    };
    let mut found: BTreeMap<_, _> = series.into_iter().collect();
    for (labels, values) in &eval.expect.rows {
        let Some(mut points) = found.remove(labels) else {
            return Err(format!("no series {labels}, but {:?}", found.keys()));
        };
        for (index, expected) in values.iter().enumerate() {
            let at_ms = start_ms + index as i64 * step_ms;
            match (points.remove(&at_ms), expected) {
                (None, None) => {}
                (Some(value), Some(expected)) if agree(*expected, value) => {}
                (value, expected) => {
                    return Err(format!(
                        "{labels} at {at_ms} ms: {value:?}, expected {expected:?}"
                    ));
                }
            }
        }
        if !points.is_empty() {
            return Err(format!("{labels}: not expected: {points:?}"));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("not expected: {:?}", found.keys()))
    }
}

fn at_step(series: Vec<(Labels, BTreeMap<i64, f64>)>, at_ms: i64) -> BTreeMap<Labels, f64> {
    series
        .into_iter()
        .filter_map(|(labels, points)| Some((labels, *points.get(&at_ms)?)))
        .collect()
}

fn check_step(subject: &Subject, eval: &Eval, when: When, at_ms: i64) -> Result<(), String> {
    match subject.query(&eval.query, when) {
        Ok(Reply {
            result: Answered::Matrix(series),
            ..
        }) => check_values(eval, at_step(series, at_ms)),
        Ok(_) => Err("a range query gives a matrix".into()),
        Err(refusal) => Err(format!("refused: {}", refusal.message)),
    }
}

/// Equal within a millionth of their size; NaN equals NaN.
fn agree(expected: f64, found: f64) -> bool {
    if expected.is_nan() || found.is_nan() {
        return expected.is_nan() && found.is_nan();
    }
    if expected == found {
        return true;
    }
    let size = expected.abs() + found.abs();
    let distance = (expected - found).abs();
    distance < 1e-6 * size.min(f64::MAX) || distance < f64::MIN_POSITIVE
}
