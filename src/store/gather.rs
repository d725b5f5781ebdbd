//! The samples of wanted series put together: chunks of blocks and columns of the head, one column a
//! series.
//!
//! Whoever drives it does so in the order of precedence, oldest generation first: of two samples for
//! one timestamp the one that came first stays. Timestamps are held in pieces that series share, as
//! chunks of a block share a column of them: a series that has the same pieces as another gets the
//! same timestamps, without a copy.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;
use super::bytes::Malformed;
use super::column::{MergedColumn, visible, within};
use super::deletion::HiddenSeries;
use super::live::Slot;
use super::select::{ChunkView, Fault, Wanted};
use crate::model::{TimeRange, Timestamp};

/// Series of the head that are read before writers get their turn.
const HEAD_SERIES: usize = 256;

/// The samples of one series.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) timestamps: Arc<[Timestamp]>,
    pub(crate) values: Vec<f64>,
}

/// How many samples a selection has read, over all threads that read it.
#[derive(Debug)]
pub(crate) struct Budget {
    samples: AtomicUsize,
    samples_max: usize,
}

impl Budget {
    pub(crate) fn new(samples_max: usize) -> Self {
        Self {
            samples: AtomicUsize::new(0),
            samples_max,
        }
    }

    fn take(&self, samples: usize) -> Result<(), Error> {
        let before = self.samples.fetch_add(samples, Ordering::Relaxed);
        if before.saturating_add(samples) > self.samples_max {
            return Err(Error::TooManySamples {
                samples_max: self.samples_max,
            });
        }
        Ok(())
    }
}

/// The series of a selection while they are read.
pub(crate) struct Gathering<'a> {
    list: Vec<Growing>,
    range: TimeRange,
    /// About how many samples a series has.
    expected: usize,
    budget: &'a Budget,
    pieces: Pieces,
    /// The values of a chunk that the range cuts.
    cut: Vec<f64>,
}

/// Timestamps of a stretch of time, shared by series.
type Piece = Rc<[i64]>;

/// A series as far as it was read.
enum Growing {
    /// Pieces that follow each other in time.
    Pieces(Vec<Piece>, Vec<f64>),
    /// Some came out of order.
    Merged(MergedColumn),
}

/// What the last chunks and columns had of timestamps, for those that have the same.
#[derive(Default)]
struct Pieces {
    block: u64,
    /// By the number of the column in the block: the timestamps in the range, and where they lie.
    columns: Vec<Option<(Piece, Range<usize>)>>,
    /// What the last series of the head had.
    head: Option<Piece>,
}

impl<'a> Gathering<'a> {
    pub(crate) fn new(count: usize, range: TimeRange, expected: usize, budget: &'a Budget) -> Self {
        Self {
            list: (0..count)
                .map(|_| Growing::Pieces(Vec::new(), Vec::new()))
                .collect(),
            range,
            expected,
            budget,
            pieces: Pieces::default(),
            cut: Vec::new(),
        }
    }

    pub(crate) fn append_chunk(
        &mut self,
        position: usize,
        mut chunk: ChunkView<'_>,
        hidden: &[TimeRange],
    ) -> Result<(), Fault> {
        if !chunk.span().overlaps(self.range) {
            return Ok(());
        }
        if !hidden.is_empty() {
            let (timestamps, values) = chunk.samples()?;
            for range in visible(timestamps, self.range, hidden) {
                self.append(position, &timestamps[range.clone()], &values[range])
                    .map_err(Fault::Error)?;
            }
            return Ok(());
        }
        let (piece, within) = self.pieces.of_chunk(&mut chunk, self.range)?;
        let Some(&first) = piece.first() else {
            return Ok(());
        };
        let growing = &mut self.list[position];
        if let Growing::Pieces(pieces, values) = growing
            && pieces
                .last()
                .is_none_or(|last| last[last.len() - 1] < first)
        {
            if values.is_empty() {
                values.reserve_exact(self.expected);
            }
            if within.len() == chunk.len() {
                chunk.values_into(values)?;
            } else {
                self.cut.clear();
                chunk.values_into(&mut self.cut)?;
                values.extend_from_slice(&self.cut[within]);
            }
            self.budget.take(piece.len()).map_err(Fault::Error)?;
            pieces.push(piece);
            return Ok(());
        }
        let (timestamps, values) = chunk.samples()?;
        self.append(position, &timestamps[within.clone()], &values[within])
            .map_err(Fault::Error)
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

    /// Appends what is in the range by itself, without the hidden ranges.
    fn append_visible(
        &mut self,
        position: usize,
        timestamps: &[i64],
        values: &[f64],
        hidden: &[TimeRange],
    ) -> Result<(), Error> {
        if hidden.is_empty() {
            return self.append(position, timestamps, values);
        }
        for range in visible(timestamps, self.range, hidden) {
            self.append(position, &timestamps[range.clone()], &values[range])?;
        }
        Ok(())
    }

    fn append(&mut self, position: usize, timestamps: &[i64], values: &[f64]) -> Result<(), Error> {
        let Some(&first) = timestamps.first() else {
            return Ok(());
        };
        let growing = &mut self.list[position];
        let before = growing.len();
        match growing {
            Growing::Pieces(pieces, old)
                if pieces
                    .last()
                    .is_none_or(|last| last[last.len() - 1] < first) =>
            {
                pieces.push(self.pieces.of_head(timestamps));
                old.extend_from_slice(values);
            }
            _ => growing.merged().append(timestamps, values),
        }
        self.budget.take(growing.len() - before)
    }

    /// What there is of each series, by position; `None` of those without a sample.
    pub(crate) fn finish(self) -> Vec<Option<Gathered>> {
        let mut last: (Vec<Piece>, Arc<[Timestamp]>) = Default::default();
        let mut known = Known::default();
        self.list
            .into_iter()
            .map(|growing| {
                let (timestamps, values) = match growing {
                    Growing::Merged(column) => (known.share(&column.timestamps), column.values),
                    Growing::Pieces(pieces, values) => {
                        if !is_same(&last.0, &pieces) {
                            let timestamps = known.share(&pieces.concat());
                            last = (pieces, timestamps);
                        }
                        let timestamps = last.1.clone();
                        (timestamps, values)
                    }
                };
                (!values.is_empty()).then_some(Gathered { timestamps, values })
            })
            .collect()
    }
}

/// Whether two series are made of the same pieces.
fn is_same(left: &[Piece], right: &[Piece]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| Rc::ptr_eq(left, right))
}

