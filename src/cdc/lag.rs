//! How far behind its source a table is: value, age and state, and never frozen.
//!
//! The value runs from a change's commit at the source to the moment at which we read it. Between
//! changes it is 0 only while idleness is **proven**; otherwise it grows with the clock, from the last
//! moment up to which everything is known to have been read.
//!
//! A proof has two halves. Kafka's: our position is the end of the partition, so nothing waits there.
//! The connector's: it is alive, so nothing waits before Kafka. A recent heartbeat is that second half.
//! A stopped connector leaves position and end equal for ever, so once a source has sent heartbeats their
//! absence outranks the resting position, and its tables' lag grows. Only for a source that never sent
//! one must the end that did not move for two polls do as proof: such a source cannot be told from a
//! dead one, which is why heartbeats should be switched on (`heartbeat.interval.ms`).
//!
//! Pure: [`Marks`] and [`Watermark`] hold what was seen of one partition, [`Model::assess`] judges them
//! at a time that is passed in. Marks are stored with the partition's position, so that a restart
//! neither forgets how far a table had come nor that its source sends heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::count::entry;
use super::envelope::Change;
use crate::model::Timestamp;

/// What this lag measures, among the kinds that exist (`source`, `apply`, `transaction`, ...).
pub const KIND: &str = "source";

/// Heartbeats that may be missed before the connector no longer counts as alive, and polls before our
/// own reading no longer counts as current.
const MISSED_MAX: u32 = 3;

/// Without any sign for this long (or for three heartbeats, where those are rarer) a table is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Clocks of hosts under NTP differ by less: a smaller negative lag is noise, shown as 0.
const SKEW_TOLERANCE: Duration = Duration::from_secs(1);

/// Polls over which the end must rest to stand for idleness where there are no heartbeats.
const IDLE_POLLS: u32 = 2;

/// What is known about a lag beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No change of late, and none is missing.
    Idle,
    /// A change was read within three heartbeats.
    Fresh,
    /// Changes come from the future: the source's clock is ahead of ours.
    Skewed,
    /// The tool that moves the data says that it holds back.
    Throttled,
    /// Our own reading is old, or a sign is overdue but not yet for long.
    Stale,
    /// No change, heartbeat or proof of idleness for 30 s.
    Stalled,
}

impl State {
    pub const ALL: [Self; 6] = [
        Self::Idle,
        Self::Fresh,
        Self::Skewed,
        Self::Throttled,
        Self::Stale,
        Self::Stalled,
    ];

    /// The value of the `state` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fresh => "fresh",
            Self::Skewed => "skewed",
            Self::Throttled => "throttled",
            Self::Stale => "stale",
            Self::Stalled => "stalled",
        }
    }
}

/// The lag of one table at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub lag: Duration,
    /// Since the last sign that the value rests on.
    pub age: Duration,
    /// By how much the source's clock is ahead, if its last change showed it to be.
    pub skew: Duration,
    pub state: State,
}

/// The last change of one table on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    committed_at: Timestamp,
    read_at: Timestamp,
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            committed_at: Timestamp::MIN,
            read_at: Timestamp::MIN,
        }
    }
}

/// What the messages of one partition have shown so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// By source, then table.
    tables: BTreeMap<String, BTreeMap<String, Mark>>,
    /// By source: the moment up to which a heartbeat vouches for it.
    heartbeats: BTreeMap<String, Timestamp>,
}

impl Marks {
    pub fn change(&mut self, change: &Change<'_>, read_at: Timestamp) {
        if change.table.is_empty() {
            return;
        }
        // Without the commit's time the connector's is the nearest, without both our own.
        let committed_at = change
            .committed_at
            .or(change.captured_at)
            .unwrap_or(read_at);
        let mark = entry(entry(&mut self.tables, &change.source), &change.table);
        *mark = Mark {
            committed_at,
            read_at,
        };
    }

    /// A heartbeat counts from the earlier of its own time and ours: one read late, from a backlog,
    /// says nothing about now, and one from a clock that is ahead says no more than that it was read.
    pub fn heartbeat(&mut self, source: &str, at: Timestamp, read_at: Timestamp) {
        let known = self
            .heartbeats
            .entry(source.to_owned())
            .or_insert(Timestamp::MIN);
        *known = at.min(read_at).max(*known);
    }
}

/// How our position on one partition compares to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watermark {
    end: Option<i64>,
    polled_at: Option<Timestamp>,
    /// When the position last was the end.
    drained_at: Option<Timestamp>,
    /// Consecutive polls, up to the last, at which the position was one and the same end.
    drained_polls: u32,
    /// When such polls were last enough to stand for idleness.
    idle_at: Option<Timestamp>,
}

impl Watermark {
    /// For a partition taken up at a stored position, which was the end of what had been read: it
    /// counts as the first of the polls, so that a restart does not make an idle table look late.
    pub fn resumed(next_offset: i64) -> Self {
        Self {
            end: Some(next_offset),
            drained_polls: 1,
            ..Self::default()
        }
    }

