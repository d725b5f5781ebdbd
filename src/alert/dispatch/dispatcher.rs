//! The decisions: what is said of alerts goes in, what channels are to say comes out.
//!
//! No I/O and no clock: every call is given the time, and answers depend on nothing else. What changed is
//! kept as records to write ([`Dispatcher::mutations`]); whoever runs this writes them in one commit
//! before anything is sent. The rules are Alertmanager's, with these differences:
//!
//! - an alert's end is told on every channel on which its firing was delivered, and on no other, also
//!   when it ended while it was silenced;
//! - `group_wait` counts from when the group came about, not from when its first alert began;
//! - a repeat counts from the time the last notification was due, so that it falls on the grid of
//!   `group_interval`, or from its delivery where that took long;
//! - an alert that flaps is held firing and told once.

mod durable;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::Config;
use super::flap::{self, History};
use super::group::{Group, GroupId};
use super::inhibit::Inhibitions;
use super::outbox::{Outbox, Statement};
use super::record;
use super::route::Route;
use super::silence::{self, Silences, Wish};
use crate::alert::{Alert, Notification};
use crate::model::{Mutation, Timestamp};

/// Alerts that are kept at once. What is beyond is refused, and said again by whoever found it.
pub const ALERTS_MAX: usize = 10_000;

/// Alerts that one notification names; how many more there are is told.
const NAMED_MAX: usize = 100;

/// The annotation of an alert that flaps.
pub const FLAPPING: &str = "flapping";

/// An alert as its source says it, and what became of it here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) alert: Alert,
    pub(super) history: History,
    /// The group it is told with; `None` once its end was told.
    pub(super) group: Option<GroupId>,
    /// When it is over unless it is said again. Not stored: after a restart its source has time to say it.
    #[serde(skip)]
    expires_at: Timestamp,
}

impl Known {
    /// Whether it is to be told as firing, which an alert that flaps always is.
    pub(super) fn fires(&self) -> bool {
        self.alert.ends_at.is_none() || self.history.flapping_since().is_some()
    }

    /// The alert as it is to be told.
    pub(super) fn shown(&self, limits: flap::Limits) -> Alert {
        let mut alert = self.alert.clone();
        if self.history.flapping_since().is_some() {
            alert.ends_at = None;
            alert.annotations.insert(FLAPPING.to_owned(), limits.text());
        }
        alert
    }
}

/// What happened that whoever runs this counts or logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An alert that nobody knew of begins, or one that was over.
    Fired(u64),
    Ended(u64),
    Flaps(u64),
    Steady(u64),
    /// Repeats that made room, or that something new took the place of.
    Superseded {
        outbox: usize,
        count: usize,
    },
    /// Notifications that would have told the end of what was never told.
    PassedOver {
        outbox: usize,
        count: usize,
    },
}

#[derive(Debug)]
pub(super) struct Dispatcher {
    config: Config,
    alerts: BTreeMap<u64, Known>,
    groups: BTreeMap<GroupId, Group>,
    silences: Silences,
    outboxes: Vec<Outbox>,
    dirty_alerts: BTreeSet<u64>,
    dirty_groups: BTreeSet<GroupId>,
    dirty_silences: BTreeSet<String>,
    /// Records of channels that are no longer configured.
    leftover: Vec<Mutation>,
    events: Vec<Event>,
}

