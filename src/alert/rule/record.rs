//! How the state of alerts is kept in the store, and how it comes back.
//!
//! A record is written when an alert changes its state, in the commit that has the series that tell of it;
//! a pending one at every evaluation, so that it is known how long it had been pending.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::state::{Active, Alerts, State};
use super::{Kind, Rule, Spec};
use crate::alert::Pairs;
use crate::model::{Labels, Mutation, Timestamp};
use crate::store::{self, Snapshot, Table};

/// Every pending and firing alert of a rule, and those that are over for less than 15 minutes, keyed by
/// the rule's number and the alert's.
const ALERTS: Table<Stored> = Table::new("rule_alerts", 1);

/// Records read at once.
const PAGE: usize = 1_000;

/// What is pending is not known to be pending still after the appliance was down for longer.
const OUTAGE_MAX: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    labels: Pairs,
    annotations: Pairs,
    state: State,
    value: f64,
    active_at: Timestamp,
    fired_at: Option<Timestamp>,
    keep_firing_since: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    /// The evaluation that wrote the record.
    seen_at: Timestamp,
}

/// The key of an alert's record.
pub(super) type Key = Vec<u8>;

/// An alert as it was stored.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) rule: u64,
    pub(super) alert: Active,
    seen_at: Timestamp,
}

impl Kept {
    /// The alert as its rule takes it up again; `None` where nothing is left of it.
    ///
    /// The time of an outage does not count as time in which a pending alert's expression held.
    pub(super) fn taken_up(self, interval: Duration, now: Timestamp) -> Option<Active> {
        let mut alert = self.alert;
        if alert.state == State::Pending {
            let outage = now.since(self.seen_at);
            if outage > OUTAGE_MAX {
                return None;
            }
            alert.active_at = alert.active_at.after(outage.saturating_sub(interval));
        }
        Some(alert)
    }
}

/// A number for a rule that it keeps while its file, group, name and labels stay the same; the
/// `ordinal` tells rules apart that have all of it in common.
pub(super) fn rule_number(spec: &Spec, rule: &Rule, ordinal: usize) -> u64 {
    let mut hash = Xxh3::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for text in [&spec.file, &spec.name, &rule.name] {
        add(text);
    }
    add(match rule.kind {
        Kind::Recording => "record",
        Kind::Alerting(_) => "alert",
    });
    for (name, value) in &rule.labels {
        add(name);
        add(value);
    }
    add(&ordinal.to_string());
    hash.digest()
}

pub(super) fn key(rule: u64, labels: &Labels) -> Key {
    let mut hash = Xxh3::new();
    for label in labels {
        for text in [&label.name, &label.value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    let mut key = rule.to_be_bytes().to_vec();
    key.extend(hash.digest().to_be_bytes());
    key
}

/// What is to be written so that the store has `after` where it had `before`.
pub(super) fn changes(rule: u64, before: &Alerts, after: &Alerts, at: Timestamp) -> Vec<Mutation> {
    let gone = before.keys().filter(|labels| !after.contains_key(*labels));
    let mut mutations: Vec<_> = gone.map(|labels| remove(key(rule, labels))).collect();
    for (labels, alert) in after {
        let is_as_before = before.get(labels).is_some_and(|before| {
            before.state == alert.state
                && before.active_at == alert.active_at
                && before.keep_firing_since == alert.keep_firing_since
        });
        if !is_as_before || alert.state == State::Pending {
            mutations.push(put(key(rule, labels), alert, at));
        }
    }
    mutations
}

pub(super) fn put(key: Key, alert: &Active, at: Timestamp) -> Mutation {
    let stored = Stored {
        labels: alert
            .labels
            .iter()
            .map(|label| (label.name.to_string(), label.value.to_string()))
            .collect(),
        annotations: alert.annotations.clone(),
        state: alert.state,
        value: alert.value,
        active_at: alert.active_at,
        fired_at: alert.fired_at,
        keep_firing_since: alert.keep_firing_since,
        resolved_at: alert.resolved_at,
        seen_at: at,
    };
    ALERTS.put(key, &stored)
}

pub(super) fn remove(key: Key) -> Mutation {
    ALERTS.remove(key)
}

/// All alerts that are stored, whose rules may be gone.
pub(super) fn load(snapshot: &Snapshot) -> Result<Vec<Kept>, store::Error> {
    let mut kept = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let page = snapshot.records(&ALERTS, after.as_deref(), PAGE)?;
        after = page.last().map(|(key, _)| key.clone());
        if after.is_none() {
            return Ok(kept);
        }
        kept.extend(
            page.into_iter()
                .filter_map(|(key, stored)| read(key, stored)),
        );
    }
}

fn read(key: Key, stored: Stored) -> Option<Kept> {
    let rule = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
    let labels = Labels::try_from_pairs(stored.labels).ok()?;
    Some(Kept {
        rule,
        seen_at: stored.seen_at,
        alert: Active {
            labels,
            annotations: stored.annotations,
            state: stored.state,
            value: stored.value,
            active_at: stored.active_at,
            fired_at: stored.fired_at,
            keep_firing_since: stored.keep_firing_since,
            resolved_at: stored.resolved_at,
        },
        key,
    })
}
