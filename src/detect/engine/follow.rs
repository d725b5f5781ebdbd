//! The series of one watch: which are followed, what a step does to each, and when one has left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::score::Written;
use super::{Counts, Evaluation};
use crate::detect::monitor::{Change, Monitor, Observation, Step};
use crate::detect::verdict::is_measurement;
use crate::detect::watch::Watch;
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::promql::VectorSample;

/// Intervals after which a series that has no value is taken to have left.
const ABSENT_INTERVALS: u32 = 4;
/// How long the state of a series that left is kept.
const FORGET_AFTER: Duration = Duration::from_secs(86_400);

/// The label that names the migration a series belongs to.
pub(super) const MIGRATION: &str = "migration_id";

#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) watch: Watch,
    pub(super) series: BTreeMap<Labels, Series>,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) key: Vec<u8>,
    pub(super) monitor: Monitor,
    /// The phase of the migration from whose samples the monitor learned.
    pub(super) phase: Option<String>,
    /// Its scores were written in the last step of its watch.
    pub(super) is_present: bool,
    pub(super) written: Written,
}

/// What a step came to for one series.
pub(super) struct Stepped {
    pub(super) watch: usize,
    pub(super) labels: Labels,
    pub(super) step: Step,
}

/// What a step changed, before it is written down.
#[derive(Default)]
pub(super) struct Advance {
    pub(super) stepped: Vec<Stepped>,
    /// Series that had scores until now, and no longer have.
    pub(super) left: Vec<Written>,
    pub(super) changes: Vec<Change>,
    /// Series without a sample whose state changed nevertheless.
    pub(super) touched: Vec<(usize, Labels)>,
    pub(super) forgotten: Vec<Vec<u8>>,
    pub(super) counts: Vec<Counts>,
}

impl Followed {
    pub(super) fn advance(
        &mut self,
        index: usize,
        at: Timestamp,
        evaluation: &Evaluation,
        phases: &BTreeMap<&str, &str>,
        advance: &mut Advance,
    ) {
        let mut seen = BTreeSet::new();
        let (mut dropped, mut warming) = (0, 0);
        for sample in &evaluation.samples {
            let labels = sample.labels.without_metric();
            // NaN and infinities are what divisions make of missing data.
            if !is_measurement(sample.sample.value) || seen.contains(&labels) {
                continue;
            }
            if !self.has_room_for(&labels, &mut advance.forgotten) {
                dropped += 1;
                continue;
            }
            let watch = &self.watch;
            let series = self
                .series
                .entry(labels.clone())
                .or_insert_with(|| Series::new(watch, &labels));
            let phase = labels.get(MIGRATION).and_then(|id| phases.get(id)).copied();
            let reset = series.enter_phase(watch, phase, at);
            let observation = Observation {
                at,
                value: sample.sample.value,
                expected: expected_of(&labels, &evaluation.expected),
            };
            let step = series.monitor.step(watch, &labels, observation);
            series.is_present = true;
            warming += usize::from(step.band.is_none());
            advance.changes.extend(reset);
            advance.changes.extend(step.change.clone());
            advance.stepped.push(Stepped {
                watch: index,
                labels: labels.clone(),
                step,
            });
            seen.insert(labels);
        }
        let judged = seen.len();
        self.advance_absent(index, at, &seen, advance);
        advance.counts.push(Counts {
            watch: self.watch.name.clone(),
            series: self.series.len(),
            judged,
            warming,
            followed: self.watch.terms.every * judged as u32,
            dropped,
        });
    }

    fn advance_absent(
        &mut self,
        index: usize,
        at: Timestamp,
        seen: &BTreeSet<Labels>,
        advance: &mut Advance,
    ) {
        let patience = self.watch.terms.every * ABSENT_INTERVALS;
        self.series.retain(|labels, series| {
            if seen.contains(labels) {
                return true;
            }
            let absent = at.since(series.monitor.seen_at());
            let closed = (absent >= patience)
                .then(|| series.monitor.leave(at))
                .flatten();
            if closed.is_some() || series.is_present {
                advance.touched.push((index, labels.clone()));
            }
            advance.changes.extend(closed);
            if std::mem::take(&mut series.is_present) {
                advance.left.push(series.written.clone());
            }
            let keep = absent <= FORGET_AFTER;
            if !keep {
                advance.forgotten.push(series.key.clone());
            }
            keep
        });
    }

    /// Whether a series is followed or can be; one that left long ago makes room for it.
    fn has_room_for(&mut self, labels: &Labels, forgotten: &mut Vec<Vec<u8>>) -> bool {
        if self.series.contains_key(labels) || self.series.len() < self.watch.series_max {
            return true;
        }
        let oldest = self
            .series
            .iter()
            .filter(|(_, series)| !series.is_present && series.monitor.open().is_none())
            .min_by_key(|(_, series)| series.monitor.seen_at())
            .map(|(labels, _)| labels.clone());
        match oldest.and_then(|labels| self.series.remove(&labels)) {
            Some(series) => {
                forgotten.push(series.key);
                true
            }
            None => false,
        }
    }
}

impl Series {
    fn new(watch: &Watch, labels: &Labels) -> Self {
        Self {
            key: [watch.name.as_bytes(), b"\0", labels.to_string().as_bytes()].concat(),
            monitor: Monitor::new(watch),
            phase: None,
            is_present: false,
            written: Written::of(watch, labels),
        }
    }

    /// Starts over when the migration is in another phase than before. Not knowing the phase is not
    /// another phase.
    fn enter_phase(&mut self, watch: &Watch, phase: Option<&str>, at: Timestamp) -> Option<Change> {
        let phase = phase?;
        let before = self.phase.replace(phase.to_owned());
        before
            .filter(|before| before != phase)
            .and_then(|_| self.monitor.reset(watch, at))
    }
}

/// The expected value for a series: that of the first sample all of whose labels the series has.
fn expected_of(labels: &Labels, expected: &[VectorSample]) -> Option<f64> {
    expected
        .iter()
        .find(|given| {
            given
                .labels
                .iter()
                .filter(|label| &*label.name != METRIC_NAME)
                .all(|label| labels.get(&label.name) == Some(&*label.value))
        })
        .map(|given| given.sample.value)
        .filter(|value| value.is_finite())
}