impl Dispatcher {
    /// Without any history. `channels` are named by their configuration; `repeats` says whether they are
    /// told again what still fires.
    pub(super) fn new(config: Config, channels: Vec<(String, Route)>, repeats: bool) -> Self {
        let outboxes = channels.into_iter();
        let outboxes = outboxes.map(|(name, route)| Outbox::new(name, route, repeats));
        Self {
            config,
            alerts: BTreeMap::new(),
            groups: BTreeMap::new(),
            silences: Silences::default(),
            outboxes: outboxes.collect(),
            dirty_alerts: BTreeSet::new(),
            dirty_groups: BTreeSet::new(),
            dirty_silences: BTreeSet::new(),
            leftover: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn limits(&self) -> flap::Limits {
        flap::Limits {
            changes: self.config.flap_changes,
            window: self.config.flap_window,
        }
    }

    /// Takes in what a source says of alerts; answers how many there was no room for.
    pub(super) fn post(&mut self, now: Timestamp, alerts: Vec<Alert>) -> usize {
        let mut refused = 0;
        for mut alert in alerts {
            match alert.ends_at {
                Some(ends_at) if ends_at <= now => self.end(now, ends_at, alert),
                ends_at => {
                    // A source that says until when an alert holds says it again before that.
                    let timeout = now.after(self.config.resolve_timeout);
                    alert.ends_at = None;
                    refused += usize::from(!self.fire(now, ends_at.unwrap_or(timeout), alert));
                }
            }
        }
        refused
    }

    /// Whether there was room for it.
    fn fire(&mut self, now: Timestamp, expires_at: Timestamp, alert: Alert) -> bool {
        let fingerprint = alert.fingerprint();
        let Some(known) = self.alerts.get_mut(&fingerprint) else {
            if self.alerts.len() >= ALERTS_MAX {
                return false;
            }
            let known = Known {
                alert,
                history: History::default(),
                group: None,
                expires_at,
            };
            self.alerts.insert(fingerprint, known);
            self.begin(now, fingerprint);
            return true;
        };
        known.expires_at = expires_at;
        if known.alert.ends_at.is_none() {
            // Its words may have changed with the value, which is not worth a commit.
            let starts_at = known.alert.starts_at.min(alert.starts_at);
            known.alert = Alert { starts_at, ..alert };
            return true;
        }
        known.alert = alert;
        self.changed(now, fingerprint);
        self.begin(now, fingerprint);
        true
    }

    /// An alert that is said to be over. Of one that nobody knows, or whose end lies before its
    /// beginning, there is nothing to say.
    fn end(&mut self, now: Timestamp, ends_at: Timestamp, alert: Alert) {
        let fingerprint = alert.fingerprint();
        let Some(known) = self.alerts.get_mut(&fingerprint) else {
            return;
        };
        if known.alert.ends_at.is_some() || ends_at < known.alert.starts_at {
            return;
        }
        known.alert.ends_at = Some(ends_at);
        if !alert.annotations.is_empty() {
            known.alert.annotations = alert.annotations;
        }
        self.ended(now, fingerprint);
    }

    fn ended(&mut self, now: Timestamp, fingerprint: u64) {
        self.dirty_alerts.insert(fingerprint);
        self.events.push(Event::Ended(fingerprint));
        self.changed(now, fingerprint);
    }

    /// An alert fires that did not: it joins its group.
    fn begin(&mut self, now: Timestamp, fingerprint: u64) {
        self.events.push(Event::Fired(fingerprint));
        self.join(now, fingerprint);
    }

    fn join(&mut self, now: Timestamp, fingerprint: u64) {
        self.dirty_alerts.insert(fingerprint);
        let Some(known) = self.alerts.get_mut(&fingerprint) else {
            return;
        };
        // One whose end is still to be told stays where it was told.
        let is_member = |id| {
            self.groups
                .get(&id)
                .is_some_and(|group| group.members.contains(&fingerprint))
        };
        if known.group.is_some_and(is_member) {
            return;
        }
        let first_flush = now.after(self.config.group_wait);
        let (id, group) = Group::of(&known.alert.labels, &self.config.group_by, first_flush);
        known.group = Some(id);
        let group = self.groups.entry(id).or_insert_with(|| {
            self.dirty_groups.insert(id);
            group
        });
        group.members.insert(fingerprint);
    }

    /// An alert changed between firing and over; it may begin to flap, which is told once.
    fn changed(&mut self, now: Timestamp, fingerprint: u64) {
        let limits = self.limits();
        let Some(known) = self.alerts.get_mut(&fingerprint) else {
            return;
        };
        if known.history.change(now, limits) {
            self.events.push(Event::Flaps(fingerprint));
            self.join(now, fingerprint);
            let group = self.alerts.get(&fingerprint).and_then(|known| known.group);
            for outbox in &mut self.outboxes {
                if let Some(group) = group {
                    outbox.say_again(group, fingerprint);
                }
            }
        }
    }

    /// Lets time pass: what was not said again is over, what flapped is steady, groups tell.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let limits = self.limits();
        let expired: Vec<u64> = self
            .alerts
            .iter()
            .filter(|(_, known)| known.alert.ends_at.is_none() && known.expires_at <= now)
            .map(|(fingerprint, _)| *fingerprint)
            .collect();
        for fingerprint in expired {
            if let Some(known) = self.alerts.get_mut(&fingerprint) {
                known.alert.ends_at = Some(known.expires_at.max(known.alert.starts_at));
            }
            self.ended(now, fingerprint);
        }
        for (fingerprint, known) in &mut self.alerts {
            if known.history.settle(now, limits) {
                self.events.push(Event::Steady(*fingerprint));
                self.dirty_alerts.insert(*fingerprint);
            }
        }
        self.dirty_silences.extend(self.silences.forget(now));
        self.flush(now);
        self.forget(now);
    }

    fn flush(&mut self, now: Timestamp) {
        let due = self
            .groups
            .iter()
            .filter(|(_, group)| group.next_flush <= now);
        let due: Vec<GroupId> = due.map(|(id, _)| *id).collect();
        if due.is_empty() {
            return;
        }
        let inhibitions = self.inhibitions();
        let mut statements = Vec::new();
        for id in due {
            let (mut firing, mut over) = (BTreeSet::new(), BTreeSet::new());
            for fingerprint in &self.groups[&id].members {
                let Some(known) = self.alerts.get(fingerprint) else {
                    continue;
                };
                let labels = &known.alert.labels;
                if !known.fires() {
                    over.insert(*fingerprint);
                } else if self.silences.holding(now, labels).next().is_none()
                    && inhibitions.source(labels).is_none()
                {
                    firing.insert(*fingerprint);
                }
            }
            statements.push((id, firing, over));
        }
        for (id, firing, over) in statements {
            self.tell(now, id, &firing, &over);
        }
    }

    pub(super) fn inhibitions(&self) -> Inhibitions<'_> {
        let firing = self.alerts.iter().filter(|(_, known)| known.fires());
        let firing = firing.map(|(fingerprint, known)| (*fingerprint, &known.alert.labels));
        Inhibitions::of(&self.config.inhibit, &firing)
    }

