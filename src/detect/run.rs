//! The loop around the engine: evaluates what is due, steps, writes, and keeps watch over itself.
//!
//! The only part of detection that does I/O. It gives no verdicts.

mod own_metrics;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::anomaly::Severity;
use super::engine::{Engine, Evaluation, History, Inputs, Outcome};
use super::monitor::Change;
use super::watch::Watch;
use super::{Config, Error};
use crate::model::{Clock, Column, Timestamp};
use crate::promql::{self, Answer, QueryOptions, Steps, Value, VectorSample};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State};
use own_metrics::OwnMetrics;

/// The phase each migration is in.
const PHASES: &str = "cutover_migration_phase == 1";

/// Points of one series that are replayed: history is shortened to them, for with longer steps than in
/// life other things would be usual.
const HISTORY_POINTS_MAX: u32 = 7_200;

const PART: &str = "detect";

/// What detection works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub promql: promql::Engine,
    pub reader: Reader,
    pub writer: Writer,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub health: Health,
}

/// Watches until shutdown begins. A wrong configuration is the only error.
pub async fn run(config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    let watches = config.watches()?;
    if !config.enabled || watches.is_empty() {
        parts
            .health
            .set(PART, State::Ok, "no watches (anomaly.enabled)");
        return Ok(());
    }
    parts
        .health
        .set(PART, State::Starting, "reading what is usual");
    let mut detection = Detection::new(&config, watches, parts);
    let mut engine = None;
    loop {
        engine = tokio::select! {
            // Stopping comes first: a step that begins now would only delay it.
            biased;
            () = shutdown.begun() => break,
            engine = detection.cycle(engine) => engine,
        };
        tokio::select! {
            () = shutdown.begun() => break,
            () = tokio::time::sleep(detection.until_next()) => {}
        }
    }
    detection.cancel.store(true, Ordering::Relaxed);
    Ok(())
}

struct Detection {
    watches: Vec<Watch>,
    history: Duration,
    /// The shortest interval of all watches.
    tick: Duration,
    /// The interval, counted from 1970, in which each watch was evaluated last.
    due: Vec<Option<i64>>,
    parts: Parts,
    own: OwnMetrics,
    busy: Duration,
    /// Watches whose last evaluation failed, so that each failure is logged once.
    failing: BTreeSet<String>,
    /// Stops queries under way.
    cancel: Arc<AtomicBool>,
}

impl Detection {
    fn new(config: &Config, watches: Vec<Watch>, parts: Parts) -> Self {
        let own = OwnMetrics::new(&parts.metrics);
        let tick = watches.iter().map(|watch| watch.terms.every).min();
        Self {
            tick: tick.unwrap_or(config.every),
            due: vec![None; watches.len()],
            watches,
            history: config.history,
            parts,
            own,
            busy: Duration::ZERO,
            failing: BTreeSet::new(),
            cancel: Arc::default(),
        }
    }

    /// To the next multiple of the tick, and never longer than a tick: the clock may step.
    fn until_next(&self) -> Duration {
        let tick_ms = self.tick.as_millis() as i64;
        let into_ms = self.parts.clock.now().ms().rem_euclid(tick_ms);
        Duration::from_millis((tick_ms - into_ms).unsigned_abs())
    }

