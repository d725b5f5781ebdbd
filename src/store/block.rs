//! A block: the chunks of neighbouring series of one metric in one window, with the timestamp columns
//! that they share.
//!
//! A series is never spread over two blocks of one window and generation. What is parsed has passed
//! its checksum and is what its key says. The bytes are described in `format.md`.

use std::collections::HashMap;

use super::bytes::{Bytes, Malformed, checked, put_checksum, put_varint, put_zigzag};
use super::codec::{self, CHUNK_SAMPLES_MAX, Decoder};
use super::window::Window;
use crate::model::SeriesId;

/// Samples that are floats; native histograms will have a kind of their own.
const KIND_FLOAT: u8 = 1;

/// A block is full when the next series would take it over this. redb gives a value a run of pages
/// that is a power of two long, of which its own header and the key take less than 40 bytes.
pub(crate) const BLOCK_BYTES: usize = (64 << 10) - 40;

/// Where a block is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockKey {
    pub(crate) window: Window,
    pub(crate) generation: u64,
    /// The symbol of the metric's name.
    pub(crate) metric: u32,
    pub(crate) first: SeriesId,
}

/// A finished block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: BlockKey,
    pub(crate) last: SeriesId,
    pub(crate) samples: u64,
    pub(crate) checksum: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Collects the series of one metric, window and generation, in the order of their ids.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    key: BlockKey,
    last: SeriesId,
    series: u32,
    chunks: u32,
    samples: u32,
    column_directory: Vec<u8>,
    columns: Vec<u8>,
    chunk_directory: Vec<u8>,
    values: Vec<u8>,
    /// Encoded timestamp columns by number.
    known: HashMap<Vec<u8>, u32>,
    /// The columns that the last series had, unencoded: the next one mostly has the same.
    recent: Vec<(Vec<i64>, u32)>,
}

impl BlockBuilder {
    pub(crate) fn new(key: BlockKey) -> Self {
        Self {
            key,
            last: key.first,
            series: 0,
            chunks: 0,
            samples: 0,
            column_directory: Vec::new(),
            columns: Vec::new(),
            chunk_directory: Vec::new(),
            values: Vec::new(),
            known: HashMap::new(),
            recent: Vec::new(),
        }
    }

    /// What the block takes, its head rounded up.
    fn len(&self) -> usize {
        64 + self.column_directory.len()
            + self.columns.len()
            + self.chunk_directory.len()
            + self.values.len()
    }

    /// Adds a series unless that would overfill the block; the first one always fits. Answers whether
    /// it was added.
    pub(crate) fn try_add(
        &mut self,
        series: SeriesId,
        timestamps: &[i64],
        values: &[f64],
        bytes_max: usize,
    ) -> bool {
        let directory = self.column_directory.len();
        let lengths = (
            self.columns.len(),
            self.chunk_directory.len(),
            self.values.len(),
        );
        let (last, counts) = (self.last, (self.series, self.chunks, self.samples));
        let known = self.known.len() as u32;
        self.add(series, timestamps, values);
        if counts.0 == 0 || self.len() <= bytes_max {
            return true;
        }
        self.column_directory.truncate(directory);
        self.columns.truncate(lengths.0);
        self.chunk_directory.truncate(lengths.1);
        self.values.truncate(lengths.2);
        self.last = last;
        (self.series, self.chunks, self.samples) = counts;
        self.known.retain(|_, number| *number < known);
        self.recent.clear();
        false
    }

    pub(crate) fn metric(&self) -> u32 {
        self.key.metric
    }

    /// Adds all samples that a series has in the window; timestamps rise strictly.
    fn add(&mut self, series: SeriesId, timestamps: &[i64], values: &[f64]) {
        debug_assert_eq!(timestamps.len(), values.len());
        assert!(
            self.series == 0 && series == self.key.first || series > self.last,
            "series come in the order of their ids"
        );
        let mut previous = self.last;
        for (at, (timestamps, values)) in timestamps
            .chunks(CHUNK_SAMPLES_MAX)
            .zip(values.chunks(CHUNK_SAMPLES_MAX))
            .enumerate()
        {
            let column = self.column(at, timestamps);
            let start = self.values.len();
            codec::encode_values(values, &mut self.values);
            put_varint(&mut self.chunk_directory, u64::from(series.0 - previous.0));
            put_varint(&mut self.chunk_directory, column.into());
            put_varint(
                &mut self.chunk_directory,
                (self.values.len() - start) as u64,
            );
            previous = series;
            self.chunks += 1;
            self.samples += timestamps.len() as u32;
        }
        self.last = series;
        self.series += 1;
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
        let next = self.known.len() as u32;
        let (first, last) = (timestamps[0], timestamps[timestamps.len() - 1]);
        // Bytes alone are ambiguous: a constant step is the same for every count.
        let mut known_by = (timestamps.len() as u32).to_le_bytes().to_vec();
        known_by.extend_from_slice(&encoded);
        let number = *self.known.entry(known_by).or_insert_with(|| {
            put_zigzag(&mut self.column_directory, first);
            put_varint(&mut self.column_directory, last.wrapping_sub(first) as u64);
            put_varint(&mut self.column_directory, timestamps.len() as u64);
            put_varint(&mut self.column_directory, encoded.len() as u64);
            self.columns.extend_from_slice(&encoded);
            next
        });
        let recent = (timestamps.to_vec(), number);
        match self.recent.get_mut(at) {
            Some(slot) => *slot = recent,
            None => self.recent.push(recent),
        }
        number
    }

