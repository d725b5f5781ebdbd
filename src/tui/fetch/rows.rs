//! Makes rows of what the server answered. Pure.

use std::collections::BTreeMap;

use super::super::state::{
    AnomalyRow, CdcData, CdcTableRow, Curve, DeadLetterCount, HealthRow, LagKind, LagReading,
    LagState, MigrationRow, OperationRates, PartitionRow, Phase, Severity, TableId, TableProgress,
    Trouble,
};
use crate::client::{LabelMap, PromSample, PromSeries};
use crate::http::wire;
use crate::model::{Labels, METRIC_NAME, Timestamp};

pub(super) fn health(health: wire::Health) -> HealthRow {
    let troubles = health.parts.into_iter().filter(|part| part.state != "ok");
    HealthRow {
        version: health.version,
        started_at: Timestamp::from_ms(health.started_at_ms),
        now: Timestamp::from_ms(health.now_ms),
        caption: health.caption,
        troubles: troubles
            .map(|part| Trouble {
                part: part.name,
                state: part.state,
                since: Timestamp::from_ms(part.since_ms),
                message: part.message,
            })
            .collect(),
    }
}

pub(super) fn migration(migration: wire::Migration) -> MigrationRow {
    let route = match (migration.source, migration.target) {
        (None, None) => String::new(),
        (source, target) => {
            let known = |end: Option<String>| end.unwrap_or_else(|| "?".to_owned());
            format!("{} → {}", known(source), known(target))
        }
    };
    let tables = migration.tables.into_iter().map(|table| TableProgress {
        name: table.name,
        rows_total: table.rows_total,
        rate: table.rate,
    });
    MigrationRow {
        id: migration.id,
        route,
        phase: Phase::parse(&migration.phase),
        rows_total: migration.rows_total,
        rate: migration.rate,
        expected_rate: migration.expected_rate,
        progress: migration.progress,
        eta_seconds: migration.eta_seconds,
        errors_total: migration.errors_total,
        lag: LagReading {
            seconds: migration.lag.seconds,
            age_seconds: migration.lag.age_seconds,
            kind: LagKind::parse(&migration.lag.kind),
            state: LagState::parse(&migration.lag.state),
        },
        tables: tables.collect(),
    }
}

pub(super) fn anomaly(anomaly: wire::Anomaly) -> AnomalyRow {
    AnomalyRow {
        watch: anomaly.watch,
        labels: anomaly.labels,
        detector: anomaly.detector,
        direction: anomaly.direction,
        severity: Severity::parse(&anomaly.severity),
        opened_at: Timestamp::from_ms(anomaly.opened_at_ms),
        closed_at: anomaly.closed_at_ms.map(Timestamp::from_ms),
        score: anomaly.score,
        score_max: anomaly.score_max,
        observed: anomaly.observed,
        expected: anomaly.expected,
        lower: anomaly.lower,
        upper: anomaly.upper,
        summary: anomaly.summary,
        expr: anomaly.expr,
    }
}

/// A curve named as Prometheus writes its labels.
pub(super) fn curve(series: PromSeries) -> Curve {
    let pairs = series.labels.iter();
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
    let name = match Labels::try_from_pairs(pairs) {
        Ok(labels) => labels.to_string(),
        Err(error) => error.to_string(),
    };
    Curve {
        name,
        points: series.points,
    }
}

