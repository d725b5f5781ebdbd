//! One channel's outbox: what waits to be delivered, in order, and what has been.
//!
//! A notification leaves the queue when the channel took it or said that it never will. Nothing else
//! removes one that says anything new: when [`WAITING_MAX`] wait, repeats make room, and after that
//! what is new stays with its group until there is room. A repeat is put in only where nothing of its
//! group waits, and goes when something new of the group comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::GroupId;
use super::record::{self, QUEUE, TOLD};
use super::route::Route;
use crate::alert::{Notification, Status};
use crate::model::{Mutation, Timestamp};

/// Notifications that wait for one channel at most.
pub const WAITING_MAX: usize = 1_000;

/// The bound of the first pause after a failure; it doubles with every further one.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest pause that a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reason {
    /// It says something that the channel was not told yet.
    News,
    /// It says what still fires.
    Repeat,
}

/// A notification that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Queued {
    pub(super) channel: String,
    pub(super) number: u64,
    pub(super) group: GroupId,
    pub(super) reason: Reason,
    pub(super) notification: Notification,
    /// All alerts that it says fire, also those that it has no room to name.
    pub(super) firing: BTreeSet<u64>,
    /// The same of those that are over.
    pub(super) over: BTreeSet<u64>,
}

/// What the channel was told of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) channel: String,
    pub(super) group: GroupId,
    /// When it was last decided to tell something, or delivered where that took longer.
    at: Timestamp,
    /// What the latest notification said fires, delivered or waiting.
    firing: BTreeSet<u64>,
    /// The same of the latest notification that was delivered.
    said: BTreeSet<u64>,
    /// Alerts said to fire, delivered or waiting, whose end nothing says yet.
    owed: BTreeSet<u64>,
    /// Alerts whose firing was delivered and whose end was not.
    delivered: BTreeSet<u64>,
}

/// What a group has to say at one moment.
pub(super) struct Statement {
    pub(super) group: GroupId,
    /// The time it counts for.
    pub(super) at: Timestamp,
    pub(super) firing: BTreeSet<u64>,
    pub(super) over: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) name: String,
    pub(super) route: Route,
    /// Whether what still fires is told again.
    pub(super) repeats: bool,
    told: BTreeMap<GroupId, Told>,
    waiting: VecDeque<Queued>,
    next_number: u64,
    /// The first of those that wait is with the channel.
    is_sending: bool,
    failures: u32,
    next_at: Timestamp,
    pub(super) last_error: Option<(Timestamp, String)>,
    pub(super) delivered_at: Option<Timestamp>,
    /// Groups and numbers whose records are not as they should be.
    dirty_told: BTreeSet<GroupId>,
    dirty_waiting: BTreeSet<u64>,
}

impl Outbox {
    pub(super) fn new(name: String, route: Route, repeats: bool) -> Self {
        Self {
            name,
            route,
            repeats,
            told: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_number: 0,
            is_sending: false,
            failures: 0,
            next_at: Timestamp::MIN,
            last_error: None,
            delivered_at: None,
            dirty_told: BTreeSet::new(),
            dirty_waiting: BTreeSet::new(),
        }
    }

    /// Takes over what was stored; `waiting` comes in order.
    pub(super) fn restore(&mut self, told: Vec<Told>, waiting: Vec<Queued>) {
        self.told = told.into_iter().map(|told| (told.group, told)).collect();
        self.next_number = waiting.last().map_or(0, |last| last.number + 1);
        self.waiting = waiting.into();
    }

