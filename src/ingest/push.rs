//! Pushes as a Pushgateway takes them: `PUT`, `POST` and `DELETE /metrics/job/...`.
//!
//! For jobs that end before anybody could scrape them. What a job pushes is held as a group, named by the
//! labels of the path, and the values of all groups are written again on a grid, as a Prometheus that
//! scrapes a Pushgateway with `honor_labels` would; so they stay visible after the lookback. Groups are
//! records of the store, in one commit with the samples of the push. A push is taken whole or not at
//! all; one that contradicts itself or another group is refused, and the group says when.

mod family;
mod path;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::family::{Families, Family};
pub use self::path::{Error as PathError, parse as parse_path};
use super::text::{Error as SyntaxError, Format};
use crate::model::{
    Batch, Clock, Labels, MetricKind, MetricMetadata, STALE_NAN, Sample, Timestamp, label,
};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Table, Writer, Written};
use crate::telemetry::health::{Health, State};

/// How often the values of all groups are written again, pushed or not.
pub const GRID: Duration = Duration::from_secs(15);
/// Groups that may exist.
const GROUPS_MAX: usize = 10_000;

/// When a group was last pushed to, and when a push to it was last refused; 0 for never.
const PUSH_TIME: &str = "push_time_seconds";
const PUSH_FAILURE_TIME: &str = "push_failure_time_seconds";

/// The groups by their labels, as [`GroupKey::bytes`] writes them.
const GROUPS: Table<Group> = Table::new("push_groups", 1);

/// The labels that name a group, sorted by name; values may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey(Vec<(String, String)>);

/// What is done to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `PUT`: what is pushed is all that the group holds afterwards.
    Replace,
    /// `POST`: what is pushed replaces metrics of the same name.
    Merge,
}

/// A group as it is stored: a new field is a new schema of [`GROUPS`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Group {
    key: GroupKey,
    families: Families,
    pushed_at: Option<Timestamp>,
    refused_at: Option<Timestamp>,
}

/// Why nothing of a push is taken: it is the pusher's to mend.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("{series}: {error}")]
    Labels { series: String, error: label::Error },
    #[error("{series} has a timestamp: pushed metrics must not have timestamps")]
    Timestamp { series: Labels },
    #[error("{series} is pushed twice at once")]
    Twice { series: Labels },
    #[error("{series} is in group {other} already")]
    Elsewhere { series: Labels, other: String },
    #[error("metric {metric:?} is a {pushed} here and a {known} in group {other}")]
    Kind {
        metric: String,
        pushed: &'static str,
        known: &'static str,
        other: String,
    },
    #[error("more than {series_max} series in one push")]
    TooManySeries { series_max: usize },
    #[error("there are {GROUPS_MAX} groups: delete some first")]
    TooManyGroups,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pushed metrics are invalid or inconsistent with existing metrics: {0}")]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The groups. Cloning is cheap; all clones are the same groups. Calls block: run them off the async
/// runtime.
#[derive(Clone, Debug)]
pub struct Groups {
    reader: Reader,
    writer: Writer,
    clock: Arc<dyn Clock>,
    /// Held from looking at the groups to having written what becomes of them.
    held: Arc<Mutex<Held>>,
}

/// The groups in memory, as they are in the store.
#[derive(Debug, Default)]
struct Held {
    groups: BTreeMap<GroupKey, Group>,
    /// The series of all groups, each with its group.
    owners: HashMap<Labels, GroupKey>,
    /// The time of the samples that were written last, by group; also of groups that ended since the
    /// values of all were written.
    written_at: HashMap<GroupKey, Timestamp>,
    /// After a commit of which nobody knows what became of it, memory follows the store again.
    is_doubtful: bool,
}

impl GroupKey {
    /// The key of the group's record.
    fn bytes(&self) -> Vec<u8> {
        // Lengths keep apart what names and values could run into.
        let mut bytes = Vec::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    /// Such as `{instance="a",job="b"}`.
    fn shown(&self) -> String {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(name, value)| format!("{name}={value:?}"));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    }

    fn series(&self, metric: &str) -> Labels {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Labels::of(metric, &pairs)
    }
}

impl Group {
    fn new(key: GroupKey) -> Self {
        Self {
            key,
            families: Families::new(),
            pushed_at: None,
            refused_at: None,
        }
    }

