//! Migrations: what they are, how far they are, and the series that say so.
//!
//! A migration is reported by the tool that runs it, or counted from the CDC events of the tables bound to
//! it, or both. Its record is the truth; the series written on the grid follow from it. Nothing here judges
//! whether a migration is healthy.
//!
//! [`Tracker`] is the way in and out. Every change is one commit of record, events and samples.

mod binding;
mod error;
mod progress;
mod record;
mod series;
mod track;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use progress::{Lag, LagState, Status, TableStatus};
pub use record::{Counting, EVENTS, Event, EventKind, MIGRATIONS, Migration, Phase, Report};
pub use series::GRID;
pub use track::{Tracker, check, run};

/// A migration as it is announced, by the configuration's `[[migration]]` or over HTTP.
///
/// It is part of the stored record: a new field is a new schema of [`MIGRATIONS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub id: String,
    /// Free names of the two ends, for people.
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub target: Option<String>,
    /// CDC tables, `schema.table` or `database.table`, whose events are this migration's rows.
    #[serde(default)]
    pub tables: Vec<String>,
    /// The same by the topics of the tables' events; one that starts with `^` is a regular expression.
    #[serde(default)]
    pub topics: Vec<String>,
    #[serde(default)]
    pub expected_rows: Option<u64>,
    /// Rows per second.
    #[serde(default)]
    pub expected_rate: Option<f64>,
}
