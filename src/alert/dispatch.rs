//! Who is told what, and when: groups, silences, inhibition, the durable queue.

pub mod matchers;
pub mod route;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::unit;

/// `[alert]` in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Alerts that agree in these labels are told together.
    pub group_by: Vec<String>,
    /// How long a new group waits for more alerts.
    #[serde(with = "unit::duration_text")]
    pub group_wait: Duration,
    /// How long a group that was told waits before it tells what changed.
    #[serde(with = "unit::duration_text")]
    pub group_interval: Duration,
    /// How long until what still fires is told again.
    #[serde(with = "unit::duration_text")]
    pub repeat_interval: Duration,
    /// Where this server's users find it, for links in notifications.
    pub external_url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group_by: vec!["migration_id".to_owned()],
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3_600),
            external_url: String::new(),
        }
    }
}
