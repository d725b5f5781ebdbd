//! A target, when it is scraped, and how it fares.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Uri;
use xxhash_rust::xxh3::xxh3_64;

use super::Config;
use crate::model::{Labels, Timestamp};

/// A sample's time is that of the grid when it is so near: equal distances are stored in less.
const TOLERANCE: Duration = Duration::from_millis(2);

/// One endpoint that is scraped.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: Uri,
    /// `job`, `instance` and what the job adds, without a metric's name.
    pub(super) labels: Labels,
}

/// The moments at which a target is scraped: every interval, by an offset of its own, so that not all
/// of them are scraped at once, and the same after a restart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    interval_ms: i64,
    offset_ms: i64,
}

impl Schedule {
    pub(super) fn new(target: &Target, interval: Duration) -> Self {
        let interval_ms = i64::try_from(interval.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        let hash = xxh3_64(format!("{}{}", target.url, target.labels).as_bytes());
        Self {
            interval_ms,
            offset_ms: (hash % interval_ms.unsigned_abs()) as i64,
        }
    }

    /// The first moment after `now`.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let since = (now.ms().saturating_sub(self.offset_ms)).rem_euclid(self.interval_ms);
        now.offset_ms(self.interval_ms - since)
    }

    /// The time that samples of a scrape get which was due at `due` and began at `began`.
    pub(super) fn time(&self, due: Timestamp, began: Timestamp) -> Timestamp {
        let tolerance = TOLERANCE.min(Duration::from_millis(self.interval_ms.unsigned_abs()) / 100);
        let is_near = began.ms_since(due).unsigned_abs() <= tolerance.as_millis() as u64;
        if is_near { due } else { began }
    }
}

/// How a target fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHealth {
    /// Not scraped yet.
    Unknown,
    Up,
    Down,
}

/// What is known of a target, for those who ask.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub job: String,
    pub url: String,
    /// The host and port.
    pub address: String,
    pub scheme: String,
    pub path: String,
    pub labels: Labels,
    pub interval: Duration,
    pub timeout: Duration,
    pub health: TargetHealth,
    pub last_scrape: Option<Timestamp>,
    pub last_duration: Duration,
    /// What went wrong with the last scrape; empty when nothing did.
    pub last_error: String,
}

/// All targets in the order of the configuration. Cloning is cheap; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Targets(Arc<Mutex<Vec<TargetStatus>>>);

impl Targets {
    pub fn list(&self) -> Vec<TargetStatus> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }

    /// Adds a target and answers where its status is.
    pub(super) fn add(&self, config: &Config, target: &Target) -> usize {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(TargetStatus {
            job: config.job.clone(),
            url: target.url.to_string(),
            address: target
                .url
                .authority()
                .map_or_else(String::new, ToString::to_string),
            scheme: target.url.scheme_str().unwrap_or_default().to_owned(),
            path: target.url.path().to_owned(),
            labels: target.labels.clone(),
            interval: config.interval,
            timeout: config.timeout,
            health: TargetHealth::Unknown,
            last_scrape: None,
            last_duration: Duration::ZERO,
            last_error: String::new(),
        });
        list.len() - 1
    }

    pub(super) fn report(&self, at: usize, began: Timestamp, duration: Duration, error: String) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = &mut list[at];
        status.health = if error.is_empty() {
            TargetHealth::Up
        } else {
            TargetHealth::Down
        };
        status.last_scrape = Some(began);
        status.last_duration = duration;
        status.last_error = error;
    }

    /// What is wrong in a line, or nothing.
    pub(super) fn complaint(&self) -> String {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut down = list
            .iter()
            .filter(|status| status.health == TargetHealth::Down);
        let Some(first) = down.next() else {
            return String::new();
        };
        let count = down.count() + 1;
        let of = match (count, list.len()) {
            (_, 1) => "the target is".to_owned(),
            (1, all) => format!("1 of {all} targets is"),
            (count, all) => format!("{count} of {all} targets are"),
        };
        let (job, url, error) = (&first.job, &first.url, &first.last_error);
        format!("{of} down: job {job}, {url}: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target {
            url: url.parse().unwrap(),
            labels: Labels::empty(),
        }
    }

    #[test]
    fn targets_are_scraped_on_a_grid_with_an_offset_that_stays() {
        let interval = Duration::from_secs(15);
        let schedule = Schedule::new(&target("http://a/metrics"), interval);
        let again = Schedule::new(&target("http://a/metrics"), interval);
        let now = Timestamp::from_ms(1_700_000_000_123);
        let first = schedule.next(now);
        assert_eq!(first, again.next(now));
        assert!(first > now && first.ms_since(now) <= 15_000);
        // What is due now is not due again, but one interval later.
        assert_eq!(schedule.next(first).ms_since(first), 15_000);
        assert_eq!(schedule.next(first.offset_ms(-1)), first);
        let offsets: std::collections::BTreeSet<_> = (0..20)
            .map(|host| Schedule::new(&target(&format!("http://h{host}/m")), interval).offset_ms)
            .collect();
        assert!(offsets.len() > 15, "{offsets:?}");
    }

    #[test]
    fn a_scrape_that_begins_nearly_on_time_has_the_time_of_the_grid() {
        let schedule = Schedule::new(&target("http://a/"), Duration::from_secs(15));
        let due = Timestamp::from_ms(1_700_000_000_000);
        assert_eq!(schedule.time(due, due.offset_ms(2)), due);
        assert_eq!(schedule.time(due, due.offset_ms(3)), due.offset_ms(3));
    }
}
