//! Messages that could not be understood: kept with their position, so that they can be looked into
//! while the stream goes on.
//!
//! Letters are numbered in the order of their arrival. The latest [`KEPT_MAX`] are kept; an older one is
//! dropped in the same commit that adds a newer, and counted.

use serde::{Deserialize, Serialize};

use crate::cdc::{Reason, Unparsable};
use crate::model::{Batch, Mutation, Timestamp};
use crate::store::{self, Reader, Table};

/// How many letters are kept.
pub const KEPT_MAX: u64 = 10_000;

/// How much of a message is kept.
pub const EXCERPT_BYTES_MAX: usize = 4 << 10;

/// Number of the letter (big endian) -> letter.
const LETTERS: Table<DeadLetter> = Table::new("dead_letters", 1);

/// One row under an empty key: which numbers are in use.
pub(super) const RANGE: Table<Range> = Table::new("dead_letter_range", 1);

/// One message that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub reason: Reason,
    /// What exactly did not parse.
    pub detail: String,
    /// When it was read.
    pub at: Timestamp,
    /// The first 4 KiB of the value.
    pub excerpt: Vec<u8>,
    pub value_bytes: u64,
}

impl DeadLetter {
    pub(super) fn new(
        (topic, partition, offset): (&str, i32, i64),
        value: &[u8],
        unparsable: Unparsable,
        at: Timestamp,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            offset,
            reason: unparsable.reason,
            detail: unparsable.detail,
            at,
            excerpt: value.iter().take(EXCERPT_BYTES_MAX).copied().collect(),
            value_bytes: value.len() as u64,
        }
    }
}

/// The numbers of the letters that are kept: from `first` up to, but not including, `next`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Range {
    first: u64,
    next: u64,
}

/// The letters as the one who adds to them sees them.
#[derive(Debug, Default)]
pub(super) struct Log {
    range: Range,
    staged: Vec<Mutation>,
}

impl Log {
    /// Goes on where the stored [`RANGE`] ends; none is stored before the first letter.
    pub(super) fn resume(stored: Option<Range>) -> Self {
        Self {
            range: stored.unwrap_or_default(),
            staged: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, letter: &DeadLetter) {
        let put = LETTERS.put(self.range.next.to_be_bytes(), letter);
        self.staged.push(put);
        self.range.next += 1;
        if self.range.next - self.range.first > KEPT_MAX {
            let remove = LETTERS.remove(self.range.first.to_be_bytes());
            self.staged.push(remove);
            self.range.first += 1;
        }
    }

    /// Letters dropped to make room, since the store was made.
    pub(super) fn dropped(&self) -> u64 {
        self.range.first
    }

    /// Moves what was pushed into a batch.
    pub(super) fn stage(&mut self, batch: &mut Batch) {
        if !self.staged.is_empty() {
            batch.mutations.append(&mut self.staged);
            batch.mutations.push(RANGE.put([], &self.range));
        }
    }
}

/// The latest letters, the newest first.
pub fn newest(reader: &Reader, limit: usize) -> Result<Vec<DeadLetter>, store::Error> {
    let snapshot = reader.snapshot()?;
    let range: Range = snapshot.record(&RANGE, b"")?.unwrap_or_default();
    let wanted = (limit as u64).min(range.next - range.first);
    let start = range.next - wanted;
    let after = start.checked_sub(1).map(u64::to_be_bytes);
    let after = after.as_ref().map(<[u8; 8]>::as_slice);
    let letters = snapshot.records(&LETTERS, after, wanted as usize)?;
    Ok(letters
        .into_iter()
        .rev()
        .map(|(_, letter)| letter)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::ManualClock;
    use crate::store::{Options, Store};

    fn letter(offset: i64) -> DeadLetter {
        let unparsable = crate::cdc::Classifier::new("hb")
            .classify("t", Some(b"{"))
            .unwrap_err();
        DeadLetter::new(("t", 3, offset), b"{", unparsable, Timestamp::EPOCH)
    }

    fn store(folder: &tempfile::TempDir) -> Store {
        let clock = Arc::new(ManualClock::default());
        Store::open(folder.path(), Options::default(), clock).unwrap()
    }

    #[test]
    fn the_newest_come_first_and_survive_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        for round in 0..3 {
            let reader = store.reader();
            let stored = reader.snapshot().unwrap().record(&RANGE, b"").unwrap();
            let mut log = Log::resume(stored);
            log.push(&letter(round));
            let mut batch = Batch::default();
            log.stage(&mut batch);
            store.writer().write_blocking(batch).unwrap();
        }
        let letters = newest(&store.reader(), 2).unwrap();
        assert_eq!(letters, [letter(2), letter(1)]);
        assert_eq!(letters[0].reason, Reason::TruncatedJson);
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let mut log = Log::default();
        let total = KEPT_MAX as i64 + 5;
        for offset in 0..total {
            log.push(&letter(offset));
        }
        assert_eq!(log.dropped(), 5);
        let mut batch = Batch::default();
        log.stage(&mut batch);
        store.writer().write_blocking(batch).unwrap();
        let letters = newest(&store.reader(), usize::MAX).unwrap();
        assert_eq!(letters.len() as u64, KEPT_MAX);
        assert_eq!(letters[0].offset, total - 1);
        assert_eq!(letters.last().unwrap().offset, 5);
    }

    #[test]
    fn only_the_beginning_of_a_large_message_is_kept() {
        let value = vec![b'x'; EXCERPT_BYTES_MAX + 1];
        let unparsable = crate::cdc::Classifier::new("hb")
            .classify("t", Some(&value))
            .unwrap_err();
        let letter = DeadLetter::new(("t", 0, 0), &value, unparsable, Timestamp::EPOCH);
        assert_eq!(letter.excerpt.len(), EXCERPT_BYTES_MAX);
        assert_eq!(letter.value_bytes, EXCERPT_BYTES_MAX as u64 + 1);
    }
}
