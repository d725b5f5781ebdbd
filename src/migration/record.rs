//! A migration as it is stored, and what may happen to it. Pure: the store is [`super::track`]'s business.
//!
//! Reports are safe to repeat: running totals by their value, increments by their key. What a report says
//! is applied whole or, with an error, not at all.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Config, Error};
use crate::model::Timestamp;
use crate::store::Table;

/// All migrations by id.
pub const MIGRATIONS: Table<Migration> = Table::new("migrations", 1);

/// What happened to migrations, keyed by migration and number.
pub const EVENTS: Table<Event> = Table::new("migration_events", 1);

/// Keys of increments that a migration remembers. A tool that repeats a report does so at once, not
/// hundreds of reports later.
const KEYS_MAX: usize = 256;
const TABLES_MAX: usize = 10_000;
const ERROR_TYPES_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 255;

/// Events kept of one migration; of more, the oldest go.
pub(super) const EVENTS_MAX: u64 = 1_000;

/// Whole numbers beyond this have no exact sample.
const COUNT_MAX: u64 = 1 << 53;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    Snapshot,
    Streaming,
    Cutover,
    Done,
    Failed,
}

impl Phase {
    pub const ALL: [Self; 5] = [
        Self::Snapshot,
        Self::Streaming,
        Self::Cutover,
        Self::Done,
        Self::Failed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Cutover => "cutover",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Reads a phase; `field` is where it came from.
    pub fn parse(field: &'static str, name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.name() == name)
            .ok_or_else(|| Error::Invalid {
                field,
                reason: format!("{name:?} is none of snapshot, streaming, cutover, done, failed"),
            })
    }

    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    /// Forward, with two exceptions: a cutover may be called off, and everything may fail.
    fn may_become(self, next: Self) -> bool {
        match self {
            Self::Snapshot | Self::Streaming => next > self,
            Self::Cutover => next != Self::Snapshot,
            Self::Done | Self::Failed => false,
        }
    }
}

/// A migration's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    pub config: Config,
    pub phase: Phase,
    pub started_at: Timestamp,
    /// When something was last heard of it.
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub tables: BTreeMap<String, TableRows>,
    /// Errors by type.
    pub errors: BTreeMap<String, u64>,
    pub lag: Option<ReportedLag>,
    /// The increments applied last, by their keys.
    keys: VecDeque<String>,
    /// Events so far, which number the next one.
    pub(super) events: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRows {
    pub counting: Counting,
    /// Rows moved: for CDC every row event.
    pub rows: u64,
    /// Rows copied, which is what an expected total counts: for CDC reads and creates.
    pub copied: u64,
}

/// Who counts a table's rows: the first that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counting {
    Reports,
    Cdc,
}

/// A lag that a tool told us.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedLag {
    pub seconds: f64,
    pub at: Timestamp,
}

/// What a tool tells about its migration.
///
/// Without a `key`, `rows_total` and `errors` are running totals. With a `key`, `rows_delta` and `errors`
/// are increments, applied once for each key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub table: Option<String>,
    pub rows_total: Option<u64>,
    pub rows_delta: Option<u64>,
    pub errors: BTreeMap<String, u64>,
    pub lag_seconds: Option<f64>,
    pub phase: Option<Phase>,
    pub key: Option<String>,
}

/// Something that happened to a migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    Created,
    Changed,
    Phase,
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Phase => "phase",
        }
    }
}

impl Event {
    /// The id, a zero byte (which no id has), the event's number.
    pub(super) fn key(id: &str, number: u64) -> Vec<u8> {
        let mut key = Self::prefix(id);
        key.extend(number.to_be_bytes());
        key
    }

    pub(super) fn prefix(id: &str) -> Vec<u8> {
        [id.as_bytes(), &[0]].concat()
    }
}

/// What a report came to.
#[derive(Debug, PartialEq)]
pub(super) enum Applied {
    /// It was known already.
    Unchanged,
    Changed(Vec<Event>),
}

