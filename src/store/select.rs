//! How a selection is read: chunks of blocks and columns of the head, merged into one column a series.
//!
//! Whoever drives it does so in the order of precedence, oldest generation first: of two samples for
//! one timestamp the one that came first stays. Every block is checked before a value is taken from it.

use redb::ReadTransaction;

use super::Error;
use super::block::BlockReader;
use super::bytes::Malformed;
use super::column::{MergedColumn, visible, within};
use super::data::{self, Blocks};
use super::deletion::HiddenSeries;
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
    /// Of series of one group, one is enough where only presence matters.
    pub(crate) group: u32,
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

    pub(crate) fn has_sample(self, range: TimeRange, hidden: &[TimeRange]) -> Result<bool, Fault> {
        let span = self.span();
        if !span.overlaps(range) {
            return Ok(false);
        }
        if hidden.is_empty() && (range.contains(span.start()) || range.contains(span.end())) {
            return Ok(true);
        }
        let timestamps = self.reader.timestamps(self.bytes, self.chunk)?;
        Ok(!visible(timestamps, range, hidden).is_empty())
    }

    fn samples(self) -> Result<(&'a [i64], &'a [f64]), Malformed> {
        self.reader.samples(self.bytes, self.chunk)
    }
}

/// The columns of a selection while they are read.
pub(crate) struct Columns {
    list: Vec<MergedColumn>,
    range: TimeRange,
    samples: usize,
    samples_max: usize,
}

impl Columns {
    pub(crate) fn new(count: usize, range: TimeRange, samples_max: usize) -> Self {
        Self {
            list: (0..count).map(|_| MergedColumn::default()).collect(),
            range,
            samples: 0,
            samples_max,
        }
    }

    pub(crate) fn append_chunk(
        &mut self,
        position: usize,
        chunk: ChunkView<'_>,
        hidden: &[TimeRange],
    ) -> Result<(), Fault> {
        if !chunk.span().overlaps(self.range) {
            return Ok(());
        }
        let (timestamps, values) = chunk.samples()?;
        self.append_visible(position, timestamps, values, hidden)
            .map_err(Fault::Error)
    }

    fn append_visible(
        &mut self,
        position: usize,
        timestamps: &[i64],
        values: &[f64],
        hidden: &[TimeRange],
    ) -> Result<(), Error> {
        if hidden.is_empty() {
            let range = within(timestamps, self.range);
            return self.append(position, &timestamps[range.clone()], &values[range]);
        }
        for range in visible(timestamps, self.range, hidden) {
            self.append(position, &timestamps[range.clone()], &values[range])?;
        }
        Ok(())
    }

    pub(crate) fn append_head(
        &mut self,
        slot: &Slot,
        seq: u64,
        wanted: &[Wanted],
        hidden: &HiddenSeries<'_>,
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
                let hidden = hidden.ranges(wanted.series);
                let (timestamps, values, late) = column.visible(self.range, relative);
                self.append_visible(position, timestamps, values, &hidden)?;
                late_timestamps.clear();
                late_values.clear();
                for (timestamp_ms, value) in late {
                    late_timestamps.push(timestamp_ms);
                    late_values.push(value);
                }
                self.append_visible(position, &late_timestamps, &late_values, &hidden)?;
            }
        }
        Ok(())
    }

    /// Timestamps and values, by position.
    pub(crate) fn into_columns(self) -> impl Iterator<Item = (Vec<Timestamp>, Vec<f64>)> {
        self.list.into_iter().map(|column| {
            let timestamps = column.timestamps.into_iter().map(Timestamp::from_ms);
            (timestamps.collect(), column.values)
        })
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
