//! The JSON shapes of our own API, shared by the server and the client.
//!
//! Times are milliseconds since 1970 (`_ms`), spans are seconds. A number that is not known is `null`,
//! never 0.

mod alerting;
mod store;
mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use alerting::{
    AlertChannel, AlertGroup, AlertState, Alerting, NewSilence, Silence, SilenceId, SilenceMatcher,
    SilenceStatus,
};
pub use store::{Codec, Encoding, Snapshot, StoreStatus};
pub use target::Target;

/// `GET /api/v1/migrations` answers a list of these, `GET /api/v1/migrations/{id}` one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    pub id: String,
    pub source: Option<String>,
    pub target: Option<String>,
    /// `snapshot`, `streaming`, `cutover`, `done` or `failed`.
    pub phase: String,
    pub started_at_ms: i64,
    pub finished_at_ms: Option<i64>,
    pub updated_at_ms: i64,
    pub expected_rows: Option<u64>,
    /// Rows per second.
    pub expected_rate: Option<f64>,
    pub rows_total: u64,
    /// Rows per second over the last five minutes (or since the start).
    pub rate: Option<f64>,
    /// 0 to 1; `null` when no total is expected.
    pub progress: Option<f64>,
    pub eta_seconds: Option<f64>,
    pub errors_total: u64,
    pub lag: Lag,
    pub tables: Vec<MigrationTable>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationTable {
    pub name: String,
    pub rows_total: u64,
    pub rate: Option<f64>,
}

/// Lag is never a bare number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    pub seconds: Option<f64>,
    /// How old the reading is.
    pub age_seconds: Option<f64>,
    /// `source`, `apply`, `transaction`, `backlog` or `bytes`; empty when unknown.
    pub kind: String,
    /// `fresh`, `idle`, `stale`, `throttled`, `skewed`, `stalled` or `unknown`.
    pub state: String,
}

/// `GET /api/v1/anomalies` answers a list of these, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    pub watch: String,
    pub labels: BTreeMap<String, String>,
    pub detector: String,
    /// `low` or `high`.
    pub direction: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    pub opened_at_ms: i64,
    pub updated_at_ms: i64,
    /// `null` while it is open.
    pub closed_at_ms: Option<i64>,
    pub score: Option<f64>,
    pub score_max: Option<f64>,
    pub observed: Option<f64>,
    pub expected: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub summary: String,
    /// The watched expression, which charts the series.
    pub expr: String,
}

/// `GET /api/v1/health`: each part's state and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub version: String,
    pub started_at_ms: i64,
    pub now_ms: i64,
    pub parts: Vec<PartHealth>,
    /// A line for the dashboard's foot, such as what the demo plays; empty as a rule.
    #[serde(default)]
    pub caption: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartHealth {
    /// `store`, `kafka`, `detect`, ...
    pub name: String,
    /// `ok`, `starting`, `degraded` or `failed`.
    pub state: String,
    pub since_ms: i64,
    /// What is wrong and what to do, empty when nothing is.
    pub message: String,
}

/// `GET /api/v1/dead-letters` answers a list of these, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub reason: String,
    /// What exactly did not parse.
    pub detail: String,
    pub at_ms: i64,
    /// The first 4 KiB of the value, invalid UTF-8 replaced.
    pub excerpt: String,
    pub value_bytes: u64,
}

/// `POST /api/v1/migrations`. The same again is accepted and changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewMigration {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_rows: Option<u64>,
    /// Rows per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_rate: Option<f64>,
    /// CDC tables (`schema.table`) whose events are this migration's rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// The same, by the topics that the tables' events come through; `^...` is a pattern.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// `POST /api/v1/migrations/{id}/progress`.
///
/// Without a `key`, `rows_total` and `errors` are running totals: sending them again changes nothing and
/// a smaller one is refused. With a `key`, `rows_delta` and `errors` are increments, applied once for
/// each key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_delta: Option<u64>,
    /// Errors by type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// `GET /api/v1/migrations/{id}/events` answers a list of these, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationEvent {
    pub at_ms: i64,
    /// `created`, `changed` or `phase`.
    pub kind: String,
    pub message: String,
}
