//! Walking over everything that selected series hold, in pieces of a bounded size.
//!
//! What is selected is fixed at the start, as ids; each piece is then read from a snapshot of its own,
//! so that a walk of hours holds no space back. Samples of a series come in the order of time, each
//! once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::select::Wanted;
use super::{Error, Reader, Snapshot};
use crate::model::{Column, Matcher, TimeRange, Timestamp};

/// Samples of one piece at most.
const PIECE_SAMPLES: usize = 1 << 16;
/// Series that are read at once where they have few samples.
const PIECE_SERIES: usize = 512;

/// Series that were selected, by metric.
#[derive(Debug)]
pub struct Selection {
    reader: Reader,
    metrics: BTreeMap<String, Arc<[Wanted]>>,
}

/// The samples of some series, piece by piece.
#[derive(Debug)]
pub struct Walk {
    reader: Reader,
    series: Arc<[Wanted]>,
    order: Order,
    /// What is still to be read, the next piece last.
    pieces: Vec<Piece>,
    samples_max: usize,
}

/// In which order the series of a walk come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As the blocks have them: the cheapest.
    Blocks,
    Labels,
}

#[derive(Clone, Debug)]
struct Piece {
    series: Range<usize>,
    range: TimeRange,
}

impl Reader {
    /// The series that pass all matchers of any of the selectors.
    pub fn selection(&self, selectors: &[Vec<Matcher>]) -> Result<Selection, Error> {
        let snapshot = self.snapshot()?;
        let selected: BTreeSet<Wanted> = selectors
            .iter()
            .flat_map(|matchers| snapshot.selected(matchers))
            .collect();
        let index = snapshot.view.live.index();
        let mut metrics: BTreeMap<String, Vec<Wanted>> = BTreeMap::new();
        for series in selected {
            let name = index.symbols().get(series.metric as usize);
            let name = name.map(|name| (**name).to_owned()).unwrap_or_default();
            metrics.entry(name).or_default().push(series);
        }
        drop(index);
        Ok(Selection {
            reader: self.clone(),
            metrics: metrics
                .into_iter()
                .map(|(name, series)| (name, series.into()))
                .collect(),
        })
    }
}

impl Reader {
    /// Begins a walk over what the series that pass all matchers have in a range of time, in the order of
    /// their labels.
    pub fn walk_by_labels(&self, matchers: &[Matcher], range: TimeRange) -> Result<Walk, Error> {
        let snapshot = self.snapshot()?;
        let selected = snapshot.selected(matchers);
        let index = snapshot.view.live.index();
        let mut sorted: Vec<_> = selected
            .into_iter()
            .map(|wanted| (index.labels(wanted.series), wanted))
            .collect();
        drop(index);
        sorted.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let series: Arc<[Wanted]> = sorted.into_iter().map(|(_, wanted)| wanted).collect();
        Ok(Walk {
            reader: self.clone(),
            pieces: pieces(series.len(), range),
            series,
            order: Order::Labels,
            samples_max: PIECE_SAMPLES,
        })
    }
}

/// So many series in pieces, the last one first.
fn pieces(series: usize, range: TimeRange) -> Vec<Piece> {
    let starts = (0..series).step_by(PIECE_SERIES).rev();
    let piece = |start| Piece {
        series: start..series.min(start + PIECE_SERIES),
        range,
    };
    starts.map(piece).collect()
}

impl Selection {
    /// The metrics' names, sorted; that of series without one is empty.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.metrics.keys().map(String::as_str)
    }

    /// Begins a walk over what the series of a metric have in a range of time.
    pub fn walk(&self, metric: &str, range: TimeRange) -> Walk {
        self.walk_in(metric, range, PIECE_SAMPLES)
    }

    pub(super) fn walk_in(&self, metric: &str, range: TimeRange, samples_max: usize) -> Walk {
        let series = self.metrics.get(metric).cloned().unwrap_or_default();
        Walk {
            reader: self.reader.clone(),
            pieces: pieces(series.len(), range),
            series,
            order: Order::Blocks,
            samples_max,
        }
    }
}

impl Walk {
    /// The next samples: those of several series from first to last, or of one series as it goes on.
    /// `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's caller would have to turn the item around to see the error"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<Column>>, Error> {
        while let Some(piece) = self.pieces.pop() {
            let snapshot = self.reader.snapshot()?;
            let mut wanted = Cow::Borrowed(&self.series[piece.series.clone()]);
            if self.order == Order::Labels {
                // They are read as the blocks have them, and come back in order below.
                wanted.to_mut().sort_unstable();
            }
            match snapshot.read(&wanted, piece.range, self.samples_max) {
                Err(Error::TooManySamples { .. }) => self.pieces.extend(piece.halves(&snapshot)),
                Ok(columns) if columns.is_empty() => {}
                Ok(mut columns) => {
                    if self.order == Order::Labels {
                        columns.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
                    }
                    return Ok(Some(columns));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Piece {
    /// The two parts that it is read in when it is too large, the second first.
    fn halves(self, snapshot: &Snapshot) -> [Self; 2] {
        let Self { series, range } = self;
        if series.len() > 1 {
            let middle = series.start + series.len() / 2;
            return [middle..series.end, series.start..middle].map(|series| Self { series, range });
        }
        let middle = snapshot.middle(range);
        let part = |start, end| Self {
            series: series.clone(),
            range: TimeRange::new(start, end).expect("the middle lies within the range"),
        };
        [
            part(middle, range.end()),
            part(range.start(), middle.offset_ms(-1)),
        ]
    }
}

impl Snapshot {
    /// A time after a range's start, up to its end, with about as many windows before it as after it.
    fn middle(&self, range: TimeRange) -> Timestamp {
        let starts = self.manifest.rows.iter().map(|row| row.range.start());
        let mut starts: Vec<Timestamp> = starts
            .filter(|&start| range.start() < start && start <= range.end())
            .collect();
        starts.sort_unstable();
        starts.dedup();
        if let Some(&middle) = starts.get(starts.len() / 2) {
            return middle;
        }
        let (start, end) = (i128::from(range.start().ms()), i128::from(range.end().ms()));
        Timestamp::from_ms((start + (end - start + 1) / 2) as i64)
    }
}
