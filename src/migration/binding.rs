//! What CDC says about the tables bound to a migration: counts and lags, read from the store.
//!
//! The series are those that the Kafka source writes; this module only reads them.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Config, Error};
use crate::model::{Column, METRIC_NAME, Matcher, TimeRange, Timestamp, is_stale};
use crate::store::{self, Snapshot};

/// Samples that one look at the CDC series may read.
const SAMPLES_MAX: usize = 5_000_000;

/// Which CDC tables belong to a migration.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    tables: Vec<String>,
    topics: Vec<String>,
    patterns: Vec<Regex>,
}

impl Binding {
    pub(super) fn compile(config: &Config) -> Result<Self, Error> {
        let (patterns, topics): (Vec<_>, Vec<_>) = config
            .topics
            .iter()
            .cloned()
            .partition(|topic| topic.starts_with('^'));
        let patterns = patterns
            .iter()
            .map(|pattern| {
                Regex::new(pattern).map_err(|error| Error::Invalid {
                    field: "topics",
                    reason: format!("{pattern:?} is not a pattern: {error}"),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tables: config.tables.clone(),
            topics,
            patterns,
        })
    }

    fn covers(&self, source: &str, table: &str) -> bool {
        if self.tables.iter().any(|bound| bound == table) {
            return true;
        }
        let topic = topic_name(source, table);
        self.topics.contains(&topic) || self.patterns.iter().any(|bound| bound.is_match(&topic))
    }
}

/// The topic of a table's events: Debezium replaces what Kafka does not take in a topic's name.
fn topic_name(source: &str, table: &str) -> String {
    format!("{source}.{table}")
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '_',
        })
        .collect()
}

/// Events of one CDC table, by what they mean for a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) reads: f64,
    pub(super) creates: f64,
    pub(super) updates: f64,
    pub(super) deletes: f64,
    pub(super) truncates: f64,
}

impl Counts {
    /// Every event that moved a row.
    pub(super) fn rows(&self) -> u64 {
        (self.reads + self.creates + self.updates + self.deletes) as u64
    }

    /// Rows that appeared: what an expected total counts.
    pub(super) fn copied(&self) -> u64 {
        (self.reads + self.creates) as u64
    }

    /// Whether the stream of changes has begun.
    pub(super) fn has_changes(&self) -> bool {
        self.creates + self.updates + self.deletes + self.truncates > 0.0
    }

    fn of_operation(&mut self, operation: &str) -> Option<&mut f64> {
        match operation {
            "read" => Some(&mut self.reads),
            "create" => Some(&mut self.creates),
            "update" => Some(&mut self.updates),
            "delete" => Some(&mut self.deletes),
            "truncate" => Some(&mut self.truncates),
            _ => None,
        }
    }
}

/// A CDC table's counts at the start and the end of a span.
#[derive(Clone, Debug)]
pub(super) struct TableCounts {
    source: String,
    pub(super) table: String,
    pub(super) first_at: Timestamp,
    pub(super) first: Counts,
    pub(super) last: Counts,
}

/// The lag of one CDC table as it was last written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableLag {
    pub(super) source_table: String,
    pub(super) seconds: f64,
    pub(super) at: Timestamp,
    pub(super) kind: String,
    /// Empty when nothing was written about it.
    pub(super) state: String,
    pub(super) age_seconds: Option<f64>,
}

/// The CDC series over a span.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    pub(super) counts: Vec<TableCounts>,
    pub(super) lags: Vec<TableLag>,
}

impl Readings {
    pub(super) fn load(snapshot: &Snapshot, range: TimeRange) -> Result<Self, store::Error> {
        let columns = |metric| {
            let matchers = [Matcher::equal(METRIC_NAME, metric)];
            snapshot.select(&matchers, range, SAMPLES_MAX)
        };
        Ok(Self {
            counts: counts(&columns("cdc_events_processed_total")?),
            lags: lags(
                &columns("cdc_replication_lag_seconds")?,
                &columns("cutover_lag_state")?,
                &columns("cutover_lag_age_seconds")?,
            ),
        })
    }