    /// One step of the engine, which is loaded first where there is none; back comes the engine, or
    /// none when what it did could not be written, so that the store and it never disagree.
    async fn cycle(&mut self, engine: Option<Engine>) -> Option<Engine> {
        let started = self.parts.clock.monotonic();
        let engine = match engine {
            Some(engine) => engine,
            None => self.load().await?,
        };
        let now = self.parts.clock.now();
        let at = engine.next_step(now);
        let due = self.take_due(now);
        let options = self.options();
        let (promql, clock) = (self.parts.promql.clone(), self.parts.clock.clone());
        let judged = tokio::task::spawn_blocking(move || {
            let mut engine = engine;
            let (inputs, failures) = evaluate_all(&promql, &due, at, &options);
            let evaluated = clock.monotonic();
            let outcome = engine.step(at, &inputs);
            let judging = clock.monotonic().saturating_sub(evaluated);
            (engine, outcome, failures, judging)
        });
        let (engine, outcome, failures, judging) = match judged.await {
            Ok(judged) => judged,
            Err(panicked) => {
                self.fail("a step", &panicked);
                return None;
            }
        };
        let Outcome {
            batch,
            changes,
            counts,
        } = outcome;
        let written = match self.parts.writer.write(batch).await {
            Ok(written) => written,
            Err(error) => {
                self.fail("anomaly scores are not written", &error);
                return None;
            }
        };
        report(&changes);
        self.own.count(&changes, &counts);
        self.own.add_judging(judging);
        self.busy += self.parts.clock.monotonic().saturating_sub(started);
        self.own.set_busy(self.busy);
        self.report_health(&failures, written.first_rejection.as_ref());
        Some(engine)
    }

    /// The watches whose interval has begun since they were last evaluated.
    fn take_due(&mut self, now: Timestamp) -> Vec<Watch> {
        let mut due = Vec::new();
        for (watch, last) in self.watches.iter().zip(&mut self.due) {
            let interval = now.ms().div_euclid(watch.terms.every.as_millis() as i64);
            if last.replace(interval) != Some(interval) {
                due.push(watch.clone());
            }
        }
        due
    }

    fn options(&self) -> QueryOptions {
        QueryOptions {
            cancel: Some(self.cancel.clone()),
            ..QueryOptions::default()
        }
    }

    /// The engine as stored; watches without any state are warmed up on stored history.
    async fn load(&mut self) -> Option<Engine> {
        let watches = self.watches.clone();
        let (reader, promql) = (self.parts.reader.clone(), self.parts.promql.clone());
        let (options, history, now) = (self.options(), self.history, self.parts.clock.now());
        let loaded = tokio::task::spawn_blocking(move || {
            let mut engine = match Engine::load(watches.clone(), &reader) {
                Err(error @ (store::Error::Record { .. } | store::Error::RecordSchema { .. })) => {
                    tracing::warn!("what was usual is learned anew: {error}");
                    Engine::new(watches)
                }
                loaded => loaded?,
            };
            warm_up(&mut engine, &promql, history, now, &options);
            Ok::<_, store::Error>(engine)
        });
        match loaded.await {
            Ok(Ok(engine)) => Some(engine),
            Ok(Err(error)) => {
                self.fail("the detectors' state is not read", &error);
                None
            }
            Err(panicked) => {
                self.fail("reading the detectors' state", &panicked);
                None
            }
        }
    }

    /// Logged when the trouble begins, counted every time.
    fn fail(&self, what: &str, error: &dyn std::error::Error) {
        let message = format!("{what}: {error}");
        let parts = self.parts.health.parts();
        if parts
            .get(PART)
            .is_none_or(|part| part.state != State::Failed)
        {
            tracing::error!("{message}");
        }
        self.own.failures.with_label_values(&[""]).inc();
        self.parts.health.set(PART, State::Failed, message);
    }

    fn report_health(
        &mut self,
        failures: &[(String, promql::Error)],
        rejection: Option<&store::Rejection>,
    ) {
        for (watch, error) in failures {
            if !self.failing.contains(watch) {
                tracing::warn!("watch {watch:?} is not evaluated: {error}");
            }
            self.own.failures.with_label_values(&[watch]).inc();
        }
        self.failing = failures.iter().map(|(watch, _)| watch.clone()).collect();
        let trouble = match (failures.first(), rejection) {
            (Some((watch, error)), _) => Some(format!("watch {watch:?} is not evaluated: {error}")),
            (None, Some(rejection)) => Some(format!(
                "{} is not written: {}",
                rejection.labels, rejection.reason
            )),
            (None, None) => None,
        };
        match trouble {
            None => self.parts.health.set(PART, State::Ok, ""),
            Some(message) => self.parts.health.set(PART, State::Degraded, message),
        }
    }
}

