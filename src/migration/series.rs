//! The series of a migration: their names, their labels, and their values from its record.
//!
//! They are written whole, changed or not, on every point of the grid and with every change, so that an
//! idle counter does not vanish and a restart leaves no hole.

use std::time::Duration;

use super::progress::Lag;
use super::record::{Migration, Phase};
use crate::model::{Batch, Labels, MetricKind, MetricMetadata, STALE_NAN, Sample, Timestamp};

/// Time between two points of the grid.
pub const GRID: Duration = Duration::from_secs(5);

/// How long the series of a finished migration are written on.
pub(super) const FINISHED_KEPT: Duration = Duration::from_secs(24 * 3600);

pub(super) const ROWS: &str = "migration_rows_total";
pub(super) const ERRORS: &str = "migration_errors_total";
pub(super) const LAG: &str = "migration_data_lag_seconds";
const DURATION: &str = "migration_duration_seconds";
const DURATION_BUCKET: &str = "migration_duration_seconds_bucket";
const DURATION_SUM: &str = "migration_duration_seconds_sum";
const DURATION_COUNT: &str = "migration_duration_seconds_count";
const PHASE: &str = "cutover_migration_phase";
const RUNNING: &str = "cutover_migration_running";
const EXPECTED_ROWS: &str = "cutover_migration_expected_rows";
const EXPECTED_RATE: &str = "cutover_migration_expected_rate";

const BUCKETS: [(f64, &str); 6] = [
    (60.0, "60"),
    (300.0, "300"),
    (600.0, "600"),
    (1800.0, "1800"),
    (3600.0, "3600"),
    (f64::INFINITY, "+Inf"),
];

pub(super) fn metadata() -> Vec<(String, MetricMetadata)> {
    use MetricKind::{Counter, Gauge, Histogram};
    [
        (ROWS, Counter, "Rows moved, by migration and table.", ""),
        (
            ERRORS,
            Counter,
            "Errors reported, by migration and type.",
            "",
        ),
        (
            LAG,
            Gauge,
            "How far the target's data is behind.",
            "seconds",
        ),
        (DURATION, Histogram, "Time from start to finish.", "seconds"),
        (PHASE, Gauge, "1 for the phase that a migration is in.", ""),
        (RUNNING, Gauge, "1 until a migration is done or failed.", ""),
        (
            EXPECTED_ROWS,
            Gauge,
            "Rows that a migration is to copy.",
            "",
        ),
        (
            EXPECTED_RATE,
            Gauge,
            "Rows per second that are expected.",
            "",
        ),
    ]
    .into_iter()
    .map(|(name, kind, help, unit)| {
        let metadata = MetricMetadata {
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        };
        (name.to_owned(), metadata)
    })
    .collect()
}

pub(super) fn rows_labels(id: &str, table: &str) -> Labels {
    Labels::of(ROWS, &[("migration_id", id), ("table_name", table)])
}

pub(super) fn errors_labels(id: &str, error_type: &str) -> Labels {
    Labels::of(ERRORS, &[("migration_id", id), ("error_type", error_type)])
}

/// All series of a migration at one time.
pub(super) fn write(batch: &mut Batch, migration: &Migration, lag: Option<&Lag>, at: Timestamp) {
    let id = migration.id();
    let mut push = |labels: Labels, value: f64| batch.push(labels, Sample::new(at, value));
    for (name, table) in &migration.tables {
        push(rows_labels(id, name), table.rows as f64);
    }
    for (error_type, count) in &migration.errors {
        push(errors_labels(id, error_type), *count as f64);
    }
    for phase in Phase::ALL {
        let labels = Labels::of(PHASE, &[("migration_id", id), ("phase", phase.name())]);
        push(labels, f64::from(u8::from(phase == migration.phase)));
    }
    let only_id = |metric| Labels::of(metric, &[("migration_id", id)]);
    push(
        only_id(RUNNING),
        f64::from(u8::from(migration.is_running())),
    );
    if let Some(lag) = lag {
        push(only_id(LAG), lag.seconds);
    }
    if let Some(rows) = migration.config.expected_rows {
        push(only_id(EXPECTED_ROWS), rows as f64);
    }
    if let Some(rate) = migration.config.expected_rate {
        push(only_id(EXPECTED_RATE), rate);
    }
    let duration = migration
        .finished_at
        .map(|finished| finished.since(migration.started_at).as_secs_f64());
    for (bound, le) in BUCKETS {
        let labels = Labels::of(DURATION_BUCKET, &[("migration_id", id), ("le", le)]);
        let inside = duration.is_some_and(|duration| duration <= bound);
        push(labels, f64::from(u8::from(inside)));
    }
    push(only_id(DURATION_SUM), duration.unwrap_or(0.0));
    let count = f64::from(u8::from(duration.is_some()));
    push(only_id(DURATION_COUNT), count);
}

