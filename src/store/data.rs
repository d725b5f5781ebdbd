//! The tables of the data file: sealed blocks, the manifest that names them, and series, symbols and
//! records as of the last seal.
//!
//! Each change is one transaction that also moves the file's revision on, by which a cached manifest is
//! known to be the one of a read transaction.

use std::sync::Arc;

use redb::{
    ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Error;
use super::block::{Block, BlockKey};
use super::bytes::{Bytes, Malformed, checked_row, put_row_checksum, put_varint};
use super::entry::text;
use super::files::{meta_value, meta_value_if_any, put_meta};
use super::handle::{Handle, malformed};
use super::head::Gone;
use super::index::Index;
use super::manifest::{Manifest, WindowRow};
use super::overlay::Records;
use crate::model::SeriesId;

/// Width, window number, generation, metric, first series -> block.
const BLOCKS: TableDefinition<'_, (u8, i64, u64, u32, u32), &[u8]> = TableDefinition::new("blocks");
/// Width, window number, generation -> manifest row.
pub(crate) const WINDOWS: TableDefinition<'_, (u8, i64, u64), &[u8]> =
    TableDefinition::new("windows");
/// Number -> string, checksum.
pub(crate) const SYMBOLS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("symbols");
/// Id -> pairs of symbols, checksum.
pub(crate) const SERIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("series");
/// Table, key -> encoded record, checksum.
pub(crate) const RECORDS: TableDefinition<'_, (&str, &[u8]), &[u8]> =
    TableDefinition::new("records");

const META_APPLIED: &str = "applied_wal_seq";
const META_REVISION: &str = "revision";
const META_NEXT_SERIES: &str = "next_series";
const META_NEXT_SYMBOL: &str = "next_symbol";

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(BLOCKS)?;
    transaction.open_table(WINDOWS)?;
    transaction.open_table(SYMBOLS)?;
    transaction.open_table(SERIES)?;
    transaction.open_table(RECORDS)?;
    put_meta(transaction, META_APPLIED, &0u64.to_le_bytes())?;
    put_meta(transaction, META_REVISION, &0u64.to_le_bytes())?;
    put_meta(transaction, META_NEXT_SERIES, &0u32.to_le_bytes())?;
    put_meta(transaction, META_NEXT_SYMBOL, &0u32.to_le_bytes())
}

/// The sequence number up to which everything is in this file.
pub(crate) fn applied(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    meta_value(transaction, META_APPLIED).map(u64::from_le_bytes)
}

pub(crate) fn revision(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    meta_value(transaction, META_REVISION).map(u64::from_le_bytes)
}

/// The id of the first series that was not defined at the last seal: ids are not given again.
pub(crate) fn next_series(transaction: &ReadTransaction) -> Result<u32, redb::Error> {
    next(transaction, META_NEXT_SERIES, SERIES)
}

/// The number of the first symbol that was not there at the last seal.
pub(crate) fn next_symbol(transaction: &ReadTransaction) -> Result<u32, redb::Error> {
    next(transaction, META_NEXT_SYMBOL, SYMBOLS)
}

/// A file in which nothing was ever forgotten may not say it: then it is the one after the last.
fn next(
    transaction: &ReadTransaction,
    key: &str,
    table: TableDefinition<'_, u32, &[u8]>,
) -> Result<u32, redb::Error> {
    if let Some(next) = meta_value_if_any(transaction, key)? {
        return Ok(u32::from_le_bytes(next));
    }
    let rows = transaction.open_table(table)?;
    Ok(rows.last()?.map_or(0, |(last, _)| last.value() + 1))
}

/// Series and symbols that one file lacks.
#[derive(Debug)]
pub(crate) struct Definitions {
    first_symbol: u32,
    symbols: Vec<Arc<str>>,
    first_series: u32,
    /// The encoded pairs of one series after the other, and where each ends.
    pairs: Vec<u8>,
    ends: Vec<usize>,
}

