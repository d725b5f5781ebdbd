//! Random operations against a `BTreeMap`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::disk::Disk;
use crate::model::{ManualClock, Matcher, TimeRange};

const NOW_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
enum Operation {
    Write(Vec<(u8, i64, f64)>),
    /// The same by the way that makes no label sets.
    Append(Vec<(u8, i64, f64)>),
    /// Of one series, or of one metric's.
    Delete(Option<u8>, i64, i64),
    /// All of a series, which is then forgotten in time.
    Remove(u8),
    Record(u8, Option<u8>),
    Seal,
    Settle,
    Restart,
}

fn any_timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => (0i64..2000).prop_map(|at| NOW_MS - at * 1000),
        2 => (0i64..300).prop_map(|at| NOW_MS - at * 3_600_000),
        1 => -50i64..50,
        1 => Just(i64::MIN),
        1 => any::<i64>().prop_map(|at| at.min(NOW_MS)),
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let value = || {
        prop_oneof![
            (0i32..20).prop_map(f64::from),
            any::<u64>().prop_map(f64::from_bits),
        ]
    };
    let samples = || prop::collection::vec((0u8..6, any_timestamp(), value()), 1..40);
    let deletion = (prop::option::of(0u8..6), any_timestamp(), any_timestamp());
    prop_oneof![
        5 => samples().prop_map(Operation::Write),
        5 => samples().prop_map(Operation::Append),
        2 => deletion.prop_map(|(series, left, right)| {
            Operation::Delete(series, left.min(right), left.max(right))
        }),
        2 => (0u8..6).prop_map(Operation::Remove),
        1 => Just(Operation::Settle),
        3 => (0u8..5, any::<Option<u8>>()).prop_map(|(key, value)| Operation::Record(key, value)),
        2 => Just(Operation::Seal),
        1 => Just(Operation::Restart),
    ]
}

const TABLE: Table<u8> = Table::new("model", 3);

fn labels(series: u8) -> Labels {
    // Two metrics, so that a selection spans blocks.
    let metric = if series.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    };
    // And a name that only half of the series have, of both metrics.
    let half = format!("half_{}", series / 3);
    Labels::of(metric, &[("series", &series.to_string()), (&half, "x")])
}

#[derive(Default)]
struct Model {
    samples: BTreeMap<Labels, BTreeMap<i64, u64>>,
    records: BTreeMap<Vec<u8>, u8>,
}

impl Model {
    /// The first sample for a timestamp wins, be it sealed or not.
    fn keep(&mut self, labels: Labels, at: i64, value: f64) {
        let column = self.samples.entry(labels).or_default();
        column.entry(at).or_insert(value.to_bits());
    }

    fn delete(&mut self, matcher: &Matcher, range: TimeRange) {
        for (labels, samples) in &mut self.samples {
            if matcher.matches(labels.value(&matcher.name)) {
                samples.retain(|&at, _| !range.contains(Timestamp::from_ms(at)));
            }
        }
    }

    /// How many series have samples.
    fn series(&self) -> usize {
        let columns = self.samples.values();
        columns.filter(|column| !column.is_empty()).count()
    }
}