/// The counters that a change brought in, at 0: what they count happened after the migration began, and
/// without a first point a rate would not see it.
pub(super) fn write_zeros(batch: &mut Batch, before: &Migration, after: &Migration, at: Timestamp) {
    let id = after.id();
    let tables = after
        .tables
        .keys()
        .filter(|name| !before.tables.contains_key(*name));
    let errors = after
        .errors
        .keys()
        .filter(|name| !before.errors.contains_key(*name));
    for labels in tables
        .map(|name| rows_labels(id, name))
        .chain(errors.map(|name| errors_labels(id, name)))
    {
        batch.push(labels, Sample::new(at, 0.0));
    }
}

/// Ends the lag of a migration that has finished.
pub(super) fn end_lag(batch: &mut Batch, id: &str, at: Timestamp) {
    let labels = Labels::of(LAG, &[("migration_id", id)]);
    batch.push(labels, Sample::new(at, STALE_NAN));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Config;
    use crate::migration::record::Report;

    const START: Timestamp = Timestamp::from_ms(1_000_000);

    fn lines(migration: &Migration) -> Vec<String> {
        let mut batch = Batch::default();
        write(&mut batch, migration, None, START);
        batch
            .samples
            .iter()
            .map(|series| format!("{} {}", series.labels, series.samples[0].value))
            .collect()
    }

    #[test]
    fn a_migration_is_all_its_series() {
        let config = Config {
            id: "users".into(),
            expected_rows: Some(100),
            expected_rate: Some(2.5),
            ..Config::default()
        };
        let (mut users, _) = Migration::new(config, START);
        let report = Report {
            table: Some("a".into()),
            rows_total: Some(7),
            errors: [("io".to_owned(), 2)].into(),
            ..Report::default()
        };
        users.apply(&report, START).unwrap();
        users
            .enter(Phase::Done, START.after(Duration::from_secs(400)))
            .unwrap();
        assert_eq!(
            lines(&users),
            [
                r#"migration_rows_total{migration_id="users",table_name="a"} 7"#,
                r#"migration_errors_total{error_type="io",migration_id="users"} 2"#,
                r#"cutover_migration_phase{migration_id="users",phase="snapshot"} 0"#,
                r#"cutover_migration_phase{migration_id="users",phase="streaming"} 0"#,
                r#"cutover_migration_phase{migration_id="users",phase="cutover"} 0"#,
                r#"cutover_migration_phase{migration_id="users",phase="done"} 1"#,
                r#"cutover_migration_phase{migration_id="users",phase="failed"} 0"#,
                r#"cutover_migration_running{migration_id="users"} 0"#,
                r#"cutover_migration_expected_rows{migration_id="users"} 100"#,
                r#"cutover_migration_expected_rate{migration_id="users"} 2.5"#,
                r#"migration_duration_seconds_bucket{le="60",migration_id="users"} 0"#,
                r#"migration_duration_seconds_bucket{le="300",migration_id="users"} 0"#,
                r#"migration_duration_seconds_bucket{le="600",migration_id="users"} 1"#,
                r#"migration_duration_seconds_bucket{le="1800",migration_id="users"} 1"#,
                r#"migration_duration_seconds_bucket{le="3600",migration_id="users"} 1"#,
                r#"migration_duration_seconds_bucket{le="+Inf",migration_id="users"} 1"#,
                r#"migration_duration_seconds_sum{migration_id="users"} 400"#,
                r#"migration_duration_seconds_count{migration_id="users"} 1"#,
            ]
        );
    }
}