impl Definitions {
    /// What the file lacks of the series up to an id and of the first so many symbols. None of them is
    /// gone yet: that takes a seal first.
    pub(crate) fn missing(
        transaction: &ReadTransaction,
        index: &Index,
        series: u32,
        symbols: usize,
    ) -> Result<Self, redb::Error> {
        let first_symbol = next_symbol(transaction)?;
        let first_series = next_series(transaction)?;
        let (mut pairs, mut ends) = (Vec::new(), Vec::new());
        for id in first_series..series {
            for &(name, value) in index.pairs(SeriesId(id)) {
                put_varint(&mut pairs, name.into());
                put_varint(&mut pairs, value.into());
            }
            ends.push(pairs.len());
        }
        let symbols = index.symbols().get(first_symbol as usize..symbols);
        Ok(Self {
            first_symbol,
            symbols: symbols.unwrap_or_default().to_vec(),
            first_series,
            pairs,
            ends,
        })
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut row = Vec::new();
        let mut symbols = transaction.open_table(SYMBOLS)?;
        for (number, symbol) in (self.first_symbol..).zip(&self.symbols) {
            row.clear();
            row.extend_from_slice(symbol.as_bytes());
            put_row_checksum(&mut row, number.into());
            symbols.insert(number, row.as_slice())?;
        }
        let mut series = transaction.open_table(SERIES)?;
        let mut start = 0;
        for (id, &end) in (self.first_series..).zip(&self.ends) {
            row.clear();
            row.extend_from_slice(&self.pairs[start..end]);
            put_row_checksum(&mut row, id.into());
            series.insert(id, row.as_slice())?;
            start = end;
        }
        let next = self.first_series + self.ends.len() as u32;
        put_meta(transaction, META_NEXT_SERIES, &next.to_le_bytes())?;
        let next = self.first_symbol + self.symbols.len() as u32;
        put_meta(transaction, META_NEXT_SYMBOL, &next.to_le_bytes())
    }
}

/// What one seal adds.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) seq: u64,
    pub(crate) windows: Vec<(WindowRow, Vec<Block>)>,
    pub(crate) definitions: Definitions,
    /// Series and symbols whose rows go.
    pub(crate) gone: &'a Gone,
    pub(crate) records: &'a Records,
}

/// Writes a seal into a transaction.
pub(crate) fn write_seal(
    transaction: &WriteTransaction,
    sealed: &Sealed<'_>,
    revision: u64,
) -> Result<(), redb::Error> {
    {
        let mut blocks = transaction.open_table(BLOCKS)?;
        let mut windows = transaction.open_table(WINDOWS)?;
        for (row, row_blocks) in &sealed.windows {
            for block in row_blocks {
                blocks.insert(encode_key(&block.key), block.bytes.as_slice())?;
            }
            windows.insert(row.key(), row.encode().as_slice())?;
        }
        sealed.definitions.write(transaction)?;
        let mut series = transaction.open_table(SERIES)?;
        for id in &sealed.gone.series {
            series.remove(id.0)?;
        }
        let mut symbols = transaction.open_table(SYMBOLS)?;
        for number in &sealed.gone.symbols {
            symbols.remove(*number)?;
        }
        let mut row = Vec::new();
        let mut records = transaction.open_table(RECORDS)?;
        for (table, key, value) in sealed.records.latest() {
            match value {
                Some(value) => {
                    row.clear();
                    row.extend_from_slice(value);
                    put_row_checksum(&mut row, record_seed(table, key));
                    records.insert((table, key), row.as_slice())?
                }
                None => records.remove((table, key))?,
            };
        }
    }
    put_meta(transaction, META_APPLIED, &sealed.seq.to_le_bytes())?;
    put_meta(transaction, META_REVISION, &revision.to_le_bytes())
}

/// What happens to sealed windows without anything new being sealed.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// As they are afterwards; without a block, a row goes.
    pub(crate) rows: Vec<WindowRow>,
    pub(crate) remove: Vec<BlockKey>,
    pub(crate) insert: Vec<Block>,
    /// Samples that gave way to others of an earlier generation.
    pub(crate) conflicts: u64,
}

impl Change {
    /// The removal of a whole row.
    pub(crate) fn drop_row(row: &WindowRow) -> Self {
        let mut emptied = row.clone();
        let remove = emptied.blocks.drain(..);
        let remove = remove.map(|block| row.block_key(&block)).collect();
        Self {
            rows: vec![emptied],
            remove,
            ..Self::default()
        }
    }

    pub(crate) fn insert_bytes(&self) -> u64 {
        self.insert
            .iter()
            .map(|block| block.bytes.len() as u64)
            .sum()
    }
}

/// Writes a change of windows.
pub(crate) fn write_change(
    transaction: &WriteTransaction,
    change: &Change,
    revision: u64,
) -> Result<(), redb::Error> {
    {
        let mut blocks = transaction.open_table(BLOCKS)?;
        let mut windows = transaction.open_table(WINDOWS)?;
        for key in &change.remove {
            if blocks.remove(encode_key(key))?.is_none() {
                return Err(redb::Error::Corrupted(format!("block {key:?} is missing")));
            }
        }
        for block in &change.insert {
            blocks.insert(encode_key(&block.key), block.bytes.as_slice())?;
        }
        for row in &change.rows {
            if row.blocks.is_empty() {
                windows.remove(row.key())?;
            } else {
                windows.insert(row.key(), row.encode().as_slice())?;
            }
        }
    }
    put_meta(transaction, META_REVISION, &revision.to_le_bytes())
}

