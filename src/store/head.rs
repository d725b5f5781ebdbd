//! Recent samples and record changes, in memory: what the write-ahead file covers and no block holds.
//!
//! The head is a list of parts, each of which covers a range of sequence numbers; the last one grows,
//! the ones before it are frozen and on their way into blocks. Everything carries the sequence number
//! of its commit, so that a reader sees what was published when it came and nothing of what is being
//! written: the writer fills a part before the commit and publishes the number after it.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::column::within;
use super::deletion::Deletion;
use super::entry::Point;
use super::overlay::Records;
use super::slots::Slots;
use super::window::Window;
use crate::model::{Mutation, Sample, SeriesId, TimeRange, Timestamp};

/// What a sample takes in a column, with some room for the growth of vectors.
const SAMPLE_BYTES: u64 = 28;
const COLUMN_BYTES: u64 = 200;
const LATE_BYTES: u64 = 48;

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    New,
    /// The same timestamp with the same bits is there.
    Same,
    /// The same timestamp with other bits is there.
    Conflict,
}

/// Samples and record changes of a range of sequence numbers.
#[derive(Debug)]
pub(crate) struct Part {
    first_seq: u64,
    columns: RwLock<Columns>,
    records: RwLock<Records>,
    gone: Mutex<Gone>,
    bytes: AtomicU64,
    samples: AtomicU64,
}

/// What the rows of `series` and `symbols` are to lose when a part is sealed.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// Series that were forgotten; none of them has a column in the part.
    pub(crate) series: Vec<SeriesId>,
    /// Symbols that were freed.
    pub(crate) symbols: Vec<u32>,
}

impl Part {
    pub(crate) fn new(first_seq: u64) -> Self {
        Self {
            first_seq,
            columns: RwLock::default(),
            records: RwLock::default(),
            gone: Mutex::default(),
            bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    pub(crate) fn columns(&self) -> RwLockReadGuard<'_, Columns> {
        self.columns.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn records(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went in its time.
    pub(crate) fn gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that a column knows a commit by: one for the part's first, zero for all before it.
    /// The part is sealed long before numbers run out.
    pub(crate) fn relative(&self, seq: u64) -> u32 {
        u32::try_from((seq + 1).saturating_sub(self.first_seq)).unwrap_or(u32::MAX)
    }

    /// Opens the part for samples of one commit; readers wait meanwhile.
    pub(crate) fn fill(&self, seq: u64) -> PartFill<'_> {
        PartFill {
            relative: self.relative(seq),
            columns: self.columns.write().unwrap_or_else(PoisonError::into_inner),
            part: self,
            samples: 0,
            bytes: 0,
        }
    }

    /// Takes out what a deletion names; everything in the part is older than it.
    pub(crate) fn purge(&self, deletion: &Deletion) {
        let mut columns = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        for &series in &deletion.series {
            if let Some(column) = columns.get_mut(series) {
                removed += column.purge(deletion.range);
            }
        }
        self.samples.fetch_sub(removed, Ordering::Relaxed);
        self.bytes
            .fetch_sub(removed * SAMPLE_BYTES, Ordering::Relaxed);
    }

    /// Puts a record's change on top; versions that no reader from `oldest` on can see are dropped.
    pub(crate) fn mutate(&self, seq: u64, mutation: &Mutation, oldest: u64) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let (grown, shrunk) = records.put(seq, mutation, oldest);
        self.bytes.fetch_add(grown, Ordering::Relaxed);
        self.bytes.fetch_sub(shrunk, Ordering::Relaxed);
    }
}

/// A part that samples are being added to.
pub(crate) struct PartFill<'a> {
    relative: u32,
    columns: RwLockWriteGuard<'a, Columns>,
    part: &'a Part,
    samples: u64,
    bytes: u64,
}

impl PartFill<'_> {
    pub(crate) fn insert(&mut self, point: Point) -> Placed {
        let column = self.columns.get_or_insert(point.series);
        let is_first = column.timestamps.is_empty();
        let late = column.late.len();
        let placed = column.insert(point.timestamp_ms, point.value, self.relative);
        let is_late = column.late.len() > late;
        if placed == Placed::New {
            widen(&mut self.columns.span, point.timestamp_ms);
            self.samples += 1;
            self.bytes +=
                SAMPLE_BYTES + u64::from(is_late) * LATE_BYTES + u64::from(is_first) * COLUMN_BYTES;
        }
        placed
    }
}

impl Drop for PartFill<'_> {
    fn drop(&mut self) {
        self.part.samples.fetch_add(self.samples, Ordering::Relaxed);
        self.part.bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// The series of a part.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// By series id: one more than the position in the list, or zero.
    slots: Slots,
    list: Vec<HeadColumn>,
    /// From the earliest to the latest sample that there ever was.
    span: Option<TimeRange>,
}

