//! Where a partition is taken up, and what it means when that is not where it was left.

use std::collections::BTreeMap;

use super::client::Place;
use super::config::Start;
use super::ledger::PartitionId;

/// Where reading goes on in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumption {
    /// Where it was left, or where a new partition starts.
    At(i64),
    /// The log now starts after where it was left: what lay between will never be read.
    Gap { from: i64, to: i64 },
    /// The log ends before where it was left, so it is another log: it is read from its beginning.
    Recreated { left_at: i64, from: i64 },
}

impl Resumption {
    /// Compares where a partition was left with the log's first and next offsets.
    pub(super) fn of(left_at: i64, low: i64, high: i64) -> Self {
        if left_at > high {
            Self::Recreated { left_at, from: low }
        } else if left_at < low {
            Self::Gap {
                from: left_at,
                to: low,
            }
        } else {
            Self::At(left_at)
        }
    }

    pub(super) fn next_offset(self) -> i64 {
        match self {
            Self::At(offset) => offset,
            Self::Gap { to, .. } => to,
            Self::Recreated { from, .. } => from,
        }
    }
}

/// What the brokers know about a set of partitions.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) lows: BTreeMap<PartitionId, i64>,
    pub(super) highs: BTreeMap<PartitionId, i64>,
    /// Where [`Start`] puts a partition that has never been read, if that is a time.
    pub(super) starts: BTreeMap<PartitionId, i64>,
}

impl Bounds {
    /// Where a partition goes on; `None` when the brokers did not say enough.
    pub(super) fn resume(
        &self,
        id: &PartitionId,
        left_at: Option<i64>,
        start: Start,
    ) -> Option<Resumption> {
        let (low, high) = (*self.lows.get(id)?, *self.highs.get(id)?);
        let Some(left_at) = left_at else {
            return Some(Resumption::At(match start {
                Start::Beginning => low,
                Start::End => high,
                // Nothing that late: the end, so that what comes is read.
                Start::At(_) => self.starts.get(id).copied().unwrap_or(high),
            }));
        };
        Some(Resumption::of(left_at, low, high))
    }
}

/// What has to be asked beside beginning and end to follow a [`Start`].
pub(super) fn start_place(start: Start) -> Option<Place> {
    match start {
        Start::Beginning | Start::End => None,
        Start::At(timestamp) => Some(Place::At(timestamp)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_position_within_the_log_is_kept() {
        for left_at in [5, 7, 9] {
            assert_eq!(Resumption::of(left_at, 5, 9), Resumption::At(left_at));
        }
    }

    #[test]
    fn a_position_before_the_log_is_a_gap() {
        let resumption = Resumption::of(2, 5, 9);
        assert_eq!(resumption, Resumption::Gap { from: 2, to: 5 });
        assert_eq!(resumption.next_offset(), 5);
    }

    #[test]
    fn a_position_after_the_log_means_another_log() {
        let resumption = Resumption::of(10, 0, 9);
        let expected = Resumption::Recreated {
            left_at: 10,
            from: 0,
        };
        assert_eq!(resumption, expected);
        assert_eq!(resumption.next_offset(), 0);
    }

    #[test]
    fn a_partition_that_was_never_read_follows_the_start() {
        let id = ("t".to_owned(), 0);
        let late = ("t".to_owned(), 1);
        let bounds = Bounds {
            lows: [(id.clone(), 5), (late.clone(), 5)].into(),
            highs: [(id.clone(), 9), (late.clone(), 9)].into(),
            starts: [(id.clone(), 7)].into(),
        };
        let time = Start::At(Timestamp::from_ms(1));
        let resume = |id, start| bounds.resume(id, None, start).map(Resumption::next_offset);
        assert_eq!(resume(&id, Start::Beginning), Some(5));
        assert_eq!(resume(&id, Start::End), Some(9));
        assert_eq!(resume(&id, time), Some(7));
        assert_eq!(resume(&late, time), Some(9));
        assert_eq!(resume(&("u".to_owned(), 0), time), None);
    }
}