/// Bytes of rows that one commit of a copy holds.
const COPY_BYTES: usize = 16 << 20;

/// Copies every table but `meta`, and the numbers in that, from one data file to another.
pub(crate) fn copy(from: &Handle, to: &Handle) -> Result<(), Error> {
    let transaction = from.begin_read()?;
    copy_table(from, to, &transaction, BLOCKS)?;
    copy_table(from, to, &transaction, WINDOWS)?;
    copy_table(from, to, &transaction, SYMBOLS)?;
    copy_table(from, to, &transaction, SERIES)?;
    copy_records(from, to, &transaction)?;
    let (applied, revision) =
        from.contain(|| Ok((applied(&transaction)?, revision(&transaction)?)))?;
    let (series, symbol) =
        from.contain(|| Ok((next_series(&transaction)?, next_symbol(&transaction)?)))?;
    to.write(|target| {
        put_meta(target, META_APPLIED, &applied.to_le_bytes())?;
        put_meta(target, META_REVISION, &revision.to_le_bytes())?;
        put_meta(target, META_NEXT_SERIES, &series.to_le_bytes())?;
        put_meta(target, META_NEXT_SYMBOL, &symbol.to_le_bytes())
    })
}

/// Copies a table in commits of a bounded size; keys come in their order, so pages are filled well.
fn copy_table<K>(
    from: &Handle,
    to: &Handle,
    transaction: &ReadTransaction,
    table: TableDefinition<'static, K, &'static [u8]>,
) -> Result<(), Error>
where
    K: redb::Key + for<'a> redb::Value<SelfType<'a> = K> + Clone + 'static,
{
    let source = from.contain(|| Ok(transaction.open_table(table)?))?;
    let mut rows = from.contain(|| Ok(source.range::<K>(..)?))?;
    let mut is_over = false;
    while !is_over {
        // Read first: an error has to name the file that it is of.
        let mut batch = Vec::new();
        from.contain(|| {
            let mut bytes = 0;
            while bytes < COPY_BYTES {
                let Some(row) = rows.next() else {
                    is_over = true;
                    break;
                };
                let row = row?;
                bytes += row.1.value().len();
                batch.push(row);
            }
            Ok(())
        })?;
        to.write(|target| {
            let mut target = target.open_table(table)?;
            for (key, value) in &batch {
                target.insert(key.value(), value.value())?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Records have borrowed keys, and are few.
fn copy_records(from: &Handle, to: &Handle, transaction: &ReadTransaction) -> Result<(), Error> {
    let source = from.contain(|| Ok(transaction.open_table(RECORDS)?))?;
    to.write(|target| {
        let mut target = target.open_table(RECORDS)?;
        for row in source.range::<(&str, &[u8])>(..)? {
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
        Ok(())
    })
}

/// What the tables beside the blocks take, whose rows are small.
pub(crate) fn small_table_bytes(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let bytes = |stats: redb::TableStats| {
        stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes()
    };
    Ok(bytes(transaction.open_table(WINDOWS)?.stats()?)
        + bytes(transaction.open_table(SYMBOLS)?.stats()?)
        + bytes(transaction.open_table(SERIES)?.stats()?)
        + bytes(transaction.open_table(RECORDS)?.stats()?))
}

/// Rebuilds the index as of the last seal.
pub(crate) fn load_index(transaction: &ReadTransaction) -> Result<Index, redb::Error> {
    let mut index = Index::default();
    let mut count = 0;
    let next = next_symbol(transaction)?;
    let symbols = transaction.open_table(SYMBOLS)?;
    for row in symbols.range::<u32>(..)? {
        let (number, bytes) = row?;
        let number = number.value();
        let place = || format!("symbol {number}");
        let string = checked_row(bytes.value(), number.into())
            .and_then(text)
            .map_err(malformed(place()))?;
        index.skip_symbols_to(number);
        if number >= next || index.intern(&string.into()) != number {
            let detail = format!("{} is out of sequence", place());
            return Err(redb::Error::Corrupted(detail));
        }
        count += 1;
    }
    check_count("symbols", count, symbols.len()?)?;
    index.skip_symbols_to(next);
    let mut pairs = Vec::new();
    let mut count = 0;
    let next = next_series(transaction)?;
    let series = transaction.open_table(SERIES)?;
    for row in series.range::<u32>(..)? {
        let (id, bytes) = row?;
        let id = id.value();
        let place = || format!("series {id}");
        checked_row(bytes.value(), id.into())
            .and_then(|bytes| {
                let is_there = |number| {
                    index
                        .symbols()
                        .get(number)
                        .is_some_and(|symbol: &Arc<str>| !symbol.is_empty())
                };
                decode_pairs(bytes, is_there, &mut pairs)
            })
            .map_err(malformed(place()))?;
        if id >= next {
            let detail = format!("{} is out of sequence: {next} comes next", place());
            return Err(redb::Error::Corrupted(detail));
        }
        index.skip_to(id);
        index.push(&pairs);
        count += 1;
    }
    check_count("series", count, series.len()?)?;
    index.skip_to(next);
    Ok(index)
}

pub(crate) fn decode_pairs(
    bytes: &[u8],
    is_there: impl Fn(usize) -> bool,
    pairs: &mut Vec<(u32, u32)>,
) -> Result<(), Malformed> {
    let mut bytes = Bytes::new(bytes);
    pairs.clear();
    while !bytes.is_empty() {
        let pair = (bytes.varint_u32()?, bytes.varint_u32()?);
        if !is_there(pair.0 as usize) || !is_there(pair.1 as usize) {
            return Err(Malformed("names a symbol that is not there"));
        }
        pairs.push(pair);
    }
    Ok(())
}

/// The whole manifest.
pub(crate) fn load_manifest(transaction: &ReadTransaction) -> Result<Manifest, redb::Error> {
    let windows = transaction.open_table(WINDOWS)?;
    let mut rows = Vec::new();
    for row in windows.range::<(u8, i64, u64)>(..)? {
        let (key, bytes) = row?;
        let key = key.value();
        let row = WindowRow::decode(key, bytes.value())
            .map_err(malformed(format!("manifest row {key:?}")))?;
        rows.push(Arc::new(row));
    }
    check_count("windows", rows.len(), windows.len()?)?;
    Ok(Manifest::new(revision(transaction)?, rows))
}

/// A table that was read whole has as many rows as it says.
fn check_count(table: &str, read: usize, counted: u64) -> Result<(), redb::Error> {
    if read as u64 == counted {
        return Ok(());
    }
    let detail = format!("table {table:?} has {read} rows, not {counted}");
    Err(redb::Error::Corrupted(detail))
}

pub(crate) type Blocks = redb::ReadOnlyTable<(u8, i64, u64, u32, u32), &'static [u8]>;

pub(crate) fn open_blocks(transaction: &ReadTransaction) -> Result<Blocks, redb::Error> {
    Ok(transaction.open_table(BLOCKS)?)
}

/// The bytes of a block that the manifest names.
pub(crate) fn block<'a>(
    blocks: &'a Blocks,
    key: &BlockKey,
) -> Result<redb::AccessGuard<'a, &'static [u8]>, redb::Error> {
    let found = blocks.get(encode_key(key))?;
    found.ok_or_else(|| redb::Error::Corrupted(format!("block {key:?} is missing")))
}

/// One sealed record.
pub(crate) fn record(
    transaction: &ReadTransaction,
    table: &str,
    key: &[u8],
) -> Result<Option<Vec<u8>>, redb::Error> {
    let records = transaction.open_table(RECORDS)?;
    let value = records.get((table, key))?;
    value
        .map(|value| checked_record(table, key, value.value()).map(<[u8]>::to_vec))
        .transpose()
}

pub(crate) fn checked_record<'a>(
    table: &str,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<&'a [u8], redb::Error> {
    let place = || format!("record {} of table {table:?}", key.escape_ascii());
    checked_row(bytes, record_seed(table, key)).map_err(|error| malformed(place())(error))
}

/// What stands for a record's key in its checksum.
fn record_seed(table: &str, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, xxh3_64(table.as_bytes()))
}

/// The sealed records of a table whose keys come after `after`, until `each` has enough.
pub(crate) fn each_record(
    transaction: &ReadTransaction,
    table: &str,
    after: Option<&[u8]>,
    mut each: impl FnMut(&[u8], &[u8]) -> std::ops::ControlFlow<()>,
) -> Result<(), redb::Error> {
    let records = transaction.open_table(RECORDS)?;
    for row in records.range((table, after.unwrap_or_default())..)? {
        let (key, value) = row?;
        let (row_table, row_key) = key.value();
        if row_table != table {
            break;
        }
        if after == Some(row_key) {
            continue;
        }
        let value = checked_record(table, row_key, value.value())?;
        if each(row_key, value).is_break() {
            break;
        }
    }
    Ok(())
}

fn encode_key(key: &BlockKey) -> (u8, i64, u64, u32, u32) {
    (
        key.window.width as u8,
        key.window.number,
        key.generation,
        key.metric,
        key.first.0,
    )
}