    /// Takes one comparison; `next_offset` must have been read before `end_offset` was asked for.
    pub fn poll(&mut self, next_offset: i64, end_offset: i64, now: Timestamp) {
        let unmoved = self.end.replace(end_offset) == Some(end_offset);
        self.polled_at = Some(now);
        if next_offset < end_offset {
            self.drained_polls = 0;
            return;
        }
        self.drained_at = Some(now);
        self.drained_polls = if unmoved { self.drained_polls + 1 } else { 1 };
        if self.drained_polls >= IDLE_POLLS {
            self.idle_at = Some(now);
        }
    }
}

/// The rules, with what an operator sets about them.
#[derive(Clone, Debug)]
pub struct Model {
    heartbeat_interval: Duration,
    poll_interval: Duration,
    throttled: BTreeSet<String>,
}

impl Model {
    /// `poll_interval` is the time between two calls of [`Watermark::poll`].
    pub fn new(heartbeat_interval: Duration, poll_interval: Duration) -> Self {
        Self {
            heartbeat_interval,
            poll_interval,
            throttled: BTreeSet::new(),
        }
    }

    /// Notes that the tool behind a source holds back, or no longer does.
    pub fn set_throttled(&mut self, source: &str, throttled: bool) {
        if throttled {
            self.throttled.insert(source.to_owned());
        } else {
            self.throttled.remove(source);
        }
    }

    /// The lag of every table seen on these partitions.
    ///
    /// A table that is on several partitions, or that two sources share by name, is as late as the
    /// latest of them.
    pub fn assess(
        &self,
        partitions: &[(&Marks, &Watermark)],
        now: Timestamp,
    ) -> BTreeMap<String, Reading> {
        let mut heartbeats: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for (source, at) in partitions.iter().flat_map(|(marks, _)| &marks.heartbeats) {
            let known = heartbeats.entry(source).or_insert(*at);
            *known = (*known).max(*at);
        }
        let mut readings: BTreeMap<String, Reading> = BTreeMap::new();
        for (marks, watermark) in partitions {
            for (source, tables) in &marks.tables {
                let heartbeat = heartbeats.get(&**source).copied();
                let throttled = self.throttled.contains(source);
                for (table, mark) in tables {
                    let mut reading = self.read(*mark, watermark, heartbeat, now);
                    if throttled {
                        reading.state = State::Throttled;
                    }
                    let known = readings.entry(table.clone()).or_insert(reading);
                    if known.rank() < reading.rank() {
                        *known = reading;
                    }
                }
            }
        }
        readings
    }

    fn read(
        &self,
        mark: Mark,
        watermark: &Watermark,
        heartbeat: Option<Timestamp>,
        now: Timestamp,
    ) -> Reading {
        let alive_for = self.heartbeat_interval * MISSED_MAX;
        let polled = watermark
            .polled_at
            .is_some_and(|at| is_recent(at, now, self.poll_interval * MISSED_MAX));
        let is_alive = match heartbeat {
            Some(at) => watermark.drained_polls > 0 && is_recent(at, now, alive_for),
            None => watermark.drained_polls >= IDLE_POLLS,
        };
        let idle_proven = polled && is_alive;
        // Both halves of a proof must have held for everything up to here to have been read.
        let proven_until = match heartbeat {
            Some(at) => watermark.drained_at.map(|drained_at| drained_at.min(at)),
            None => watermark.idle_at,
        };
        let sign_at = latest(mark.read_at, heartbeat.or(watermark.idle_at));
        let age = now.since(sign_at);

        let ahead = mark.committed_at.since(mark.read_at);
        let is_fresh = is_recent(mark.read_at, now, alive_for);
        // For one poll a change's own lag is the measurement; after that it would be frozen.
        let lag = if is_recent(mark.read_at, now, self.poll_interval) {
            mark.read_at.since(mark.committed_at)
        } else if idle_proven {
            Duration::ZERO
        } else {
            now.since(latest(mark.committed_at, proven_until))
        };
        let state = if !polled {
            State::Stale
        } else if is_fresh && ahead > SKEW_TOLERANCE {
            State::Skewed
        } else if is_fresh {
            State::Fresh
        } else if idle_proven {
            State::Idle
        } else if age >= STALLED_AFTER.max(alive_for) {
            State::Stalled
        } else {
            State::Stale
        };
        let skew = if is_fresh { ahead } else { Duration::ZERO };
        Reading {
            lag,
            age,
            skew,
            state,
        }
    }
}

impl Reading {
    /// Orders the readings of one table: the greatest is shown.
    fn rank(&self) -> (Duration, State) {
        (self.lag, self.state)
    }
}

fn latest(at: Timestamp, other: Option<Timestamp>) -> Timestamp {
    other.map_or(at, |other| at.max(other))
}

/// Whether a moment lies within a span before now; one ahead of the clock means that the clock was set
/// back, and vouches for nothing.
fn is_recent(at: Timestamp, now: Timestamp, span: Duration) -> bool {
    now.since(at) <= span && at.since(now) <= SKEW_TOLERANCE
}

#[cfg(test)]
mod tests;
