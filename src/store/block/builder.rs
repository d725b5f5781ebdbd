//! Making blocks: the series of one metric, window and generation, encoded as they come and cut so that
//! the pages redb gives each block are well filled.

use std::collections::HashMap;

use super::super::bytes::{Malformed, put_checksum, put_varint, put_zigzag, varint_len, zigzag};
use super::super::codec::{self, CHUNK_SAMPLES_MAX};
use super::super::window::Window;
use super::{Block, BlockKey, BlockReader, KIND_FLOAT, part};
use crate::model::SeriesId;

/// A block is full when the next series would take it over this. redb gives a value a run of pages
/// that is a power of two long, of which its own header and the key take less than 40 bytes.
const BLOCK_BYTES: usize = (64 << 10) - PAGE_OVERHEAD;
const PAGE_OVERHEAD: usize = 40;
/// Values of less than a page share it with their neighbours.
const PAGE_BYTES: usize = 4096;
/// So much is collected before full blocks are cut off.
const COLLECTED_BYTES: usize = 4 * BLOCK_BYTES;

/// The head of a block and its checksum.
const FIXED_BYTES: usize = 1 + 25 + 4 * 5 + 8;

/// Collects the series of one metric, window and generation, in the order of their ids.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    window: Window,
    generation: u64,
    metric: u32,
    collected: Collected,
    /// Encoded timestamp columns by number.
    known: HashMap<Vec<u8>, u32>,
    /// The columns that the last series had, unencoded: the next one mostly has the same.
    recent: Vec<(Vec<i64>, u32)>,
    finished: Vec<Block>,
}

