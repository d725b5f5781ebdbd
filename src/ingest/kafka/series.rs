//! The series that tell of the stream, written on a grid whether or not anything changed.
//!
//! | metric | labels | |
//! | --- | --- | --- |
//! | `cdc_events_processed_total` | `source`, `table`, `operation` | changes, each offset counted once |
//! | `cdc_consumer_lag_messages` | `topic`, `partition` | end offset less our position |
//! | `cdc_replication_lag_seconds` | `source_table`, `target_table` | commit at the source to our reading |
//! | `cutover_lag_point` | and `point` | 1: at which point that lag ends |
//! | `cutover_lag_state` | and `kind`, `state` | 1 for the state that holds, 0 for the others |
//! | `cutover_lag_age_seconds` | as the lag | since the last sign that the lag rests on |
//! | `cutover_lag_skew_seconds` | as the lag | by how much the source's clock is ahead |
//! | `cutover_cdc_records_total` | `topic`, `kind` | what is not a change: tombstones, heartbeats, ... |
//! | `cutover_cdc_dead_letters_total` | `topic`, `reason` | messages that were not understood |
//! | `cutover_cdc_dead_letters_dropped_total` | | letters dropped to make room for later ones |

use std::collections::BTreeMap;

use super::ledger::{Ledger, Partition};
use crate::cdc::lag::{self, Model, Reading, State};
use crate::cdc::{Key, Kind, Reason};
use crate::model::{Batch, Labels, MetricKind, MetricMetadata, Sample, Timestamp};

/// Until a sink or a probe sees the target, lag ends where we read.
const POINT: &str = "read";

const METRICS: [(&str, MetricKind, &str, &str); 10] = [
    (
        "cdc_events_processed_total",
        MetricKind::Counter,
        "",
        "Changes read from Kafka, each counted once.",
    ),
    (
        "cdc_consumer_lag_messages",
        MetricKind::Gauge,
        "",
        "Positions between ours and the end of the partition.",
    ),
    (
        "cdc_replication_lag_seconds",
        MetricKind::Gauge,
        "seconds",
        "Time from a change's commit at the source to the point that cutover_lag_point names.",
    ),
    (
        "cutover_lag_point",
        MetricKind::Gauge,
        "",
        "Where the replication lag of a table ends: read or apply.",
    ),
    (
        "cutover_lag_state",
        MetricKind::Gauge,
        "",
        "1 for the state that a table's lag is in, 0 for the others.",
    ),
    (
        "cutover_lag_age_seconds",
        MetricKind::Gauge,
        "seconds",
        "Time since the last sign that a table's lag rests on.",
    ),
    (
        "cutover_lag_skew_seconds",
        MetricKind::Gauge,
        "seconds",
        "By how much the source's clock is ahead of ours.",
    ),
    (
        "cutover_cdc_records_total",
        MetricKind::Counter,
        "",
        "Records read that are not changes, by kind.",
    ),
    (
        "cutover_cdc_dead_letters_total",
        MetricKind::Counter,
        "",
        "Messages that were not understood, by reason.",
    ),
    (
        "cutover_cdc_dead_letters_dropped_total",
        MetricKind::Counter,
        "",
        "Dead letters dropped to make room for later ones.",
    ),
];

/// What the metrics are, for clients that ask.
pub(super) fn add_metadata(batch: &mut Batch) {
    for (name, kind, unit, help) in METRICS {
        let metadata = MetricMetadata {
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        };
        batch.metadata.push((name.to_owned(), metadata));
    }
}

