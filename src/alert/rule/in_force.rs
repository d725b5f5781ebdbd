//! What is in force, as everybody else sees it: the groups as their last evaluation left them, and the
//! alerts that are said. Evaluates nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use super::record::Key;
use super::run::PART;
use super::state::{Active, State};
use super::{Config, Group, Health as RuleHealth};
use crate::alert::Alert;
use crate::model::Labels;
use crate::telemetry::health::{Health, State as PartState};

/// The rules in force and the way to have them read again. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub(super) Arc<Shared>);

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// As their last evaluation left them.
    groups: RwLock<Vec<Arc<Group>>>,
    /// Alerts whose rules are gone: over, and said for a while.
    pub(super) departed: Mutex<BTreeMap<Key, Active>>,
    /// Why the files that are there now are not in force.
    pub(super) refused: Mutex<Option<String>>,
    /// The configuration that is to be read next.
    pub(super) wanted: Mutex<Option<Config>>,
    pub(super) told: Notify,
}

impl Rules {
    /// All groups, by file and name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let groups = self.0.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.clone()
    }

    /// Has the files of a configuration read; those in force stay if one of them is not right.
    pub fn reload(&self, config: Config) {
        *lock(&self.0.wanted) = Some(config);
        self.0.told.notify_one();
    }

    pub(super) fn publish(&self, group: &Group) {
        let mut groups = self
            .0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let of_this = groups
            .iter_mut()
            .find(|other| other.spec.file == group.spec.file && other.spec.name == group.spec.name);
        if let Some(of_this) = of_this {
            *of_this = Arc::new(group.clone());
        }
    }

    pub(super) fn publish_all(&self, all: &[Group]) {
        let mut groups = self
            .0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *groups = all.iter().cloned().map(Arc::new).collect();
    }

    /// All that fires, and all that is over for a short while. Two rules may have an alert in common, and
    /// a rule may be gone that another has replaced: what fires anywhere is not over.
    pub(super) fn alerts(&self, external_url: &str) -> Vec<Alert> {
        let mut alerts: BTreeMap<Labels, Alert> = BTreeMap::new();
        let mut add = |active: &Active, url: &str| {
            let Some(alert) = active.to_alert(url) else {
                return;
            };
            let known = alerts.get(&active.labels);
            if active.state == State::Firing || known.is_none_or(|known| known.ends_at.is_some()) {
                alerts.insert(active.labels.clone(), alert);
            }
        };
        for active in lock(&self.0.departed).values() {
            add(active, "");
        }
        for group in self.groups() {
            for (rule, member) in group.rules() {
                let url = generator_url(external_url, &rule.query);
                for active in member.alerts.values() {
                    add(active, &url);
                }
            }
        }
        alerts.into_values().collect()
    }

    pub(super) fn report_health(&self, health: &Health) {
        let failing = self.groups().into_iter().find_map(|group| {
            group
                .rules()
                .find_map(|(rule, member)| match &member.health {
                    RuleHealth::Failed(reason) => Some(format!(
                        "rule {:?} of {} is not evaluated: {reason}",
                        rule.name, group.spec.file
                    )),
                    RuleHealth::Unknown | RuleHealth::Ok => None,
                })
        });
        let refused = lock(&self.0.refused).clone();
        match refused.or(failing) {
            Some(message) => health.set(PART, PartState::Degraded, message),
            None => health.set(PART, PartState::Ok, ""),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an expression's value can be looked at.
fn generator_url(external_url: &str, query: &str) -> String {
    if external_url.is_empty() {
        return String::new();
    }
    let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let base = external_url.trim_end_matches('/');
    format!("{base}/api/v1/query?query={query}")
}