    /// Every series of the group with its value.
    fn series(&self) -> impl Iterator<Item = (Labels, f64)> {
        let seconds = |at: Option<Timestamp>| at.map_or(0.0, Timestamp::seconds);
        let times = [
            (self.key.series(PUSH_TIME), seconds(self.pushed_at)),
            (self.key.series(PUSH_FAILURE_TIME), seconds(self.refused_at)),
        ];
        let pushed = self.families.values().flat_map(|family| &family.series);
        let pushed = pushed.map(|series| (series.labels(), series.value));
        times.into_iter().chain(pushed)
    }

    fn describe(&self, batch: &mut Batch) {
        let metadata = |family: &Family| MetricMetadata {
            kind: family.kind,
            help: family.help.clone(),
            unit: family.unit.clone(),
        };
        let families = self.families.iter();
        let families = families.map(|(name, family)| (name.clone(), metadata(family)));
        batch.metadata.extend(families);
        for (name, help) in [
            (PUSH_TIME, "When a group was last pushed to."),
            (
                PUSH_FAILURE_TIME,
                "When a push to a group was last refused.",
            ),
        ] {
            let metadata = MetricMetadata {
                kind: MetricKind::Gauge,
                help: help.to_owned(),
                unit: "seconds".to_owned(),
            };
            batch.metadata.push((name.to_owned(), metadata));
        }
    }
}

impl Groups {
    pub fn open(
        reader: Reader,
        writer: Writer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, store::Error> {
        let groups = Self {
            held: Arc::new(Mutex::new(Held::load(&reader)?)),
            reader,
            writer,
            clock,
        };
        Ok(groups)
    }

    /// Takes a push; answers what the store made of its samples.
    pub fn push(
        &self,
        method: Method,
        key: GroupKey,
        format: Format,
        body: &[u8],
    ) -> Result<Written, Error> {
        // Before anybody is kept waiting. A text that cannot be read is nothing that a group could say.
        let pushed = family::parse(format, body, &key);
        if let Err(Refused::Syntax(error)) = pushed {
            return Err(Refused::from(error).into());
        }
        let mut held = self.turn()?;
        let at = held.time(&key, self.clock.now());
        let before = held.groups.get(&key);
        let mut after = before.cloned().unwrap_or_else(|| Group::new(key.clone()));
        let pushed = pushed.and_then(|pushed| {
            held.check(&key, &pushed)?;
            Ok(pushed)
        });
        match pushed {
            Ok(pushed) => {
                if method == Method::Replace {
                    after.families.clear();
                }
                after.families.extend(pushed);
                after.pushed_at = Some(at);
                Ok(self.commit(&mut held, key, Some(after), at)?)
            }
            Err(refused) => {
                if before.is_some() || held.groups.len() < GROUPS_MAX {
                    after.refused_at = Some(at);
                    self.commit(&mut held, key, Some(after), at)?;
                }
                Err(refused.into())
            }
        }
    }

    /// Ends a group; one that is not there is ended already.
    pub fn delete(&self, key: GroupKey) -> Result<(), Error> {
        let mut held = self.turn()?;
        if held.groups.contains_key(&key) {
            let at = held.time(&key, self.clock.now());
            self.commit(&mut held, key, None, at)?;
        }
        Ok(())
    }

    /// Writes the value of every series, changed or not.
    pub fn tick(&self) -> Result<(), store::Error> {
        let mut held = self.turn()?;
        if held.groups.is_empty() {
            return Ok(());
        }
        let held = &mut *held;
        let now = self.clock.now();
        held.written_at
            .retain(|key, at| *at >= now || held.groups.contains_key(key));
        let mut batch = Batch::default();
        for (key, group) in &held.groups {
            let at = time_after(held.written_at.get(key), now);
            held.written_at.insert(key.clone(), at);
            for (labels, value) in group.series() {
                batch.push(labels, Sample::new(at, value));
            }
        }
        let written = self.writer.write_blocking(batch)?;
        complain(&written);
        Ok(())
    }

    fn turn(&self) -> Result<MutexGuard<'_, Held>, store::Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_doubtful {
            let loaded = Held::load(&self.reader)?;
            let written_at = std::mem::take(&mut held.written_at);
            *held = Held {
                written_at,
                ..loaded
            };
        }
        Ok(held)
    }

    /// Writes what becomes of a group, its samples and the ends of series that it no longer has.
    fn commit(
        &self,
        held: &mut Held,
        key: GroupKey,
        after: Option<Group>,
        at: Timestamp,
    ) -> Result<Written, store::Error> {
        let mut batch = Batch::default();
        let mut ended: BTreeMap<Labels, f64> = BTreeMap::new();
        if let Some(before) = held.groups.get(&key) {
            ended.extend(before.series());
        }
        match &after {
            Some(group) => {
                group.describe(&mut batch);
                for (labels, value) in group.series() {
                    ended.remove(&labels);
                    batch.push(labels, Sample::new(at, value));
                }
                batch.mutations.push(GROUPS.put(key.bytes(), group));
            }
            None => batch.mutations.push(GROUPS.remove(key.bytes())),
        }
        for labels in ended.into_keys() {
            batch.push(labels, Sample::new(at, STALE_NAN));
        }
        held.is_doubtful = true;
        let written = self.writer.write_blocking(batch)?;
        held.is_doubtful = false;
        held.replace(key, after);
        complain(&written);
        Ok(written)
    }
}

