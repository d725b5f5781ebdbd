//! How many series came lately: how many were ever defined, noted as time goes by.
//!
//! Only in memory: what came before the store was opened is not known, and the answer says how long it
//! looks back.

use std::collections::VecDeque;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The distance of two notes at least.
const INTERVAL: Duration = Duration::from_secs(60);

/// Series that were defined lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewSeries {
    pub last_hour: u64,
    pub last_day: u64,
    /// How far back it was looked, a day at most: since the store was opened.
    pub observed: Duration,
}

/// Notes of the last day and one from before it, oldest first; times are monotonic.
#[derive(Debug)]
pub(crate) struct Growth {
    notes: VecDeque<(Duration, u64)>,
}

impl Growth {
    pub(crate) fn new(now: Duration, series: u64) -> Self {
        Self {
            notes: VecDeque::from([(now, series)]),
        }
    }

    /// Notes how many series were defined by now, and answers how many of them are new.
    pub(crate) fn note(&mut self, now: Duration, series: u64) -> NewSeries {
        let newest = self.notes.back().map_or(Duration::ZERO, |note| note.0);
        if now >= newest + INTERVAL {
            self.notes.push_back((now, series));
        }
        while self.notes.get(1).is_some_and(|note| note.0 + DAY <= now) {
            self.notes.pop_front();
        }
        let oldest = self.notes.front().map_or(now, |note| note.0);
        NewSeries {
            last_hour: self.since(now.saturating_sub(HOUR), series),
            last_day: self.since(now.saturating_sub(DAY), series),
            observed: now.saturating_sub(oldest).min(DAY),
        }
    }

    fn since(&self, from: Duration, series: u64) -> u64 {
        let count = self.notes.partition_point(|note| note.0 <= from);
        let before = self.notes.get(count.saturating_sub(1));
        series.saturating_sub(before.map_or(0, |note| note.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_count_as_new_for_an_hour_and_for_a_day() {
        let mut growth = Growth::new(Duration::ZERO, 10);
        let news = growth.note(Duration::from_secs(600), 15);
        assert_eq!((news.last_hour, news.last_day), (5, 5));
        assert_eq!(news.observed, Duration::from_secs(600));
        growth.note(HOUR, 17);
        // Ten minutes in there were 15, an hour and ten minutes in those are old.
        let news = growth.note(HOUR + Duration::from_secs(600), 20);
        assert_eq!((news.last_hour, news.last_day), (5, 10));
        let news = growth.note(2 * DAY, 20);
        assert_eq!((news.last_hour, news.last_day), (0, 0));
        assert_eq!(news.observed, DAY);
        assert!(growth.notes.len() <= 2);
    }
}
