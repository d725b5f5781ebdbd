//! The recorded messages of real connectors, read by the classifier alone.

use std::collections::BTreeMap;
use std::io::BufRead;

use cutover::cdc::{Classifier, Kind, Operation, Tally};
use cutover::demo::broker::Event;

use crate::corpus;

fn code(operation: Operation) -> char {
    match operation {
        Operation::Create => 'c',
        Operation::Update => 'u',
        Operation::Delete => 'd',
        Operation::Read => 'r',
        Operation::Truncate => 't',
        Operation::Message => 'm',
    }
}

/// The truth's form of a tally: tables without their schema.
pub(crate) fn by_table_and_code(
    source: &str,
    changes: impl IntoIterator<Item = (cutover::cdc::Key, u64)>,
) -> BTreeMap<(String, char), u64> {
    changes
        .into_iter()
        .map(|(key, count)| {
            assert_eq!(key.source, source);
            let table = match key.table.split_once('.') {
                Some((_, table)) => table,
                None => &key.table,
            };
            ((table.to_owned(), code(key.operation)), count)
        })
        .collect()
}

#[test]
fn every_recording_gives_the_counts_of_its_ground_truth() {
    let Some(folder) = corpus::folder("debezium") else {
        return;
    };
    for truth in corpus::debezium_truths(&folder) {
        let file = std::fs::File::open(folder.join(&truth.file)).unwrap();
        let classifier = Classifier::new("__debezium-heartbeat");
        let mut tally = Tally::default();
        let mut lines = 0;
        for line in std::io::BufReader::new(file).lines() {
            let event = Event::parse(&line.unwrap()).unwrap();
            let record = classifier
                .classify(&event.topic, event.value.as_deref())
                .unwrap_or_else(|error| panic!("{}: {error}", truth.file));
            tally.add(&record);
            lines += 1;
        }
        let changes = by_table_and_code(truth.source(), tally.changes());
        assert_eq!(lines, truth.lines, "{}", truth.file);
        assert_eq!(changes, truth.changes, "{}", truth.file);
        let kinds: BTreeMap<_, _> = tally.kinds().collect();
        for (kind, name) in [
            (Kind::Tombstone, "tombstone"),
            (Kind::Heartbeat, "heartbeat"),
            (Kind::TransactionBegin, "transaction BEGIN"),
            (Kind::TransactionEnd, "transaction END"),
            (Kind::Notification, "notification"),
            (Kind::SchemaChange, "schema change"),
        ] {
            let counted = kinds.get(&kind).copied().unwrap_or(0);
            assert_eq!(counted, truth.kind(name), "{}: {name}", truth.file);
        }
        assert_eq!(truth.tombstones, truth.kind("tombstone"), "{}", truth.file);
    }
}
