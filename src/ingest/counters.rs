//! What the ways in for samples count: taken and refused, each by its source.

use prometheus::IntCounterVec;

use super::admission::Refused;
use crate::store::{RejectReason, Written};
use crate::telemetry::Metrics;

/// The way that samples came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    RemoteWrite,
    Import,
    Push,
    Scrape,
    Otlp,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::RemoteWrite => "remote_write",
            Self::Import => "import",
            Self::Push => "push",
            Self::Scrape => "scrape",
            Self::Otlp => "otlp",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Counters {
    samples: IntCounterVec,
    rejected: IntCounterVec,
}

impl Counters {
    /// # Panics
    /// When it is made twice with one registry.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            samples: metrics.counter(
                "cutover_ingest_samples_total",
                "Samples stored, identical duplicates included, by the way they came.",
                &["source"],
            ),
            rejected: metrics.counter(
                "cutover_ingest_rejected_samples_total",
                "Samples refused, by the way they came and the reason.",
                &["source", "reason"],
            ),
        }
    }

    /// Counts one request.
    pub fn count(&self, source: Source, refused: &Refused, written: &Written) {
        let source = source.name();
        let samples = self.samples.with_label_values(&[source]);
        samples.inc_by(written.accepted);
        let by_store = written.rejected_by_reason.iter();
        let by_store = by_store.map(|(reason, count)| (reason_name(*reason), *count));
        for (reason, count) in refused.by_reason.iter().copied().chain(by_store) {
            let rejected = self.rejected.with_label_values(&[source, reason]);
            rejected.inc_by(count);
        }
    }
}

pub fn reason_name(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::DuplicateTimestamp => "duplicate_timestamp",
        RejectReason::TooOld => "too_old",
        RejectReason::TooFarAhead => "too_far_ahead",
        RejectReason::TooManySeries => "too_many_series",
    }
}
