//! What a source hands to the store: one unit of acknowledgement.

use serde::{Deserialize, Serialize};

use super::label::Labels;
use super::sample::Sample;

/// Samples, metadata and record changes that belong together: they become durable and visible in
/// one commit, or not at all.
///
/// A sample that the store refuses (a conflicting duplicate, too old) is reported and left out; it
/// does not take the rest of the batch with it.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub samples: Vec<SeriesSamples>,
    pub metadata: Vec<(String, MetricMetadata)>,
    pub mutations: Vec<Mutation>,
}

/// The new samples of one series, in any order.
#[derive(Clone, Debug)]
pub struct SeriesSamples {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// The change of one record, already encoded by the store's record tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// The record table's name.
    pub table: String,
    pub key: Vec<u8>,
    /// The encoded record; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// What is known of a metric beside its samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricMetadata {
    pub kind: MetricKind,
    pub help: String,
    /// A base unit such as `seconds`, or empty.
    pub unit: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Unknown,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.metadata.is_empty() && self.mutations.is_empty()
    }

    pub fn push(&mut self, labels: Labels, sample: Sample) {
        self.samples.push(SeriesSamples {
            labels,
            samples: vec![sample],
        });
    }

    pub fn sample_count(&self) -> usize {
        self.samples.iter().map(|series| series.samples.len()).sum()
    }
}