impl Columns {
    pub(crate) fn get(&self, series: SeriesId) -> Option<&HeadColumn> {
        let slot = self.slots.get(series);
        self.list.get((slot as usize).checked_sub(1)?)
    }

    /// Whether any series may have a sample in a range.
    pub(crate) fn may_overlap(&self, range: TimeRange) -> bool {
        self.span.is_some_and(|span| span.overlaps(range))
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, HeadColumn> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    fn get_mut(&mut self, series: SeriesId) -> Option<&mut HeadColumn> {
        let slot = self.slots.get(series);
        self.list.get_mut((slot as usize).checked_sub(1)?)
    }

    fn get_or_insert(&mut self, series: SeriesId) -> &mut HeadColumn {
        let slot = self.slots.get_mut(series);
        if *slot == 0 {
            self.list.push(HeadColumn::new(series));
            *slot = self.list.len() as u32;
        }
        &mut self.list[*slot as usize - 1]
    }
}

/// The samples of one series in a part: a column that rises in time and in sequence, and what came
/// late beside it.
#[derive(Debug)]
pub(crate) struct HeadColumn {
    pub(crate) series: SeriesId,
    /// From the earliest to the latest sample that there ever was: it tells without a look at them that
    /// there is none in a range.
    span: Option<TimeRange>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    seqs: Vec<u32>,
    late: BTreeMap<i64, (f64, u32)>,
}

impl HeadColumn {
    fn new(series: SeriesId) -> Self {
        Self {
            series,
            span: None,
            timestamps: Vec::new(),
            values: Vec::new(),
            seqs: Vec::new(),
            late: BTreeMap::new(),
        }
    }

    fn insert(&mut self, timestamp_ms: i64, value: f64, seq: u32) -> Placed {
        let placed = self.place(timestamp_ms, value, seq);
        if placed == Placed::New {
            widen(&mut self.span, timestamp_ms);
        }
        placed
    }

    fn place(&mut self, timestamp_ms: i64, value: f64, seq: u32) -> Placed {
        if self.is_newest(timestamp_ms) {
            self.timestamps.push(timestamp_ms);
            self.values.push(value);
            self.seqs.push(seq);
            return Placed::New;
        }
        if let Some(there) = self.in_order(timestamp_ms) {
            return compare(there, value);
        }
        match self.late.entry(timestamp_ms) {
            btree_map::Entry::Occupied(entry) => compare(entry.get().0, value),
            btree_map::Entry::Vacant(entry) => {
                entry.insert((value, seq));
                Placed::New
            }
        }
    }

    /// Whether there may be a sample in a range.
    pub(crate) fn may_overlap(&self, range: TimeRange) -> bool {
        self.span.is_some_and(|span| span.overlaps(range))
    }

    /// Whether a timestamp is after all others. What came late may be the newest after a purge.
    fn is_newest(&self, timestamp_ms: i64) -> bool {
        let late = self.late.last_key_value();
        self.timestamps
            .last()
            .is_none_or(|&last| last < timestamp_ms)
            && late.is_none_or(|(&last, _)| last < timestamp_ms)
    }

    /// Takes the samples of a range out; answers how many there were.
    fn purge(&mut self, range: TimeRange) -> u64 {
        let hidden = within(&self.timestamps, range);
        self.timestamps.drain(hidden.clone());
        self.values.drain(hidden.clone());
        self.seqs.drain(hidden.clone());
        let late = self.late.len();
        self.late
            .retain(|&at, _| !range.contains(Timestamp::from_ms(at)));
        (hidden.len() + late - self.late.len()) as u64
    }

    fn in_order(&self, timestamp_ms: i64) -> Option<f64> {
        let at = self.timestamps.binary_search(&timestamp_ms).ok()?;
        Some(self.values[at])
    }

    /// Whether a sample may be added, as far as this column knows.
    pub(crate) fn check(&self, sample: Sample) -> Placed {
        let (timestamp_ms, value) = (sample.timestamp.ms(), sample.value);
        if self.is_newest(timestamp_ms) {
            return Placed::New;
        }
        let late = || self.late.get(&timestamp_ms).map(|&(value, _)| value);
        match self.in_order(timestamp_ms).or_else(late) {
            Some(there) => compare(there, value),
            None => Placed::New,
        }
    }

    /// The samples in a range of time that were published up to a sequence number: the rising column,
    /// and what has to be merged into it.
    pub(crate) fn visible(
        &self,
        range: TimeRange,
        seq: u32,
    ) -> (&[i64], &[f64], impl Iterator<Item = (i64, f64)>) {
        let published = match self.seqs.last() {
            Some(&last) if last > seq => self.seqs.partition_point(|&at| at <= seq),
            _ => self.seqs.len(),
        };
        let timestamps = &self.timestamps[..published];
        let start = timestamps.partition_point(|&at| at < range.start().ms());
        let end = timestamps.partition_point(|&at| at <= range.end().ms());
        let late = self
            .late
            .range(range.start().ms()..=range.end().ms())
            .filter(move |(_, (_, at))| *at <= seq)
            .map(|(&timestamp_ms, &(value, _))| (timestamp_ms, value));
        (&timestamps[start..end], &self.values[start..end], late)
    }