    /// Has every channel told what it is to hear of a group.
    fn tell(&mut self, now: Timestamp, id: GroupId, firing: &BTreeSet<u64>, over: &BTreeSet<u64>) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let at = group.tick(now, self.config.group_interval);
        self.dirty_groups.insert(id);
        for place in 0..self.outboxes.len() {
            let outbox = &self.outboxes[place];
            let takes = |alert: &&u64| {
                let known = self.alerts.get(alert);
                known.is_some_and(|known| outbox.route.takes(&known.alert))
            };
            let mut statement = Statement {
                group: id,
                at,
                firing: firing.iter().filter(takes).copied().collect(),
                over: over
                    .iter()
                    .filter(|alert| outbox.owes(id, **alert))
                    .copied()
                    .collect(),
            };
            if !outbox.route.send_resolved && !statement.over.is_empty() {
                self.outboxes[place].forgive(&statement);
                statement.over.clear();
            }
            self.put(now, place, statement);
        }
        self.leave(id, over);
    }

    /// Puts a statement into an outbox if it is to be told there.
    fn put(&mut self, now: Timestamp, place: usize, statement: Statement) {
        let outbox = &self.outboxes[place];
        let Some(reason) = outbox.decide(&statement, self.config.repeat_interval) else {
            return;
        };
        let notification = self.notification(now, outbox, &statement);
        let count = self.outboxes[place].put(statement, reason, notification);
        if count > 0 {
            self.events.push(Event::Superseded {
                outbox: place,
                count,
            });
        }
    }

    fn notification(&self, now: Timestamp, outbox: &Outbox, statement: &Statement) -> Notification {
        let limits = self.limits();
        let group = &self.groups[&statement.group];
        let shown = |alerts: &BTreeSet<u64>| {
            let known = alerts.iter().filter_map(|alert| self.alerts.get(alert));
            let mut shown: Vec<Alert> = known.map(|known| known.shown(limits)).collect();
            // Those that began together in the order of their labels, which is the same for every reader.
            shown.sort_by(|a, b| (a.starts_at, &a.labels).cmp(&(b.starts_at, &b.labels)));
            shown
        };
        let mut alerts = shown(&statement.firing);
        alerts.extend(shown(&statement.over));
        let alerts_truncated = alerts.len().saturating_sub(NAMED_MAX);
        alerts.truncate(NAMED_MAX);
        let mut id = Xxh3::new();
        id.update(&record::key(&outbox.name, outbox.next_number()));
        id.update(&now.ms().to_be_bytes());
        id.update(group.key.as_bytes());
        Notification {
            group_key: group.key.clone(),
            group_labels: group.labels.clone(),
            alerts,
            alerts_truncated,
            at: now,
            external_url: self.config.external_url.clone(),
            id: id.digest(),
        }
    }

    /// Lets alerts go whose end needs no more telling, and the group when none is left.
    fn leave(&mut self, id: GroupId, over: &BTreeSet<u64>) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        for fingerprint in over {
            let is_owed = self
                .outboxes
                .iter()
                .any(|outbox| outbox.owes(id, *fingerprint));
            if is_owed {
                continue;
            }
            group.members.remove(fingerprint);
            if let Some(known) = self.alerts.get_mut(fingerprint) {
                known.group = None;
                self.dirty_alerts.insert(*fingerprint);
            }
        }
        if group.members.is_empty() {
            self.groups.remove(&id);
        }
    }

    /// Forgets alerts that are over, told, and too long steady to flap.
    fn forget(&mut self, now: Timestamp) {
        let limits = self.limits();
        let (alerts, dirty) = (&mut self.alerts, &mut self.dirty_alerts);
        alerts.retain(|fingerprint, known| {
            let is_kept =
                known.fires() || known.group.is_some() || !known.history.is_over(now, limits);
            if !is_kept {
                dirty.insert(*fingerprint);
            }
            is_kept
        });
    }

    /// When [`Dispatcher::advance`] next has something to do, or a channel is to be tried again.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let limits = self.limits();
        let alerts = self.alerts.values().filter_map(|known| {
            let expires_at = known.alert.ends_at.is_none().then_some(known.expires_at);
            expires_at
                .into_iter()
                .chain(known.history.steady_at(limits))
                .min()
        });
        let groups = self.groups.values().map(|group| group.next_flush);
        let outboxes = self.outboxes.iter().filter_map(Outbox::next_at);
        alerts.chain(groups).chain(outboxes).min()
    }

    /// Moves what is planned along with a clock that was set: nothing was missed meanwhile.
    pub(super) fn shift(&mut self, by_ms: i64) {
        for known in self.alerts.values_mut() {
            known.expires_at = known.expires_at.offset_ms(by_ms);
        }
        for group in self.groups.values_mut() {
            group.next_flush = group.next_flush.offset_ms(by_ms);
        }
        for outbox in &mut self.outboxes {
            outbox.shift(by_ms);
        }
    }

    pub(super) fn set_silence(
        &mut self,
        now: Timestamp,
        wish: Wish,
        fresh_id: String,
    ) -> Result<String, silence::Error> {
        let changed = self.silences.set(now, wish, fresh_id)?;
        let id = changed.last().cloned().unwrap_or_default();
        self.dirty_silences.extend(changed);
        Ok(id)
    }

    pub(super) fn expire_silence(
        &mut self,
        now: Timestamp,
        id: &str,
    ) -> Result<(), silence::Error> {
        if self.silences.expire(now, id)? {
            self.dirty_silences.insert(id.to_owned());
        }
        Ok(())
    }

    pub(super) fn silences(&self) -> &Silences {
        &self.silences
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = (u64, &Known)> {
        self.alerts
            .iter()
            .map(|(fingerprint, known)| (*fingerprint, known))
    }

    pub(super) fn alert(&self, fingerprint: u64) -> Option<&Known> {
        self.alerts.get(&fingerprint)
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(super) fn outboxes(&self) -> &[Outbox] {
        &self.outboxes
    }

    /// The notification that a channel is to be sent now, if there is one.
    pub(super) fn take(&mut self, now: Timestamp, outbox: usize) -> Option<Notification> {
        let (notification, count) = self.outboxes[outbox].take(now);
        if count > 0 {
            self.events.push(Event::PassedOver { outbox, count });
        }
        notification
    }

    pub(super) fn delivered(&mut self, now: Timestamp, outbox: usize) {
        self.outboxes[outbox].delivered(now, self.config.group_interval);
    }

    pub(super) fn delayed(
        &mut self,
        now: Timestamp,
        outbox: usize,
        error: String,
        retry_after: Option<Duration>,
        jitter: f64,
    ) {
        self.outboxes[outbox].delayed(now, error, retry_after, jitter);
    }

    pub(super) fn refused(&mut self, now: Timestamp, outbox: usize, error: String) {
        self.outboxes[outbox].refused(now, error);
    }

    /// What happened since the last call.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
