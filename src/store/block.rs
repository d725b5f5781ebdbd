//! A block: the chunks of neighbouring series of one metric in one window, with the timestamp columns
//! that they share.
//!
//! A series is never spread over two blocks of one window and generation. What is parsed has passed
//! its checksum and is what its key says. The bytes are described in `format.md`.

mod builder;

pub(crate) use builder::BlockBuilder;

use super::bytes::{Bytes, Malformed, checked};
use super::codec::{CHUNK_SAMPLES_MAX, Decoder};
use super::manifest::BlockRow;
use super::window::Window;
use crate::model::SeriesId;

/// Samples that are floats; native histograms will have a kind of their own.
const KIND_FLOAT: u8 = 1;

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
    pub(crate) samples: u32,
    pub(crate) checksum: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Block {
    /// What the manifest says of it.
    pub(crate) fn row(&self) -> BlockRow {
        BlockRow {
            metric: self.key.metric,
            first: self.key.first,
            last: self.last,
            samples: self.samples,
            bytes: self.bytes.len() as u32,
            checksum: self.checksum,
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
struct Chunk {
    series: SeriesId,
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

    /// The series of the block's chunks, in order; one for each chunk.
    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.chunks.iter().map(|chunk| chunk.series)
    }

    /// The values of each chunk as they are encoded, with their number.
    pub(crate) fn encoded_values<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (usize, &'a [u8])> {
        self.chunks.iter().filter_map(|chunk| {
            let column = self.columns.get(chunk.column as usize)?;
            Some((column.count as usize, bytes.get(chunk.start..chunk.end)?))
        })
    }

    /// The timestamp columns as they are encoded, with the number of their timestamps.
    pub(crate) fn encoded_timestamps<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (usize, &'a [u8])> {
        self.columns.iter().filter_map(|column| {
            Some((column.count as usize, bytes.get(column.start..column.end)?))
        })
    }

    /// The first and the last timestamp of a chunk.
    pub(crate) fn span(&self, chunk: usize) -> (i64, i64) {
        let column = &self.columns[self.chunks[chunk].column as usize];
        (column.first, column.last)
    }

    /// The timestamp column of a chunk.
    pub(crate) fn column_of(&self, chunk: usize) -> usize {
        self.chunks[chunk].column as usize
    }

    /// How many samples a chunk has.
    pub(crate) fn len_of(&self, chunk: usize) -> usize {
        self.columns[self.column_of(chunk)].count as usize
    }

    /// The longest time between two neighbouring timestamps of each column.
    pub(crate) fn longest_gaps(&mut self, bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
        let mut gaps = Vec::with_capacity(self.columns.len());
        for number in 0..self.columns.len() as u32 {
            let timestamps = self.column(bytes, number)?;
            let pairs = timestamps.windows(2);
            let gap = pairs.map(|pair| pair[1].abs_diff(pair[0])).max();
            gaps.push(gap.unwrap_or(0));
        }
        Ok(gaps)
    }

    /// The timestamps of a chunk, decoded once for all chunks that share the column.
    pub(crate) fn timestamps(&mut self, bytes: &[u8], chunk: usize) -> Result<&[i64], Malformed> {
        self.column(bytes, self.chunks[chunk].column)
    }

    fn column(&mut self, bytes: &[u8], number: u32) -> Result<&[i64], Malformed> {
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
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        let decoded = self.values_into(bytes, chunk, &mut values);
        self.values = values;
        decoded?;
        Ok((&self.timestamps, &self.values))
    }

    /// Appends the values of a chunk.
    pub(crate) fn values_into(
        &mut self,
        bytes: &[u8],
        chunk: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), Malformed> {
        let Chunk { start, end, .. } = self.chunks[chunk];
        let count = self.len_of(chunk);
        self.decoder.values(part(bytes, start, end)?, count, out)
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
        let key = key();
        let mut builder = BlockBuilder::new(key.window, key.generation, key.metric);
        let shared: Vec<i64> = (0..2000).map(|at| at * 1000 + at % 3).collect();
        let rising: Vec<f64> = (0..2000).map(f64::from).collect();
        builder.add(SeriesId(10), &shared, &rising);
        builder.add(SeriesId(12), &shared, &vec![1.5; 2000]);
        builder.add(SeriesId(400), &[-3, 9], &[f64::NAN, 2.0]);
        let mut blocks = builder.finish();
        assert_eq!(blocks.len(), 1);
        blocks.remove(0)
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