/// The counters, all of them, as they will be once the batch is committed.
pub(super) fn add_counters(batch: &mut Batch, ledger: &Ledger, at: Timestamp) {
    let mut changes: BTreeMap<Key, u64> = BTreeMap::new();
    let mut records: BTreeMap<(&str, Kind), u64> = BTreeMap::new();
    let mut letters: BTreeMap<(&str, Reason), u64> = BTreeMap::new();
    for (topic, _, partition) in ledger.partitions() {
        let tally = partition.tally();
        for (key, count) in tally.changes() {
            *changes.entry(key).or_default() += count;
        }
        for (kind, count) in tally.kinds() {
            *records.entry((topic, kind)).or_default() += count;
        }
        for (reason, count) in tally.dead_letters() {
            *letters.entry((topic, reason)).or_default() += count;
        }
    }
    let mut push = |metric, labels: &[(&str, &str)], count: u64| {
        batch.push(Labels::of(metric, labels), Sample::new(at, count as f64));
    };
    for (key, count) in changes {
        let labels = [
            ("source", &*key.source),
            ("table", &*key.table),
            ("operation", key.operation.name()),
        ];
        push("cdc_events_processed_total", &labels, count);
    }
    for ((topic, kind), count) in records {
        let labels = [("topic", topic), ("kind", kind.name())];
        push("cutover_cdc_records_total", &labels, count);
    }
    for ((topic, reason), count) in letters {
        let labels = [("topic", topic), ("reason", reason.name())];
        push("cutover_cdc_dead_letters_total", &labels, count);
    }
    let dropped = ledger.letters_dropped();
    push("cutover_cdc_dead_letters_dropped_total", &[], dropped);
}

/// How far behind partitions and tables are.
pub(super) fn add_lags(
    batch: &mut Batch,
    ledger: &Ledger,
    model: &Model,
    at: Timestamp,
    now: Timestamp,
) {
    let mut seen = Vec::new();
    for (topic, number, partition) in ledger.partitions() {
        seen.push((partition.marks(), partition.watermark()));
        if let Some(lag) = consumer_lag(partition) {
            let labels = [("topic", topic), ("partition", &*number.to_string())];
            let labels = Labels::of("cdc_consumer_lag_messages", &labels);
            batch.push(labels, Sample::new(at, lag as f64));
        }
    }
    for (table, reading) in model.assess(&seen, now) {
        add_reading(batch, &table, &reading, at);
    }
}

fn consumer_lag(partition: &Partition) -> Option<i64> {
    let end = partition.end_offset().filter(|_| partition.is_read())?;
    Some((end - partition.next_offset()).max(0))
}

