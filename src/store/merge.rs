//! Merging: the generations of a window into one, small windows into a day, and blocks without what
//! deletions hide.
//!
//! A merge goes in slices of neighbouring series, each one transaction. What a slice merged lies in the
//! row that all goes to, and is gone from the others; so every state between two slices is whole, and
//! where to go on is seen from the rows alone. The row that all goes to has the highest generation of
//! those that are merged, and all lower ones of the window are merged: the order in which samples
//! came, by which the first of two conflicting ones stays, is that of generations.

mod purge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redb::ReadTransaction;

pub(crate) use self::purge::Purge;
use super::Error;
use super::assemble::Assembly;
use super::block::{Block, BlockKey, BlockReader};
use super::bytes::Malformed;
use super::column::{MergedColumn, visible};
use super::data::{self, Blocks, Change};
use super::deletion::{Deletions, HiddenSeries};
use super::handle::Handle;
use super::manifest::{BlockRow, Manifest, WindowRow};
use super::window::{Width, Window};
use crate::model::{SeriesId, TimeRange, Timestamp};

/// What one slice reads at most, less a block for each row. Seals wait for a slice, and the write-ahead
/// file grows meanwhile.
const SLICE_BYTES: u64 = 2 << 20;
/// Samples still arrive for a window that was over this long ago.
const LATE: Duration = Duration::from_secs(15 * 60);
/// Generations that a window collects before they are merged although it is not over.
const GENERATIONS_MAX: usize = 12;
/// Windows are merged into days when samples are kept for at least so long.
const DAYS_KEPT_MIN: Duration = Duration::from_secs(10 * 86_400);
/// A day that is merged is merged again for at least one new sample in so many.
const NEW_SAMPLES: u64 = 10;

/// What is to be done next.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Rows in the order of precedence into the window of the last one's generation.
    Merge {
        rows: Vec<Arc<WindowRow>>,
        window: Window,
    },
    /// Take out of the next blocks of a row what deletions hide.
    Purge(Arc<WindowRow>),
}

/// What a plan depends on beside what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    /// Everything up to this sequence number is sealed.
    pub(crate) applied: u64,
    /// Later generations may soon have company in their windows.
    pub(crate) settled: u64,
    /// Days are dropped as a whole, which is too coarse for a short retention.
    pub(crate) merges_days: bool,
    /// The window that the last slice was merged into: what is begun is finished.
    pub(crate) started: Option<Window>,
}

impl Moment {
    pub(crate) fn merges_days(retention: Option<Duration>) -> bool {
        retention.is_none_or(|retention| retention >= DAYS_KEPT_MIN)
    }
}

/// The most urgent thing that there is to merge.
///
/// Days that hold a damaged block are left as they are.
pub(crate) fn plan(
    manifest: &Manifest,
    deletions: &Deletions,
    damaged_days: &BTreeSet<i64>,
    moment: Moment,
) -> Option<Plan> {
    let is_whole = |row: &WindowRow| !damaged_days.contains(&row.window.day());
    let to_purge = manifest
        .rows
        .iter()
        .filter(|row| is_whole(row))
        .find(|row| {
            let hides = |seq| seq > row.hidden_from() && seq <= moment.applied;
            deletions
                .iter()
                .any(|deletion| hides(deletion.seq) && deletion.range.overlaps(row.range))
        });
    if let Some(row) = to_purge {
        return Some(Plan::Purge(row.clone()));
    }
    let mut rest = manifest.rows.as_slice();
    while let Some(first) = rest.first() {
        let day = first.window.day();
        let (rows, others) = rest.split_at(rest.partition_point(|row| row.window.day() <= day));
        rest = others;
        if is_whole(first)
            && let Some(plan) = plan_day(rows, moment)
        {
            return Some(plan);
        }
    }
    None
}

/// What there is to merge in a day, whose rows come in the order of precedence.
fn plan_day(rows: &[Arc<WindowRow>], moment: Moment) -> Option<Plan> {
    let day = Window {
        width: Width::Day,
        number: rows[0].window.day(),
    };
    let is_over = |window: Window| window.range().end().after(LATE) < moment.now;
    let is_settled =
        |rows: &[Arc<WindowRow>]| rows.iter().all(|row| row.generation <= moment.settled);
    let has_day = rows.iter().any(|row| row.window.width == Width::Day);
    if is_over(day) && (moment.merges_days || has_day) {
        let samples = |row: &Arc<WindowRow>| row.samples();
        let all: u64 = rows.iter().map(samples).sum();
        let merged = rows
            .iter()
            .filter(|row| row.window.width == Width::Day)
            .map(samples)
            .max();
        let new = all - merged.unwrap_or(0);
        let is_due = moment.started == Some(day)
            || rows.len() > GENERATIONS_MAX
            || is_settled(rows) && new * NEW_SAMPLES > all;
        return (new > 0 && is_due).then(|| Plan::Merge {
            rows: rows.to_vec(),
            window: day,
        });
    }
    if has_day {
        // The order of generations must hold across both widths, so these wait for the day.
        return None;
    }
    let mut windows: BTreeMap<Window, Vec<Arc<WindowRow>>> = BTreeMap::new();
    for row in rows {
        windows.entry(row.window).or_default().push(row.clone());
    }
    windows
        .into_iter()
        .find(|(window, rows)| {
            rows.len() >= GENERATIONS_MAX
                || rows.len() > 1
                    && (moment.started == Some(*window) || is_over(*window) && is_settled(rows))
        })
        .map(|(window, rows)| Plan::Merge { rows, window })
}

