//! Record changes that are not sealed yet, each with the sequence number of its commit, so that every
//! reader finds the version that was valid when it came.

use std::collections::BTreeMap;

use crate::model::Mutation;

/// What a key takes in memory beside its own bytes.
const RECORD_BYTES: u64 = 160;

/// What a record became: its encoded value, or nothing when it was removed.
pub(crate) type Change = Option<Vec<u8>>;

/// The versions of a record by sequence number.
type Versions = Vec<(u64, Change)>;

/// Record changes by table and key.
#[derive(Debug, Default)]
pub(crate) struct Records {
    tables: BTreeMap<String, BTreeMap<Vec<u8>, Versions>>,
}

impl Records {
    /// What the record became up to a sequence number, if it was changed at all.
    pub(crate) fn get(&self, table: &str, key: &[u8], seq: u64) -> Option<&Change> {
        at(self.tables.get(table)?.get(key)?, seq)
    }

    /// The changed records of a table whose keys come after `after`, as of a sequence number.
    pub(crate) fn after<'a>(
        &'a self,
        table: &str,
        after: Option<&[u8]>,
        seq: u64,
    ) -> impl Iterator<Item = (&'a [u8], &'a Change)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, |after| Excluded(after.to_vec()));
        self.tables
            .get(table)
            .into_iter()
            .flat_map(move |records| records.range((start.clone(), Unbounded)))
            .filter_map(move |(key, versions)| Some((key.as_slice(), at(versions, seq)?)))
    }

    /// The last version of every record, by table and key.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (&str, &[u8], Option<&[u8]>)> {
        self.tables.iter().flat_map(|(table, records)| {
            records.iter().filter_map(|(key, versions)| {
                let (_, value) = versions.last()?;
                Some((table.as_str(), key.as_slice(), value.as_deref()))
            })
        })
    }

    /// Answers how many bytes it grew and how many it shrank.
    pub(crate) fn put(&mut self, seq: u64, mutation: &Mutation, oldest: u64) -> (u64, u64) {
        let size = |value: &Change| 40 + value.as_ref().map_or(0, Vec::len) as u64;
        let mut grown = size(&mutation.value);
        // Not `entry`: almost always the table is there, and its name need not be cloned.
        if !self.tables.contains_key(&mutation.table) {
            self.tables.insert(mutation.table.clone(), BTreeMap::new());
        }
        let records = self
            .tables
            .get_mut(&mutation.table)
            .expect("the table was just put there");
        let versions = records.entry(mutation.key.clone()).or_insert_with(|| {
            grown += RECORD_BYTES + mutation.key.len() as u64;
            Versions::new()
        });
        // The last version that the oldest reader sees, and all after it, stay.
        let keep = versions
            .partition_point(|&(at, _)| at <= oldest)
            .saturating_sub(1);
        let mut shrunk = versions.drain(..keep).map(|(_, value)| size(&value)).sum();
        // Two changes in one commit: the second is all that anybody will see.
        if let Some((_, replaced)) = versions.pop_if(|(at, _)| *at == seq) {
            shrunk += size(&replaced);
        }
        versions.push((seq, mutation.value.clone()));
        (grown, shrunk)
    }
}

fn at(versions: &Versions, seq: u64) -> Option<&Change> {
    let count = versions.partition_point(|&(at, _)| at <= seq);
    let (_, value) = versions.get(count.checked_sub(1)?)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stay_as_long_as_somebody_reads_them() {
        let change = |value: Option<u8>| Mutation {
            table: "t".into(),
            key: b"k".to_vec(),
            value: value.map(|byte| vec![byte]),
        };
        let mut records = Records::default();
        records.put(1, &change(Some(1)), 0);
        records.put(2, &change(Some(2)), 1);
        records.put(3, &change(None), 1);
        assert_eq!(records.get("t", b"k", 0), None);
        assert_eq!(records.get("t", b"k", 1), Some(&Some(vec![1])));
        assert_eq!(records.get("t", b"k", 2), Some(&Some(vec![2])));
        assert_eq!(records.get("t", b"k", 9), Some(&None));
        // Nobody is left who could see 1 and 2.
        records.put(4, &change(Some(4)), 3);
        assert_eq!(records.tables["t"][b"k".as_slice()].len(), 2);
        assert_eq!(records.latest().count(), 1);
    }
}
