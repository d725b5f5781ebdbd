//! Rule files in Prometheus' format: recording and alerting rules, evaluated group by group.
//!
//! ```text
//!  *.yml ─► file ─► check ─► set ─► group (state, record) ─► store: ALERTS, recorded series, records
//!                                     │
//!                       run (the loop)└─► inbox, /api/v1/rules, /api/v1/alerts
//! ```
//!
//! [`file`](mod@file) reads YAML, `check` refuses what is wrong with line and reason, a [`Set`] is all
//! that is in force. A [`Group`] is evaluated rule by rule; what a rule found is committed before the
//! next one reads. [`run`](mod@run) is the loop around the groups and the only part with I/O.
//!
//! What callers may rely on: the state of alerts and the series that tell of it are one commit; a file
//! that is not right changes nothing; alerts go through [`State`] as Prometheus' do.

mod built_in;
mod check;
mod file;
mod group;
mod in_force;
mod own_metrics;
mod record;
mod run;
mod set;
mod state;
mod task;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use built_in::built_in;
pub use check::{Alerting, Kind, Problem, Rule, Spec, check};
pub use group::{Evaluation, Ground, Group, Health, Member, Query, Write};
pub use in_force::Rules;
pub use run::{Parts, run};
pub use set::{Set, Told};
pub use state::{Active, State};
pub use task::vector;

use crate::model::unit;
use crate::{promql, store};

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

/// Why rules are not in force, or were not evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rule file {path} cannot be read", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The first problem stands for all: `cutover check-rules` lists them.
    #[error("{path}:{first}{more}", path = path.display(), more = more(*others))]
    Invalid {
        path: PathBuf,
        first: Problem,
        others: usize,
    },
    #[error("rules.every = {}: at least 1s", unit::format_duration(*.0))]
    Interval(Duration),
    /// An expression has no answer.
    #[error(transparent)]
    Query(#[from] promql::Error),
    /// What an expression gave cannot become series or alerts.
    #[error("{0}")]
    Result(String),
    #[error("not written: {0}")]
    Store(#[from] store::Error),
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}
