//! What of a batch is accepted: the one place that decides, in the order in which batches came.
//!
//! Accepted samples and changes go into the growing part of the head under a sequence number that no
//! reader sees yet, and into the entry that will be committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Point};
use super::head::{Part, Placed};
use super::live::{Live, Slot};
use super::{METADATA, RejectReason, Rejection, Shared, Written};
use crate::model::{Batch, Labels, Mutation, Sample, SeriesId, SeriesSamples, Timestamp};

/// How far ahead of the clock a sample may be.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// The batches of one commit.
pub(crate) struct Group<'a> {
    live: &'a Live,
    active: Arc<Part>,
    frozen: Vec<Slot>,
    seq: u64,
    /// The oldest state that a reader may look at.
    oldest: u64,
    accepted_from: Timestamp,
    accepted_to: Timestamp,
    series_max: usize,
    metadata: &'a mut HashMap<String, Vec<u8>>,
    entry: Entry,
    /// Samples of one series, kept for its room.
    timely: Vec<Sample>,
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
            seq,
            oldest: live.oldest(),
            accepted_from: shared.cutoff().unwrap_or(Timestamp::MIN),
            accepted_to: shared.clock.now().after(AHEAD_MAX),
            series_max: shared.options.series_max,
            metadata,
            entry: Entry::default(),
            timely: Vec::new(),
        }
    }

    pub(crate) fn into_entry(self) -> Entry {
        self.entry
    }

    /// Takes what may be stored; what may not is counted.
    pub(crate) fn accept(&mut self, batch: Batch) -> Written {
        let mut written = Written::default();
        for series in &batch.samples {
            self.accept_series(series, &mut written);
        }
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

    fn accept_series(&mut self, series: &SeriesSamples, written: &mut Written) {
        let labels = &series.labels;
        let mut timely = std::mem::take(&mut self.timely);
        timely.clear();
        for &sample in &series.samples {
            match self.untimely(sample) {
                Some(reason) => written.reject(labels, sample, reason),
                None => timely.push(sample),
            }
        }
        if let Some(id) = self.series_id(labels, !timely.is_empty()) {
            for slot in &self.frozen {
                if let Some(column) = slot.part.columns().get(id) {
                    timely.retain(|&sample| match column.check(sample) {
                        Placed::New => true,
                        Placed::Same => {
                            written.accepted += 1;
                            false
                        }
                        Placed::Conflict => {
                            written.reject(labels, sample, RejectReason::DuplicateTimestamp);
                            false
                        }
                    });
                }
            }
            let samples = timely.iter().copied();
            let points = &mut self.entry.points;
            self.active
                .insert(self.seq, id, samples, |sample, placed| match placed {
                    Placed::New => {
                        written.accepted += 1;
                        points.push(Point::new(id, sample));
                    }
                    Placed::Same => written.accepted += 1,
                    Placed::Conflict => {
                        written.reject(labels, sample, RejectReason::DuplicateTimestamp);
                    }
                });
        } else {
            for &sample in &timely {
                written.reject(labels, sample, RejectReason::TooManySeries);
            }
        }
        self.timely = timely;
    }

    fn untimely(&self, sample: Sample) -> Option<RejectReason> {
        if sample.timestamp < self.accepted_from {
            Some(RejectReason::TooOld)
        } else if sample.timestamp > self.accepted_to {
            Some(RejectReason::TooFarAhead)
        } else {
            None
        }
    }

    /// The id of a label set, a new one where there is room and something to store.
    fn series_id(&mut self, labels: &Labels, is_needed: bool) -> Option<SeriesId> {
        {
            let index = self.live.index();
            let known = index.find(labels);
            if known.is_some() || !is_needed || index.len() >= self.series_max {
                return known;
            }
        }
        let id = self.live.index_mut().define(labels);
        self.entry.definitions.push((id, labels.clone()));
        Some(id)
    }
}

impl Written {
    fn reject(&mut self, labels: &Labels, sample: Sample, reason: RejectReason) {
        self.rejected += 1;
        self.first_rejection.get_or_insert_with(|| Rejection {
            labels: labels.clone(),
            sample,
            reason,
        });
    }
}
