//! The loop around the groups: when each is evaluated, what is said of it, and what happens when files
//! change. The only part with I/O.
//!
//! Every group has a task of its own, so that a slow one delays no other. Reading the files again ends
//! all tasks, hands the state of rules that stay to the new groups, and starts those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::sync::CancellationToken;

use super::own_metrics::OwnMetrics;
use super::record::{self, Kept, Key};
use super::set::{Origin, Set, Stamp};
use super::state::{Active, State};
use super::{Config, Error, Evaluation, Ground, Group, Health as RuleHealth, Member, Spec};
use crate::alert::{Alert, Inbox};
use crate::model::{Batch, Clock, Labels, STALE_NAN, Sample, Timestamp};
use crate::promql::{self, QueryOptions, Value, VectorSample};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State as PartState};

const PART: &str = "rules";

/// How often the files are looked at; a change is in force within a minute.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// A query of a rule may take as long as its group's interval, or as long as this.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// The rules in force and the way to have them read again. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Rules(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// As their last evaluation left them.
    groups: RwLock<Vec<Arc<Group>>>,
    /// Alerts whose rules are gone: over, and said for a while.
    departed: Mutex<BTreeMap<Key, Active>>,
    /// Why the files that are there now are not in force.
    refused: Mutex<Option<String>>,
    /// The configuration that is to be read next.
    wanted: Mutex<Option<Config>>,
    told: Notify,
}

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

    fn publish(&self, group: &Group) {
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

    fn publish_all(&self, all: &[Group]) {
        let mut groups = self
            .0
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *groups = all.iter().cloned().map(Arc::new).collect();
    }

    /// All that fires, and all that is over for a short while. Two rules may have an alert in common, and
    /// a rule may be gone that another has replaced: what fires anywhere is not over.
    fn alerts(&self, external_url: &str) -> Vec<Alert> {
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

    fn report_health(&self, health: &Health) {
        let failing = self.groups().into_iter().find_map(|group| {
            let failing = group
                .rules()
                .find_map(|(rule, member)| match &member.health {
                    RuleHealth::Failed(reason) => Some(format!(
                        "rule {:?} of {} is not evaluated: {reason}",
                        rule.name, group.spec.file
                    )),
                    RuleHealth::Unknown | RuleHealth::Ok => None,
                });
            failing
        });
        let refused = lock(&self.0.refused).clone();
        match refused.or(failing) {
            Some(message) => health.set(PART, PartState::Degraded, message),
            None => health.set(PART, PartState::Ok, ""),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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

fn post(rules: &Rules, parts: &Parts) {
    // What does not fit is said again by the next evaluation.
    if !parts.inbox.post(rules.alerts(&parts.external_url)) {
        tracing::debug!("the dispatcher is behind: alerts are said again");
    }
}

/// Spreads the groups over their intervals, each always at the same place.
fn offset_ms(group: &Group) -> i64 {
    let interval_ms = group.interval.as_millis().max(1) as u64;
    let names = format!("{}\0{}", group.spec.file, group.spec.name);
    (xxhash_rust::xxh3::xxh3_64(names.as_bytes()) % interval_ms) as i64
}

/// Evaluates one group again and again.
struct GroupTask {
    name: String,
    interval: Duration,
    offset_ms: i64,
    group: Arc<AsyncMutex<Group>>,
    rules: Rules,
    parts: Arc<Parts>,
    own: OwnMetrics,
    stop: CancellationToken,
    shutdown: Shutdown,
}

impl GroupTask {
    async fn run(self) {
        let mut last = self.slot(self.parts.clock.now());
        loop {
            tokio::select! {
                // Stopping comes first: an evaluation that begins now would only delay it.
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.until_next()) => {}
            }
            let slot = self.slot(self.parts.clock.now());
            if slot == last {
                continue;
            }
            let missed = (slot - last).div_euclid(self.interval_ms()) - 1;
            if missed > 0 {
                let missed = missed.unsigned_abs();
                self.own
                    .missed
                    .with_label_values(&[&self.name])
                    .inc_by(missed);
            }
            last = slot;
            if !self.evaluate(Timestamp::from_ms(slot)).await {
                return;
            }
        }
    }

    fn interval_ms(&self) -> i64 {
        (self.interval.as_millis() as i64).max(1)
    }

    /// The time for which the group is evaluated next to a point in time, not after it.
    fn slot(&self, now: Timestamp) -> i64 {
        let into = (now.ms() - self.offset_ms).rem_euclid(self.interval_ms());
        now.ms() - into
    }

    /// To the next slot, and never longer than an interval: the clock may step.
    fn until_next(&self) -> Duration {
        let now = self.parts.clock.now();
        let left = self.slot(now) + self.interval_ms() - now.ms();
        Duration::from_millis(left.unsigned_abs())
    }

    /// False when it is to stop.
    async fn evaluate(&self, slot: Timestamp) -> bool {
        let mut group = self.group.clone().lock_owned().await;
        if self.stop.is_cancelled() {
            return false;
        }
        let parts = self.parts.clone();
        let cancel = Arc::new(AtomicBool::new(false));
        let options = QueryOptions {
            timeout: Some(self.interval.max(QUERY_TIMEOUT_MIN)),
            cancel: Some(cancel.clone()),
            ..QueryOptions::default()
        };
        let mut work = tokio::task::spawn_blocking(move || {
            // A clock that steps back must not make two samples of one time.
            let at = group
                .evaluated_at
                .map_or(slot, |last| slot.max(last.offset_ms(1)));
            let evaluation = parts.evaluate(&mut group, at, &options);
            (group, evaluation)
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = self.shutdown.begun() => {
                cancel.store(true, Ordering::Relaxed);
                work.await
            }
        };
        let (group, evaluation) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!("rule group {} is no longer evaluated: {error}", self.name);
                let message = format!("group {} is no longer evaluated: {error}", self.name);
                self.parts.health.set(PART, PartState::Failed, message);
                return false;
            }
        };
        let name = &[self.name.as_str()];
        self.own
            .evaluations
            .with_label_values(name)
            .inc_by(evaluation.rules as u64);
        self.own
            .failures
            .with_label_values(name)
            .inc_by(evaluation.failures.len() as u64);
        self.own
            .seconds
            .with_label_values(name)
            .set(group.evaluation_time.as_secs_f64());
        self.rules.publish(&group);
        self.rules.report_health(&self.parts.health);
        post(&self.rules, &self.parts);
        true
    }
}

impl Parts {
    /// Evaluates a group on the live store.
    fn evaluate(&self, group: &mut Group, at: Timestamp, options: &QueryOptions) -> Evaluation {
        let query = |query: &str, at: Timestamp| vector(&self.promql, query, at, options);
        let write = |batch: Batch| self.writer.write_blocking(batch);
        let ground = Ground {
            query: &query,
            write: &write,
            clock: &*self.clock,
            external_url: &self.external_url,
        };
        group.evaluate(at, &ground)
    }
}

/// What an expression gives, a scalar being one sample without labels.
pub fn vector(
    promql: &promql::Engine,
    query: &str,
    at: Timestamp,
    options: &QueryOptions,
) -> Result<Vec<VectorSample>, promql::Error> {
    match promql.instant(query, at, options)?.value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar(sample) => Ok(vec![VectorSample {
            labels: Labels::empty(),
            sample,
        }]),
        Value::String { .. } | Value::Matrix(_) => Err(promql::Error::BadData {
            message: format!("{query:?} gives neither a scalar nor an instant vector"),
        }),
    }
}