impl Plan {
    /// The window that it writes to.
    pub(crate) fn window(&self) -> Window {
        match self {
            Self::Merge { window, .. } => *window,
            Self::Purge(row) => row.window,
        }
    }
}

/// One place in the order of blocks.
type Place = (u32, SeriesId);

const LAST_PLACE: Place = (u32::MAX, SeriesId(u32::MAX));

/// Reads blocks for a merge and makes the new ones.
pub(crate) struct Merger<'a> {
    data: &'a Handle,
    blocks: Blocks,
    deletions: &'a Deletions,
}

impl<'a> Merger<'a> {
    pub(crate) fn new(
        data: &'a Handle,
        transaction: &ReadTransaction,
        deletions: &'a Deletions,
    ) -> Result<Self, Error> {
        Ok(Self {
            blocks: data.contain(|| data::open_blocks(transaction))?,
            data,
            deletions,
        })
    }

    /// Merges the next run of series.
    pub(crate) fn slice(&self, rows: &[Arc<WindowRow>], window: Window) -> Result<Change, Error> {
        let newest = rows.last().expect("there is something to merge");
        let generation = newest.generation;
        let is_target = |row: &WindowRow| row.window == window && row.generation == generation;
        // What lies before is merged already.
        let start = rows
            .iter()
            .filter(|row| !is_target(row))
            .filter_map(|row| row.blocks.first())
            .map(|block| (block.metric, block.first))
            .min()
            .unwrap_or(LAST_PLACE);
        let cut = slice_end(rows, start);
        let mut assembly = Assembly::new(window, generation);
        let mut change = Change::default();
        let mut cursors = Vec::new();
        for row in rows {
            let hidden = self.deletions.hiding(row.hidden_from(), row.range);
            let taken = taken_blocks(row, start, cut);
            let mut kept = WindowRow::clone(row);
            kept.blocks.drain(taken.clone());
            let straddling = row.blocks[taken.clone()]
                .last()
                .filter(|block| (block.metric, block.last) > cut);
            if let Some(block) = straddling {
                // What comes after the cut stays where it was.
                let tail = self.tail(row, block, cut.1)?;
                let at = kept
                    .blocks
                    .partition_point(|other| (other.metric, other.first) < cut);
                kept.blocks.splice(at..at, tail.iter().map(Block::row));
                change.insert.extend(tail);
            }
            let removed = row.blocks[taken.clone()].iter();
            change
                .remove
                .extend(removed.map(|block| row.block_key(block)));
            change.rows.push(kept);
            cursors.push(Cursor {
                row,
                hidden,
                left: row.blocks[taken].iter(),
                key: None,
                bytes: Vec::new(),
                reader: BlockReader::default(),
                chunk: 0,
                chunks: Vec::new(),
            });
        }
        change.conflicts = self.merge(&mut cursors, cut, &mut assembly)?;
        let (merged, range) = assembly.into_blocks();
        let target = change.rows.iter().position(is_target);
        let mut target = target.map_or_else(
            || WindowRow {
                window,
                generation,
                purged: 0,
                range: newest.range,
                blocks: Vec::new(),
            },
            |at| change.rows.remove(at),
        );
        if let Some(range) = range {
            let start = range.start().min(target.range.start());
            let end = range.end().max(target.range.end());
            target.range = TimeRange::new(start, end).unwrap_or(TimeRange::ALL);
        }
        let at = target
            .blocks
            .partition_point(|block| (block.metric, block.first) < start);
        target.blocks.splice(at..at, merged.iter().map(Block::row));
        change.insert.extend(merged);
        change.rows.push(target);
        Ok(change)
    }

