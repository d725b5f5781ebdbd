//! What the store has done since it was opened, counted as it happens.
//!
//! The threads of the store add to it, whoever asks for [`Stats`](super::Stats) reads it. Nothing is
//! decided by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::upkeep::Kind;
use super::{RejectReason, Written};

/// Every reason by which samples are refused, in the order of their counters.
const REASONS: [RejectReason; 4] = [
    RejectReason::DuplicateTimestamp,
    RejectReason::TooOld,
    RejectReason::TooFarAhead,
    RejectReason::TooManySeries,
];

/// The running counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    commits: Work,
    seals: Work,
    merges: Work,
    rewrites: Work,
    failures: AtomicU64,
    merged_conflicts: AtomicU64,
    rejected: [AtomicU64; REASONS.len()],
}

/// How often something was done, and how long that took in all.
#[derive(Debug, Default)]
struct Work {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Work {
    fn add(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn done(&self) -> Done {
        Done {
            count: self.count.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// How often something was done since the store was opened, and how long that took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub count: u64,
    pub time: Duration,
}

/// The counters as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits of the write-ahead file.
    pub commits: Done,
    pub seals: Done,
    /// Slices that were merged or purged of what is deleted.
    pub merges: Done,
    /// Times that the data file was written anew.
    pub rewrites: Done,
    /// Commits and jobs of the upkeep that went wrong.
    pub failures: u64,
    /// Samples that a merge left out because a sample from before had another value for their timestamp.
    pub merged_conflicts: u64,
    /// Samples refused, by every reason there is.
    pub rejected: Vec<(RejectReason, u64)>,
}

impl Counts {
    /// Samples refused, or left out when they were merged, because another value is stored for their
    /// timestamp.
    pub fn conflicts(&self) -> u64 {
        let rejected = self.rejected.iter();
        let refused: u64 = rejected
            .filter(|(reason, _)| *reason == RejectReason::DuplicateTimestamp)
            .map(|(_, count)| count)
            .sum();
        refused + self.merged_conflicts
    }
}

impl Tally {
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.add(took);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a job of the upkeep that went well.
    pub(crate) fn did(&self, job: Kind, took: Duration) {
        match job {
            Kind::Seal => self.seals.add(took),
            Kind::Merge => self.merges.add(took),
            Kind::Rewrite => self.rewrites.add(took),
            Kind::Retain | Kind::FindUnused | Kind::Reopen => {}
        }
    }

    /// Counts samples that a merge left out.
    pub(crate) fn conflicted(&self, samples: u64) {
        self.merged_conflicts.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts what of a batch was refused.
    pub(crate) fn rejected(&self, written: &Written) {
        for (reason, count) in &written.rejected_by_reason {
            if let Some(at) = REASONS.iter().position(|known| known == reason) {
                self.rejected[at].fetch_add(*count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let rejected = REASONS.iter().zip(&self.rejected);
        Counts {
            commits: self.commits.done(),
            seals: self.seals.done(),
            merges: self.merges.done(),
            rewrites: self.rewrites.done(),
            failures: self.failures.load(Ordering::Relaxed),
            merged_conflicts: self.merged_conflicts.load(Ordering::Relaxed),
            rejected: rejected
                .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}
