//! One group's task: when it is evaluated, on what, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use super::in_force::Rules;
use super::own_metrics::OwnMetrics;
use super::run::{PART, Parts};
use super::{Evaluation, Ground, Group};
use crate::model::{Batch, Labels, Timestamp};
use crate::promql::{self, QueryOptions, Value, VectorSample};
use crate::shutdown::Shutdown;
use crate::telemetry::health::State as PartState;

/// A query of a rule may take as long as its group's interval, or as long as this.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_secs(10);

pub(super) fn post(rules: &Rules, parts: &Parts) {
    // What does not fit is said again by the next evaluation.
    if !parts.inbox.post(rules.alerts(&parts.external_url)) {
        tracing::debug!("the dispatcher is behind: alerts are said again");
    }
}

/// Spreads the groups over their intervals, each always at the same place.
pub(super) fn offset_ms(group: &Group) -> i64 {
    let interval_ms = group.interval.as_millis().max(1) as u64;
    let names = format!("{}\0{}", group.spec.file, group.spec.name);
    (xxhash_rust::xxh3::xxh3_64(names.as_bytes()) % interval_ms) as i64
}

/// Evaluates one group again and again.
pub(super) struct GroupTask {
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) offset_ms: i64,
    pub(super) group: Arc<AsyncMutex<Group>>,
    pub(super) rules: Rules,
    pub(super) parts: Arc<Parts>,
    pub(super) own: OwnMetrics,
    pub(super) stop: CancellationToken,
    pub(super) shutdown: Shutdown,
}

impl GroupTask {
    pub(super) async fn run(self) {
        let mut last = self.slot(self.parts.clock.now());
        loop {
            tokio::select! {
                // Stopping comes first: an evaluation that begins now would only delay it.
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.until_next()) => {}
            }
            let slot = self.slot(self.parts.clock.now());
            if slot == last {
                continue;
            }
            let missed = (slot - last).div_euclid(self.interval_ms()) - 1;
            if missed > 0 {
                let missed = missed.unsigned_abs();
                self.own
                    .missed
                    .with_label_values(&[&self.name])
                    .inc_by(missed);
            }
            last = slot;
            if !self.evaluate(Timestamp::from_ms(slot)).await {
                return;
            }
        }
    }

    fn interval_ms(&self) -> i64 {
        (self.interval.as_millis() as i64).max(1)
    }

    /// The time for which the group is evaluated next to a point in time, not after it.
    fn slot(&self, now: Timestamp) -> i64 {
        let into = (now.ms() - self.offset_ms).rem_euclid(self.interval_ms());
        now.ms() - into
    }

    /// To the next slot, and never longer than an interval: the clock may step.
    fn until_next(&self) -> Duration {
        let now = self.parts.clock.now();
        let left = self.slot(now) + self.interval_ms() - now.ms();
        Duration::from_millis(left.unsigned_abs())
    }

    /// False when it is to stop.
    async fn evaluate(&self, slot: Timestamp) -> bool {
        let mut group = self.group.clone().lock_owned().await;
        if self.stop.is_cancelled() {
            return false;
        }
        let parts = self.parts.clone();
        let cancel = Arc::new(AtomicBool::new(false));
        let options = QueryOptions {
            timeout: Some(self.interval.max(QUERY_TIMEOUT_MIN)),
            cancel: Some(cancel.clone()),
            ..QueryOptions::default()
        };
        let mut work = tokio::task::spawn_blocking(move || {
            // A clock that steps back must not make two samples of one time.
            let at = group
                .evaluated_at
                .map_or(slot, |last| slot.max(last.offset_ms(1)));
            let evaluation = parts.evaluate(&mut group, at, &options);
            (group, evaluation)
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = self.shutdown.begun() => {
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
        };
        let (group, evaluation) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!("rule group {} is no longer evaluated: {error}", self.name);
                let message = format!("group {} is no longer evaluated: {error}", self.name);
                self.parts.health.set(PART, PartState::Failed, message);
                return false;
            }
        };
        let name = &[self.name.as_str()];
        self.own
            .evaluations
            .with_label_values(name)
            .inc_by(evaluation.rules as u64);
        self.own
            .failures
            .with_label_values(name)
            .inc_by(evaluation.failures.len() as u64);
        self.own
            .seconds
            .with_label_values(name)
            .set(group.evaluation_time.as_secs_f64());
        self.rules.publish(&group);
        self.rules.report_health(&self.parts.health);
        post(&self.rules, &self.parts);
        true
    }
}

impl Parts {
    /// Evaluates a group on the live store.
    fn evaluate(&self, group: &mut Group, at: Timestamp, options: &QueryOptions) -> Evaluation {
        let query = |query: &str, at: Timestamp| vector(&self.promql, query, at, options);
        let write = |batch: Batch| self.writer.write_blocking(batch);
        let ground = Ground {
            query: &query,
            write: &write,
            clock: &*self.clock,
            external_url: &self.external_url,
        };
        group.evaluate(at, &ground)
    }
}

/// What an expression gives, a scalar being one sample without labels.
pub fn vector(
    promql: &promql::Engine,
    query: &str,
    at: Timestamp,
    options: &QueryOptions,
) -> Result<Vec<VectorSample>, promql::Error> {
    match promql.instant(query, at, options)?.value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar(sample) => Ok(vec![VectorSample {
            labels: Labels::empty(),
            sample,
        }]),
        Value::String { .. } | Value::Matrix(_) => Err(promql::Error::BadData {
            message: format!("{query:?} gives neither a scalar nor an instant vector"),
        }),
    }
}