impl Config {
    /// Refuses what cannot be tracked; patterns are checked where they are compiled.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_name("id", &self.id)?;
        if self.id.contains('/') || [".", ".."].contains(&&*self.id) {
            return Err(invalid(
                "id",
                format!("{:?} does not fit into a URL", self.id),
            ));
        }
        for (field, name) in [("source", &self.source), ("target", &self.target)] {
            if let Some(name) = name {
                check_name(field, name)?;
            }
        }
        for (field, names) in [("tables", &self.tables), ("topics", &self.topics)] {
            names.iter().try_for_each(|name| check_name(field, name))?;
        }
        if let Some(rows) = self.expected_rows
            && !(1..=COUNT_MAX).contains(&rows)
        {
            return Err(invalid(
                "expected_rows",
                format!("{rows} is not from 1 to 2^53"),
            ));
        }
        if let Some(rate) = self.expected_rate
            && !(rate.is_finite() && rate > 0.0)
        {
            return Err(invalid("expected_rate", format!("{rate} is not above 0")));
        }
        Ok(())
    }

    /// Whether CDC tables are bound to the migration.
    pub(super) fn is_bound(&self) -> bool {
        !(self.tables.is_empty() && self.topics.is_empty())
    }

    /// The first field in which another announcement of the same migration differs.
    pub(super) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        fn differ<T: Serialize + PartialEq>(was: &T, now: &T) -> Option<(String, String)> {
            let text = |value| serde_json::to_string(value).expect("plain values become JSON");
            (was != now).then(|| (text(was), text(now)))
        }
        [
            ("source", differ(&self.source, &other.source)),
            ("target", differ(&self.target, &other.target)),
            ("tables", differ(&self.tables, &other.tables)),
            ("topics", differ(&self.topics, &other.topics)),
            (
                "expected_rows",
                differ(&self.expected_rows, &other.expected_rows),
            ),
            (
                "expected_rate",
                differ(&self.expected_rate, &other.expected_rate),
            ),
        ]
        .into_iter()
        .find_map(|(field, difference)| difference.map(|(was, now)| (field, was, now)))
    }
}

impl Migration {
    pub(super) fn new(config: Config, now: Timestamp) -> (Self, Event) {
        let migration = Self {
            config,
            phase: Phase::Snapshot,
            started_at: now,
            updated_at: now,
            finished_at: None,
            tables: BTreeMap::new(),
            errors: BTreeMap::new(),
            lag: None,
            keys: VecDeque::new(),
            events: 0,
        };
        let event = Event {
            at: now,
            kind: EventKind::Created,
            message: "created".to_owned(),
        };
        (migration, event)
    }

    pub fn id(&self) -> &str {
        &self.config.id
    }

    pub fn is_running(&self) -> bool {
        !self.phase.is_final()
    }

    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    pub fn copied(&self) -> u64 {
        self.tables.values().map(|table| table.copied).sum()
    }

    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Applies a report. With an error, the migration is as it was.
    pub(super) fn apply(&mut self, report: &Report, now: Timestamp) -> Result<Applied, Error> {
        report.check()?;
        if let Some(key) = &report.key
            && self.keys.contains(key)
        {
            return Ok(Applied::Unchanged);
        }
        let mut next = self.clone();
        next.count_rows(report)?;
        next.count_errors(report)?;
        let mut events = Vec::new();
        if let Some(phase) = report.phase {
            events.extend(next.enter(phase, now)?);
        }
        if !self.is_running() {
            // The last report may come twice; anything new comes too late.
            let same = next.tables == self.tables && next.errors == self.errors;
            return if same {
                Ok(Applied::Unchanged)
            } else {
                let (id, phase) = (self.id().to_owned(), self.phase);
                Err(Error::Finished { id, phase })
            };
        }
        if let Some(seconds) = report.lag_seconds {
            next.lag = Some(ReportedLag { seconds, at: now });
        }
        if let Some(key) = &report.key {
            next.keys.push_back(key.clone());
            if next.keys.len() > KEYS_MAX {
                next.keys.pop_front();
            }
        }
        next.updated_at = now;
        *self = next;
        Ok(Applied::Changed(events))
    }

    fn count_rows(&mut self, report: &Report) -> Result<(), Error> {
        let Some(name) = &report.table else {
            return Ok(());
        };
        let known = self.tables.get(name);
        if known.is_some_and(|table| table.counting == Counting::Cdc) {
            let table = name.clone();
            return Err(Error::CountedByCdc { table });
        }
        let known_rows = known.map_or(0, |table| table.rows);
        let of = || format!("rows_total of table {name:?}");
        let rows = counted(known_rows, report.rows_total, report.rows_delta, of)?;
        self.set_rows(name, Counting::Reports, rows, rows)
    }

