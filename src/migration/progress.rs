//! How far a migration is: rate, share, time left and lag. Pure arithmetic on what was read.
//!
//! What is not known is `None`, never 0.

use std::collections::BTreeMap;
use std::time::Duration;

use super::binding::{Binding, Readings, TableLag};
use super::record::{Counting, Migration, Phase};
use super::series::GRID;
use crate::model::{Column, Timestamp};

/// The span over which rates are taken.
pub(super) const RATE_SPAN: Duration = Duration::from_secs(300);

/// A rate over less than this says more about the grid than about the migration.
const RATE_SPAN_MIN: Duration = Duration::from_secs(10);

/// The share of the expected rows below which an estimate of the time left is a guess.
const ETA_PROGRESS_MIN: f64 = 0.01;

/// What the share stays at until the migration has left the phases that copy.
const PROGRESS_COPYING_MAX: f64 = 0.99;

/// A measured lag is written on every grid point; this much later its writer is gone.
const MEASURED_LAG_STALE: Duration = Duration::from_secs(3 * GRID.as_secs());

/// Tools report every minute at best; one that is silent for longer is taken to be stuck, and the lag
/// that it last told grows with the clock.
const REPORTED_LAG_STALE: Duration = Duration::from_secs(90);

/// A migration as it is seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub migration: Migration,
    /// Rows per second over the last five minutes, or since the first sample in them.
    pub rate: Option<f64>,
    /// 0 to 1, of the expected rows.
    pub progress: Option<f64>,
    pub eta: Option<Duration>,
    pub lag: Option<Lag>,
    pub tables: Vec<TableStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TableStatus {
    pub name: String,
    pub rows: u64,
    pub rate: Option<f64>,
}

/// A migration's data lag.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    pub seconds: f64,
    /// How old the reading is.
    pub age: Option<Duration>,
    /// As the lag model names it; empty when that is unknown.
    pub kind: String,
    pub state: LagState,
}

/// The state of a lag, as the lag model names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LagState {
    Fresh,
    /// Our own reading, or the tool's, is too old.
    Stale,
    /// What the lag model measured.
    Measured(String),
    Unknown,
}

impl LagState {
    pub fn name(&self) -> &str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Measured(name) => name,
            Self::Unknown => "unknown",
        }
    }
}

/// Where each series stood at the start of the rates' span.
#[derive(Clone, Debug, Default)]
pub(super) struct Baselines {
    /// By migration and table.
    rows: BTreeMap<(String, String), (Timestamp, f64)>,
}

impl Baselines {
    /// From the samples of `migration_rows_total` in the span.
    pub(super) fn of(columns: &[Column]) -> Self {
        let rows = columns
            .iter()
            .filter_map(|column| {
                let key = (
                    column.labels.value("migration_id").to_owned(),
                    column.labels.value("table_name").to_owned(),
                );
                let first = (*column.timestamps.first()?, *column.values.first()?);
                Some((key, first))
            })
            .collect();
        Self { rows }
    }

    fn get(&self, id: &str, table: &str) -> Option<(Timestamp, f64)> {
        self.rows.get(&(id.to_owned(), table.to_owned())).copied()
    }
}

/// Puts together what is known of a migration.
pub(super) fn status(
    migration: Migration,
    binding: &Binding,
    baselines: &Baselines,
    readings: &Readings,
    now: Timestamp,
) -> Status {
    let mut rows = Growth::default();
    let mut copied = Growth::default();
    let mut tables = Vec::new();
    for (name, table) in &migration.tables {
        let mut own = Growth::default();
        if let Some((first_at, first)) = baselines.get(migration.id(), name) {
            own.add(first_at, table.rows as f64 - first);
            rows.add(first_at, table.rows as f64 - first);
            if table.counting == Counting::Reports {
                copied.add(first_at, table.copied as f64 - first);
            }
        }
        tables.push(TableStatus {
            name: name.clone(),
            rows: table.rows,
            rate: running(&migration, own.rate(now)),
        });
    }
    for counts in readings.counts_of(binding) {
        let is_cdc = |table: &super::record::TableRows| table.counting == Counting::Cdc;
        if migration.tables.get(&counts.table).is_some_and(is_cdc) {
            let grown = counts.last.copied().saturating_sub(counts.first.copied());
            copied.add(counts.first_at, grown as f64);
        }
    }
    let eta = eta(&migration, copied.rate(now));
    Status {
        rate: running(&migration, rows.rate(now)),
        progress: progress(&migration),
        eta: running(&migration, eta),
        lag: lag(&migration, readings.lag_of(binding), now),
        tables,
        migration,
    }
}