fn complain(written: &Written) {
    if let Some(first) = &written.first_rejection {
        tracing::warn!(
            rejected = written.rejected,
            series = %first.labels,
            reason = %first.reason,
            "samples of pushed metrics were refused"
        );
    }
}

impl Held {
    fn load(reader: &Reader) -> Result<Self, store::Error> {
        let records = reader.snapshot()?.records(&GROUPS, None, usize::MAX)?;
        let mut held = Self::default();
        for (_, group) in records {
            held.replace(group.key.clone(), Some(group));
        }
        Ok(held)
    }

    /// The time of a group's next samples.
    fn time(&mut self, key: &GroupKey, now: Timestamp) -> Timestamp {
        let at = time_after(self.written_at.get(key), now);
        self.written_at.insert(key.clone(), at);
        at
    }

    fn replace(&mut self, key: GroupKey, group: Option<Group>) {
        if let Some(before) = self.groups.remove(&key) {
            for (labels, _) in before.series() {
                self.owners.remove(&labels);
            }
        }
        let Some(group) = group else {
            return;
        };
        let series = group.series().map(|(labels, _)| (labels, key.clone()));
        self.owners.extend(series);
        self.groups.insert(key, group);
    }

    /// Refuses what contradicts the other groups.
    fn check(&self, key: &GroupKey, pushed: &Families) -> Result<(), Refused> {
        if !self.groups.contains_key(key) && self.groups.len() >= GROUPS_MAX {
            return Err(Refused::TooManyGroups);
        }
        for (name, family) in pushed {
            let others = self.groups.values().filter(|group| group.key != *key);
            let known = others
                .filter_map(|group| Some((group, group.families.get(name)?)))
                .find(|(_, known)| known.kind != family.kind);
            if let Some((group, known)) = known {
                return Err(Refused::Kind {
                    metric: name.clone(),
                    pushed: kind_name(family.kind),
                    known: kind_name(known.kind),
                    other: group.key.shown(),
                });
            }
            for series in &family.series {
                let labels = series.labels();
                if let Some(owner) = self.owners.get(&labels)
                    && owner != key
                {
                    return Err(Refused::Elsewhere {
                        series: labels,
                        other: owner.shown(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The present, unless samples of that time may be there.
fn time_after(last: Option<&Timestamp>, now: Timestamp) -> Timestamp {
    last.map_or(now, |last| now.max(last.offset_ms(1)))
}

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Summary => "summary",
        MetricKind::Unknown => "metric without a type",
    }
}

/// Writes the groups on the grid until the shutdown begins.
pub async fn run(groups: Groups, health: Health, shutdown: Shutdown) {
    const PART: &str = "push";
    loop {
        let now_ms = groups.clock.now().ms();
        let grid_ms = GRID.as_millis() as i64;
        let wait_ms = grid_ms - now_ms.rem_euclid(grid_ms);
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())) => {}
        }
        let ticking = groups.clone();
        match tokio::task::spawn_blocking(move || ticking.tick()).await {
            Ok(Ok(())) => health.set(PART, State::Ok, ""),
            Ok(Err(error)) => {
                tracing::warn!(%error, "pushed metrics were not written again");
                health.set(PART, State::Degraded, error.to_string());
            }
            Err(error) => {
                tracing::error!(%error, "pushed metrics were not written again");
                health.set(PART, State::Failed, error.to_string());
            }
        }
    }
}