    fn count_errors(&mut self, report: &Report) -> Result<(), Error> {
        for (kind, count) in &report.errors {
            let known = self.errors.get(kind).copied().unwrap_or(0);
            let (total, delta) = match report.key {
                Some(_) => (None, Some(*count)),
                None => (Some(*count), None),
            };
            let of = || format!("the count of errors {kind:?}");
            let errors = counted(known, total, delta, of)?;
            self.errors.insert(kind.clone(), errors);
        }
        if self.errors.len() > ERROR_TYPES_MAX {
            return Err(Error::TooMany {
                what: "error types",
                max: ERROR_TYPES_MAX,
            });
        }
        Ok(())
    }

    fn set_rows(
        &mut self,
        name: &str,
        counting: Counting,
        rows: u64,
        copied: u64,
    ) -> Result<(), Error> {
        let table = TableRows {
            counting,
            rows,
            copied,
        };
        self.tables.insert(name.to_owned(), table);
        if self.tables.len() > TABLES_MAX {
            return Err(Error::TooMany {
                what: "tables",
                max: TABLES_MAX,
            });
        }
        Ok(())
    }

    /// Takes over what CDC counted; true when that was news. A table that a tool reports is left alone,
    /// and a count never falls.
    pub(super) fn count_cdc(
        &mut self,
        name: &str,
        rows: u64,
        copied: u64,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (rows, copied) = match self.tables.get(name) {
            Some(table) if table.counting == Counting::Reports => return Ok(false),
            Some(table) => (rows.max(table.rows), copied.max(table.copied)),
            None => (rows, copied),
        };
        let known = self
            .tables
            .get(name)
            .map(|table| (table.rows, table.copied));
        if known == Some((rows, copied)) {
            return Ok(false);
        }
        self.set_rows(name, Counting::Cdc, rows, copied)?;
        self.updated_at = now;
        Ok(true)
    }

    /// Moves on to a phase; to be in it already is no event.
    pub(super) fn enter(&mut self, next: Phase, now: Timestamp) -> Result<Option<Event>, Error> {
        if next == self.phase {
            return Ok(None);
        }
        if !self.phase.may_become(next) {
            return Err(Error::Transition {
                id: self.id().to_owned(),
                from: self.phase,
                to: next,
            });
        }
        let message = format!("{} -> {}", self.phase.name(), next.name());
        self.phase = next;
        self.updated_at = now;
        if next.is_final() {
            self.finished_at = Some(now);
        }
        Ok(Some(Event {
            at: now,
            kind: EventKind::Phase,
            message,
        }))
    }
}

impl Report {
    fn check(&self) -> Result<(), Error> {
        for (field, name) in [("table", &self.table), ("key", &self.key)] {
            if let Some(name) = name {
                check_name(field, name)?;
            }
        }
        self.errors
            .keys()
            .try_for_each(|name| check_name("errors", name))?;
        match (&self.table, self.rows_total, self.rows_delta) {
            (None, None, None) | (Some(_), Some(_), None) => {}
            (Some(_), None, Some(_)) if self.key.is_some() => {}
            (Some(_), None, Some(_)) => {
                let reason = "rows_delta needs one, so that sending it again does not count twice";
                return Err(invalid("key", reason));
            }
            (_, Some(_), Some(_)) => {
                return Err(invalid("rows_delta", "it cannot stand beside rows_total"));
            }
            (Some(_), None, None) => {
                return Err(invalid("rows_total", "a table needs it, or rows_delta"));
            }
            (None, _, _) => return Err(invalid("table", "the rows need one")),
        }
        if let Some(seconds) = self.lag_seconds
            && !(seconds.is_finite() && seconds >= 0.0)
        {
            let reason = format!("{seconds} is not a number of seconds from 0");
            return Err(invalid("lag_seconds", reason));
        }
        Ok(())
    }
}

/// The new count from a running total or an increment.
fn counted(
    known: u64,
    total: Option<u64>,
    delta: Option<u64>,
    of: impl Fn() -> String,
) -> Result<u64, Error> {
    let count = match total {
        Some(reported) if reported < known => {
            return Err(Error::TotalFell {
                of: of(),
                known,
                reported,
            });
        }
        Some(reported) => reported,
        None => known.saturating_add(delta.unwrap_or(0)),
    };
    if count > COUNT_MAX {
        let field = if total.is_some() {
            "rows_total"
        } else {
            "rows_delta"
        };
        return Err(invalid(field, format!("{} would pass 2^53", of())));
    }
    Ok(count)
}

fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(invalid(field, "a name is empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        let reason = format!(
            "a name of {} bytes is longer than {NAME_BYTES_MAX}",
            name.len()
        );
        return Err(invalid(field, reason));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid(field, format!("{name:?} has control characters")));
    }
    Ok(())
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Error {
    Error::Invalid {
        field,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