fn running<T>(migration: &Migration, value: Option<T>) -> Option<T> {
    value.filter(|_| migration.is_running())
}

/// What several series grew by since the earliest of their baselines.
#[derive(Default)]
struct Growth {
    since: Option<Timestamp>,
    grown: f64,
}

impl Growth {
    fn add(&mut self, since: Timestamp, grown: f64) {
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
        self.grown += grown.max(0.0);
    }

    fn rate(&self, now: Timestamp) -> Option<f64> {
        let span = now.since(self.since?);
        (span >= RATE_SPAN_MIN).then(|| self.grown / span.as_secs_f64())
    }
}

fn share(migration: &Migration) -> Option<f64> {
    let expected = migration.config.expected_rows?;
    Some((migration.copied() as f64 / expected as f64).min(1.0))
}

fn progress(migration: &Migration) -> Option<f64> {
    let share = share(migration)?;
    let copying = matches!(migration.phase, Phase::Snapshot | Phase::Streaming);
    Some(if copying {
        share.min(PROGRESS_COPYING_MAX)
    } else {
        share
    })
}

fn eta(migration: &Migration, rate: Option<f64>) -> Option<Duration> {
    let share = share(migration)?;
    let left = migration
        .config
        .expected_rows?
        .saturating_sub(migration.copied());
    if left == 0 {
        return Some(Duration::ZERO);
    }
    let rate = rate.filter(|rate| *rate > 0.0 && share >= ETA_PROGRESS_MIN)?;
    Duration::try_from_secs_f64(left as f64 / rate).ok()
}

/// The lag that a tool reported while it is fresh, else the measured one, else the reported one, grown.
pub(super) fn lag(
    migration: &Migration,
    measured: Option<&TableLag>,
    now: Timestamp,
) -> Option<Lag> {
    if !migration.is_running() {
        return None;
    }
    let reported = migration.lag.map(|lag| {
        let age = now.since(lag.at);
        let silent = age.saturating_sub(REPORTED_LAG_STALE);
        Lag {
            seconds: lag.seconds + silent.as_secs_f64(),
            age: Some(age),
            // What a tool calls the lag of its data is how far the target is behind.
            kind: "apply".to_owned(),
            state: if silent.is_zero() {
                LagState::Fresh
            } else {
                LagState::Stale
            },
        }
    });
    let measured = measured.map(|lag| measured_lag(lag, now));
    match reported {
        Some(lag) if lag.state == LagState::Fresh => Some(lag),
        reported => measured.or(reported),
    }
}