fn add_reading(batch: &mut Batch, table: &str, reading: &Reading, at: Timestamp) {
    let tables = [("source_table", table), ("target_table", table)];
    let mut push = |metric, more: &[(&str, &str)], value: f64| {
        let labels = [&tables, more].concat();
        batch.push(Labels::of(metric, &labels), Sample::new(at, value));
    };
    push(
        "cdc_replication_lag_seconds",
        &[],
        reading.lag.as_secs_f64(),
    );
    push("cutover_lag_point", &[("point", POINT)], 1.0);
    push("cutover_lag_age_seconds", &[], reading.age.as_secs_f64());
    push("cutover_lag_skew_seconds", &[], reading.skew.as_secs_f64());
    for state in State::ALL {
        let labels = [("kind", lag::KIND), ("state", state.name())];
        let holds = f64::from(u8::from(state == reading.state));
        push("cutover_lag_state", &labels, holds);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cdc::Classifier;
    use crate::ingest::kafka::ledger::Received;
    use crate::model::ManualClock;
    use crate::store::{Options, Store};

    fn ledger() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Store::open(folder.path(), Options::default(), clock).unwrap();
        Ledger::load(&store.reader(), Classifier::new("hb")).unwrap()
    }

    fn take(ledger: &mut Ledger, partition: i32, offset: i64, value: &str) {
        let message = Received {
            topic: "srv.s.t",
            partition,
            offset,
            value: Some(value.as_bytes()),
        };
        ledger.open(&("srv.s.t".to_owned(), partition), offset);
        ledger.take(message, Timestamp::from_ms(9_000));
    }

    fn shown(batch: &Batch) -> BTreeSet<String> {
        let samples = batch.samples.iter();
        samples
            .map(|series| format!("{} {}", series.labels, series.samples[0].value))
            .collect()
    }

    const CREATE: &str = r#"{"op":"c","source":{"connector":"postgresql","name":"srv","ts_ms":7000,
                             "schema":"s","table":"t"}}"#;

    #[test]
    fn counters_are_summed_over_partitions() {
        let mut ledger = ledger();
        take(&mut ledger, 0, 0, CREATE);
        take(&mut ledger, 1, 0, CREATE);
        take(&mut ledger, 1, 1, "{");
        take(&mut ledger, 1, 2, "null");
        let mut batch = Batch::default();
        add_counters(&mut batch, &ledger, Timestamp::from_ms(10_000));
        let expected = [
            r#"cdc_events_processed_total{operation="create",source="srv",table="s.t"} 2"#,
            "cutover_cdc_dead_letters_dropped_total 0",
            r#"cutover_cdc_dead_letters_total{reason="truncated_json",topic="srv.s.t"} 1"#,
            r#"cutover_cdc_dead_letters_total{reason="wrong_type",topic="srv.s.t"} 1"#,
        ];
        assert_eq!(shown(&batch), expected.map(str::to_owned).into());
    }

    #[test]
    fn a_table_has_a_lag_with_point_age_skew_and_all_states() {
        let mut ledger = ledger();
        take(&mut ledger, 0, 3, CREATE);
        let now = Timestamp::from_ms(10_000);
        ledger.set_ends(&[(("srv.s.t".to_owned(), 0), 9)].into(), now);
        let model = Model::new(Duration::from_secs(10), Duration::from_secs(5));
        let mut batch = Batch::default();
        add_lags(&mut batch, &ledger, &model, now, now);
        let tables = r#"source_table="s.t""#;
        let shown = shown(&batch);
        for expected in [
            r#"cdc_consumer_lag_messages{partition="0",topic="srv.s.t"} 5"#.to_owned(),
            format!(r#"cdc_replication_lag_seconds{{{tables},target_table="s.t"}} 2"#),
            format!(r#"cutover_lag_point{{point="read",{tables},target_table="s.t"}} 1"#),
            format!(r#"cutover_lag_age_seconds{{{tables},target_table="s.t"}} 1"#),
            format!(r#"cutover_lag_skew_seconds{{{tables},target_table="s.t"}} 0"#),
            format!(
                r#"cutover_lag_state{{kind="source",{tables},state="fresh",target_table="s.t"}} 1"#
            ),
            format!(
                r#"cutover_lag_state{{kind="source",{tables},state="stalled",target_table="s.t"}} 0"#
            ),
        ] {
            assert!(shown.contains(&expected), "{expected} not in {shown:#?}");
        }
        assert_eq!(shown.len(), 11);
    }

    #[test]
    fn an_end_below_our_position_is_no_negative_lag() {
        let mut ledger = ledger();
        take(&mut ledger, 0, 3, CREATE);
        let now = Timestamp::from_ms(10_000);
        ledger.set_ends(&[(("srv.s.t".to_owned(), 0), 2)].into(), now);
        let partition = ledger.get(&("srv.s.t".to_owned(), 0)).unwrap();
        assert_eq!(consumer_lag(partition), Some(0));
    }

    #[test]
    fn every_metric_is_described() {
        let mut ledger = ledger();
        take(&mut ledger, 0, 0, CREATE);
        let model = Model::new(Duration::from_secs(10), Duration::from_secs(5));
        let mut batch = Batch::default();
        add_metadata(&mut batch);
        add_counters(&mut batch, &ledger, Timestamp::EPOCH);
        add_lags(
            &mut batch,
            &ledger,
            &model,
            Timestamp::EPOCH,
            Timestamp::EPOCH,
        );
        for series in &batch.samples {
            let metric = series.labels.metric();
            assert!(
                batch.metadata.iter().any(|(name, _)| name == metric),
                "{metric}"
            );
        }
    }
}
