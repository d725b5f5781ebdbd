//! What is known of a block without reading it: which series it lacks, and when the others have samples.
//!
//! A block never changes, so what was once read of it stays true as long as a manifest row names it;
//! its checksum, which covers its key, is what it is known by. Outlines are a cache: bounded, and filled
//! when a block is first asked for.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, PoisonError};

use super::block::BlockReader;
use super::bytes::Malformed;
use super::index::Hashed;
use crate::model::{SeriesId, TimeRange, Timestamp};

/// Memory for outlines, which is enough for some 100,000 blocks.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Outline {
    /// The metric's series between the block's first and last that it does not hold, rising. Ids rise:
    /// none that is defined later can lie between.
    absent: Box<[u32]>,
    /// From the earliest to the latest of all series' first samples, and of their last ones.
    first: TimeRange,
    last: TimeRange,
    /// The longest time that any series is without a sample from its first to its last.
    gap_ms: u64,
}

/// Which series of a block have a sample in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    All,
    None,
    /// It takes a look into the block.
    Unknown,
}

impl Outline {
    /// The outline of the open block; `known` are the ids of the metric's series from the block's first
    /// to its last.
    pub(crate) fn of(
        reader: &mut BlockReader,
        bytes: &[u8],
        known: &[u32],
    ) -> Result<Self, Malformed> {
        let gaps = reader.longest_gaps(bytes)?;
        let (mut first, mut last) = (Span::default(), Span::default());
        let mut gap_ms = 0;
        let mut held = Vec::new();
        let mut before: Option<(SeriesId, i64)> = None;
        for (chunk, series) in reader.series().enumerate() {
            let span = reader.span(chunk);
            gap_ms = gap_ms.max(gaps[reader.column_of(chunk)]);
            match before {
                Some((same, end)) if same == series => gap_ms = gap_ms.max(span.0.abs_diff(end)),
                _ => {
                    last.widen(before.map(|(_, end)| end));
                    first.widen(Some(span.0));
                    held.push(series.0);
                }
            }
            before = Some((series, span.1));
        }
        last.widen(before.map(|(_, end)| end));
        let is_absent = |id: &&u32| held.binary_search(id).is_err();
        Ok(Self {
            absent: known.iter().filter(is_absent).copied().collect(),
            first: first.range()?,
            last: last.range()?,
            gap_ms,
        })
    }

    /// Whether a series of the block's metric, between its first and its last, is not in it.
    pub(crate) fn lacks(&self, series: SeriesId) -> bool {
        self.absent.binary_search(&series.0).is_ok()
    }

    pub(crate) fn presence(&self, range: TimeRange) -> Presence {
        let (start, end) = (range.start(), range.end());
        if self.first.start() > end || self.last.end() < start {
            return Presence::None;
        }
        // Every series begins before the range's end and ends after its start. Where both its first and
        // its last sample lie outside, it has one within unless it pauses for longer than that.
        let all_overlap = self.first.end() <= end && self.last.start() >= start;
        let holds_all_of = |span: TimeRange| start <= span.start() && span.end() <= end;
        let is_long = end.ms().abs_diff(start.ms()) >= self.gap_ms;
        if all_overlap && (is_long || holds_all_of(self.first) || holds_all_of(self.last)) {
            return Presence::All;
        }
        Presence::Unknown
    }

    fn bytes(&self) -> usize {
        const ENTRY: usize = 48;
        size_of::<Self>() + size_of_val(&*self.absent) + ENTRY
    }
}

/// From the least to the greatest of what was shown.
#[derive(Default)]
struct Span(Option<(i64, i64)>);

impl Span {
    fn widen(&mut self, at: Option<i64>) {
        if let Some(at) = at {
            let (least, greatest) = self.0.unwrap_or((at, at));
            self.0 = Some((least.min(at), greatest.max(at)));
        }
    }

    fn range(self) -> Result<TimeRange, Malformed> {
        let range = self.0.and_then(|(least, greatest)| {
            TimeRange::new(Timestamp::from_ms(least), Timestamp::from_ms(greatest))
        });
        range.ok_or(Malformed("holds no series"))
    }
}