fn check(store: &Store, model: &Model, range: TimeRange) {
    let snapshot = store.reader().snapshot().unwrap();
    let read = |matchers: &[Matcher]| -> BTreeMap<Labels, BTreeMap<i64, u64>> {
        let columns = snapshot.select(matchers, range, usize::MAX).unwrap();
        assert!(columns.is_sorted_by(|left, right| left.labels < right.labels));
        columns
            .into_iter()
            .map(|column| {
                assert!(column.timestamps.is_sorted_by(|left, right| left < right));
                let samples = column.timestamps.iter().zip(&column.values);
                let samples = samples
                    .map(|(at, value)| (at.ms(), value.to_bits()))
                    .collect();
                (column.labels, samples)
            })
            .collect()
    };
    let expected: BTreeMap<Labels, BTreeMap<i64, u64>> = model
        .samples
        .iter()
        .map(|(labels, samples)| {
            let samples = samples.range(range.start().ms()..=range.end().ms());
            (
                labels.clone(),
                samples.map(|(&at, &value)| (at, value)).collect(),
            )
        })
        .filter(|(_, samples): &(Labels, BTreeMap<_, _>)| !samples.is_empty())
        .collect();
    assert_eq!(read(&[]), expected);
    let series = snapshot.series(&[], range).unwrap();
    assert_eq!(series, expected.keys().cloned().collect::<Vec<_>>());
    let values = snapshot.label_values("series", &[], range).unwrap();
    let expected_values: BTreeSet<_> = expected
        .keys()
        .map(|labels| labels.value("series"))
        .collect();
    assert!(values.iter().eq(expected_values), "{values:?}");
    let names = snapshot.label_names(&[], range).unwrap();
    let expected_names: BTreeSet<_> = expected
        .keys()
        .flat_map(|labels| labels.iter().map(|label| &*label.name))
        .collect();
    assert!(names.iter().eq(expected_names), "{names:?}");
    let even: BTreeMap<_, _> = expected
        .into_iter()
        .filter(|(labels, _)| labels.metric() == "even")
        .collect();
    assert_eq!(read(&[Matcher::equal("__name__", "even")]), even);
    let records = snapshot.records(&TABLE, None, usize::MAX).unwrap();
    assert_eq!(
        records.into_iter().collect::<BTreeMap<_, _>>(),
        model.records
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_store_is_a_map(
        operations in prop::collection::vec(any_operation(), 1..40),
        bounds in (any_timestamp(), any_timestamp()),
    ) {
        let disk = Arc::new(Disk::default());
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)));
        let options = Options { retention: None, ..Options::default() };
        let open = || Store::open_on(disk.clone(), options.clone(), SealRule::default(), clock.clone()).unwrap();
        let mut store = open();
        let mut model = Model::default();
        for operation in operations {
            match operation {
                Operation::Write(samples) => {
                    let mut batch = Batch::default();
                    for &(series, at, value) in &samples {
                        batch.push(labels(series), Sample::new(Timestamp::from_ms(at), value));
                        model.keep(labels(series), at, value);
                    }
                    let written = store.writer().write_blocking(batch).unwrap();
                    prop_assert_eq!(written.accepted + written.rejected, samples.len() as u64);
                }
                Operation::Append(samples) => {
                    let mut append = store.writer().append();
                    let mut fill = append.fill();
                    for &(series, at, value) in &samples {
                        let labels = labels(series);
                        let pairs: Vec<_> =
                            labels.iter().map(|label| (&*label.name, &*label.value)).collect();
                        fill.series(&pairs).unwrap();
                        fill.push(Sample::new(Timestamp::from_ms(at), value));
                        model.keep(labels.clone(), at, value);
                    }
                    drop(fill);
                    let written = block_on(append.commit()).unwrap();
                    prop_assert_eq!(written.accepted + written.rejected, samples.len() as u64);
                }
                Operation::Delete(series, start, end) => {
                    let matcher = match series {
                        Some(series) => Matcher::equal("series", series.to_string()),
                        None => Matcher::equal("__name__", "odd"),
                    };
                    let range =
                        TimeRange::new(Timestamp::from_ms(start), Timestamp::from_ms(end)).unwrap();
                    block_on(store.writer().delete(vec![vec![matcher.clone()]], range)).unwrap();
                    model.delete(&matcher, range);
                }
                Operation::Remove(series) => {
                    let matcher = Matcher::equal("series", series.to_string());
                    let selector = vec![vec![matcher.clone()]];
                    block_on(store.writer().delete(selector, TimeRange::ALL)).unwrap();
                    model.delete(&matcher, TimeRange::ALL);
                }
                Operation::Settle => store.settle().unwrap(),
                Operation::Record(key, value) => {
                    let mutation = match value {
                        Some(value) => TABLE.put([key], &value),
                        None => TABLE.remove([key]),
                    };
                    match value {
                        Some(value) => model.records.insert(vec![key], value),
                        None => model.records.remove([key].as_slice()),
                    };
                    let batch = Batch { mutations: vec![mutation], ..Batch::default() };
                    store.writer().write_blocking(batch).unwrap();
                }
                Operation::Seal => store.seal().unwrap(),
                Operation::Restart => {
                    store.close().unwrap();
                    store = open();
                }
            }
        }
        check(&store, &model, TimeRange::ALL);
        let (start, end) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
        let bounds = TimeRange::new(Timestamp::from_ms(start), Timestamp::from_ms(end)).unwrap();
        check(&store, &model, bounds);
        // Sealed, so that every series lies in blocks or nowhere.
        store.seal().unwrap();
        check(&store, &model, bounds);
        store.settle().unwrap();
        prop_assert_eq!(store.shared.live().index().count(), model.series());
        store.close().unwrap();
        let store = open();
        prop_assert_eq!(store.shared.live().index().count(), model.series());
        check(&store, &model, bounds);
        // Of strings, too, only those are left that a series has.
        let strings = model.samples.iter().filter(|(_, column)| !column.is_empty());
        let strings: BTreeSet<&str> = strings
            .flat_map(|(labels, _)| labels)
            .flat_map(|label| [&*label.name, &*label.value])
            .collect();
        {
            let live = store.shared.live();
            let index = live.index();
            let symbols = index.symbols().iter().map(|symbol| &**symbol);
            let symbols: BTreeSet<&str> = symbols.filter(|symbol| !symbol.is_empty()).collect();
            prop_assert_eq!(symbols, strings);
        }
        drop(store);
        let verified = verify::verify_on(disk, &mut |_, _| ()).unwrap();
        prop_assert_eq!(verified.faults, []);
        prop_assert_eq!(verified.series, model.series() as u64);
    }
}
