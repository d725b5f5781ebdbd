//! What of a batch is accepted: the one place that decides, in the order in which batches came.
//!
//! Accepted samples and changes go into the growing part of the head under a sequence number that no
//! reader sees yet, and into the entry that will be committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::deletion::Deletions;
use super::entry::{Entry, Point};
use super::head::{Part, Placed};
use super::live::{Live, Slot};
use super::queue::Intake;
use super::{METADATA, RejectReason, Rejection, Shared, Written};
use crate::model::{Labels, Mutation, Sample, SeriesId, SeriesSamples, Timestamp};

/// How far ahead of the clock a sample may be.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// The batches of one commit.
pub(crate) struct Group<'a> {
    live: &'a Live,
    active: Arc<Part>,
    frozen: Vec<Slot>,
    deletions: Arc<Deletions>,
    seq: u64,
    /// The oldest state that a reader may look at.
    oldest: u64,
    bounds: Bounds,
    series_max: usize,
    metadata: &'a mut HashMap<String, Vec<u8>>,
    entry: Entry,
}

/// The timestamps that are accepted, both included.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    from_ms: i64,
    to_ms: i64,
}

impl Bounds {
    fn untimely(self, timestamp_ms: i64) -> Option<RejectReason> {
        if timestamp_ms < self.from_ms {
            Some(RejectReason::TooOld)
        } else if timestamp_ms > self.to_ms {
            Some(RejectReason::TooFarAhead)
        } else {
            None
        }
    }
}

impl<'a> Group<'a> {
    pub(crate) fn new(
        shared: &Shared,
        live: &'a Live,
        seq: u64,
        metadata: &'a mut HashMap<String, Vec<u8>>,
    ) -> Self {
        let mut frozen = live.parts();
        frozen.retain(|slot| slot.last_seq.is_some());
        Self {
            live,
            active: live.active(),
            frozen,
            deletions: live.deletions(),
            seq,
            oldest: live.oldest(),
            bounds: Bounds {
                from_ms: shared.cutoff().unwrap_or(Timestamp::MIN).ms(),
                to_ms: shared.clock.now().after(AHEAD_MAX).ms(),
            },
            series_max: shared.options.series_max,
            metadata,
            entry: Entry::default(),
        }
    }

    pub(crate) fn into_entry(self) -> Entry {
        self.entry
    }

    /// Takes what may be stored; what may not is counted.
    pub(crate) fn accept(&mut self, intake: Intake) -> Written {
        let mut written = Written::default();
        let batch = intake.batch;
        let mut points = intake.known.map_or_else(Vec::new, |known| known.points);
        for series in &batch.samples {
            self.identify(series, &mut points, &mut written);
        }
        self.accept_points(&points, &mut written);
        for (metric, metadata) in batch.metadata {
            let mutation = METADATA.put(metric.as_bytes(), &metadata);
            if self.metadata.get(&metric) != mutation.value.as_ref() {
                self.metadata
                    .extend(mutation.value.clone().map(|value| (metric, value)));
                self.accept_mutation(mutation);
            }
        }
        for mutation in batch.mutations {
            self.accept_mutation(mutation);
        }
        written
    }

    fn accept_mutation(&mut self, mutation: Mutation) {
        self.active.mutate(self.seq, &mutation, self.oldest);
        self.entry.mutations.push(mutation);
    }

    /// Samples in any order; the parts are held for all of them at once.
    fn accept_points(&mut self, points: &[Point], written: &mut Written) {
        let frozen: Vec<_> = self
            .frozen
            .iter()
            .map(|slot| (slot.part.columns(), slot.last_seq.unwrap_or(u64::MAX)))
            .collect();
        let mut active = self.active.fill(self.seq);
        let reject = |written: &mut Written, point: &Point, reason| {
            let labels = || self.live.index().labels(point.series);
            written.reject(labels, point.sample(), reason);
        };
        self.entry.points.reserve(points.len());
        for point in points {
            if let Some(reason) = self.bounds.untimely(point.timestamp_ms) {
                reject(written, point, reason);
                continue;
            }
            let is_there = frozen.iter().find_map(|(columns, last_seq)| {
                let placed = columns.get(point.series)?.check(point.sample());
                let at = Timestamp::from_ms(point.timestamp_ms);
                let is_visible =
                    placed != Placed::New && !self.deletions.hides(*last_seq, point.series, at);
                is_visible.then_some(placed)
            });
            match is_there.unwrap_or_else(|| active.insert(*point)) {
                Placed::New => {
                    written.accepted += 1;
                    self.entry.points.push(*point);
                }
                Placed::Same => written.accepted += 1,
                Placed::Conflict => reject(written, point, RejectReason::DuplicateTimestamp),
            }
        }
    }

    /// The samples of a series with its id, or their refusal.
    fn identify(&mut self, series: &SeriesSamples, points: &mut Vec<Point>, written: &mut Written) {
        let labels = &series.labels;
        let untimely = |sample: &Sample| self.bounds.untimely(sample.timestamp.ms());
        let is_needed = series
            .samples
            .iter()
            .any(|sample| untimely(sample).is_none());
        if let Some(id) = self.series_id(labels, is_needed) {
            points.extend(series.samples.iter().map(|&sample| Point::new(id, sample)));
            return;
        }
        for sample in &series.samples {
            let reason = self.bounds.untimely(sample.timestamp.ms());
            let reason = reason.unwrap_or(RejectReason::TooManySeries);
            written.reject(|| labels.clone(), *sample, reason);
        }
    }

    /// The id of a label set, a new one where there is room and something to store.
    fn series_id(&mut self, labels: &Labels, is_needed: bool) -> Option<SeriesId> {
        {
            let index = self.live.index();
            let known = index.find(labels);
            let has_room = index.count() < self.series_max && index.next_id() < u32::MAX;
            if known.is_some() || !is_needed || !has_room {
                return known;
            }
        }
        let id = self.live.index_mut().define(labels);
        self.entry.definitions.push((id, labels.clone()));
        Some(id)
    }
}

impl Written {
    fn reject(&mut self, labels: impl FnOnce() -> Labels, sample: Sample, reason: RejectReason) {
        self.rejected += 1;
        let mut counts = self.rejected_by_reason.iter_mut();
        match counts.find(|(counted, _)| *counted == reason) {
            Some((_, count)) => *count += 1,
            None => self.rejected_by_reason.push((reason, 1)),
        }
        self.first_rejection.get_or_insert_with(|| Rejection {
            labels: labels(),
            sample,
            reason,
        });
    }
}
