//! How a selection is read: chunks of blocks and columns of the head, merged into one column a series.
//!
//! Whoever drives it does so in the order of precedence, oldest generation first: of two samples for
//! one timestamp the one that came first stays. Every block is checked before a value is taken from it.

use std::ops::Range;
use std::sync::Arc;

use redb::ReadTransaction;

use super::Error;
use super::block::BlockReader;
use super::bytes::Malformed;
use super::column::{MergedColumn, visible, within};
use super::data::{self, Blocks};
use super::deletion::HiddenSeries;
use super::handle::Handle;
use super::live::{Live, Slot};
use super::manifest::{BlockRow, WindowRow};
use super::outline::{Outline, Outlines, Presence};
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
        for (block, positions) in blocks_of(row, wanted) {
            self.chunks(row, block, wanted, positions, &mut visit)?;
        }
        Ok(())
    }

    /// Finds those of the wanted series that have a sample in a range which nothing hides. Mostly no
    /// block needs to be read for it.
    pub(crate) fn each_present(
        &mut self,
        row: &WindowRow,
        wanted: &[Wanted],
        (range, hidden): (TimeRange, &HiddenSeries<'_>),
        outlines: &Outliner<'_>,
        found: &mut Found,
    ) -> Result<(), Error> {
        for (block, positions) in blocks_of(row, wanted) {
            let is_wanted = |wanted: &Wanted| !found.has(wanted);
            if !wanted[positions.clone()].iter().any(is_wanted) {
                continue;
            }
            let presence = if hidden.touches(block.first, block.last) {
                None
            } else {
                let outline = self.outline(row, block, outlines)?;
                Some((outline.presence(range), outline))
            };
            match presence {
                Some((Presence::None, _)) => {}
                Some((Presence::All, outline)) => {
                    for wanted in &wanted[positions] {
                        if !found.has(wanted) && !outline.lacks(wanted.series) {
                            found.add(wanted);
                        }
                    }
                }
                None | Some((Presence::Unknown, _)) => {
                    self.chunks(row, block, wanted, positions, &mut |position, chunk| {
                        let wanted = &wanted[position];
                        if !found.has(wanted)
                            && chunk.has_sample(range, &hidden.ranges(wanted.series))?
                        {
                            found.add(wanted);
                        }
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// What is known of a block; it is read once for it.
    pub(crate) fn outline(
        &mut self,
        row: &WindowRow,
        block: &BlockRow,
        outlines: &Outliner<'_>,
    ) -> Result<Arc<Outline>, Error> {
        if let Some(outline) = outlines.outlines.get(block.checksum) {
            return Ok(outline);
        }
        let index = outlines.live.index();
        let known = index.of_metric(block.metric, block.first, block.last);
        drop(index);
        let key = row.block_key(block);
        let guard = self.data.contain(|| data::block(&self.blocks, &key))?;
        let bytes = guard.value();
        let outline = self
            .reader
            .open(bytes, &key, block.checksum)
            .and_then(|()| Outline::of(&mut self.reader, bytes, &known))
            .map_err(|error| self.data.corrupt(format!("block {key:?}: {error}")))?;
        Ok(outlines.outlines.insert(block.checksum, outline))
    }

    /// Visits the chunks that a block has of the wanted series at some positions.
    fn chunks(
        &mut self,
        row: &WindowRow,
        block: &BlockRow,
        wanted: &[Wanted],
        positions: Range<usize>,
        visit: &mut impl FnMut(usize, ChunkView<'_>) -> Result<(), Fault>,
    ) -> Result<(), Error> {
        let data = self.data;
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
        for position in positions {
            for chunk in self.reader.chunks_of(wanted[position].series) {
                let reader = &mut self.reader;
                let view = ChunkView {
                    reader,
                    bytes,
                    chunk,
                };
                visit(position, view).map_err(fault)?;
            }
        }
        Ok(())
    }
}

/// The blocks of a window that may hold wanted series, each with the positions of those.
pub(crate) fn blocks_of<'a>(
    row: &'a WindowRow,
    wanted: &'a [Wanted],
) -> impl Iterator<Item = (&'a BlockRow, Range<usize>)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        while let Some(next) = wanted.get(position) {
            // The first block that does not end before the series.
            let at = row
                .blocks
                .partition_point(|block| (block.metric, block.last) < (next.metric, next.series));
            let block = row.blocks.get(at)?;
            let rest = &wanted[position..];
            let (first, last) = ((block.metric, block.first), (block.metric, block.last));
            let skip = rest.partition_point(|wanted| (wanted.metric, wanted.series) < first);
            let end = rest.partition_point(|wanted| (wanted.metric, wanted.series) <= last);
            let positions = position + skip..position + end;
            position += end;
            if !positions.is_empty() {
                return Some((block, positions));
            }
        }
        None
    })
}

/// Where outlines are remembered, and the index by which they are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outliner<'a> {
    pub(crate) outlines: &'a Outlines,
    pub(crate) live: &'a Live,
}

/// Series that were found to be present, one of each group.
#[derive(Debug, Default)]
pub(crate) struct Found {
    list: Vec<Wanted>,
    groups: Bits,
}

impl Found {
    /// Whether a series of the same group was found.
    pub(crate) fn has(&self, wanted: &Wanted) -> bool {
        self.groups.has(wanted.group)
    }

    pub(crate) fn add(&mut self, wanted: &Wanted) {
        if self.groups.insert(wanted.group) {
            self.list.push(*wanted);
        }
    }

    pub(crate) fn into_list(self) -> Vec<Wanted> {
        self.list
    }
}

/// A set of numbers that are not much larger than they are many.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts a number in; whether it was not there.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        let is_new = self.0[at] >> (number % 64) & 1 == 0;
        self.0[at] |= 1 << (number % 64);
        is_new
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