/// The CDC screen's rows: `rates` by operation, `levels` the latest values of the metrics by name,
/// `states` the lag states that hold.
pub(super) fn cdc(rates: &[PromSample], levels: &[PromSample], states: &[PromSample]) -> CdcData {
    let lags = lags(levels, states);
    let mut tables: BTreeMap<TableId, (OperationRates, f64)> = BTreeMap::new();
    for sample in metric(levels, "cdc_events_processed_total") {
        tables.entry(table_id(&sample.labels)).or_default().1 += sample.value;
    }
    for sample in rates {
        let rates = &mut tables.entry(table_id(&sample.labels)).or_default().0;
        let rate = match value(&sample.labels, "operation") {
            "create" => &mut rates.create,
            "update" => &mut rates.update,
            "delete" => &mut rates.delete,
            "read" => &mut rates.read,
            _ => &mut rates.other,
        };
        *rate += sample.value;
    }
    let mut tables: Vec<CdcTableRow> = tables
        .into_iter()
        .map(|(id, (rates, events_total))| CdcTableRow {
            lag: lags.get(&id.table).copied().unwrap_or(LagReading::UNKNOWN),
            id,
            rates,
            events_total,
        })
        .collect();
    // Stable, so that equal rates stay in the order of their names.
    tables.sort_by(|one, other| other.rates.total().total_cmp(&one.rates.total()));

    let mut partitions: Vec<PartitionRow> = metric(levels, "cdc_consumer_lag_messages")
        .map(|sample| PartitionRow {
            topic: value(&sample.labels, "topic").to_owned(),
            partition: value(&sample.labels, "partition").to_owned(),
            lag_messages: sample.value,
        })
        .collect();
    partitions.sort_by(|one, other| {
        let numeric = |row: &PartitionRow| row.partition.parse::<i32>().unwrap_or(i32::MAX);
        other
            .lag_messages
            .total_cmp(&one.lag_messages)
            .then_with(|| one.topic.cmp(&other.topic))
            .then_with(|| numeric(one).cmp(&numeric(other)))
    });
    CdcData {
        tables,
        partitions,
        dead_letters: metric(levels, "cutover_cdc_dead_letters_total")
            .map(|sample| DeadLetterCount {
                topic: value(&sample.labels, "topic").to_owned(),
                reason: value(&sample.labels, "reason").to_owned(),
                count: sample.value,
            })
            .collect(),
        chart: None,
    }
}

/// The lag of each source table. One that goes to several targets shows the worst of them.
fn lags(levels: &[PromSample], states: &[PromSample]) -> BTreeMap<String, LagReading> {
    let mut lags: BTreeMap<String, LagReading> = BTreeMap::new();
    let table = |sample: &PromSample| value(&sample.labels, "source_table").to_owned();
    let worst = |known: &mut Option<f64>, value: f64| {
        *known = Some(known.map_or(value, |known| known.max(value)));
    };
    for sample in metric(levels, "cdc_replication_lag_seconds") {
        let lag = lags.entry(table(sample)).or_insert(LagReading::UNKNOWN);
        worst(&mut lag.seconds, sample.value);
    }
    for sample in metric(levels, "cutover_lag_age_seconds") {
        if let Some(lag) = lags.get_mut(&table(sample)) {
            worst(&mut lag.age_seconds, sample.value);
        }
    }
    for sample in states {
        if let Some(lag) = lags.get_mut(&table(sample)) {
            let state = LagState::parse(value(&sample.labels, "state"));
            if lag.state == LagState::Unknown || badness(state) > badness(lag.state) {
                lag.state = state;
                lag.kind = LagKind::parse(value(&sample.labels, "kind"));
            }
        }
    }
    lags
}

/// Which of two states of one table is to be shown.
fn badness(state: LagState) -> u8 {
    match state {
        LagState::Idle => 0,
        LagState::Fresh => 1,
        LagState::Skewed => 2,
        LagState::Throttled => 3,
        LagState::Unknown => 4,
        LagState::Stale => 5,
        LagState::Stalled => 6,
    }
}

fn metric<'a>(samples: &'a [PromSample], name: &'a str) -> impl Iterator<Item = &'a PromSample> {
    samples
        .iter()
        .filter(move |sample| value(&sample.labels, METRIC_NAME) == name)
}

/// A label's value, empty when it is absent.
fn value<'a>(labels: &'a LabelMap, name: &str) -> &'a str {
    labels.get(name).map_or("", String::as_str)
}

fn table_id(labels: &LabelMap) -> TableId {
    TableId {
        source: value(labels, "source").to_owned(),
        table: value(labels, "table").to_owned(),
    }
}
