//! Anomalies: spans of time in which a detector's verdict held for one series.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::store::Table;

/// All anomalies, open and closed, keyed by [`Anomaly::key`]: in the order of their opening.
pub const ANOMALIES: Table<Anomaly> = Table::new("anomalies", 1);

/// A span of time in which a detector's verdict held for one series of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    pub watch: String,
    /// The series' labels, without the metric's name.
    pub labels: BTreeMap<String, String>,
    /// `ewma`, `zscore`, `stall` or `threshold`.
    pub detector: String,
    pub direction: Direction,
    pub severity: Severity,
    pub opened_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None` while it is open.
    pub closed_at: Option<Timestamp>,
    /// The latest score and the highest; above 1 is anomalous.
    pub score: f64,
    pub score_max: f64,
    pub observed: f64,
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
    /// One sentence with the numbers: expected, observed, how unusual, since when.
    pub summary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Low,
    High,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Anomaly {
    /// Opening time first, big endian with the sign flipped, so that keys sort by time; then what
    /// tells two anomalies of one instant apart.
    pub fn key(&self) -> Vec<u8> {
        let mut key = (self.opened_at.ms() ^ i64::MIN).to_be_bytes().to_vec();
        key.extend(self.watch.as_bytes());
        for (name, value) in &self.labels {
            key.push(0);
            key.extend(name.as_bytes());
            key.push(0);
            key.extend(value.as_bytes());
        }
        key.push(0);
        key.extend(self.detector.as_bytes());
        key
    }
}
