//! The watches that are there without any configuration.

use std::time::Duration;

use super::{Config, DetectorKind, Sides};
use crate::detect::anomaly::Severity;

/// The part of the rows that went wrong, over five minutes and at least 100 rows. A migration may
/// have no series of errors, or of nothing but errors, hence the two unions.
const ERROR_RATIO: &str = "(sum by (migration_id) (increase(migration_errors_total[5m])) \
    or 0 * sum by (migration_id) (increase(migration_rows_total[5m]))) \
    / (sum by (migration_id) (increase(migration_rows_total[5m]) \
    or increase(migration_errors_total[5m])) >= 100)";

/// Gates an expression on a migration that runs, or that is in a phase.
fn while_running(expr: &str) -> String {
    format!("{expr} and on (migration_id) (cutover_migration_running == 1)")
}

fn in_phase(expr: &str, phase: &str) -> String {
    format!("{expr} and on (migration_id) (cutover_migration_phase{{phase=\"{phase}\"}} == 1)")
}

/// The watches that are there without any configuration.
pub fn built_in() -> Vec<Config> {
    let never = Some(Duration::ZERO);
    let throughput = "sum by (migration_id) (rate(migration_rows_total[1m]))";
    let by_table = "sum by (migration_id, table_name) (rate(migration_rows_total[1m]))";
    let sustained = "sum by (migration_id) (rate(migration_rows_total[5m]))";
    let rows = "sum by (migration_id) (migration_rows_total)";
    let events = "sum by (source, table) (rate(cdc_events_processed_total[1m]))";
    let backlog = "sum by (topic) (cdc_consumer_lag_messages)";
    vec![
        Config {
            direction: Sides::Low,
            min_deviation: 1.0,
            min_deviation_ratio: 0.3,
            ..Config::new(
                "throughput",
                &while_running(throughput),
                "throughput",
                "rows/s",
            )
        },
        // A table whose copy is done stands still while the snapshot goes on with the others.
        Config {
            direction: Sides::Low,
            min_deviation: 1.0,
            min_deviation_ratio: 0.5,
            min_duration: Duration::from_secs(60),
            ..Config::new(
                "table_throughput",
                &in_phase(by_table, "streaming"),
                "throughput",
                "rows/s",
            )
        },
        Config {
            direction: Sides::High,
            min_deviation: 10.0,
            relearn_after: never,
            ..Config::new("data_lag", "migration_data_lag_seconds", "data lag", "s")
        },
        Config {
            direction: Sides::High,
            min_deviation: 10.0,
            relearn_after: never,
            ..Config::new(
                "replication_lag",
                "cdc_replication_lag_seconds",
                "replication lag",
                "s",
            )
        },
        Config {
            direction: Sides::High,
            min_deviation: 1_000.0,
            min_deviation_ratio: 0.5,
            relearn_after: never,
            ..Config::new("consumer_lag", backlog, "consumer lag", "messages")
        },
        Config {
            direction: Sides::High,
            min_deviation: 0.002,
            relearn_after: never,
            ..Config::new("error_ratio", ERROR_RATIO, "error ratio", "")
        },
        // Users come and go: worth a look, not a call at night.
        Config {
            min_deviation: 1.0,
            min_deviation_ratio: 0.5,
            severity: Severity::Info,
            ..Config::new("event_rate", events, "event rate", "events/s")
        },
        // Only a snapshot has to move all the time; a streaming migration may just be idle.
        Config {
            direction: Sides::Low,
            detectors: Some(vec![DetectorKind::Stall]),
            relearn_after: never,
            ..Config::new("stall", &in_phase(rows, "snapshot"), "row count", "rows")
        },
        Config {
            direction: Sides::Low,
            limit_of_expected: Some(0.5),
            expected: Some("cutover_migration_expected_rate".into()),
            min_duration: Duration::from_secs(120),
            relearn_after: never,
            ..Config::new(
                "low_throughput",
                &while_running(sustained),
                "throughput",
                "rows/s",
            )
        },
        Config {
            direction: Sides::High,
            limit: Some(0.01),
            severity: Severity::Critical,
            relearn_after: never,
            ..Config::new("high_error_rate", ERROR_RATIO, "error rate", "")
        },
    ]
}

#[cfg(test)]
mod tests {
    use crate::detect::Config as Detection;

    #[test]
    fn built_in_watches_pass_their_own_check() {
        let watches = Detection::default().watches().unwrap();
        let names: Vec<_> = watches.iter().map(|watch| watch.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "throughput",
                "table_throughput",
                "data_lag",
                "replication_lag",
                "consumer_lag",
                "error_ratio",
                "event_rate",
                "stall",
                "low_throughput",
                "high_error_rate"
            ]
        );
    }
}
