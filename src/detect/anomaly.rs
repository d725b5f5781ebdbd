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
    /// The name of a [`super::watch::DetectorKind`].
    pub detector: String,
    pub direction: Direction,
    pub severity: Severity,
    /// When the verdict began to hold, which is before it had held long enough to count.
    pub opened_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None` while it is open.
    pub closed_at: Option<Timestamp>,
    /// The latest score and the highest; above 1 is anomalous.
    pub score: f64,
    pub score_max: f64,
    /// What was judged: the value, its moving average (`ewma`), or a pause in seconds (`stall`).
    pub observed: f64,
    pub expected: f64,
    /// The band of what is normal; infinite on a side without a limit.
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

impl Direction {
    /// The side to which a deviation points.
    pub fn of(deviation: f64) -> Self {
        if deviation < 0.0 {
            Self::Low
        } else {
            Self::High
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::High => "high",
        }
    }
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(opened_at_ms: i64, label: &str) -> Anomaly {
        Anomaly {
            watch: "lag".into(),
            labels: [("table".to_owned(), label.to_owned())].into(),
            detector: "ewma".into(),
            direction: Direction::High,
            severity: Severity::Warning,
            opened_at: Timestamp::from_ms(opened_at_ms),
            updated_at: Timestamp::from_ms(opened_at_ms),
            closed_at: None,
            score: 2.0,
            score_max: 2.0,
            observed: 1.0,
            expected: 0.0,
            lower: 0.0,
            upper: 0.5,
            summary: String::new(),
        }
    }

    #[test]
    fn keys_sort_by_the_time_of_opening_then_tell_series_apart() {
        let keys: Vec<_> = [
            opened(-5, "a"),
            opened(3, "b"),
            opened(20, "a"),
            opened(20, "b"),
        ]
        .iter()
        .map(Anomaly::key)
        .collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_update_keeps_the_key() {
        let mut anomaly = opened(1, "a");
        let key = anomaly.key();
        anomaly.updated_at = Timestamp::from_ms(9);
        anomaly.closed_at = Some(Timestamp::from_ms(9));
        anomaly.summary = "over".into();
        assert_eq!(anomaly.key(), key);
    }
}