impl Growing {
    fn len(&self) -> usize {
        match self {
            Self::Pieces(_, values) => values.len(),
            Self::Merged(column) => column.values.len(),
        }
    }

    /// Goes over to a column that anything can be merged into.
    fn merged(&mut self) -> &mut MergedColumn {
        if let Self::Pieces(pieces, values) = self {
            *self = Self::Merged(MergedColumn {
                timestamps: pieces.concat(),
                values: std::mem::take(values),
                conflicts: 0,
            });
        }
        match self {
            Self::Merged(column) => column,
            Self::Pieces(..) => unreachable!("it was changed just now"),
        }
    }
}

impl Pieces {
    fn of_chunk(
        &mut self,
        chunk: &mut ChunkView<'_>,
        range: TimeRange,
    ) -> Result<(Piece, Range<usize>), Malformed> {
        if self.block != chunk.block() {
            self.block = chunk.block();
            self.columns.clear();
        }
        let column = chunk.column();
        if let Some(Some(known)) = self.columns.get(column) {
            return Ok(known.clone());
        }
        let timestamps = chunk.timestamps()?;
        let within = within(timestamps, range);
        let piece = (Rc::from(&timestamps[within.clone()]), within);
        if self.columns.len() <= column {
            self.columns.resize(column + 1, None);
        }
        self.columns[column] = Some(piece.clone());
        Ok(piece)
    }

    fn of_head(&mut self, timestamps: &[i64]) -> Piece {
        match &self.head {
            Some(last) if **last == *timestamps => last.clone(),
            _ => {
                let piece: Piece = timestamps.into();
                self.head = Some(piece.clone());
                piece
            }
        }
    }
}

/// The distinct timestamps so far, by how many there are and where they begin and end.
#[derive(Default)]
struct Known(HashMap<(usize, i64, i64), Vec<Shared>>);

type Shared = Arc<[Timestamp]>;

impl Known {
    fn share(&mut self, timestamps: &[i64]) -> Arc<[Timestamp]> {
        let (Some(&first), Some(&last)) = (timestamps.first(), timestamps.last()) else {
            return Arc::default();
        };
        let candidates = self.0.entry((timestamps.len(), first, last)).or_default();
        let is_equal =
            |one: &&Arc<[Timestamp]>| one.iter().zip(timestamps).all(|(at, ms)| at.ms() == *ms);
        if let Some(found) = candidates.iter().find(is_equal) {
            return found.clone();
        }
        let shared: Arc<[Timestamp]> = timestamps.iter().copied().map(Timestamp::from_ms).collect();
        candidates.push(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(appended: &[(usize, &[i64])]) -> Vec<Option<Gathered>> {
        let budget = Budget::new(100);
        let mut gathering = Gathering::new(3, TimeRange::ALL, 0, &budget);
        for (position, timestamps) in appended {
            let values: Vec<f64> = timestamps.iter().map(|at| *at as f64).collect();
            gathering.append(*position, timestamps, &values).unwrap();
        }
        gathering.finish()
    }

    fn times(gathered: Option<&Gathered>) -> Vec<i64> {
        gathered.map_or_else(Vec::new, |it| {
            it.timestamps.iter().map(|at| at.ms()).collect()
        })
    }

    #[test]
    fn series_of_the_same_times_share_them() {
        let found = gathered(&[(0, &[1, 2]), (2, &[1, 2]), (0, &[3]), (2, &[3])]);
        let [Some(first), None, Some(last)] = found.as_slice() else {
            panic!("two series have samples");
        };
        assert!(Arc::ptr_eq(&first.timestamps, &last.timestamps));
        assert_eq!(last.values, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn what_comes_out_of_order_is_merged_and_the_first_stays() {
        let found = gathered(&[(0, &[10, 20]), (0, &[15, 20, 30]), (1, &[10, 15, 20, 30])]);
        assert_eq!(times(found[0].as_ref()), [10, 15, 20, 30]);
        let both = found[0].as_ref().zip(found[1].as_ref()).unwrap();
        assert!(Arc::ptr_eq(&both.0.timestamps, &both.1.timestamps));
    }

    #[test]
    fn more_samples_than_the_budget_are_refused() {
        let budget = Budget::new(3);
        let mut gathering = Gathering::new(1, TimeRange::ALL, 0, &budget);
        assert!(gathering.append(0, &[1, 2, 3], &[0.0; 3]).is_ok());
        let error = gathering.append(0, &[4], &[0.0]).unwrap_err();
        assert!(matches!(error, Error::TooManySamples { samples_max: 3 }));
    }
}
