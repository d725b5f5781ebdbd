//! The loop around the groups: how they come back after a restart, and what happens when files change.
//! With the groups' tasks the only part with I/O.
//!
//! Every group has a task of its own, so that a slow one delays no other. Reading the files again ends
//! all tasks, hands the state of rules that stay to the new groups, and starts those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use super::in_force::{Rules, lock};
use super::own_metrics::OwnMetrics;
use super::record::{self, Kept, Key};
use super::set::{Origin, Set, Stamp};
use super::state::{Active, State};
use super::task::{GroupTask, offset_ms, post};
use super::{Error, Group, Member, Spec};
use crate::alert::Inbox;
use crate::model::{Batch, Clock, Labels, STALE_NAN, Sample};
use crate::promql;
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State as PartState};

pub(super) const PART: &str = "rules";

/// How often the files are looked at; a change is in force within a minute.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What rules work with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub promql: promql::Engine,
    pub reader: Reader,
    pub writer: Writer,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub health: Health,
    pub inbox: Inbox,
    /// Where users find this server; empty if that is not known.
    pub external_url: String,
}

/// Evaluates the rules of a set, and of those that its files change to, until shutdown begins.
pub async fn run(rules: Rules, set: Set, parts: Parts, shutdown: Shutdown) {
    parts
        .health
        .set(PART, PartState::Starting, "reading the state of alerts");
    let own = OwnMetrics::new(&parts.metrics);
    let every = set.origin.config.every;
    let mut service = Service {
        rules,
        parts: Arc::new(parts),
        own,
        origin: set.origin,
        stamps: set.stamps,
        specs: set.groups,
        every,
        running: Vec::new(),
        stop: CancellationToken::new(),
        shutdown,
    };
    let mut is_loaded = service.restore().await;
    loop {
        tokio::select! {
            () = service.shutdown.begun() => return,
            () = service.rules.0.told.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !is_loaded {
            is_loaded = service.restore().await;
            continue;
        }
        service.look().await;
        service.forget_departed().await;
    }
}

struct Service {
    rules: Rules,
    parts: Arc<Parts>,
    own: OwnMetrics,
    /// What is to be in force: where to read it, and the files as they were read last.
    origin: Origin,
    stamps: Vec<Stamp>,
    /// What is in force.
    specs: Vec<Spec>,
    every: Duration,
    running: Vec<Arc<AsyncMutex<Group>>>,
    /// Ends the tasks of the groups that run.
    stop: CancellationToken,
    shutdown: Shutdown,
}

impl Service {
    /// The groups with the state that is stored; false when it cannot be read.
    async fn restore(&mut self) -> bool {
        let reader = self.parts.reader.clone();
        let loaded = tokio::task::spawn_blocking(move || match reader.snapshot() {
            Ok(snapshot) => record::load(&snapshot),
            Err(error) => Err(error),
        });
        let kept = match loaded.await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error @ (store::Error::Record { .. } | store::Error::RecordSchema { .. }))) => {
                tracing::warn!("alerts begin anew: {error}");
                Vec::new()
            }
            Ok(Err(error)) => {
                self.fail(&format!("the state of alerts is not read: {error}"));
                return false;
            }
            Err(error) => {
                self.fail(&format!("the state of alerts is not read: {error}"));
                return false;
            }
        };
        let now = self.parts.clock.now();
        let mut by_rule: BTreeMap<u64, Vec<Kept>> = BTreeMap::new();
        for kept in kept {
            by_rule.entry(kept.rule).or_default().push(kept);
        }
        let mut groups = self.new_groups();
        for group in &mut groups {
            group.restore(&mut by_rule, now);
        }
        let left = by_rule.into_values().flatten();
        self.depart(left.map(|kept| (kept.key, kept.alert)), Vec::new())
            .await;
        self.start(groups);
        true
    }

    fn new_groups(&self) -> Vec<Group> {
        let specs = self.specs.iter();
        specs
            .map(|spec| Group::new(Arc::new(spec.clone()), self.every))
            .collect()
    }

    fn start(&mut self, groups: Vec<Group>) {
        self.rules.publish_all(&groups);
        self.rules.report_health(&self.parts.health);
        self.stop = self.shutdown.token().child_token();
        self.running.clear();
        for group in groups {
            let task = GroupTask {
                name: format!("{};{}", group.spec.file, group.spec.name),
                interval: group.interval,
                offset_ms: offset_ms(&group),
                group: Arc::new(AsyncMutex::new(group)),
                rules: self.rules.clone(),
                parts: self.parts.clone(),
                own: self.own.clone(),
                stop: self.stop.clone(),
                shutdown: self.shutdown.clone(),
            };
            self.running.push(task.group.clone());
            self.shutdown.spawn("rules", task.run());
        }
    }

    /// Reads the files again where they have changed, or where somebody asked for it.
    async fn look(&mut self) {
        let wanted = lock(&self.rules.0.wanted).take();
        let is_told = wanted.is_some();
        if let Some(config) = wanted {
            self.origin.config = config;
        }
        let (origin, known) = (self.origin.clone(), self.stamps.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let stamps = origin.stamps();
            match stamps {
                Ok(stamps) if stamps == known && !is_told => None,
                Ok(stamps) => Some((Some(stamps), origin.load())),
                Err(error) => Some((None, Err(error))),
            }
        });
        let (stamps, loaded) = match loading.await {
            Ok(None) => return,
            Ok(Some(outcome)) => outcome,
            Err(error) => return self.fail(&format!("rule files are not read: {error}")),
        };
        match loaded {
            Ok(set) => self.replace(set).await,
            Err(error) => {
                // A file that stays wrong is told once.
                if let Some(stamps) = stamps {
                    self.stamps = stamps;
                }
                self.refuse(&error);
            }
        }
    }

    fn refuse(&self, error: &Error) {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            message = format!("{message}: {source}");
        }
        self.own.reloads.with_label_values(&["refused"]).inc();
        let before = lock(&self.rules.0.refused).replace(message.clone());
        if before.as_ref() != Some(&message) {
            tracing::error!("rules in force stay: {message}");
        }
        self.rules.report_health(&self.parts.health);
    }

    /// Puts another set in force.
    async fn replace(&mut self, set: Set) {
        self.own.reloads.with_label_values(&["ok"]).inc();
        *lock(&self.rules.0.refused) = None;
        let every = set.origin.config.every;
        let is_same = set.groups == self.specs && every == self.every;
        (self.origin, self.stamps) = (set.origin, set.stamps);
        (self.specs, self.every) = (set.groups, every);
        if is_same {
            self.rules.report_health(&self.parts.health);
            return;
        }
        self.stop.cancel();
        // Evaluations under way end first: whoever holds the lock afterwards sees that it was told to stop.
        let mut old = Vec::new();
        for running in self.running.drain(..) {
            old.push(running.lock_owned().await.clone());
        }
        let mut groups = self.new_groups();
        for group in &mut groups {
            let same = old.iter_mut().find(|other| {
                (&other.spec.file, &other.spec.name) == (&group.spec.file, &group.spec.name)
            });
            if let Some(same) = same {
                group.take_over(same);
            }
        }
        let kept: BTreeSet<u64> = numbers(&groups);
        let gone: Vec<Member> = old
            .into_iter()
            .flat_map(|group| group.members)
            .filter(|member| !kept.contains(&member.number))
            .collect();
        let series = gone.iter().flat_map(|member| member.series.iter().cloned());
        let series = series.collect();
        let alerts = gone.into_iter().flat_map(|member| {
            let number = member.number;
            member
                .alerts
                .into_iter()
                .map(move |(labels, alert)| (record::key(number, &labels), alert))
        });
        let alerts: Vec<_> = alerts.collect();
        self.depart(alerts.into_iter(), series).await;
        let rules: usize = groups.iter().map(|group| group.members.len()).sum();
        tracing::info!(
            "rule files were read: {rules} rules in {} groups",
            groups.len()
        );
        self.start(groups);
    }

    /// Alerts whose rules are gone are over; the series that told of them, or that were recorded, end.
    async fn depart(&mut self, alerts: impl Iterator<Item = (Key, Active)>, series: Vec<Labels>) {
        let now = self.parts.clock.now();
        let mut batch = Batch::default();
        for labels in series {
            batch.push(labels, Sample::new(now, STALE_NAN));
        }
        let mut departed = Vec::new();
        for (key, mut alert) in alerts {
            if alert.state == State::Firing {
                alert.resolve(now);
                batch.mutations.push(record::put(key.clone(), &alert, now));
            }
            if alert.is_kept(now) {
                departed.push((key, alert));
            } else {
                batch.mutations.push(record::remove(key));
            }
        }
        lock(&self.rules.0.departed).extend(departed);
        self.write(batch).await;
    }

    /// Says the alerts whose rules are gone again, as long as they are kept.
    async fn forget_departed(&mut self) {
        let now = self.parts.clock.now();
        let mut batch = Batch::default();
        {
            let mut departed = lock(&self.rules.0.departed);
            if departed.is_empty() {
                return;
            }
            departed.retain(|key, alert| {
                let is_kept = alert.is_kept(now);
                if !is_kept {
                    batch.mutations.push(record::remove(key.clone()));
                }
                is_kept
            });
        }
        self.write(batch).await;
        post(&self.rules, &self.parts);
    }

    async fn write(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.parts.writer.write(batch).await {
            tracing::warn!("the end of alerts whose rules are gone is not written: {error}");
        }
    }

    fn fail(&self, message: &str) {
        tracing::error!("{message}");
        self.parts.health.set(PART, PartState::Failed, message);
    }
}

fn numbers(groups: &[Group]) -> BTreeSet<u64> {
    let members = groups.iter().flat_map(|group| &group.members);
    members.map(|member| member.number).collect()
}
