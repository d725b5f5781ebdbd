//! How a selection is read: chunks of blocks and columns of the head, merged into one column a series.
//!
//! Whoever drives it does so in the order of precedence, oldest generation first: of two samples for
//! one timestamp the one that came first stays. Every block is checked before a value is taken from it.

use redb::ReadTransaction;

use super::Error;
use super::block::BlockReader;
use super::bytes::Malformed;
use super::data::{self, Blocks};
use super::handle::Handle;
use super::live::Slot;
use super::manifest::WindowRow;
use crate::model::{SeriesId, TimeRange, Timestamp};

/// Series of the head that are read before writers get their turn.
const HEAD_SERIES: usize = 256;

/// A series that a selection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) metric: u32,
    pub(crate) series: SeriesId,
}

/// The table of blocks, read one block at a time.
pub(crate) struct OpenBlocks<'a> {
    data: &'a Handle,
    blocks: Blocks,
    reader: BlockReader,
}

impl<'a> OpenBlocks<'a> {
    pub(crate) fn new(data: &'a Handle, transaction: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self {
            data,
            blocks: data.contain(|| data::open_blocks(transaction))?,
            reader: BlockReader::default(),
        })
    }

    /// Visits every chunk that a window has of the wanted series, in the order of blocks.
    pub(crate) fn each_chunk(
        &mut self,
        row: &WindowRow,
        wanted: &[Wanted],
        mut visit: impl FnMut(usize, ChunkView<'_>) -> Result<(), Fault>,
    ) -> Result<(), Error> {
        let data = self.data;
        let mut position = 0;
        while let Some(next) = wanted.get(position) {
            // The first block that does not end before the series.
            let at = row
                .blocks
                .partition_point(|block| (block.metric, block.last) < (next.metric, next.series));
            let Some(block) = row.blocks.get(at) else {
                break;
            };
            let first = (block.metric, block.first);
            if first > (next.metric, next.series) {
                let skip = wanted[position..]
                    .partition_point(|wanted| (wanted.metric, wanted.series) < first);
                position += skip;
                continue;
            }
            let key = row.block_key(block);
            let guard = data.contain(|| data::block(&self.blocks, &key))?;
            let bytes = guard.value();
            let fault = |fault| match fault {
                Fault::Malformed(error) => data.corrupt(format!("block {key:?}: {error}")),
                Fault::Error(error) => error,
            };
            self.reader
                .open(bytes, &key, block.checksum)
                .map_err(|error| fault(Fault::Malformed(error)))?;
            let last = (block.metric, block.last);
            while let Some(next) = wanted.get(position)
                && (next.metric, next.series) <= last
            {
                for chunk in self.reader.chunks_of(next.series) {
                    let reader = &mut self.reader;
                    visit(
                        position,
                        ChunkView {
                            reader,
                            bytes,
                            chunk,
                        },
                    )
                    .map_err(fault)?;
                }
                position += 1;
            }
        }
        Ok(())
    }
}

/// Why a chunk was not taken.
pub(crate) enum Fault {
    Malformed(Malformed),
    Error(Error),
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// One chunk of an open block.
pub(crate) struct ChunkView<'a> {
    reader: &'a mut BlockReader,
    bytes: &'a [u8],
    chunk: usize,
}

impl<'a> ChunkView<'a> {
    fn span(&self) -> TimeRange {
        let (first, last) = self.reader.span(self.chunk);
        TimeRange::new(Timestamp::from_ms(first), Timestamp::from_ms(last))
            .unwrap_or(TimeRange::ALL)
    }

    pub(crate) fn has_sample(self, range: TimeRange) -> Result<bool, Fault> {
        let span = self.span();
        if !span.overlaps(range) {
            return Ok(false);
        }
        if range.contains(span.start()) || range.contains(span.end()) {
            return Ok(true);
        }
        let timestamps = self.reader.timestamps(self.bytes, self.chunk)?;
        Ok(!within(timestamps, range).is_empty())
    }

    fn samples(self) -> Result<(&'a [i64], &'a [f64]), Malformed> {
        self.reader.samples(self.bytes, self.chunk)
    }
}

/// Where the timestamps of a range lie.
fn within(timestamps: &[i64], range: TimeRange) -> std::ops::Range<usize> {
    let start = timestamps.partition_point(|&at| at < range.start().ms());
    let end = timestamps.partition_point(|&at| at <= range.end().ms());
    start..end
}