    /// Appends all samples in the order of time; only for a frozen part, where all are published.
    pub(crate) fn merged_into(&self, timestamps: &mut Vec<i64>, values: &mut Vec<f64>) {
        let mut start = 0;
        for (&late_ms, &(late, _)) in &self.late {
            let end = start + self.timestamps[start..].partition_point(|&at| at < late_ms);
            timestamps.extend_from_slice(&self.timestamps[start..end]);
            values.extend_from_slice(&self.values[start..end]);
            timestamps.push(late_ms);
            values.push(late);
            start = end;
        }
        timestamps.extend_from_slice(&self.timestamps[start..]);
        values.extend_from_slice(&self.values[start..]);
    }

    /// Counts the samples by window, in pieces: a window may be counted twice.
    pub(crate) fn count_by(
        &self,
        window_of: impl Fn(i64) -> Window,
        mut count: impl FnMut(Window, u64),
    ) {
        let mut rest = self.timestamps.as_slice();
        while let Some(&first) = rest.first() {
            let window = window_of(first);
            let end_ms = window.range().end().ms();
            let length = rest.partition_point(|&at| at <= end_ms);
            count(window, length as u64);
            rest = &rest[length..];
        }
        let late = self.late.keys().copied().collect::<Vec<_>>();
        for piece in late.chunk_by(|&left, &right| window_of(left) == window_of(right)) {
            count(window_of(piece[0]), piece.len() as u64);
        }
    }
}

/// Makes a span reach to a sample.
fn widen(span: &mut Option<TimeRange>, timestamp_ms: i64) {
    let at = Timestamp::from_ms(timestamp_ms);
    let (start, end) = span.map_or((at, at), |span| (span.start(), span.end()));
    if span.is_none() || at < start || end < at {
        *span = TimeRange::new(start.min(at), end.max(at));
    }
}

fn compare(there: f64, value: f64) -> Placed {
    if there.to_bits() == value.to_bits() {
        Placed::Same
    } else {
        Placed::Conflict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(part: &Part, seq: u64) -> Vec<(i64, f64)> {
        let columns = part.columns();
        let column = columns.get(SeriesId(3)).unwrap();
        let (timestamps, values, late) = column.visible(TimeRange::ALL, part.relative(seq));
        let mut all: Vec<_> = timestamps
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect();
        all.extend(late);
        all
    }

    fn insert(part: &Part, seq: u64, timestamp_ms: i64, value: f64) -> Placed {
        part.fill(seq).insert(Point {
            series: SeriesId(3),
            timestamp_ms,
            value,
        })
    }

    #[test]
    fn a_reader_sees_what_was_published_when_it_came() {
        let part = Part::new(10);
        insert(&part, 10, 100, 1.0);
        insert(&part, 11, 200, 2.0);
        insert(&part, 12, 150, 1.5);
        assert_eq!(read(&part, 9), []);
        assert_eq!(read(&part, 10), [(100, 1.0)]);
        assert_eq!(read(&part, 11), [(100, 1.0), (200, 2.0)]);
        assert_eq!(read(&part, 12), [(100, 1.0), (200, 2.0), (150, 1.5)]);
    }

    #[test]
    fn duplicates_are_told_apart_by_their_bits() {
        let part = Part::new(1);
        assert_eq!(insert(&part, 1, 100, 0.0), Placed::New);
        assert_eq!(insert(&part, 1, 100, 0.0), Placed::Same);
        assert_eq!(insert(&part, 1, 100, -0.0), Placed::Conflict);
        assert_eq!(insert(&part, 1, 50, 1.0), Placed::New);
        assert_eq!(insert(&part, 2, 50, 1.0), Placed::Same);
        assert_eq!(insert(&part, 2, 50, 2.0), Placed::Conflict);
        let columns = part.columns();
        let column = columns.get(SeriesId(3)).unwrap();
        let check = |timestamp_ms, value| {
            column.check(Sample::new(Timestamp::from_ms(timestamp_ms), value))
        };
        assert_eq!(check(50, 1.0), Placed::Same);
        assert_eq!(check(100, 1.0), Placed::Conflict);
        assert_eq!(check(101, 1.0), Placed::New);
        let (timestamps, ..) = column.visible(
            TimeRange::new(Timestamp::from_ms(101), Timestamp::MAX).unwrap(),
            9,
        );
        assert!(timestamps.is_empty());
    }
}