/// Steps an engine's cold watches through stored history. A watch whose history cannot be read starts
/// cold: its next evaluation says why.
fn warm_up(
    engine: &mut Engine,
    promql: &promql::Engine,
    history: Duration,
    now: Timestamp,
    options: &QueryOptions,
) {
    let cold: Vec<Watch> = engine.cold().cloned().collect();
    if cold.is_empty() {
        return;
    }
    let range = |expr: &str, every: Duration| -> Vec<Column> {
        let steps = Steps {
            start: now.before(history.min(every * HISTORY_POINTS_MAX)),
            end: now.before(every),
            step: every,
        };
        match promql.range(expr, steps, options) {
            Ok(Answer {
                value: Value::Matrix(columns),
                ..
            }) => columns,
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::debug!("no history of {expr:?}: {error}");
                Vec::new()
            }
        }
    };
    // Watches of one interval share their steps, and with them the steps of the phases.
    let mut intervals: Vec<Duration> = cold.iter().map(|watch| watch.terms.every).collect();
    intervals.sort();
    intervals.dedup();
    for every in intervals.into_iter().filter(|every| *every <= history) {
        let histories: Vec<History> = cold
            .iter()
            .filter(|watch| watch.terms.every == every)
            .map(|watch| History {
                watch: watch.name.clone(),
                columns: range(&watch.expr, every),
                expected: watch
                    .expected
                    .as_deref()
                    .map(|expr| range(expr, every))
                    .unwrap_or_default(),
            })
            .collect();
        engine.replay(&histories, &range(PHASES, every));
    }
}

/// Evaluates the watches that are due; one that fails is left out and named.
fn evaluate_all(
    promql: &promql::Engine,
    due: &[Watch],
    at: Timestamp,
    options: &QueryOptions,
) -> (Inputs, Vec<(String, promql::Error)>) {
    let mut inputs = Inputs::default();
    let mut failures = Vec::new();
    match evaluate(promql, PHASES, at, options) {
        Ok(phases) => inputs.phases = phases,
        Err(error) => failures.push(("phases".to_owned(), error)),
    }
    for watch in due {
        let expected = match &watch.expected {
            Some(expr) => evaluate(promql, expr, at, options),
            None => Ok(Vec::new()),
        };
        match (evaluate(promql, &watch.expr, at, options), expected) {
            (Ok(samples), Ok(expected)) => inputs.evaluations.push(Evaluation {
                watch: watch.name.clone(),
                samples,
                expected,
            }),
            (Err(error), _) | (_, Err(error)) => failures.push((watch.name.clone(), error)),
        }
    }
    (inputs, failures)
}

fn evaluate(
    promql: &promql::Engine,
    expr: &str,
    at: Timestamp,
    options: &QueryOptions,
) -> Result<Vec<VectorSample>, promql::Error> {
    match promql.instant(expr, at, options)?.value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar(_) | Value::String { .. } | Value::Matrix(_) => Err(promql::Error::BadData {
            message: format!("{expr:?} does not give an instant vector"),
        }),
    }
}

/// Without a channel that alerts, the log is where an anomaly shows.
fn report(changes: &[Change]) {
    for change in changes {
        let anomaly = change.anomaly();
        let (watch, summary) = (&anomaly.watch, &anomaly.summary);
        match (change, anomaly.severity) {
            (Change::Opened(_), Severity::Critical) => tracing::error!(watch, "{summary}"),
            (Change::Opened(_), Severity::Warning) => tracing::warn!(watch, "{summary}"),
            (Change::Opened(_), Severity::Info) | (Change::Closed(_), _) => {
                tracing::info!(watch, "{summary}");
            }
            (Change::Updated(_), _) => {}
        }
    }
}

#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