/// The columns of a selection while they are read.
pub(crate) struct Columns {
    list: Vec<Growing>,
    range: TimeRange,
    samples: usize,
    samples_max: usize,
}

impl Columns {
    pub(crate) fn new(count: usize, range: TimeRange, samples_max: usize) -> Self {
        Self {
            list: (0..count).map(|_| Growing::default()).collect(),
            range,
            samples: 0,
            samples_max,
        }
    }

    pub(crate) fn append_chunk(
        &mut self,
        position: usize,
        chunk: ChunkView<'_>,
    ) -> Result<(), Fault> {
        if !chunk.span().overlaps(self.range) {
            return Ok(());
        }
        let (timestamps, values) = chunk.samples()?;
        let range = within(timestamps, self.range);
        self.append(position, &timestamps[range.clone()], &values[range])
            .map_err(Fault::Error)
    }

    pub(crate) fn append_head(
        &mut self,
        slot: &Slot,
        seq: u64,
        wanted: &[Wanted],
    ) -> Result<(), Error> {
        let relative = slot.part.relative(seq);
        let (mut late_timestamps, mut late_values) = (Vec::new(), Vec::new());
        for (start, wanted) in wanted.chunks(HEAD_SERIES).enumerate() {
            let columns = slot.part.columns();
            for (at, wanted) in wanted.iter().enumerate() {
                let position = start * HEAD_SERIES + at;
                let Some(column) = columns.get(wanted.series) else {
                    continue;
                };
                let (timestamps, values, late) = column.visible(self.range, relative);
                self.append(position, timestamps, values)?;
                late_timestamps.clear();
                late_values.clear();
                for (timestamp_ms, value) in late {
                    late_timestamps.push(timestamp_ms);
                    late_values.push(value);
                }
                self.append(position, &late_timestamps, &late_values)?;
            }
        }
        Ok(())
    }

    /// Timestamps and values, by position.
    pub(crate) fn into_columns(self) -> impl Iterator<Item = (Vec<Timestamp>, Vec<f64>)> {
        let columns = self.list.into_iter();
        columns.map(|column| (column.timestamps, column.values))
    }

    fn append(&mut self, position: usize, timestamps: &[i64], values: &[f64]) -> Result<(), Error> {
        let column = &mut self.list[position];
        let before = column.values.len();
        column.append(timestamps, values);
        self.samples += column.values.len() - before;
        if self.samples > self.samples_max {
            return Err(Error::TooManySamples {
                samples_max: self.samples_max,
            });
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Growing {
    timestamps: Vec<Timestamp>,
    values: Vec<f64>,
}

impl Growing {
    /// Adds samples that rise strictly; where there is one for the timestamp already, that one stays.
    fn append(&mut self, timestamps: &[i64], values: &[f64]) {
        let Some(&first) = timestamps.first() else {
            return;
        };
        let first = Timestamp::from_ms(first);
        if self.timestamps.last().is_none_or(|&last| last < first) {
            self.timestamps
                .extend(timestamps.iter().map(|&at| Timestamp::from_ms(at)));
            self.values.extend_from_slice(values);
            return;
        }
        // Only what is not before the new samples has to move.
        let start = self.timestamps.partition_point(|&at| at < first);
        let old_timestamps = self.timestamps.split_off(start);
        let old_values = self.values.split_off(start);
        let mut old = old_timestamps.into_iter().zip(old_values).peekable();
        let new = timestamps.iter().map(|&at| Timestamp::from_ms(at));
        for (timestamp, &value) in new.zip(values) {
            while let Some((at, value)) = old.next_if(|&(at, _)| at < timestamp) {
                self.timestamps.push(at);
                self.values.push(value);
            }
            let there = old.next_if(|&(at, _)| at == timestamp);
            self.timestamps.push(timestamp);
            self.values.push(there.map_or(value, |(_, there)| there));
        }
        for (at, value) in old {
            self.timestamps.push(at);
            self.values.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_samples_for_one_timestamp_the_first_stays() {
        let mut column = Growing::default();
        column.append(&[10, 20, 30], &[1.0, 2.0, 3.0]);
        column.append(&[15, 20, 40], &[1.5, 9.0, 4.0]);
        column.append(&[5], &[0.5]);
        let timestamps: Vec<i64> = column.timestamps.iter().map(|at| at.ms()).collect();
        assert_eq!(timestamps, [5, 10, 15, 20, 30, 40]);
        assert_eq!(column.values, [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]);
    }
}