    /// Merges what the cursors have up to the cut, series by series; answers how many samples gave way
    /// to others.
    fn merge(
        &self,
        cursors: &mut [Cursor<'_>],
        cut: Place,
        assembly: &mut Assembly,
    ) -> Result<u64, Error> {
        for cursor in cursors.iter_mut() {
            self.load(cursor)?;
        }
        let mut column = MergedColumn::default();
        while let Some(next) = cursors.iter().filter_map(Cursor::place).min()
            && next <= cut
        {
            column.clear();
            for cursor in cursors.iter_mut() {
                if cursor.place() != Some(next) {
                    continue;
                }
                let Cursor {
                    reader,
                    bytes,
                    hidden,
                    key,
                    ..
                } = cursor;
                gather(reader, bytes, next.1, hidden, &mut column).map_err(|error| {
                    let key = key.as_ref().expect("a cursor with a place has a block");
                    self.malformed(key, error)
                })?;
                self.advance(cursor)?;
            }
            if !column.timestamps.is_empty() {
                assembly.add(next.0, next.1, &column.timestamps, &column.values);
            }
        }
        Ok(column.conflicts)
    }

    /// The part of a block that comes after a series, as blocks of the same row.
    fn tail(
        &self,
        row: &WindowRow,
        block: &BlockRow,
        after: SeriesId,
    ) -> Result<Vec<Block>, Error> {
        let key = row.block_key(block);
        let bytes = self.bytes(&key)?;
        let mut reader = BlockReader::default();
        let mut assembly = Assembly::new(row.window, row.generation);
        reader
            .open(&bytes, &key, block.checksum)
            .and_then(|()| assembly.add_after(block.metric, &reader, &bytes, after))
            .map_err(|error| self.malformed(&key, error))?;
        Ok(assembly.into_blocks().0)
    }

    fn bytes(&self, key: &BlockKey) -> Result<Vec<u8>, Error> {
        self.data
            .contain(|| Ok(data::block(&self.blocks, key)?.value().to_vec()))
    }

    fn malformed(&self, key: &BlockKey, error: Malformed) -> Error {
        self.data.corrupt(format!("block {key:?}: {error}"))
    }

    /// Goes on to the next series.
    fn advance(&self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        cursor.chunk += 1;
        if cursor.chunk < cursor.chunks.len() {
            return Ok(());
        }
        self.load(cursor)
    }

    /// Opens the next block, if there is one.
    fn load(&self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        cursor.chunk = 0;
        cursor.chunks.clear();
        cursor.key = None;
        let Some(block) = cursor.left.next() else {
            return Ok(());
        };
        let key = cursor.row.block_key(block);
        cursor.bytes = self.bytes(&key)?;
        cursor
            .reader
            .open(&cursor.bytes, &key, block.checksum)
            .map_err(|error| self.malformed(&key, error))?;
        cursor.chunks.extend(cursor.reader.series());
        cursor.chunks.dedup();
        cursor.key = Some(key);
        Ok(())
    }
}

/// Where a merge stands in one row.
struct Cursor<'a> {
    row: &'a WindowRow,
    hidden: HiddenSeries<'a>,
    left: std::slice::Iter<'a, BlockRow>,
    key: Option<BlockKey>,
    bytes: Vec<u8>,
    reader: BlockReader,
    /// The series of the open block, and which of them is next.
    chunks: Vec<SeriesId>,
    chunk: usize,
}

impl Cursor<'_> {
    fn place(&self) -> Option<Place> {
        let key = self.key.as_ref()?;
        Some((key.metric, *self.chunks.get(self.chunk)?))
    }
}

/// Appends what a block has of a series and nothing hides.
fn gather(
    reader: &mut BlockReader,
    bytes: &[u8],
    series: SeriesId,
    hidden: &HiddenSeries<'_>,
    column: &mut MergedColumn,
) -> Result<(), Malformed> {
    let hidden = hidden.ranges(series);
    for chunk in reader.chunks_of(series) {
        let (timestamps, values) = reader.samples(bytes, chunk)?;
        if hidden.is_empty() {
            column.append(timestamps, values);
            continue;
        }
        for piece in visible(timestamps, TimeRange::ALL, &hidden) {
            column.append(&timestamps[piece.clone()], &values[piece]);
        }
    }
    Ok(())
}

/// The blocks of a row that a slice reads.
fn taken_blocks(row: &WindowRow, start: Place, cut: Place) -> std::ops::Range<usize> {
    let first = row
        .blocks
        .partition_point(|block| (block.metric, block.last) < start);
    let end = row
        .blocks
        .partition_point(|block| (block.metric, block.first) <= cut);
    first..end.max(first)
}

/// The last series of the slice that begins at a place.
fn slice_end(rows: &[Arc<WindowRow>], start: Place) -> Place {
    let mut blocks: Vec<&BlockRow> = rows
        .iter()
        .flat_map(|row| &row.blocks[taken_blocks(row, start, LAST_PLACE)])
        .collect();
    blocks.sort_unstable_by_key(|block| (block.metric, block.last));
    let mut bytes = 0;
    for block in blocks {
        bytes += u64::from(block.bytes);
        if bytes >= SLICE_BYTES {
            return (block.metric, block.last);
        }
    }
    LAST_PLACE
}
