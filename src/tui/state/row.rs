//! The rows of the screens, as the server told them.
//!
//! Plain values with typed states. What the server did not say is `None` or `Unknown`, never 0.

use std::collections::BTreeMap;

use crate::model::Timestamp;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(Timestamp, f64)>,
}

impl Curve {
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|&(_, value)| value)
    }
}

/// What `/api/v1/health` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRow {
    pub version: String,
    pub started_at: Timestamp,
    pub now: Timestamp,
    pub caption: String,
    /// The parts that are not well.
    pub troubles: Vec<Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub part: String,
    /// `starting`, `degraded` or `failed`.
    pub state: String,
    pub since: Timestamp,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagState {
    Fresh,
    Idle,
    Stale,
    Throttled,
    Skewed,
    Stalled,
    Unknown,
}

impl LagState {
    pub fn parse(name: &str) -> Self {
        match name {
            "fresh" => Self::Fresh,
            "idle" => Self::Idle,
            "stale" => Self::Stale,
            "throttled" => Self::Throttled,
            "skewed" => Self::Skewed,
            "stalled" => Self::Stalled,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Idle => "idle",
            Self::Stale => "stale",
            Self::Throttled => "throttled",
            Self::Skewed => "skewed",
            Self::Stalled => "stalled",
            Self::Unknown => "unknown",
        }
    }
}

/// What a lag is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagKind {
    Source,
    Apply,
    Transaction,
    Backlog,
    Bytes,
    Unknown,
}

impl LagKind {
    pub fn parse(name: &str) -> Self {
        match name {
            "source" => Self::Source,
            "apply" => Self::Apply,
            "transaction" => Self::Transaction,
            "backlog" => Self::Backlog,
            "bytes" => Self::Bytes,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Apply => "apply",
            Self::Transaction => "transaction",
            Self::Backlog => "backlog",
            Self::Bytes => "bytes",
            Self::Unknown => "of unknown kind",
        }
    }
}

/// A lag with what makes it readable. Never shown without its state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LagReading {
    pub seconds: Option<f64>,
    pub age_seconds: Option<f64>,
    pub kind: LagKind,
    pub state: LagState,
}

impl LagReading {
    pub const UNKNOWN: Self = Self {
        seconds: None,
        age_seconds: None,
        kind: LagKind::Unknown,
        state: LagState::Unknown,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Snapshot,
    Streaming,
    Cutover,
    Done,
    Failed,
    Unknown,
}

impl Phase {
    pub fn parse(name: &str) -> Self {
        match name {
            "snapshot" => Self::Snapshot,
            "streaming" => Self::Streaming,
            "cutover" => Self::Cutover,
            "done" => Self::Done,
            "failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Cutover => "cutover",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    pub fn is_running(self) -> bool {
        !matches!(self, Self::Done | Self::Failed)
    }
}

/// A migration on the overview.
#[derive(Clone, Debug, PartialEq)]
pub struct MigrationRow {
    pub id: String,
    /// `source → target`, as far as they are known.
    pub route: String,
    pub phase: Phase,
    pub rows_total: u64,
    /// Rows per second.
    pub rate: Option<f64>,
    pub expected_rate: Option<f64>,
    /// 0 to 1.
    pub progress: Option<f64>,
    pub eta_seconds: Option<f64>,
    pub errors_total: u64,
    pub lag: LagReading,
    pub tables: Vec<TableProgress>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TableProgress {
    pub name: String,
    pub rows_total: u64,
    pub rate: Option<f64>,
}

/// A table in the stream of changes: the connector's logical name and `schema.table`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableId {
    pub source: String,
    pub table: String,
}

/// A table on the CDC screen; the rates are events per second.
#[derive(Clone, Debug, PartialEq)]
pub struct CdcTableRow {
    pub id: TableId,
    pub rates: OperationRates,
    pub events_total: f64,
    pub lag: LagReading,
}

impl CdcTableRow {
    pub fn key(&self) -> String {
        format!("{}/{}", self.id.source, self.id.table)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OperationRates {
    pub create: f64,
    pub update: f64,
    pub delete: f64,
    pub read: f64,
    /// Truncates and messages.
    pub other: f64,
}

impl OperationRates {
    pub fn total(self) -> f64 {
        self.create + self.update + self.delete + self.read + self.other
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionRow {
    pub topic: String,
    pub partition: String,
    pub lag_messages: f64,
}

impl PartitionRow {
    pub fn key(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}

/// Messages that could not be understood, of one topic and reason.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterCount {
    pub topic: String,
    pub reason: String,
    pub count: f64,
}

/// Everything the CDC screen shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CdcData {
    /// The busiest first.
    pub tables: Vec<CdcTableRow>,
    /// The furthest behind first.
    pub partitions: Vec<PartitionRow>,
    pub dead_letters: Vec<DeadLetterCount>,
    /// Events per second and replication lag of one table.
    pub chart: Option<CdcChart>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CdcChart {
    pub table: TableId,
    pub rate: Option<Curve>,
    pub lag: Option<Curve>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn parse(name: &str) -> Self {
        match name {
            "critical" => Self::Critical,
            "info" => Self::Info,
            // What a later server calls otherwise is still worth a look.
            _ => Self::Warning,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyRow {
    pub watch: String,
    pub labels: BTreeMap<String, String>,
    pub detector: String,
    /// `low` or `high`.
    pub direction: String,
    pub severity: Severity,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub score: Option<f64>,
    pub score_max: Option<f64>,
    pub observed: Option<f64>,
    pub expected: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub summary: String,
    pub expr: String,
}

impl AnomalyRow {
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// What tells this anomaly from every other.
    pub fn key(&self) -> String {
        format!(
            "{} {} {} {}",
            self.opened_at.ms(),
            self.watch,
            self.detector,
            self.series()
        )
    }

    /// The labels' values alone: `update public.orders`.
    pub fn series_values(&self) -> String {
        let values: Vec<&str> = self.labels.values().map(String::as_str).collect();
        values.join(" ")
    }

    /// The labels in one line: `table=public.orders operation=update`.
    pub fn series(&self) -> String {
        let pairs: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(" ")
    }
}
