//! Rule files in Prometheus' format: recording and alerting rules, evaluated group by group.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::unit;

/// `[rules]` in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Rule files; a relative path is relative to the configuration file, and the last part of a path may
    /// hold `*`.
    pub files: Vec<PathBuf>,
    /// Whether the shipped rules are evaluated too.
    pub built_in: bool,
    /// The interval of groups that have none of their own.
    #[serde(with = "unit::duration_text")]
    pub every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            built_in: true,
            every: Duration::from_secs(15),
        }
    }
}
