//! What `cutover alert list` shows: every alert with who holds it back, every group with when it is next
//! looked at, every channel with what waits for it.

use super::dispatcher::Dispatcher;
use crate::alert::{Alert, Pairs};
use crate::model::Timestamp;

/// The dispatcher at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// Those that fire before those that are over, each kind in the order of its start.
    pub alerts: Vec<AlertView>,
    pub groups: Vec<GroupView>,
    pub channels: Vec<ChannelView>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertView {
    /// As it is told: one that flaps fires.
    pub alert: Alert,
    pub fingerprint: u64,
    /// Ids of silences that hold it back.
    pub silenced_by: Vec<String>,
    /// The fingerprint of an alert that holds it back.
    pub inhibited_by: Option<u64>,
    pub flapping_since: Option<Timestamp>,
    /// Empty once its end was told.
    pub group_key: String,
    /// Channels whose latest notification says that it fires, be it delivered or waiting.
    pub told: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    pub key: String,
    pub labels: Pairs,
    pub alerts: usize,
    /// When it is next looked at whether there is something to tell.
    pub next_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ChannelView {
    pub name: String,
    pub waiting: usize,
    /// When the first of those that wait was decided.
    pub waiting_since: Option<Timestamp>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// When the next attempt is made; `None` when nothing has to wait.
    pub next_at: Option<Timestamp>,
    pub last_error: Option<(Timestamp, String)>,
    /// The last delivery since the process started.
    pub delivered_at: Option<Timestamp>,
}

impl Dispatcher {
    pub(super) fn overview(&self, now: Timestamp) -> Overview {
        let mut alerts = self.alert_views(now);
        alerts.sort_by_key(|view| (view.alert.status(), view.alert.starts_at));
        let groups = self.groups().map(|group| GroupView {
            key: group.key.clone(),
            labels: group.labels.clone(),
            alerts: group.members.len(),
            next_at: group.next_flush,
        });
        let mut groups: Vec<GroupView> = groups.collect();
        groups.sort_by(|one, other| one.key.cmp(&other.key));
        let channels = self.outboxes().iter().map(|outbox| ChannelView {
            name: outbox.name.clone(),
            waiting: outbox.waiting().count(),
            waiting_since: outbox.waiting().next().map(|first| first.notification.at),
            failures: outbox.failures(),
            next_at: outbox.next_at(),
            last_error: outbox.last_error.clone(),
            delivered_at: outbox.delivered_at,
        });
        Overview {
            alerts,
            groups,
            channels: channels.collect(),
        }
    }

    fn alert_views(&self, now: Timestamp) -> Vec<AlertView> {
        let inhibitions = self.inhibitions();
        let views = self.alerts().map(|(fingerprint, known)| {
            let labels = &known.alert.labels;
            let fires = known.fires();
            let silences = self.silences().holding(now, labels).filter(|_| fires);
            let said = |group| {
                let outboxes = self.outboxes().iter();
                let said = outboxes.filter(move |outbox| outbox.has_said(group, fingerprint));
                said.map(|outbox| outbox.name.clone())
            };
            AlertView {
                alert: known.shown(self.limits()),
                fingerprint,
                silenced_by: silences.map(|silence| silence.id.clone()).collect(),
                inhibited_by: inhibitions.source(labels).filter(|_| fires),
                flapping_since: known.history.flapping_since(),
                group_key: known
                    .group
                    .and_then(|id| self.group(id))
                    .map_or_else(String::new, |group| group.key.clone()),
                told: known.group.into_iter().flat_map(said).collect(),
            }
        });
        views.collect()
    }
}