/// A reading that nobody renews grows with the clock.
fn measured_lag(lag: &TableLag, now: Timestamp) -> Lag {
    let unseen = now.since(lag.at);
    let stale = unseen > MEASURED_LAG_STALE;
    let age = lag
        .age_seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or_default();
    Lag {
        seconds: lag.seconds + if stale { unseen.as_secs_f64() } else { 0.0 },
        age: Some(age + unseen),
        kind: lag.kind.clone(),
        state: match lag.state.as_str() {
            _ if stale => LagState::Stale,
            "" => LagState::Unknown,
            state => LagState::Measured(state.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::record::Report;
    use crate::migration::{Config, series};
    use crate::model::{Batch, SeriesSamples};

    const START: Timestamp = Timestamp::from_ms(1_000_000);

    fn migration(expected_rows: Option<u64>) -> Migration {
        let config = Config {
            id: "users".into(),
            expected_rows,
            ..Config::default()
        };
        Migration::new(config, START).0
    }

    fn report(migration: &mut Migration, rows: u64, at: Timestamp) {
        let report = Report {
            table: Some("a".into()),
            rows_total: Some(rows),
            ..Report::default()
        };
        migration.apply(&report, at).unwrap();
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// The status when the series stood at `first` at the start.
    fn seen(migration: &Migration, first: f64, now: Timestamp) -> Status {
        let labels = series::rows_labels("users", "a");
        let columns = [Column {
            labels,
            timestamps: [START].into(),
            values: vec![first],
        }];
        let binding = Binding::compile(&migration.config).unwrap();
        let baselines = Baselines::of(&columns);
        status(
            migration.clone(),
            &binding,
            &baselines,
            &Readings::default(),
            now,
        )
    }

    #[test]
    fn rate_share_and_time_left_follow_from_the_growth() {
        let mut users = migration(Some(10_000));
        let now = START.after(seconds(100));
        report(&mut users, 2_000, now);
        let status = seen(&users, 1_000.0, now);
        // 1,000 rows in 100 s; 8,000 are left.
        assert_eq!(status.rate, Some(10.0));
        assert_eq!(status.tables[0].rate, Some(10.0));
        assert_eq!(status.progress, Some(0.2));
        assert_eq!(status.eta, Some(seconds(800)));
    }

    #[test]
    fn what_is_not_known_is_none() {
        let mut users = migration(None);
        report(&mut users, 5, START);
        let soon = seen(&users, 0.0, START.after(seconds(9)));
        assert_eq!((soon.rate, soon.progress, soon.eta), (None, None, None));
        assert_eq!(soon.lag, None);
        // Nothing moves: the rate is known to be 0, the time left is not known.
        let mut stuck = migration(Some(100));
        report(&mut stuck, 50, START);
        let stuck = seen(&stuck, 50.0, START.after(seconds(60)));
        assert_eq!((stuck.rate, stuck.eta), (Some(0.0), None));
        // Half a percent done: too early to tell.
        let mut early = migration(Some(1_000));
        report(&mut early, 5, START);
        assert_eq!(seen(&early, 0.0, START.after(seconds(60))).eta, None);
    }

    #[test]
    fn the_share_reaches_one_only_after_streaming() {
        let mut users = migration(Some(100));
        report(&mut users, 120, START);
        let share = |users: &Migration| seen(users, 0.0, START.after(seconds(60))).progress;
        assert_eq!(share(&users), Some(0.99));
        users.enter(Phase::Streaming, START).unwrap();
        assert_eq!(share(&users), Some(0.99));
        users.enter(Phase::Cutover, START).unwrap();
        assert_eq!(share(&users), Some(1.0));
        users.enter(Phase::Done, START).unwrap();
        let done = seen(&users, 0.0, START.after(seconds(60)));
        assert_eq!(
            (done.progress, done.rate, done.eta),
            (Some(1.0), None, None)
        );
    }

    #[test]
    fn a_reported_lag_grows_once_the_tool_is_silent() {
        let mut users = migration(None);
        let told = Report {
            lag_seconds: Some(5.0),
            ..Report::default()
        };
        users.apply(&told, START).unwrap();
        let at = |after| lag(&users, None, START.after(seconds(after))).unwrap();
        assert_eq!((at(90).seconds, at(90).state), (5.0, LagState::Fresh));
        assert_eq!((at(100).seconds, at(100).state), (15.0, LagState::Stale));
        assert_eq!(at(100).age, Some(seconds(100)));
    }

    #[test]
    fn a_measured_lag_stands_in_for_a_silent_tool() {
        let measured = TableLag {
            source_table: "public.a".into(),
            seconds: 40.0,
            at: START.after(seconds(195)),
            kind: "source".into(),
            state: "stalled".into(),
            age_seconds: Some(2.0),
        };
        let mut users = migration(None);
        let told = Report {
            lag_seconds: Some(5.0),
            ..Report::default()
        };
        users.apply(&told, START).unwrap();
        let at = |after| lag(&users, Some(&measured), START.after(seconds(after))).unwrap();
        assert_eq!(at(60).seconds, 5.0);
        assert_eq!(
            at(200),
            Lag {
                seconds: 40.0,
                age: Some(seconds(7)),
                kind: "source".into(),
                state: LagState::Measured("stalled".into()),
            }
        );
        // Its writer is gone for 16 s.
        assert_eq!((at(211).seconds, at(211).state), (56.0, LagState::Stale));
    }

    #[test]
    fn a_finished_migration_has_no_lag() {
        let mut users = migration(None);
        let told = Report {
            lag_seconds: Some(5.0),
            ..Report::default()
        };
        users.apply(&told, START).unwrap();
        users.enter(Phase::Done, START).unwrap();
        assert_eq!(lag(&users, None, START), None);
        let mut batch = Batch::default();
        series::write(&mut batch, &users, None, START);
        let is_lag = |series: &SeriesSamples| series.labels.metric() == series::LAG;
        assert!(!batch.samples.iter().any(is_lag));
    }
}
