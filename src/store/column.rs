//! One series' samples being put together from several places.
//!
//! Whoever appends does so in the order of precedence: of two samples for one timestamp the one that
//! came first stays.

use std::ops::Range;

use crate::model::TimeRange;

/// Timestamps in milliseconds, rising strictly, and their values.
#[derive(Debug, Default)]
pub(crate) struct MergedColumn {
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<f64>,
    /// Samples that were left out because another value was there for their timestamp.
    pub(crate) conflicts: u64,
}

impl MergedColumn {
    /// Goes on with another series.
    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }

    /// Adds samples that rise strictly; where there is one for the timestamp already, that one stays.
    pub(crate) fn append(&mut self, timestamps: &[i64], values: &[f64]) {
        let Some(&first) = timestamps.first() else {
            return;
        };
        if self.timestamps.last().is_none_or(|&last| last < first) {
            self.timestamps.extend_from_slice(timestamps);
            self.values.extend_from_slice(values);
            return;
        }
        // Only what is not before the new samples has to move.
        let start = self.timestamps.partition_point(|&at| at < first);
        let old_timestamps = self.timestamps.split_off(start);
        let old_values = self.values.split_off(start);
        let mut old = old_timestamps.into_iter().zip(old_values).peekable();
        for (&timestamp, &value) in timestamps.iter().zip(values) {
            while let Some((at, value)) = old.next_if(|&(at, _)| at < timestamp) {
                self.push(at, value);
            }
            let there = old.next_if(|&(at, _)| at == timestamp);
            let kept = there.map_or(value, |(_, there)| there);
            self.conflicts += u64::from(kept.to_bits() != value.to_bits());
            self.push(timestamp, kept);
        }
        for (at, value) in old {
            self.push(at, value);
        }
    }

    fn push(&mut self, timestamp: i64, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
    }
}

/// Where the timestamps of a range lie.
pub(crate) fn within(timestamps: &[i64], range: TimeRange) -> Range<usize> {
    let start = timestamps.partition_point(|&at| at < range.start().ms());
    let end = timestamps.partition_point(|&at| at <= range.end().ms());
    start..end.max(start)
}

/// Where the timestamps of a range lie that are in none of the hidden ranges.
pub(crate) fn visible(
    timestamps: &[i64],
    range: TimeRange,
    hidden: &[TimeRange],
) -> Vec<Range<usize>> {
    let mut visible = vec![within(timestamps, range)];
    visible.retain(|piece| !piece.is_empty());
    for &hidden in hidden {
        let hidden = within(timestamps, hidden);
        visible = visible
            .into_iter()
            .flat_map(|piece| {
                [
                    piece.start..piece.end.min(hidden.start),
                    piece.start.max(hidden.end)..piece.end,
                ]
            })
            .filter(|piece| piece.start < piece.end)
            .collect();
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn of_two_samples_for_one_timestamp_the_first_stays() {
        let mut column = MergedColumn::default();
        column.append(&[10, 20, 30], &[1.0, 2.0, 3.0]);
        column.append(&[15, 20, 40], &[1.5, 9.0, 4.0]);
        column.append(&[5], &[0.5]);
        assert_eq!(column.timestamps, [5, 10, 15, 20, 30, 40]);
        assert_eq!(column.values, [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn hidden_ranges_are_cut_out() {
        let range = |start, end| {
            TimeRange::new(Timestamp::from_ms(start), Timestamp::from_ms(end)).unwrap()
        };
        let timestamps = [1, 2, 3, 4, 5, 6];
        let cut = |hidden: &[TimeRange]| -> Vec<(usize, usize)> {
            let pieces = visible(&timestamps, range(2, 6), hidden);
            pieces
                .iter()
                .map(|piece| (piece.start, piece.end))
                .collect()
        };
        assert_eq!(cut(&[]), [(1, 6)]);
        assert_eq!(cut(&[range(3, 4)]), [(1, 2), (4, 6)]);
        assert_eq!(cut(&[range(3, 4), range(0, 3), range(6, 9)]), [(4, 5)]);
        assert_eq!(cut(&[range(0, 9)]), []);
        assert_eq!(cut(&[range(10, 11)]), [(1, 6)]);
    }
}
