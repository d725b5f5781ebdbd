//! Runs a script over HTTP: loads by remote write, asks the query API, compares.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use cutover::model::Labels;

use super::script::{Command, Eval, Text, When, parse};
use super::subject::{Answered, Reply, Subject};

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
    let mut subject = Subject::start();
    for command in parse(&script) {
        match command {
            Command::Clear => subject = Subject::start(),
            Command::Load(series) => subject.load(&series),
            Command::Eval(eval) => {
                score.evaluations += 1;
                if let Err(reason) = check(&mut subject, &eval) {
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

fn check(subject: &mut Subject, eval: &Eval) -> Result<(), String> {
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

fn check_one(subject: &mut Subject, eval: &Eval, when: When) -> Result<(), String> {
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

fn check_step(subject: &mut Subject, eval: &Eval, when: When, at_ms: i64) -> Result<(), String> {
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
