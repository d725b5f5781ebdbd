//! Purging: the blocks of a row are written anew without what deletions hide, in slices as merging is.
//!
//! The row says that it is purged with its last slice; until then the deletions go on hiding, in blocks
//! that are done as in the others. Where to go on is only in memory: a purge that is begun anew reads
//! what was done and finds nothing to do there.

use std::sync::Arc;

use super::super::Error;
use super::super::assemble::Assembly;
use super::super::block::{Block, BlockReader};
use super::super::column::MergedColumn;
use super::super::data::Change;
use super::super::deletion::HiddenSeries;
use super::super::manifest::{BlockRow, WindowRow};
use super::super::window::Window;
use super::{Merger, Place, SLICE_BYTES, gather};
use crate::model::SeriesId;

/// A purge that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    window: Window,
    generation: u64,
    /// The deletions that are over with the row: those that every slice of it takes into account.
    applied: u64,
    next: Place,
}

impl Purge {
    /// Goes on with a row, or begins with it.
    pub(crate) fn of(row: &WindowRow, under_way: Option<Self>, applied: u64) -> Self {
        let is_of_row =
            |purge: &Self| (purge.window, purge.generation) == (row.window, row.generation);
        under_way.filter(is_of_row).unwrap_or(Self {
            window: row.window,
            generation: row.generation,
            applied,
            next: (0, SeriesId(0)),
        })
    }
}

impl Merger<'_> {
    /// Takes what is hidden out of the next blocks of a row; answers the purge as it goes on, unless
    /// the row is done.
    pub(crate) fn purge(
        &self,
        row: &Arc<WindowRow>,
        purge: Purge,
    ) -> Result<(Change, Option<Purge>), Error> {
        let hidden = self.deletions.hiding(row.hidden_from(), row.range);
        let mut kept = WindowRow::clone(row);
        kept.blocks.clear();
        let mut change = Change::default();
        let mut read_bytes = 0;
        let mut next = None;
        for block in &row.blocks {
            let place = (block.metric, block.first);
            let is_due = place >= purge.next && hidden.touches(block.first, block.last);
            if is_due && read_bytes >= SLICE_BYTES {
                next.get_or_insert(place);
            }
            if !is_due || next.is_some() {
                kept.blocks.push(*block);
                continue;
            }
            read_bytes += u64::from(block.bytes);
            match self.without_hidden(row, block, &hidden)? {
                None => kept.blocks.push(*block),
                Some(blocks) => {
                    kept.blocks.extend(blocks.iter().map(Block::row));
                    change.remove.push(row.block_key(block));
                    change.insert.extend(blocks);
                }
            }
        }
        if next.is_none() {
            kept.purged = purge.applied;
        }
        change.rows.push(kept);
        Ok((change, next.map(|next| Purge { next, ..purge })))
    }

    /// A block without what is hidden, as blocks of the same row; `None` when that is nothing.
    fn without_hidden(
        &self,
        row: &WindowRow,
        block: &BlockRow,
        hidden: &HiddenSeries<'_>,
    ) -> Result<Option<Vec<Block>>, Error> {
        let key = row.block_key(block);
        let bytes = self.bytes(&key)?;
        let malformed = |error| self.malformed(&key, error);
        let (mut reader, mut column) = (BlockReader::default(), MergedColumn::default());
        reader
            .open(&bytes, &key, block.checksum)
            .map_err(malformed)?;
        let mut assembly = Assembly::new(row.window, row.generation);
        let mut all: Vec<SeriesId> = reader.series().collect();
        all.dedup();
        let mut samples = 0;
        for series in all {
            column.clear();
            gather(&mut reader, &bytes, series, hidden, &mut column).map_err(malformed)?;
            samples += column.timestamps.len();
            if !column.timestamps.is_empty() {
                assembly.add(block.metric, series, &column.timestamps, &column.values);
            }
        }
        let is_whole = samples == block.samples as usize;
        Ok((!is_whole).then(|| assembly.into_blocks().0))
    }
}