    /// The counts of a migration's tables.
    pub(super) fn counts_of<'a>(
        &'a self,
        binding: &'a Binding,
    ) -> impl Iterator<Item = &'a TableCounts> {
        self.counts
            .iter()
            .filter(|counts| binding.covers(&counts.source, &counts.table))
    }

    /// The worst lag of a migration's tables.
    pub(super) fn lag_of(&self, binding: &Binding) -> Option<&TableLag> {
        let bound: Vec<&str> = self
            .counts_of(binding)
            .map(|counts| counts.table.as_str())
            .collect();
        self.lags
            .iter()
            .filter(|lag| bound.contains(&lag.source_table.as_str()))
            .max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

fn counts(columns: &[Column]) -> Vec<TableCounts> {
    let mut tables: BTreeMap<(&str, &str), TableCounts> = BTreeMap::new();
    for column in columns {
        let (source, table) = (column.labels.value("source"), column.labels.value("table"));
        let points: Vec<(Timestamp, f64)> = live_points(column).collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            continue;
        };
        let counts = tables
            .entry((source, table))
            .or_insert_with(|| TableCounts {
                source: source.to_owned(),
                table: table.to_owned(),
                first_at: first.0,
                first: Counts::default(),
                last: Counts::default(),
            });
        let operation = column.labels.value("operation");
        let (Some(first_count), Some(last_count)) = (
            counts.first.of_operation(operation),
            counts.last.of_operation(operation),
        ) else {
            continue;
        };
        (*first_count, *last_count) = (first.1, last.1);
        counts.first_at = counts.first_at.min(first.0);
    }
    tables.into_values().collect()
}

fn lags(values: &[Column], states: &[Column], ages: &[Column]) -> Vec<TableLag> {
    let belongs = |column: &Column, to: &Column| {
        ["source_table", "target_table"]
            .iter()
            .all(|name| column.labels.value(name) == to.labels.value(name))
    };
    let latest = |column: &Column| latest(column).map(|(_, value)| value);
    values
        .iter()
        .filter_map(|column| {
            let (at, seconds) = self::latest(column)?;
            // The lag may be told of several kinds; the value is that of the most complete one.
            let state = states
                .iter()
                .filter(|state| belongs(state, column) && latest(state) == Some(1.0))
                .min_by_key(|state| kind_order(state.labels.value("kind")));
            let kind = state.map_or("", |state| state.labels.value("kind"));
            // An age without a kind is that of the lag itself.
            let age = ages
                .iter()
                .find(|age| belongs(age, column) && ["", kind].contains(&age.labels.value("kind")));
            Some(TableLag {
                source_table: column.labels.value("source_table").to_owned(),
                seconds,
                at,
                kind: kind.to_owned(),
                state: state
                    .map_or("", |state| state.labels.value("state"))
                    .to_owned(),
                age_seconds: age.and_then(latest),
            })
        })
        .collect()
}

fn kind_order(kind: &str) -> usize {
    ["apply", "source", "transaction"]
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(usize::MAX)
}

/// The last sample, unless the series has ended.
fn latest(column: &Column) -> Option<(Timestamp, f64)> {
    let (at, value) = (column.timestamps.last()?, column.values.last()?);
    (!is_stale(*value)).then_some((*at, *value))
}

