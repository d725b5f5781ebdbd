//! Silences in Alertmanager's shape, and the state of alerting in our own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/v1/silences` answers a list of these, `GET /api/v1/silences/{id}` one. The fields are those
/// of Alertmanager's API, times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    pub id: String,
    pub status: SilenceStatus,
    pub matchers: Vec<SilenceMatcher>,
    pub starts_at: String,
    pub ends_at: String,
    pub updated_at: String,
    pub created_by: String,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceStatus {
    /// `pending`, `active` or `expired`.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SilenceMatcher {
    pub name: String,
    pub value: String,
    #[serde(default)]
    pub is_regex: bool,
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

/// `POST /api/v1/silences`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSilence {
    /// The silence to change; without one, another is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub matchers: Vec<SilenceMatcher>,
    /// Now, when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
    pub ends_at: String,
    pub created_by: String,
    pub comment: String,
}

/// What `POST /api/v1/silences` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceId {
    #[serde(rename = "silenceID")]
    pub silence_id: String,
}

/// `GET /api/v1/alerting`: every alert and who is told of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerting {
    /// Those that fire first, each kind in the order of its start.
    pub alerts: Vec<AlertState>,
    pub groups: Vec<AlertGroup>,
    pub channels: Vec<AlertChannel>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    /// The identity of its labels, in hexadecimal.
    pub fingerprint: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `active`, `suppressed` (silenced or inhibited) or `resolved`.
    pub state: String,
    pub starts_at_ms: i64,
    pub ends_at_ms: Option<i64>,
    /// Ids of silences.
    pub silenced_by: Vec<String>,
    /// Fingerprints of alerts.
    pub inhibited_by: Vec<String>,
    /// Set while it is held firing because it comes and goes too often.
    pub flapping_since_ms: Option<i64>,
    /// The key of its group; empty once its end was told.
    pub group: String,
    /// Channels whose latest notification says that it fires, be it delivered or waiting.
    pub told: Vec<String>,
    pub generator_url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertGroup {
    pub key: String,
    pub labels: BTreeMap<String, String>,
    pub alerts: usize,
    /// When it is next looked at whether there is something to tell.
    pub next_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertChannel {
    pub name: String,
    /// Notifications that wait, the one that is being sent included.
    pub waiting: usize,
    pub waiting_since_ms: Option<i64>,
    /// Attempts in a row that failed.
    pub failures: u32,
    pub next_attempt_at_ms: Option<i64>,
    pub last_error: Option<String>,
    pub last_error_at_ms: Option<i64>,
    /// The last delivery since the server started.
    pub delivered_at_ms: Option<i64>,
}
