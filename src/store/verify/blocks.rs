//! The manifest and the blocks that it names, decoded to the last sample.

use redb::{ReadTransaction, ReadableTableMetadata as _};

use super::super::block::{BlockKey, BlockReader};
use super::super::bytes::{Bytes, Malformed};
use super::super::data::{self, Blocks};
use super::super::handle::Handle;
use super::super::manifest::{BlockRow, WindowRow};
use super::names::Names;
use super::{Verified, each_row, malformed};
use crate::model::{SeriesId, Timestamp};

/// The head of a block up to its count of series: kind, key, last series.
const COUNTS_AT: usize = 1 + 25;

impl Verified {
    /// Reads the manifest, then every block that it names.
    pub(super) fn windows(
        &mut self,
        data: &Handle,
        transaction: &ReadTransaction,
        names: &Names,
        progress: &mut dyn FnMut(u64, u64),
    ) {
        let mut rows = Vec::new();
        let mut faults = Vec::new();
        let count = each_row(
            data,
            transaction,
            data::WINDOWS,
            |key, value| match WindowRow::decode(key, value) {
                Ok(row) => rows.push(row),
                Err(error) => faults.push((format!("manifest row {key:?}"), malformed(error))),
            },
        );
        self.windows = self.counted(data, "windows", count);
        let is_complete = faults.is_empty();
        for (place, detail) in faults {
            self.fault(data, place, detail);
        }
        let blocks = match data.contain(|| data::open_blocks(transaction)) {
            Ok(blocks) => blocks,
            Err(error) => return self.error(data, "table \"blocks\"", &error),
        };
        let named: u64 = rows.iter().map(|row| row.blocks.len() as u64).sum();
        match data.contain(|| Ok(blocks.len()?)) {
            Ok(there) if is_complete && there != named => {
                let detail = format!("holds {there} blocks, the manifest names {named}");
                self.fault(data, "table \"blocks\"", detail);
            }
            Ok(_) => {}
            Err(error) => self.error(data, "table \"blocks\"", &error),
        }
        let mut reader = Reader {
            data,
            blocks,
            names,
            open: BlockReader::default(),
        };
        for row in &rows {
            if !is_in_order(row) {
                let place = place_of_row(row);
                self.fault(
                    data,
                    place,
                    "names blocks that are not in the order of their keys",
                );
            }
            for block in &row.blocks {
                match reader.read(row, block) {
                    Ok(samples) => self.samples += samples,
                    Err(detail) => self.fault(data, place_of_block(row, block, names), detail),
                }
                self.blocks += 1;
                progress(self.blocks, named);
            }
        }
    }
}

fn is_in_order(row: &WindowRow) -> bool {
    let apart = row.blocks.windows(2).all(|pair| {
        let (last, first) = (
            (pair[0].metric, pair[0].last),
            (pair[1].metric, pair[1].first),
        );
        last < first
    });
    apart && row.blocks.iter().all(|block| block.first <= block.last)
}

fn place_of_row(row: &WindowRow) -> String {
    let range = row.window.range();
    let (start, end) = (range.start(), range.end());
    format!("window {start} to {end}, generation {}", row.generation)
}

fn place_of_block(row: &WindowRow, block: &BlockRow, names: &Names) -> String {
    format!(
        "{}, {}, {} to {}",
        place_of_row(row),
        names.metric(block.metric),
        names.labels(block.first),
        names.labels(block.last)
    )
}

/// Reads one block after the other.
struct Reader<'a> {
    data: &'a Handle,
    blocks: Blocks,
    names: &'a Names,
    open: BlockReader,
}

impl Reader<'_> {
    /// Decodes all of a block; answers how many samples it holds, or what is wrong with it.
    fn read(&mut self, row: &WindowRow, block: &BlockRow) -> Result<u64, String> {
        let key = row.block_key(block);
        let bytes = self
            .data
            .contain(|| Ok(data::block(&self.blocks, &key)?.value().to_vec()));
        let bytes = bytes.map_err(|error| error_text(&error, &key))?;
        let checked = self.check(row, block, &key, &bytes);
        checked.map_err(malformed)
    }

    fn check(
        &mut self,
        row: &WindowRow,
        block: &BlockRow,
        key: &BlockKey,
        bytes: &[u8],
    ) -> Result<u64, Malformed> {
        self.open.open(bytes, key, block.checksum)?;
        if bytes.len() != block.bytes as usize {
            return Err(Malformed("has another length than the manifest says"));
        }
        let mut head = Bytes::new(bytes);
        head.take(COUNTS_AT)?;
        let (last, series, samples) = (SeriesId(head.u32()?), head.u32()?, head.u32()?);
        if last != block.last || samples != block.samples {
            return Err(Malformed("has other counts than the manifest says"));
        }
        let ids: Vec<SeriesId> = self.open.series().collect();
        let mut counted_series = 0;
        let mut counted_samples = 0;
        let mut before: Option<(SeriesId, i64)> = None;
        for (chunk, &id) in ids.iter().enumerate() {
            if self
                .names
                .metric_of(id)
                .is_some_and(|metric| metric != key.metric)
            {
                return Err(Malformed("holds a series of another metric"));
            }
            if !self.names.has(id) {
                return Err(Malformed("holds a series that is not defined"));
            }
            let span = self.open.span(chunk);
            let (timestamps, _values) = self.open.samples(bytes, chunk)?;
            let (Some(&first), Some(&last)) = (timestamps.first(), timestamps.last()) else {
                return Err(Malformed("has a chunk without a sample"));
            };
            if (first, last) != span {
                return Err(Malformed("has a column that does not span what it says"));
            }
            let continues = before.filter(|(series, _)| *series == id);
            if continues.is_none() {
                counted_series += 1;
            }
            let is_rising = timestamps.is_sorted_by(|left, right| left < right);
            if !is_rising || continues.is_some_and(|(_, before)| before >= first) {
                return Err(Malformed("has timestamps that do not rise"));
            }
            let in_row = |at: i64| {
                let at = Timestamp::from_ms(at);
                row.range.contains(at) && row.window.range().contains(at)
            };
            if !in_row(first) || !in_row(last) {
                return Err(Malformed("has samples outside of its window"));
            }
            counted_samples += timestamps.len() as u64;
            before = Some((id, last));
        }
        if ids.first() != Some(&block.first) || ids.last() != Some(&block.last) {
            return Err(Malformed("does not hold the series that the manifest says"));
        }
        if counted_series != series || counted_samples != u64::from(samples) {
            return Err(Malformed("has other counts than it says"));
        }
        Ok(counted_samples)
    }
}

fn error_text(error: &super::Error, key: &BlockKey) -> String {
    match error {
        super::Error::Corrupt { detail, .. } if *detail == format!("block {key:?} is missing") => {
            "is missing".to_owned()
        }
        super::Error::Corrupt { detail, .. } => detail.clone(),
        other => other.to_string(),
    }
}
