//! The values that pass between the parts: an alert, and what one channel is to say of a group of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::model::Timestamp;

/// Names and values, in the order of the names.
pub type Pairs = BTreeMap<String, String>;

/// Something that is wrong, or was.
///
/// Its identity is its labels, `alertname` among them: two alerts with the same labels are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub labels: Pairs,
    pub annotations: Pairs,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// `None` while it fires.
    pub ends_at: Option<Timestamp>,
    /// Where the expression behind it is shown; empty if there is none.
    pub generator_url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

/// What one channel is to say: a group's alerts at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The group's identity, the same for all that is ever said of it: what receivers deduplicate and
    /// mail readers thread by. Printable, without secrets; may be long.
    pub group_key: String,
    /// The labels that the group has in common by definition.
    pub group_labels: Pairs,
    /// Firing ones first, each kind in the order of its start.
    pub alerts: Vec<Alert>,
    /// How many more there are than are said.
    pub alerts_truncated: usize,
    /// When it was decided that this is to be said.
    pub at: Timestamp,
    /// Where this server's users find it; empty if it was not configured.
    pub external_url: String,
    /// Tells this notification from every other: the same after each retry and each restart.
    pub id: u64,
}

impl Alert {
    pub fn status(&self) -> Status {
        match self.ends_at {
            None => Status::Firing,
            Some(_) => Status::Resolved,
        }
    }

    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }

    /// `critical`, `warning`, `info`, or whatever else its rule says; empty if it says none.
    pub fn severity(&self) -> &str {
        self.labels.get("severity").map_or("", String::as_str)
    }

    /// The identity as a number: a hash of the labels.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for (name, value) in &self.labels {
            for text in [name, value] {
                hash.update(&(text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        hash.digest()
    }
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl Notification {
    /// Firing as long as one of the alerts is.
    pub fn status(&self) -> Status {
        let any_fires = self
            .alerts
            .iter()
            .any(|alert| alert.status() == Status::Firing);
        if any_fires {
            Status::Firing
        } else {
            Status::Resolved
        }
    }

    pub fn with_status(&self, status: Status) -> impl Iterator<Item = &Alert> {
        self.alerts
            .iter()
            .filter(move |alert| alert.status() == status)
    }

    /// Labels that all alerts have with the same value.
    pub fn common_labels(&self) -> Pairs {
        common(self.alerts.iter().map(|alert| &alert.labels))
    }

    /// Annotations that all alerts have with the same value.
    pub fn common_annotations(&self) -> Pairs {
        common(self.alerts.iter().map(|alert| &alert.annotations))
    }
}

fn common<'a>(mut all: impl Iterator<Item = &'a Pairs>) -> Pairs {
    let mut shared = all.next().cloned().unwrap_or_default();
    for pairs in all {
        shared.retain(|name, value| pairs.get(name) == Some(value));
    }
    shared
}
