//! The engine: all monitors of all watches, stepped together, and the one batch of every step.
//!
//! Pure but for [`Engine::load`]: samples in, a [`Batch`] out. A step's batch holds the monitors'
//! states, the time of the step, the anomalies that changed and the scores, so that they become durable
//! together; an engine whose batch was not written is dropped and loaded again.

mod follow;
mod record;
mod replay;
mod score;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use replay::History;

use super::anomaly::{ANOMALIES, Anomaly};
use super::monitor::Change;
use super::summary::{self, Ending};
use super::watch::Watch;
use crate::model::{Batch, Labels, Timestamp};
use crate::promql::VectorSample;
use follow::{Advance, Followed, MIGRATION};
use record::{LAST_STEP, MONITORS};

/// Closed anomalies that are kept; the oldest go first.
const CLOSED_MAX: usize = 10_000;

/// Follows every series of every watch.
#[derive(Clone, Debug)]
pub struct Engine {
    watches: Vec<Followed>,
    last_step: Option<Timestamp>,
    /// Open in the store, but of no series that is followed; closed by the next step.
    orphans: Vec<Anomaly>,
    /// Records of no watch, removed by the next step.
    leftovers: Vec<Vec<u8>>,
    /// The keys of the closed anomalies in the store, the oldest first.
    closed: VecDeque<Vec<u8>>,
    is_described: bool,
}

/// What one watch's expressions gave at a step. A watch that is not due, or whose expression failed,
/// has none: that is not the same as one without series.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    pub watch: String,
    pub samples: Vec<VectorSample>,
    pub expected: Vec<VectorSample>,
}

/// Everything that is judged in one step.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub evaluations: Vec<Evaluation>,
    /// `cutover_migration_phase == 1`: the phase each migration is in.
    pub phases: Vec<VectorSample>,
}

/// A step's batch, and what it says.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub batch: Batch,
    /// Anomalies that opened, were updated or closed.
    pub changes: Vec<Change>,
    /// For each watch that was evaluated.
    pub counts: Vec<Counts>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub watch: String,
    /// Series followed.
    pub series: usize,
    /// Samples judged.
    pub judged: usize,
    /// Of these, samples on which there is no verdict yet.
    pub warming: usize,
    /// The time that the judged samples stand for, summed over the series.
    pub followed: Duration,
    /// Series that were not judged because the watch has too many.
    pub dropped: usize,
}

impl Engine {
    pub fn new(watches: Vec<Watch>) -> Self {
        Self {
            watches: watches
                .into_iter()
                .map(|watch| Followed {
                    watch,
                    series: BTreeMap::new(),
                })
                .collect(),
            last_step: None,
            orphans: Vec::new(),
            leftovers: Vec::new(),
            closed: VecDeque::new(),
            is_described: false,
        }
    }

    pub fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.watches.iter().map(|followed| &followed.watch)
    }

    /// The watches of which no series is known.
    pub fn cold(&self) -> impl Iterator<Item = &Watch> {
        self.watches
            .iter()
            .filter(|followed| followed.series.is_empty())
            .map(|followed| &followed.watch)
    }

    pub fn last_step(&self) -> Option<Timestamp> {
        self.last_step
    }

    /// The time of the step that is taken now: later than the last, whatever the clock did.
    pub fn next_step(&self, now: Timestamp) -> Timestamp {
        self.last_step
            .map_or(now, |last| now.max(last.offset_ms(1)))
    }

    /// Judges one value of every series, and says all that is to be written in one commit.
    pub fn step(&mut self, at: Timestamp, inputs: &Inputs) -> Outcome {
        let advance = self.advance(at, inputs);
        self.last_step = Some(at);
        let mut batch = Batch::default();
        if !self.is_described {
            self.is_described = true;
            batch.metadata.extend(score::metadata());
        }
        for stepped in &advance.stepped {
            let followed = &self.watches[stepped.watch];
            if let Some(series) = followed.series.get(&stepped.labels) {
                let is_open = series.monitor.open().is_some();
                series.written.push(&mut batch, at, &stepped.step, is_open);
            }
            self.write_state(&mut batch, stepped.watch, &stepped.labels);
        }
        for (watch, labels) in &advance.touched {
            self.write_state(&mut batch, *watch, labels);
        }
        for written in advance.left {
            written.push_stale(&mut batch, at);
        }
        let mut changes = advance.changes;
        changes.extend(self.orphans.drain(..).map(|mut anomaly| {
            let worst = std::mem::take(&mut anomaly.summary);
            anomaly.summary = summary::conclude(&anomaly, &worst, Ending::Unwatched, at);
            (anomaly.updated_at, anomaly.closed_at) = (at, Some(at));
            Change::Closed(anomaly)
        }));
        self.write_anomalies(&mut batch, &changes);
        for key in advance
            .forgotten
            .into_iter()
            .chain(self.leftovers.drain(..))
        {
            batch.mutations.push(MONITORS.remove(key));
        }
        batch.mutations.push(LAST_STEP.put(b"".as_slice(), &at));
        Outcome {
            batch,
            changes,
            counts: advance.counts,
        }
    }

    fn advance(&mut self, at: Timestamp, inputs: &Inputs) -> Advance {
        let phases = phases_by_migration(&inputs.phases);
        let mut advance = Advance::default();
        for (index, followed) in self.watches.iter_mut().enumerate() {
            let evaluation = inputs
                .evaluations
                .iter()
                .find(|given| given.watch == followed.watch.name);
            if let Some(evaluation) = evaluation {
                followed.advance(index, at, evaluation, &phases, &mut advance);
            }
        }
        advance
    }

    fn write_anomalies(&mut self, batch: &mut Batch, changes: &[Change]) {
        for change in changes {
            let anomaly = change.anomaly();
            batch.mutations.push(ANOMALIES.put(anomaly.key(), anomaly));
            if let Change::Closed(anomaly) = change {
                self.closed.push_back(anomaly.key());
            }
        }
        while self.closed.len() > CLOSED_MAX
            && let Some(oldest) = self.closed.pop_front()
        {
            batch.mutations.push(ANOMALIES.remove(oldest));
        }
    }

    fn write_state(&self, batch: &mut Batch, watch: usize, labels: &Labels) {
        let followed = &self.watches[watch];
        if let Some(series) = followed.series.get(labels) {
            batch
                .mutations
                .push(record::put(&followed.watch, labels, series));
        }
    }
}

fn phases_by_migration(phases: &[VectorSample]) -> BTreeMap<&str, &str> {
    phases
        .iter()
        .filter(|phase| phase.sample.value == 1.0)
        .filter_map(|phase| Some((phase.labels.get(MIGRATION)?, phase.labels.get("phase")?)))
        .collect()
}

#[cfg(test)]
mod tests;
