//! The requests that dashboards and their builders make, and how each program is asked.

use crate::client::{Path, seconds};
use crate::server::Program;

const HOUR_MS: i64 = 3_600_000;

/// One request: what it is called and what it asks.
pub(crate) struct Request {
    pub(crate) name: &'static str,
    pub(crate) ask: Ask,
    pub(crate) agreement: Agreement,
}

/// In what VictoriaMetrics' answer has to agree. It does not extrapolate rates, so that these differ,
/// and which of them are the largest with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    Values,
    Series,
    Nothing,
}

#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Instant(&'static str),
    /// Over so many hours, in steps of so many seconds.
    Range(&'static str, i64, u32),
    Labels,
    LabelValues(&'static str),
    Series(&'static str),
}

const fn values(name: &'static str, ask: Ask) -> Request {
    Request {
        name,
        ask,
        agreement: Agreement::Values,
    }
}

const fn rates(name: &'static str, ask: Ask) -> Request {
    Request {
        name,
        ask,
        agreement: Agreement::Series,
    }
}

const fn ranked_rates(name: &'static str, ask: Ask) -> Request {
    Request {
        name,
        ask,
        agreement: Agreement::Nothing,
    }
}

pub(crate) const REQUESTS: [Request; 18] = [
    values("`up`", Ask::Instant("up")),
    rates(
        "`rate(migration_rows_total[5m])`",
        Ask::Instant("rate(migration_rows_total[5m])"),
    ),
    rates(
        "`sum by (migration_id)(rate(migration_rows_total[5m]))`, 3 h / 15 s",
        Ask::Range(
            "sum by (migration_id)(rate(migration_rows_total[5m]))",
            3,
            15,
        ),
    ),
    ranked_rates(
        "`topk(5, sum by (migration_id)(rate(migration_rows_total[5m])))`, 3 h / 60 s",
        Ask::Range(
            "topk(5, sum by (migration_id)(rate(migration_rows_total[5m])))",
            3,
            60,
        ),
    ),
    values(
        "`topk(5, cdc_replication_lag_seconds)`",
        Ask::Instant("topk(5, cdc_replication_lag_seconds)"),
    ),
    rates(
        "`histogram_quantile(0.99, sum by (le)(rate(migration_duration_seconds_bucket[5m])))`, 3 h / 60 s",
        Ask::Range(
            "histogram_quantile(0.99, sum by (le)(rate(migration_duration_seconds_bucket[5m])))",
            3,
            60,
        ),
    ),
    values(
        "`avg_over_time(cdc_replication_lag_seconds[30m])`",
        Ask::Instant("avg_over_time(cdc_replication_lag_seconds[30m])"),
    ),
    values(
        "`max_over_time(cdc_consumer_lag_messages[3h])`",
        Ask::Instant("max_over_time(cdc_consumer_lag_messages[3h])"),
    ),
    rates(
        "`sum by (operation)(increase(cdc_events_processed_total[1h]))`",
        Ask::Instant("sum by (operation)(increase(cdc_events_processed_total[1h]))"),
    ),
    values(
        "`max by (table)(cdc_replication_lag_seconds)`, 3 h / 60 s",
        Ask::Range("max by (table)(cdc_replication_lag_seconds)", 3, 60),
    ),
    values(
        "`quantile(0.95, cdc_consumer_lag_messages)`, 3 h / 60 s",
        Ask::Range("quantile(0.95, cdc_consumer_lag_messages)", 3, 60),
    ),
    values(
        "one series as it is, 3 h / 15 s",
        Ask::Range(
            "migration_data_lag_seconds{migration_id=\"migration-042\"}",
            3,
            15,
        ),
    ),
    rates(
        "`sum(rate(migration_rows_total{table_name=~..., table_name!~...}[5m]))`, 1 h / 30 s",
        Ask::Range(
            "sum(rate(migration_rows_total{table_name=~\"(public|crm)[.].*s\",\
             table_name!~\".*_levels|.*_log\"}[5m]))",
            1,
            30,
        ),
    ),
    values(
        "`count by (job, region, migration_id)({__name__=~\"migration_.*\"})`",
        Ask::Instant("count by (job, region, migration_id)({__name__=~\"migration_.*\"})"),
    ),
    values("`/labels`", Ask::Labels),
    values("`/label/table_name/values`", Ask::LabelValues("table_name")),
    values(
        "`/series` of one metric",
        Ask::Series("migration_rows_total"),
    ),
    values(
        "`/series` of one migration",
        Ask::Series("{migration_id=\"migration-042\"}"),
    ),
];

impl Ask {
    /// The path with its parameters, at a time on the grid of the steps.
    pub(crate) fn path(self, program: Program, at_ms: i64) -> Path {
        let path = match self {
            Self::Instant(expr) => Path::new("/api/v1/query")
                .with("query", expr)
                .with("time", &seconds(at_ms)),
            Self::Range(expr, hours, step) => over(Path::new("/api/v1/query_range"), at_ms, hours)
                .with("query", expr)
                .with("step", &step.to_string()),
            Self::Labels => over(Path::new("/api/v1/labels"), at_ms, 3),
            Self::LabelValues(name) => {
                over(Path::new(&format!("/api/v1/label/{name}/values")), at_ms, 3)
            }
            Self::Series(selector) => {
                over(Path::new("/api/v1/series"), at_ms, 3).with("match[]", selector)
            }
        };
        match program {
            Program::VictoriaMetrics => path.with("nocache", "1"),
            Program::Cutover | Program::Prometheus => path,
        }
    }
}

fn over(path: Path, end_ms: i64, hours: i64) -> Path {
    path.with("start", &seconds(end_ms - hours * HOUR_MS))
        .with("end", &seconds(end_ms))
}