    pub(crate) fn finish(self) -> Block {
        let mut bytes = Vec::with_capacity(self.len() + 16);
        bytes.push(KIND_FLOAT);
        bytes.push(self.key.window.width as u8);
        bytes.extend_from_slice(&self.key.window.number.to_le_bytes());
        bytes.extend_from_slice(&self.key.generation.to_le_bytes());
        bytes.extend_from_slice(&self.key.metric.to_le_bytes());
        bytes.extend_from_slice(&self.key.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.last.0.to_le_bytes());
        bytes.extend_from_slice(&self.series.to_le_bytes());
        bytes.extend_from_slice(&self.samples.to_le_bytes());
        bytes.extend_from_slice(&(self.known.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.column_directory);
        bytes.extend_from_slice(&self.chunk_directory);
        bytes.extend_from_slice(&self.columns);
        bytes.extend_from_slice(&self.values);
        let checksum = put_checksum(&mut bytes);
        Block {
            key: self.key,
            last: self.last,
            samples: self.samples.into(),
            checksum,
            bytes,
        }
    }
}

/// A block being read; holds the buffers that one block after the other uses.
#[derive(Debug, Default)]
pub(crate) struct BlockReader {
    columns: Vec<Column>,
    chunks: Vec<Chunk>,
    decoder: Decoder,
    /// The timestamps of one column, decoded.
    timestamps: Vec<i64>,
    timestamps_of: Option<u32>,
    values: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    first: i64,
    last: i64,
    count: u32,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) series: SeriesId,
    column: u32,
    start: usize,
    end: usize,
}

impl BlockReader {
    /// Checks the bytes against the checksum in the manifest, their own and the key, and reads the
    /// directories.
    pub(crate) fn open(
        &mut self,
        bytes: &[u8],
        key: &BlockKey,
        checksum: u64,
    ) -> Result<(), Malformed> {
        self.columns.clear();
        self.chunks.clear();
        self.timestamps_of = None;
        let (body, stored) = checked(bytes)?;
        if stored != checksum {
            return Err(Malformed("is not the block that the manifest names"));
        }
        let mut rest = Bytes::new(body);
        if rest.u8()? != KIND_FLOAT {
            return Err(Malformed("is of an unknown kind"));
        }
        if rest.u8()? != key.window.width as u8
            || rest.i64()? != key.window.number
            || rest.u64()? != key.generation
            || rest.u32()? != key.metric
            || rest.u32()? != key.first.0
        {
            return Err(Malformed("does not repeat its key"));
        }
        let _last = rest.u32()?;
        let _series = rest.u32()?;
        let _samples = rest.u32()?;
        let columns = rest.u32()?;
        let chunks = rest.u32()?;
        let mut end = 0usize;
        for _ in 0..columns {
            let first = rest.zigzag()?;
            let last = first.wrapping_add(rest.varint()? as i64);
            let count = rest.count(CHUNK_SAMPLES_MAX)? as u32;
            let start = end;
            end += rest.count(body.len())?;
            self.columns.push(Column {
                first,
                last,
                count,
                start,
                end,
            });
        }
        let mut series = key.first.0;
        for _ in 0..chunks {
            series = series
                .checked_add(rest.varint_u32()?)
                .ok_or(Malformed("has a series id over 32 bits"))?;
            let column = rest.varint_u32()?;
            if column >= columns {
                return Err(Malformed("names a column that is not there"));
            }
            let start = end;
            end += rest.count(body.len())?;
            self.chunks.push(Chunk {
                series: SeriesId(series),
                column,
                start,
                end,
            });
        }
        let base = body.len() - rest.rest().len();
        if base + end != body.len() {
            return Err(Malformed("is not covered by its directories"));
        }
        for column in &mut self.columns {
            column.start += base;
            column.end += base;
        }
        for chunk in &mut self.chunks {
            chunk.start += base;
            chunk.end += base;
        }
        Ok(())
    }