/// The outlines that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Outlines(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_checksum: HashMap<u64, Arc<Outline>, BuildHasherDefault<Hashed>>,
    bytes: usize,
}

impl Outlines {
    pub(crate) fn get(&self, checksum: u64) -> Option<Arc<Outline>> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.by_checksum.get(&checksum).cloned()
    }

    pub(crate) fn insert(&self, checksum: u64, outline: Outline) -> Arc<Outline> {
        let outline = Arc::new(outline);
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.bytes > BYTES_MAX {
            // Those of blocks that are gone go as well.
            *remembered = Remembered::default();
        }
        remembered.bytes += outline.bytes();
        remembered.by_checksum.insert(checksum, outline.clone());
        outline
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{BlockBuilder, BlockKey};
    use super::super::window::{Width, Window};
    use super::*;

    fn outline(series: &[(u32, &[i64])], known: &[u32]) -> Outline {
        let window = Window::of(0, Width::TwoHours);
        let mut builder = BlockBuilder::new(window, 1, 3);
        for (id, timestamps) in series {
            builder.add(SeriesId(*id), timestamps, &vec![1.0; timestamps.len()]);
        }
        let block = builder.finish().remove(0);
        let key = BlockKey {
            window,
            generation: 1,
            metric: 3,
            first: SeriesId(series[0].0),
        };
        let mut reader = BlockReader::default();
        reader.open(&block.bytes, &key, block.checksum).unwrap();
        Outline::of(&mut reader, &block.bytes, known).unwrap()
    }

    fn presence(outline: &Outline, start_ms: i64, end_ms: i64) -> Presence {
        let (start, end) = (Timestamp::from_ms(start_ms), Timestamp::from_ms(end_ms));
        outline.presence(TimeRange::new(start, end).unwrap())
    }

    #[test]
    fn what_a_block_lacks_is_known_by_the_metrics_other_series() {
        let outline = outline(&[(5, &[1]), (9, &[1]), (12, &[1])], &[5, 6, 9, 11, 12]);
        let lacking: Vec<u32> = (5..=12).filter(|&id| outline.lacks(SeriesId(id))).collect();
        assert_eq!(lacking, [6, 11]);
    }

    #[test]
    fn a_range_that_no_series_can_have_slept_through_has_them_all() {
        // First samples at 100 and 120, last ones at 400 and 390, never more than 150 without one.
        let outline = outline(&[(1, &[100, 250, 400]), (2, &[120, 260, 390])], &[1, 2]);
        assert_eq!(presence(&outline, 0, 99), Presence::None);
        assert_eq!(presence(&outline, 401, 900), Presence::None);
        assert_eq!(presence(&outline, 0, 119), Presence::Unknown);
        assert_eq!(presence(&outline, 0, 120), Presence::All);
        assert_eq!(presence(&outline, 390, 500), Presence::All);
        assert_eq!(presence(&outline, 391, 500), Presence::Unknown);
        assert_eq!(presence(&outline, 130, 280), Presence::All);
        assert_eq!(presence(&outline, 130, 279), Presence::Unknown);
    }

    #[test]
    fn a_pause_between_two_chunks_is_one() {
        // Two chunks: 1,024 samples a second apart, then an hour without.
        let mut timestamps: Vec<i64> = (0..1024).map(|at| at * 1000).collect();
        timestamps.push(1_023_000 + 3_600_000);
        let outline = outline(&[(1, &timestamps)], &[1]);
        assert_eq!(outline.gap_ms, 3_600_000);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let outlines = Outlines::default();
        for checksum in 0..100 {
            let mut outline = outline(&[(1, &[1])], &[1]);
            outline.absent = vec![0; 100_000].into();
            outlines.insert(checksum, outline);
        }
        let remembered = outlines.0.lock().unwrap();
        assert!(remembered.bytes <= BYTES_MAX + 500_000);
        assert!(remembered.by_checksum.contains_key(&99));
    }
}