    /// Leaves out alerts that nobody knows any more: their end can no longer be seen.
    pub(super) fn keep_known(&mut self, is_known: impl Fn(u64) -> bool) {
        for told in self.told.values_mut() {
            let before = told.owed.len();
            told.owed.retain(|alert| is_known(*alert));
            if told.owed.len() < before {
                self.dirty_told.insert(told.group);
            }
        }
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Queued> {
        self.waiting.iter()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.is_sending
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next attempt may be made, if it has to wait.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let has_to_wait = self.failures > 0 && !self.waiting.is_empty() && !self.is_sending;
        has_to_wait.then_some(self.next_at)
    }

    /// Whether the end of an alert is still to be told.
    pub(super) fn owes(&self, group: GroupId, alert: u64) -> bool {
        let told = self.told.get(&group);
        told.is_some_and(|told| told.owed.contains(&alert))
    }

    /// Whether the latest notification of the group says that the alert fires.
    pub(super) fn has_said(&self, group: GroupId, alert: u64) -> bool {
        let told = self.told.get(&group);
        told.is_some_and(|told| told.firing.contains(&alert))
    }

    /// Has the next statement say an alert again although it was said.
    pub(super) fn say_again(&mut self, group: GroupId, alert: u64) {
        if let Some(told) = self.told.get_mut(&group)
            && told.firing.remove(&alert)
        {
            self.dirty_told.insert(group);
        }
    }

    /// Whether a statement is to be told, and why.
    pub(super) fn decide(
        &self,
        statement: &Statement,
        repeat_interval: Duration,
    ) -> Option<Reason> {
        let told = self.told.get(&statement.group);
        let is_said = |alert: &u64| told.is_some_and(|told| told.firing.contains(alert));
        if !statement.over.is_empty() || !statement.firing.iter().all(is_said) {
            return self.has_room().then_some(Reason::News);
        }
        let told = told?;
        let is_due = told.at.after(repeat_interval) <= statement.at;
        let is_wanted = self.repeats && is_due && !statement.firing.is_empty();
        let waits = self.waits(statement.group) || self.waiting.len() >= WAITING_MAX;
        (is_wanted && !waits).then_some(Reason::Repeat)
    }

    fn waits(&self, group: GroupId) -> bool {
        self.waiting.iter().any(|queued| queued.group == group)
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX || self.oldest_repeat(|_| true).is_some()
    }

    /// The first repeat that is not with the channel already.
    fn oldest_repeat(&self, wanted: impl Fn(&Queued) -> bool) -> Option<usize> {
        let first = usize::from(self.is_sending);
        let mut places = self.waiting.iter().enumerate().skip(first);
        let found = places.find(|(_, queued)| queued.reason == Reason::Repeat && wanted(queued));
        found.map(|(place, _)| place)
    }

    /// Takes back that alerts fire which are over, for a channel that is not told of ends.
    pub(super) fn forgive(&mut self, statement: &Statement) {
        if let Some(told) = self.told.get_mut(&statement.group) {
            for alert in &statement.over {
                for alerts in [
                    &mut told.firing,
                    &mut told.said,
                    &mut told.owed,
                    &mut told.delivered,
                ] {
                    alerts.remove(alert);
                }
            }
            self.dirty_told.insert(statement.group);
        }
        self.forget(statement.group);
    }

    /// The number of the next notification.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Puts a statement in; answers how many repeats made room.
    pub(super) fn put(
        &mut self,
        statement: Statement,
        reason: Reason,
        notification: Notification,
    ) -> usize {
        let group = statement.group;
        let before = self.waiting.len();
        if let Some(place) = self.oldest_repeat(|queued| queued.group == group) {
            self.remove(place);
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some(place) = self.oldest_repeat(|_| true)
        {
            self.remove(place);
        }
        let superseded = before - self.waiting.len();
        let told = self.told.entry(group).or_insert_with(|| Told {
            channel: self.name.clone(),
            group,
            ..Told::default()
        });
        told.at = statement.at;
        told.firing.clone_from(&statement.firing);
        told.owed.extend(&statement.firing);
        told.owed.retain(|alert| !statement.over.contains(alert));
        self.dirty_told.insert(group);
        self.dirty_waiting.insert(self.next_number);
        self.waiting.push_back(Queued {
            channel: self.name.clone(),
            number: self.next_number,
            group,
            reason,
            notification,
            firing: statement.firing,
            over: statement.over,
        });
        self.next_number += 1;
        superseded
    }

    fn remove(&mut self, place: usize) {
        if let Some(queued) = self.waiting.remove(place) {
            self.dirty_waiting.insert(queued.number);
        }
    }

    /// The notification to send now, if there is one; it then counts as being sent. Also how many were
    /// passed over because they would have told the end of what was never told.
    pub(super) fn take(&mut self, now: Timestamp) -> (Option<Notification>, usize) {
        let mut passed_over = 0;
        if self.is_sending || self.next_at > now {
            return (None, passed_over);
        }
        while let Some(first) = self.waiting.front() {
            let mut notification = first.notification.clone();
            let told = self.told.get(&first.group);
            notification.alerts.retain(|alert| {
                let was_delivered =
                    || told.is_some_and(|told| told.delivered.contains(&alert.fingerprint()));
                alert.status() == Status::Firing || was_delivered()
            });
            if !notification.alerts.is_empty() {
                self.is_sending = true;
                return (Some(notification), passed_over);
            }
            let group = first.group;
            self.remove(0);
            self.forget(group);
            passed_over += 1;
        }
        (None, passed_over)
    }

    /// The channel took what was being sent.
    pub(super) fn delivered(&mut self, now: Timestamp, group_interval: Duration) {
        let Some(queued) = self.finish() else {
            return;
        };
        (self.failures, self.last_error, self.delivered_at) = (0, None, Some(now));
        if let Some(told) = self.told.get_mut(&queued.group) {
            told.said.clone_from(&queued.firing);
            told.delivered.extend(&queued.firing);
            told.delivered.retain(|alert| !queued.over.contains(alert));
            // What took long is repeated that much later; what did not keeps to the grid.
            if now.since(told.at) >= group_interval {
                told.at = now;
            }
        }
        self.forget(queued.group);
    }

    /// The channel may take it later. `jitter` is random, from 0 up to 1.
    pub(super) fn delayed(
        &mut self,
        now: Timestamp,
        error: String,
        retry_after: Option<Duration>,
        jitter: f64,
    ) {
        self.is_sending = false;
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let bound = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let pause = bound.mul_f64(jitter).max(PAUSE_MIN).max(asked);
        self.next_at = now.after(pause);
        self.last_error = Some((now, error));
    }

    /// The channel will never take it. What it said fires counts as not told, so that the group tells it
    /// anew if it still does; what it said is over is given up.
    pub(super) fn refused(&mut self, now: Timestamp, error: String) {
        let Some(queued) = self.finish() else {
            return;
        };
        (self.failures, self.last_error) = (0, Some((now, error)));
        let later = self.waiting.iter();
        let later = later.filter(|later| later.group == queued.group);
        let waits: BTreeSet<u64> = later
            .flat_map(|later| later.firing.iter().copied())
            .collect();
        let is_last = !self.waits(queued.group);
        if let Some(told) = self.told.get_mut(&queued.group) {
            told.delivered.retain(|alert| !queued.over.contains(alert));
            told.said.retain(|alert| !queued.over.contains(alert));
            let (delivered, untold) = (&told.delivered, queued.firing.difference(&waits));
            let untold = untold.filter(|alert| !delivered.contains(alert));
            let untold: BTreeSet<u64> = untold.copied().collect();
            told.owed.retain(|alert| !untold.contains(alert));
            if is_last {
                told.firing.clone_from(&told.said);
            }
        }
        self.forget(queued.group);
    }

    /// Takes what was being sent out of the queue.
    fn finish(&mut self) -> Option<Queued> {
        if !std::mem::take(&mut self.is_sending) {
            return None;
        }
        self.next_at = Timestamp::MIN;
        let queued = self.waiting.pop_front()?;
        self.dirty_waiting.insert(queued.number);
        self.dirty_told.insert(queued.group);
        Some(queued)
    }

    /// Drops what is known of a group when nothing will ever depend on it.
    fn forget(&mut self, group: GroupId) {
        let is_done = self.told.get(&group).is_some_and(|told| {
            told.firing.is_empty() && told.owed.is_empty() && told.delivered.is_empty()
        });
        if is_done && !self.waits(group) {
            self.told.remove(&group);
            self.dirty_told.insert(group);
        }
    }

    /// Moves what is planned along with a clock that was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.next_at = self.next_at.offset_ms(by_ms);
        for told in self.told.values_mut() {
            told.at = told.at.offset_ms(by_ms);
        }
    }

    /// What has to be written so that the records are as this outbox is.
    pub(super) fn mutations(&self) -> impl Iterator<Item = Mutation> {
        let told = self.dirty_told.iter().map(|group| {
            let key = record::key(&self.name, *group);
            match self.told.get(group) {
                Some(told) => TOLD.put(key, told),
                None => TOLD.remove(key),
            }
        });
        let waiting = self.dirty_waiting.iter().map(|number| {
            let key = record::key(&self.name, *number);
            // In order of their numbers, though not without gaps.
            let place = self
                .waiting
                .binary_search_by_key(number, |queued| queued.number);
            match place.ok().and_then(|place| self.waiting.get(place)) {
                Some(queued) => QUEUE.put(key, queued),
                None => QUEUE.remove(key),
            }
        });
        told.chain(waiting)
    }

    pub(super) fn committed(&mut self) {
        self.dirty_told.clear();
        self.dirty_waiting.clear();
    }
}
