//! How blocks are read: which of them hold wanted series, and the chunks of those.
//!
//! Every block is checked before a value is taken from it.

use std::ops::Range;
use std::sync::Arc;

use redb::ReadTransaction;

use super::Error;
use super::block::BlockReader;
use super::bytes::Malformed;
use super::column::visible;
use super::data::{self, Blocks};
use super::deletion::HiddenSeries;
use super::handle::Handle;
use super::live::Live;
use super::manifest::{BlockRow, WindowRow};
use super::outline::{Outline, Outlines, Presence};
use crate::model::{SeriesId, TimeRange, Timestamp};

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
    /// How many blocks were opened so far.
    opened: u64,
}

impl<'a> OpenBlocks<'a> {
    pub(crate) fn new(data: &'a Handle, transaction: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self {
            data,
            blocks: data.contain(|| data::open_blocks(transaction))?,
            reader: BlockReader::default(),
            opened: 0,
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
        self.opened += 1;
        for position in positions {
            for chunk in self.reader.chunks_of(wanted[position].series) {
                let view = ChunkView {
                    reader: &mut self.reader,
                    block: self.opened,
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
    pub(crate) fn has(&self, number: u32) -> bool {
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
    /// The number of the block among those that were opened.
    block: u64,
    bytes: &'a [u8],
    chunk: usize,
}

impl ChunkView<'_> {
    pub(crate) fn span(&self) -> TimeRange {
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

    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// The number of the column of timestamps in its block; chunks share them.
    pub(crate) fn column(&self) -> usize {
        self.reader.column_of(self.chunk)
    }

    /// How many samples it has.
    pub(crate) fn len(&self) -> usize {
        self.reader.len_of(self.chunk)
    }

    pub(crate) fn timestamps(&mut self) -> Result<&[i64], Malformed> {
        self.reader.timestamps(self.bytes, self.chunk)
    }

    /// Appends the values of the chunk.
    pub(crate) fn values_into(&mut self, out: &mut Vec<f64>) -> Result<(), Malformed> {
        self.reader.values_into(self.bytes, self.chunk, out)
    }

    pub(crate) fn samples(&mut self) -> Result<(&[i64], &[f64]), Malformed> {
        self.reader.samples(self.bytes, self.chunk)
    }
}