fn live_points(column: &Column) -> impl Iterator<Item = (Timestamp, f64)> {
    let points = column.timestamps.iter().zip(&column.values);
    points
        .map(|(at, value)| (*at, *value))
        .filter(|(_, value)| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn column(labels: Labels, points: &[(i64, f64)]) -> Column {
        Column {
            labels,
            timestamps: points
                .iter()
                .map(|(at, _)| Timestamp::from_ms(*at))
                .collect(),
            values: points.iter().map(|(_, value)| *value).collect(),
        }
    }

    fn events(source: &str, table: &str, operation: &str, points: &[(i64, f64)]) -> Column {
        let pairs = [
            ("source", source),
            ("table", table),
            ("operation", operation),
        ];
        column(Labels::of("cdc_events_processed_total", &pairs), points)
    }

    fn binding(tables: &[&str], topics: &[&str]) -> Binding {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Binding::compile(&Config {
            id: "m".into(),
            tables: owned(tables),
            topics: owned(topics),
            ..Config::default()
        })
        .unwrap()
    }

    #[test]
    fn a_table_is_bound_by_name_by_topic_or_by_pattern() {
        assert!(binding(&["public.users"], &[]).covers("pg", "public.users"));
        assert!(!binding(&["public.users"], &[]).covers("pg", "public.users2"));
        assert!(binding(&[], &["pg.public.users"]).covers("pg", "public.users"));
        assert!(!binding(&[], &["pg.public.users"]).covers("pg2", "public.users"));
        assert!(binding(&[], &["^pg\\.public\\."]).covers("pg", "public.users"));
        assert!(!binding(&[], &["^pg\\.public\\."]).covers("old.pg", "public.users"));
    }

    #[test]
    fn a_topics_name_has_no_character_that_kafka_refuses() {
        assert_eq!(
            topic_name("pg", "public.na\u{ef}ve table$"),
            "pg.public.na_ve_table_"
        );
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_text() {
        let config = Config {
            topics: vec!["^(".into()],
            ..Config::default()
        };
        let error = Binding::compile(&config).unwrap_err().to_string();
        assert!(
            error.starts_with(r#"field "topics": "^(" is not a pattern: "#),
            "{error}"
        );
    }

    #[test]
    fn the_operations_of_a_table_are_put_together() {
        let columns = [
            events("pg", "public.a", "create", &[(10, 1.0), (20, 3.0)]),
            events("pg", "public.a", "delete", &[(15, 1.0), (20, f64::NAN)]),
            events("pg", "public.a", "message", &[(5, 9.0)]),
            events("pg", "public.a", "read", &[(10, 100.0), (20, 100.0)]),
            events("pg", "public.b", "read", &[(20, 7.0)]),
        ];
        let counts = counts(&columns);
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[0].last.rows(), 104);
        assert_eq!(counts[0].last.copied(), 103);
        assert_eq!(counts[0].first.copied(), 101);
        assert!(counts[0].last.has_changes() && !counts[1].last.has_changes());
    }

    #[test]
    fn the_worst_lag_of_the_bound_tables_counts() {
        let tables = |table| [("source_table", table), ("target_table", table)];
        let lag = |table, value| {
            let labels = Labels::of("cdc_replication_lag_seconds", &tables(table));
            column(labels, &[(10, value)])
        };
        let state = |table, kind, state, value| {
            let labels = Labels::of("cutover_lag_state", &tables(table));
            let labels = labels.with("kind", kind).with("state", state);
            column(labels, &[(10, value)])
        };
        let age = Labels::of("cutover_lag_age_seconds", &tables("public.a")).with("kind", "source");
        let readings = Readings {
            counts: counts(&[
                events("pg", "public.a", "read", &[(10, 1.0)]),
                events("pg", "public.b", "read", &[(10, 1.0)]),
                events("pg", "public.c", "read", &[(10, 1.0)]),
            ]),
            lags: lags(
                &[
                    lag("public.a", 7.0),
                    lag("public.b", 3.0),
                    lag("public.c", 99.0),
                ],
                &[
                    state("public.a", "source", "fresh", 0.0),
                    state("public.a", "source", "stalled", 1.0),
                    state("public.a", "transaction", "fresh", 1.0),
                ],
                &[column(age, &[(10, 2.5)])],
            ),
        };
        let worst = readings.lag_of(&binding(&["public.a", "public.b"], &[]));
        assert_eq!(
            worst,
            Some(&TableLag {
                source_table: "public.a".into(),
                seconds: 7.0,
                at: Timestamp::from_ms(10),
                kind: "source".into(),
                state: "stalled".into(),
                age_seconds: Some(2.5),
            })
        );
        assert_eq!(readings.lag_of(&binding(&["public.z"], &[])), None);
    }
}
