//! The dispatcher in the store: how it comes back, and what has to be written so that it does.

use std::collections::BTreeMap;

use super::{Dispatcher, Group};
use crate::alert::dispatch::outbox::Outbox;
use crate::alert::dispatch::record::{self, ALERTS, GROUPS, QUEUE, SILENCES, TOLD};
use crate::alert::dispatch::silence::Silences;
use crate::model::{Mutation, Timestamp};
use crate::store::{self, Snapshot};

impl Dispatcher {
    /// Takes over what was stored. Everything that fired is given `resolve_timeout` to be said again.
    pub(in crate::alert::dispatch) fn restore(
        &mut self,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let silences = record::load(snapshot, &SILENCES)?.into_iter();
        self.silences = Silences::restore(silences.map(|(_, silence)| silence));
        let groups = record::load(snapshot, &GROUPS)?.into_iter();
        let id = |group: &Group| xxhash_rust::xxh3::xxh3_64(group.key.as_bytes());
        self.groups = groups.map(|(_, group)| (id(&group), group)).collect();
        for (_, mut known) in record::load(snapshot, &ALERTS)? {
            let fingerprint = known.alert.fingerprint();
            known.expires_at = now.after(self.config.resolve_timeout);
            if let Some(group) = known.group.and_then(|id| self.groups.get_mut(&id)) {
                group.members.insert(fingerprint);
            }
            self.alerts.insert(fingerprint, known);
        }
        self.restore_outboxes(snapshot)
    }

    fn restore_outboxes(&mut self, snapshot: &Snapshot) -> Result<(), store::Error> {
        let outboxes = &self.outboxes;
        let is_configured = |channel: &str| outboxes.iter().any(|outbox| outbox.name == channel);
        let mut told: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (key, record) in record::load(snapshot, &TOLD)? {
            if is_configured(&record.channel) {
                told.entry(record.channel.clone()).or_default().push(record);
            } else {
                self.leftover.push(TOLD.remove(key));
            }
        }
        let mut waiting: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (key, record) in record::load(snapshot, &QUEUE)? {
            if is_configured(&record.channel) {
                waiting
                    .entry(record.channel.clone())
                    .or_default()
                    .push(record);
            } else {
                let (channel, group) = (&record.channel, &record.notification.group_key);
                tracing::warn!(
                    channel,
                    group,
                    "a notification is dropped: its channel is no longer configured"
                );
                self.leftover.push(QUEUE.remove(key));
            }
        }
        for outbox in &mut self.outboxes {
            let told = told.remove(&outbox.name).unwrap_or_default();
            let waiting = waiting.remove(&outbox.name).unwrap_or_default();
            outbox.restore(told, waiting);
            outbox.keep_known(|alert| self.alerts.contains_key(&alert));
        }
        Ok(())
    }

    /// What has to be written so that the records are as the dispatcher is. Writing it twice does no harm.
    pub(in crate::alert::dispatch) fn mutations(&self) -> Vec<Mutation> {
        let mut mutations = self.leftover.clone();
        for fingerprint in &self.dirty_alerts {
            let key = fingerprint.to_be_bytes();
            mutations.push(match self.alerts.get(fingerprint) {
                Some(known) => ALERTS.put(key, known),
                None => ALERTS.remove(key),
            });
        }
        for id in &self.dirty_groups {
            let key = id.to_be_bytes();
            mutations.push(match self.groups.get(id) {
                Some(group) => GROUPS.put(key, group),
                None => GROUPS.remove(key),
            });
        }
        for id in &self.dirty_silences {
            mutations.push(match self.silences.get(id) {
                Some(silence) => SILENCES.put(id.as_bytes(), silence),
                None => SILENCES.remove(id.as_bytes()),
            });
        }
        mutations.extend(self.outboxes.iter().flat_map(Outbox::mutations));
        mutations
    }

    /// What [`Dispatcher::mutations`] said is written.
    pub(in crate::alert::dispatch) fn committed(&mut self) {
        self.leftover.clear();
        self.dirty_alerts.clear();
        self.dirty_groups.clear();
        self.dirty_silences.clear();
        self.outboxes.iter_mut().for_each(Outbox::committed);
    }
}