    /// The chunks of one series, in the order of time.
    pub(crate) fn chunks_of(&self, series: SeriesId) -> std::ops::Range<usize> {
        let start = self.chunks.partition_point(|chunk| chunk.series < series);
        let count = self.chunks.get(start..).map_or(0, |rest| {
            rest.iter()
                .take_while(|chunk| chunk.series == series)
                .count()
        });
        start..start + count
    }

    /// The first and the last timestamp of a chunk.
    pub(crate) fn span(&self, chunk: usize) -> (i64, i64) {
        let column = &self.columns[self.chunks[chunk].column as usize];
        (column.first, column.last)
    }

    /// The timestamps of a chunk, decoded once for all chunks that share the column.
    pub(crate) fn timestamps(&mut self, bytes: &[u8], chunk: usize) -> Result<&[i64], Malformed> {
        let number = self.chunks[chunk].column;
        if self.timestamps_of != Some(number) {
            let column = self.columns[number as usize];
            self.timestamps_of = None;
            self.timestamps.clear();
            self.decoder.timestamps(
                part(bytes, column.start, column.end)?,
                column.count as usize,
                &mut self.timestamps,
            )?;
            self.timestamps_of = Some(number);
        }
        Ok(&self.timestamps)
    }

    /// Timestamps and values of a chunk.
    pub(crate) fn samples(
        &mut self,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(&[i64], &[f64]), Malformed> {
        self.timestamps(bytes, chunk)?;
        let Chunk { start, end, .. } = self.chunks[chunk];
        self.decoder.values(
            part(bytes, start, end)?,
            self.timestamps.len(),
            &mut self.values,
        )?;
        Ok((&self.timestamps, &self.values))
    }
}

fn part(bytes: &[u8], start: usize, end: usize) -> Result<&[u8], Malformed> {
    bytes.get(start..end).ok_or(Malformed("ends too early"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::window::Width;

    fn key() -> BlockKey {
        BlockKey {
            window: Window::of(-5, Width::TwoHours),
            generation: 7,
            metric: 3,
            first: SeriesId(10),
        }
    }

    fn block() -> Block {
        let mut builder = BlockBuilder::new(key());
        let shared: Vec<i64> = (0..2000).map(|at| at * 1000 + at % 3).collect();
        let rising: Vec<f64> = (0..2000).map(f64::from).collect();
        builder.add(SeriesId(10), &shared, &rising);
        builder.add(SeriesId(12), &shared, &vec![1.5; 2000]);
        builder.add(SeriesId(400), &[-3, 9], &[f64::NAN, 2.0]);
        builder.finish()
    }

    #[test]
    fn series_come_back_and_share_their_timestamps() {
        let block = block();
        let mut reader = BlockReader::default();
        reader.open(&block.bytes, &key(), block.checksum).unwrap();
        // Two chunks of 1024 and 976 for each of the first two series, on the same two columns.
        assert_eq!(reader.columns.len(), 3);
        assert_eq!(reader.chunks_of(SeriesId(10)), 0..2);
        assert_eq!(reader.chunks_of(SeriesId(11)), 2..2);
        assert_eq!(reader.chunks_of(SeriesId(12)), 2..4);
        let (timestamps, values) = reader.samples(&block.bytes, 3).unwrap();
        assert_eq!(
            (timestamps.len(), timestamps[0], values[0]),
            (976, 1_024_001, 1.5)
        );
        let (timestamps, values) = reader.samples(&block.bytes, 4).unwrap();
        assert_eq!(timestamps, [-3, 9]);
        assert!(values[0].is_nan());
        assert_eq!(reader.span(4), (-3, 9));
        assert_eq!(block.samples, 4002);
        assert_eq!(block.last, SeriesId(400));
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let block = block();
        let mut reader = BlockReader::default();
        for at in 0..block.bytes.len() {
            let mut damaged = block.bytes.clone();
            damaged[at] ^= 0x10;
            assert!(reader.open(&damaged, &key(), block.checksum).is_err());
        }
    }

    #[test]
    fn a_whole_block_in_the_wrong_place_is_found() {
        let block = block();
        let mut other = key();
        other.generation += 1;
        let mut reader = BlockReader::default();
        assert!(reader.open(&block.bytes, &other, block.checksum).is_err());
        assert!(
            reader
                .open(&block.bytes, &key(), block.checksum + 1)
                .is_err()
        );
    }
}
