//! The series of one target of the query bench: a migration as its agent reports it, with the change
//! events that it causes. The names are those that cutover's dashboards ask for.

use super::series::{Motion, OPERATIONS, Random, Series, TABLES, encoded_labels};

const SCHEMAS: [&str; 4] = ["public", "billing", "crm", "archive"];
const ERRORS: [&str; 4] = ["timeout", "constraint", "conversion", "connection"];
/// The buckets of a duration with the place that each has among the ten that are drawn.
const BUCKETS: [(&str, usize); 6] = [
    ("60", 0),
    ("300", 3),
    ("600", 5),
    ("1800", 7),
    ("3600", 8),
    ("+Inf", 9),
];

pub(super) fn series(target: usize, random: &mut Random) -> Vec<Series> {
    let migration = format!("migration-{target:03}");
    let of = |metric: &'static str, more: &[(&'static str, &str)], motion, state| {
        let mut pairs = vec![
            ("__name__", metric.to_owned()),
            ("job", format!("agents-{}", target % 5)),
            (
                "instance",
                format!("10.30.{}.{}:9404", target / 250, target % 250),
            ),
            ("env", "production".to_owned()),
            ("region", format!("eu-central-{}", target % 3)),
        ];
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        pairs.extend(more);
        Series {
            labels: encoded_labels(pairs),
            motion,
            state,
        }
    };
    let id = ("migration_id", migration.as_str());
    let mut all = vec![
        of("up", &[], Motion::Constant, 1),
        of("migration_data_lag_seconds", &[id], Motion::Lag, 900),
    ];
    for (rank, schema) in SCHEMAS.iter().enumerate() {
        for table in TABLES {
            let name = format!("{schema}.{table}");
            let growth_max = [40, 150, 6, 900][rank];
            let motion = Motion::Counter { growth_max };
            // So far from zero that no rate is stretched to it, which Prometheus 2 does otherwise.
            let state = 10_000_000 + random.below(1_000_000);
            let more = [id, ("table_name", name.as_str())];
            all.push(of("migration_rows_total", &more, motion, state));
        }
    }
    for error in ERRORS {
        let motion = Motion::Counter { growth_max: 1 };
        let more = [id, ("error_type", error)];
        all.push(of("migration_errors_total", &more, motion, 0));
    }
    for (le, index) in BUCKETS {
        let motion = match index {
            0 => Motion::Buckets,
            index => Motion::Bucket { index },
        };
        all.push(of(
            "migration_duration_seconds_bucket",
            &[id, ("le", le)],
            motion,
            0,
        ));
    }
    let whole = Motion::Bucket { index: 9 };
    all.push(of("migration_duration_seconds_count", &[id], whole, 0));
    let sum = Motion::Counter { growth_max: 30_000 };
    all.push(of("migration_duration_seconds_sum", &[id], sum, 0));
    for table in TABLES.iter().take(5) {
        for operation in OPERATIONS {
            let motion = Motion::Counter { growth_max: 150 };
            let state = random.below(1_000_000);
            let more = [("table", *table), ("operation", operation)];
            all.push(of("cdc_events_processed_total", &more, motion, state));
        }
    }
    for (partition, table) in TABLES.iter().enumerate() {
        let partition = partition.to_string();
        let topic = format!("shop-{:02}.public.{table}", target / 10);
        let more = [("topic", topic.as_str()), ("partition", partition.as_str())];
        let state = random.below(1 << 14);
        all.push(of("cdc_consumer_lag_messages", &more, Motion::Gauge, state));
    }
    for table in TABLES {
        let more = [("table", table), ("source_table", table)];
        let state = 1 + random.below(3_000);
        all.push(of("cdc_replication_lag_seconds", &more, Motion::Lag, state));
    }
    for queue in ["read", "decode", "map", "apply", "commit", "report"] {
        let state = random.below(1 << 14);
        let more = [id, ("queue", queue)];
        all.push(of("agent_queue_capacity", &more, Motion::Gauge, state));
    }
    all
}
