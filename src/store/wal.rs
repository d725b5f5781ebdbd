//! The write-ahead file: a row for each commit, cut once its samples are sealed.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::Error;
use super::entry::Entry;
use super::handle::{Handle, malformed};

/// Sequence number -> entry.
pub(crate) const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(ROWS)?;
    Ok(())
}

/// Commits one entry; when it returns, the entry is on the disk.
pub(crate) fn append(wal: &Handle, seq: u64, entry: &[u8]) -> Result<(), Error> {
    wal.write(|transaction| {
        transaction.open_table(ROWS)?.insert(seq, entry)?;
        Ok(())
    })
}

/// Removes the rows up to and including a sequence number.
pub(crate) fn cut(wal: &Handle, seq: u64) -> Result<(), Error> {
    wal.write(|transaction| {
        transaction
            .open_table(ROWS)?
            .retain_in(..=seq, |_, _| false)?;
        Ok(())
    })
}

/// Reads the entries after `applied` in order; answers the last sequence number there is.
pub(crate) fn replay(
    wal: &Handle,
    applied: u64,
    mut each: impl FnMut(u64, usize, Entry) -> Result<(), redb::Error>,
) -> Result<u64, Error> {
    let transaction = wal.begin_read()?;
    wal.contain(|| {
        let rows = transaction.open_table(ROWS)?;
        let mut last = applied;
        for row in rows.range(applied + 1..)? {
            let (seq, bytes) = row?;
            let (seq, bytes) = (seq.value(), bytes.value());
            let entry = Entry::decode(bytes, seq).map_err(malformed(format!("row {seq}")))?;
            each(seq, bytes.len(), entry)?;
            last = seq;
        }
        Ok(last)
    })
}

/// Whether rows up to `applied` are left over from a cut that did not come about.
pub(crate) fn has_sealed_rows(wal: &Handle, applied: u64) -> Result<bool, Error> {
    let transaction = wal.begin_read()?;
    wal.contain(|| {
        let rows = transaction.open_table(ROWS)?;
        let first = rows.first()?;
        Ok(first.is_some_and(|(seq, _)| seq.value() <= applied))
    })
}