/// Encoded chunks and the columns that they name.
#[derive(Debug, Default)]
struct Collected {
    columns: Vec<ColumnPiece>,
    column_bytes: Vec<u8>,
    chunks: Vec<ChunkPiece>,
    value_bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct ColumnPiece {
    first: i64,
    last: i64,
    count: u32,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct ChunkPiece {
    series: SeriesId,
    column: u32,
    start: usize,
    end: usize,
}

impl BlockBuilder {
    pub(crate) fn new(window: Window, generation: u64, metric: u32) -> Self {
        Self {
            window,
            generation,
            metric,
            collected: Collected::default(),
            known: HashMap::new(),
            recent: Vec::new(),
            finished: Vec::new(),
        }
    }

    pub(crate) fn metric(&self) -> u32 {
        self.metric
    }

    /// Adds all samples that a series has in the window; timestamps rise strictly.
    pub(crate) fn add(&mut self, series: SeriesId, timestamps: &[i64], values: &[f64]) {
        debug_assert_eq!(timestamps.len(), values.len());
        self.begin(series);
        for (at, (timestamps, values)) in timestamps
            .chunks(CHUNK_SAMPLES_MAX)
            .zip(values.chunks(CHUNK_SAMPLES_MAX))
            .enumerate()
        {
            let column = self.column(at, timestamps);
            let start = self.collected.value_bytes.len();
            codec::encode_values(values, &mut self.collected.value_bytes);
            self.collected.chunks.push(ChunkPiece {
                series,
                column,
                start,
                end: self.collected.value_bytes.len(),
            });
        }
    }

    /// Adds the series of an open block that come after one of them, as they are encoded there.
    pub(crate) fn add_after(
        &mut self,
        reader: &BlockReader,
        bytes: &[u8],
        after: SeriesId,
    ) -> Result<(), Malformed> {
        for chunk in reader.chunks.iter().filter(|chunk| chunk.series > after) {
            if self
                .collected
                .chunks
                .last()
                .is_none_or(|last| last.series != chunk.series)
            {
                self.begin(chunk.series);
            }
            let column = &reader.columns[chunk.column as usize];
            let encoded = part(bytes, column.start, column.end)?;
            let column = self.encoded_column((column.first, column.last), column.count, encoded);
            let start = self.collected.value_bytes.len();
            let values = part(bytes, chunk.start, chunk.end)?;
            self.collected.value_bytes.extend_from_slice(values);
            self.collected.chunks.push(ChunkPiece {
                series: chunk.series,
                column,
                start,
                end: self.collected.value_bytes.len(),
            });
        }
        Ok(())
    }

    /// What a series is added after: full blocks are cut off once enough is collected.
    fn begin(&mut self, series: SeriesId) {
        let last = self.collected.chunks.last().map(|last| last.series);
        let last = last.or(self.finished.last().map(|block| block.last));
        assert!(
            last.is_none_or(|last| series > last),
            "series come in the order of their ids"
        );
        if self.collected.value_bytes.len() + self.collected.column_bytes.len() >= COLLECTED_BYTES {
            let mut start = 0;
            while let (end, Cut::Full) = self.collected.cut(start) {
                self.finished.push(self.block(start, end));
                start = end;
            }
            self.collected = self.collected.rest(start);
            self.known.clear();
            self.recent.clear();
        }
    }

    /// The number of a timestamp column, the `at`-th of its series.
    fn column(&mut self, at: usize, timestamps: &[i64]) -> u32 {
        if let Some((recent, number)) = self.recent.get(at)
            && recent == timestamps
        {
            return *number;
        }
        let mut encoded = Vec::new();
        codec::encode_timestamps(timestamps, &mut encoded);
        let span = (timestamps[0], timestamps[timestamps.len() - 1]);
        let number = self.encoded_column(span, timestamps.len() as u32, &encoded);
        let recent = (timestamps.to_vec(), number);
        match self.recent.get_mut(at) {
            Some(slot) => *slot = recent,
            None => self.recent.push(recent),
        }
        number
    }

    fn encoded_column(&mut self, (first, last): (i64, i64), count: u32, encoded: &[u8]) -> u32 {
        // Bytes alone are ambiguous: a constant step is the same for every count.
        let mut known_by = count.to_le_bytes().to_vec();
        known_by.extend_from_slice(encoded);
        let collected = &mut self.collected;
        *self.known.entry(known_by).or_insert_with(|| {
            let start = collected.column_bytes.len();
            collected.column_bytes.extend_from_slice(encoded);
            collected.columns.push(ColumnPiece {
                first,
                last,
                count,
                start,
                end: collected.column_bytes.len(),
            });
            collected.columns.len() as u32 - 1
        })
    }

    pub(crate) fn finish(mut self) -> Vec<Block> {
        let mut start = 0;
        while start < self.collected.chunks.len() {
            let (end, _) = self.collected.cut(start);
            self.finished.push(self.block(start, end));
            start = end;
        }
        self.finished
    }

    /// The block of the chunks from `start` to before `end`.
    fn block(&self, start: usize, end: usize) -> Block {
        let Collected {
            columns,
            column_bytes,
            chunks,
            value_bytes,
        } = &self.collected;
        let chunks = &chunks[start..end];
        let (first, last) = (chunks[0].series, chunks[chunks.len() - 1].series);
        let mut numbers = vec![None; columns.len()];
        let mut used = Vec::new();
        let mut chunk_directory = Vec::new();
        let (mut previous, mut series, mut samples) = (first, 1, 0);
        for chunk in chunks {
            let number = *numbers[chunk.column as usize].get_or_insert_with(|| {
                used.push(columns[chunk.column as usize]);
                used.len() as u64 - 1
            });
            put_varint(&mut chunk_directory, (chunk.series.0 - previous.0).into());
            put_varint(&mut chunk_directory, number);
            put_varint(&mut chunk_directory, (chunk.end - chunk.start) as u64);
            series += u32::from(chunk.series != previous);
            samples += columns[chunk.column as usize].count;
            previous = chunk.series;
        }
        let mut bytes = vec![KIND_FLOAT, self.window.width as u8];
        bytes.extend_from_slice(&self.window.number.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        for number in [
            self.metric,
            first.0,
            last.0,
            series,
            samples,
            used.len() as u32,
            chunks.len() as u32,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for column in &used {
            put_zigzag(&mut bytes, column.first);
            put_varint(&mut bytes, column.last.wrapping_sub(column.first) as u64);
            put_varint(&mut bytes, column.count.into());
            put_varint(&mut bytes, (column.end - column.start) as u64);
        }
        bytes.extend_from_slice(&chunk_directory);
        for column in &used {
            bytes.extend_from_slice(&column_bytes[column.start..column.end]);
        }
        // Chunks lie one after the other as they were added.
        bytes.extend_from_slice(&value_bytes[chunks[0].start..chunks[chunks.len() - 1].end]);
        let checksum = put_checksum(&mut bytes);
        Block {
            key: BlockKey {
                window: self.window,
                generation: self.generation,
                metric: self.metric,
                first,
            },
            last,
            samples,
            checksum,
            bytes,
        }
    }
}

/// How a block came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The next series would not have fitted.
    Full,
    /// At the last chunk, or earlier so that the rest fills smaller pages better.
    Last,
}

impl Collected {
    /// Where the block that begins with chunk `start` ends.
    fn cut(&self, start: usize) -> (usize, Cut) {
        let (end, bytes) = self.fit(start, BLOCK_BYTES);
        if end < self.chunks.len() {
            return (end, Cut::Full);
        }
        let pages = (bytes + PAGE_OVERHEAD).next_power_of_two();
        if pages <= PAGE_BYTES || bytes >= pages / 4 * 3 {
            return (end, Cut::Last);
        }
        (self.fit(start, pages / 2 - PAGE_OVERHEAD).0, Cut::Last)
    }

    /// The end of the longest run of whole series from `start` on that fits, at least one, and its size.
    fn fit(&self, start: usize, bytes_max: usize) -> (usize, usize) {
        let mut numbers = vec![None; self.columns.len()];
        let mut columns = 0;
        let mut bytes = FIXED_BYTES;
        let mut fitting = (start, bytes);
        let mut at = start;
        while let Some(first) = self.chunks.get(at) {
            let mut previous = at.checked_sub(1).filter(|&before| before >= start);
            while let Some(chunk) = self.chunks.get(at)
                && chunk.series == first.series
            {
                let column = self.columns[chunk.column as usize];
                let number = *numbers[chunk.column as usize].get_or_insert_with(|| {
                    let length = column.end - column.start;
                    bytes += varint_len(zigzag(column.first))
                        + varint_len(column.last.wrapping_sub(column.first) as u64)
                        + varint_len(column.count.into())
                        + varint_len(length as u64)
                        + length;
                    columns += 1;
                    columns - 1
                });
                let before = previous.map_or(chunk.series, |before| self.chunks[before].series);
                let length = chunk.end - chunk.start;
                bytes += varint_len((chunk.series.0 - before.0).into())
                    + varint_len(number)
                    + varint_len(length as u64)
                    + length;
                previous = Some(at);
                at += 1;
            }
            if bytes > bytes_max && fitting.0 > start {
                return fitting;
            }
            fitting = (at, bytes);
        }
        fitting
    }

    /// What is left from a chunk on.
    fn rest(&self, start: usize) -> Self {
        let mut rest = Self::default();
        let mut numbers = vec![None; self.columns.len()];
        for chunk in &self.chunks[start..] {
            let column = *numbers[chunk.column as usize].get_or_insert_with(|| {
                let column = self.columns[chunk.column as usize];
                let begin = rest.column_bytes.len();
                rest.column_bytes
                    .extend_from_slice(&self.column_bytes[column.start..column.end]);
                rest.columns.push(ColumnPiece {
                    start: begin,
                    end: rest.column_bytes.len(),
                    ..column
                });
                rest.columns.len() as u32 - 1
            });
            let begin = rest.value_bytes.len();
            rest.value_bytes
                .extend_from_slice(&self.value_bytes[chunk.start..chunk.end]);
            rest.chunks.push(ChunkPiece {
                column,
                start: begin,
                end: rest.value_bytes.len(),
                ..*chunk
            });
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::window::Width;

    /// Blocks of so many series, a column of 120 noisy values each.
    fn blocks(series: u32) -> Vec<Block> {
        let mut builder = BlockBuilder::new(Window::of(0, Width::TwoHours), 1, 2);
        let timestamps: Vec<i64> = (0..120).map(|at| at * 15_000 + at % 7).collect();
        let mut noise = 1u64;
        for id in 0..series {
            let mut value = || {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (noise >> 50) as f64 / 1000.0
            };
            let values: Vec<f64> = (0..120).map(|_| value()).collect();
            builder.add(SeriesId(id * 3), &timestamps, &values);
        }
        builder.finish()
    }

    #[test]
    fn blocks_fill_the_pages_that_they_get() {
        for series in [1, 7, 40, 300, 399, 1000, 2500] {
            let blocks = blocks(series);
            let (mut used, mut pages) = (0, 0);
            for block in &blocks {
                assert!(block.bytes.len() <= BLOCK_BYTES);
                used += block.bytes.len();
                if block.bytes.len() > PAGE_BYTES {
                    pages += (block.bytes.len() + PAGE_OVERHEAD).next_power_of_two();
                } else {
                    pages += block.bytes.len();
                }
            }
            assert!(
                used * 100 >= pages * 85,
                "{series} series: {used} bytes in {pages} bytes of pages"
            );
            let samples: u32 = blocks.iter().map(|block| block.samples).sum();
            assert_eq!(samples, series * 120);
        }
    }

    #[test]
    fn the_tail_of_a_block_is_copied_as_it_is() {
        let whole = blocks(40).remove(0);
        let mut reader = BlockReader::default();
        reader
            .open(&whole.bytes, &whole.key, whole.checksum)
            .unwrap();
        let mut builder = BlockBuilder::new(whole.key.window, 1, 2);
        let after = reader.series().nth(10).unwrap();
        builder.add_after(&reader, &whole.bytes, after).unwrap();
        let mut chunk = 11;
        for tail in builder.finish() {
            let mut tail_reader = BlockReader::default();
            tail_reader
                .open(&tail.bytes, &tail.key, tail.checksum)
                .unwrap();
            for (at, series) in tail_reader.series().collect::<Vec<_>>().iter().enumerate() {
                assert_eq!(reader.series().nth(chunk), Some(*series));
                let expected = reader.samples(&whole.bytes, chunk).unwrap();
                let expected = (expected.0.to_vec(), expected.1.to_vec());
                let (timestamps, values) = tail_reader.samples(&tail.bytes, at).unwrap();
                assert_eq!((timestamps.to_vec(), values.to_vec()), expected);
                chunk += 1;
            }
        }
        assert_eq!(chunk, reader.series().count());
    }
}
