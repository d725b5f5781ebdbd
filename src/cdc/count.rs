//! How many records of which kind: absolute counts that only rise.
//!
//! A [`Tally`] belongs to one partition and is stored beside the partition's position, so that the two
//! always agree. Sums over partitions are made when they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::envelope::{Boundary, Operation, Reason, Record};

/// What the changes are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub source: String,
    pub table: String,
    pub operation: Operation,
}

/// A kind of record that is not a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Tombstone,
    Heartbeat,
    TransactionBegin,
    TransactionEnd,
    Notification,
    SchemaChange,
}

impl Kind {
    /// The value of the `kind` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Heartbeat => "heartbeat",
            Self::TransactionBegin => "transaction_begin",
            Self::TransactionEnd => "transaction_end",
            Self::Notification => "notification",
            Self::SchemaChange => "schema_change",
        }
    }
}

/// Changes per operation, in the order of [`Operation::ALL`].
type PerOperation = [u64; Operation::ALL.len()];

/// Everything that was counted on one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Source, then table: a level each, so that counting allocates nothing.
    changes: BTreeMap<String, BTreeMap<String, PerOperation>>,
    kinds: BTreeMap<Kind, u64>,
    dead_letters: BTreeMap<Reason, u64>,
}

impl Tally {
    pub fn add(&mut self, record: &Record<'_>) {
        let kind = match record {
            Record::Change(change) => {
                let tables = entry(&mut self.changes, &change.source);
                entry(tables, &change.table)[change.operation as usize] += 1;
                return;
            }
            Record::Tombstone => Kind::Tombstone,
            Record::Heartbeat { .. } => Kind::Heartbeat,
            Record::Transaction(Boundary::Begin) => Kind::TransactionBegin,
            Record::Transaction(Boundary::End) => Kind::TransactionEnd,
            Record::Notification => Kind::Notification,
            Record::SchemaChange => Kind::SchemaChange,
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Adds changes that were counted elsewhere.
    pub fn add_changes(&mut self, key: &Key, count: u64) {
        let tables = entry(&mut self.changes, &key.source);
        entry(tables, &key.table)[key.operation as usize] += count;
    }

    pub fn add_dead_letter(&mut self, reason: Reason) {
        *self.dead_letters.entry(reason).or_default() += 1;
    }

    /// The changes that occurred; operations that did not are left out.
    pub fn changes(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        self.changes.iter().flat_map(|(source, tables)| {
            tables.iter().flat_map(move |(table, counts)| {
                let key = move |operation| Key {
                    source: source.clone(),
                    table: table.clone(),
                    operation,
                };
                Operation::ALL
                    .into_iter()
                    .map(move |operation| (key(operation), counts[operation as usize]))
                    .filter(|(_, count)| *count > 0)
            })
        })
    }

    pub fn kinds(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.kinds.iter().map(|(kind, count)| (*kind, *count))
    }

    pub fn dead_letters(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        self.dead_letters
            .iter()
            .map(|(reason, count)| (*reason, *count))
    }
}

/// The entry of a name, which is copied only when it is new.
pub(super) fn entry<'m, V: Default>(map: &'m mut BTreeMap<String, V>, name: &str) -> &'m mut V {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), V::default());
    }
    map.get_mut(name)
        .expect("it was there or has been inserted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::Change;

    fn change(table: &str, operation: Operation) -> Record<'_> {
        Record::Change(Change {
            source: "srv".into(),
            table: table.into(),
            operation,
            committed_at: None,
            captured_at: None,
            snapshot: false,
        })
    }

    #[test]
    fn changes_are_counted_by_source_table_and_operation() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add(&change("s.b", Operation::Delete));
        }
        tally.add(&change("s.a", Operation::Read));
        tally.add(&Record::Tombstone);
        let key = |table: &str, operation| Key {
            source: "srv".into(),
            table: table.into(),
            operation,
        };
        let changes: Vec<_> = tally.changes().collect();
        assert_eq!(
            changes,
            [
                (key("s.a", Operation::Read), 1),
                (key("s.b", Operation::Delete), 3)
            ]
        );
        assert_eq!(tally.kinds().collect::<Vec<_>>(), [(Kind::Tombstone, 1)]);
    }

    #[test]
    fn dead_letters_are_no_changes() {
        let mut tally = Tally::default();
        tally.add_dead_letter(Reason::UnknownOp);
        tally.add_dead_letter(Reason::UnknownOp);
        assert_eq!(
            tally.dead_letters().collect::<Vec<_>>(),
            [(Reason::UnknownOp, 2)]
        );
        assert_eq!(tally.changes().count(), 0);
    }

    #[test]
    fn operations_are_listed_in_the_order_of_their_counts() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
        }
    }
}
