//! Rules over stored history: what they would have told, had they been in force then.
//!
//! What the rules read is copied into a store of its own, which is thrown away afterwards; there they
//! are evaluated step by step exactly as in life, each seeing what those before it wrote. The directory
//! itself is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::open;
use crate::alert::Pairs;
use crate::alert::rule::{Ground, Group, Kind, Set, State, vector};
use crate::detect::anomaly::{ANOMALIES, Anomaly};
use crate::model::{
    Batch, Column, Labels, METRIC_NAME, ManualClock, Matcher, Sample, SeriesSamples, TimeRange,
    Timestamp,
};
use crate::promql::{self, Engine, Limits, QueryOptions};
use crate::store::{Options, Snapshot, Store};

/// Samples handed over at once.
const BATCH_SAMPLES: usize = 100_000;
/// Records read at once.
const PAGE: usize = 1_000;
/// How far beyond its last sample the copy may hold samples of rules.
const AHEAD: Duration = Duration::from_secs(3_600);

/// A time in which an alert would have fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub name: String,
    pub severity: String,
    pub labels: Pairs,
    /// As it was told first.
    pub summary: String,
    pub from: Timestamp,
    /// `None`: it fired still at the end.
    pub to: Option<Timestamp>,
    /// The highest value of its expression meanwhile.
    pub peak: f64,
}

/// What a replay found.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// In the order of their beginning.
    pub pages: Vec<Page>,
    /// Those that were opened in the range.
    pub anomalies: Vec<Anomaly>,
    pub rules: usize,
    pub evaluations: usize,
    /// Rules that could not always be evaluated, with the first reason.
    pub failures: BTreeMap<String, String>,
}

/// Evaluates rules over a range of a directory's history; `progress` gets the time and how many
/// evaluations there were.
pub fn replay(
    data: &Path,
    set: Set,
    every: Duration,
    limits: Limits,
    range: TimeRange,
    mut progress: impl FnMut(Timestamp, usize),
) -> anyhow::Result<Replayed> {
    let groups: Vec<Group> = set
        .groups
        .into_iter()
        .map(|spec| Group::new(Arc::new(spec), every))
        .collect();
    let scratch = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(range.end().after(AHEAD)));
    let copy = Store::open(scratch.path(), scratch_options(), clock.clone())?;
    let history = open(data)?;
    let mut replayed = Replayed::default();
    {
        let snapshot = history.reader().snapshot()?;
        copy_history(&snapshot, &copy, &groups, range, &limits)?;
        replayed.anomalies = anomalies(&snapshot, range)?;
    }
    history.close()?;
    let engine = Engine::new(copy.reader(), limits);
    let mut replay = Replay {
        engine: &engine,
        copy: &copy,
        clock: &clock,
        open: BTreeMap::new(),
        replayed,
    };
    replay.run(groups, range, &mut progress);
    let replayed = replay.finish();
    drop(engine);
    copy.close()?;
    Ok(replayed)
}

/// Nothing is refused: what is copied was stored once.
fn scratch_options() -> Options {
    Options {
        retention: None,
        memory_bytes_max: 4 << 30,
        series_max: usize::MAX,
        disk_free_percent_min: 0,
        listen: None,
    }
}

/// Copies what the rules read: up to the end of the range, and from as far before its start as any of
/// them looks back. Series that the rules write themselves are copied up to the start only.
fn copy_history(
    snapshot: &Snapshot,
    copy: &Store,
    groups: &[Group],
    range: TimeRange,
    limits: &Limits,
) -> anyhow::Result<()> {
    let rules: Vec<_> = groups
        .iter()
        .flat_map(|group| group.spec.rules.iter().map(move |rule| (group, rule)))
        .collect();
    let mut written: BTreeSet<&str> = BTreeSet::from(["ALERTS", "ALERTS_FOR_STATE"]);
    let mut reach = Some(Duration::ZERO);
    for (group, rule) in &rules {
        if rule.kind == Kind::Recording {
            written.insert(&rule.name);
        }
        let of_rule = rule.reach.map(|reach| reach + group.spec.query_offset);
        reach = reach
            .zip(of_rule)
            .map(|(known, of_rule)| known.max(of_rule));
    }
    let start = reach.map_or(Timestamp::MIN, |reach| {
        range.start().before(reach + limits.lookback)
    });
    let span = TimeRange::new(start, range.end()).unwrap_or(range);
    let mut seen: BTreeSet<Labels> = BTreeSet::new();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut batch = Batch::default();
    for matchers in rules.iter().flat_map(|(_, rule)| &rule.selectors) {
        let text: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
        if !asked.insert(text.join(",")) {
            continue;
        }
        for column in snapshot.select(matchers, span, limits.samples_max)? {
            if !seen.insert(column.labels.clone()) {
                continue;
            }
            let own = written.contains(column.labels.value(METRIC_NAME));
            batch
                .samples
                .push(series(&column, own.then_some(range.start())));
            if batch.sample_count() >= BATCH_SAMPLES {
                copy.writer().write_blocking(std::mem::take(&mut batch))?;
            }
        }
    }
    if !batch.is_empty() {
        copy.writer().write_blocking(batch)?;
    }
    Ok(())
}

/// The samples of a column before a point in time, or all of them.
fn series(column: &Column, before: Option<Timestamp>) -> SeriesSamples {
    let samples = column.timestamps.iter().zip(&column.values);
    SeriesSamples {
        labels: column.labels.clone(),
        samples: samples
            .filter(|(at, _)| before.is_none_or(|before| **at < before))
            .map(|(at, value)| Sample::new(*at, *value))
            .collect(),
    }
}

fn anomalies(snapshot: &Snapshot, range: TimeRange) -> anyhow::Result<Vec<Anomaly>> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.records(&ANOMALIES, after.as_deref(), PAGE)?;
        after = page.last().map(|(key, _)| key.clone());
        if after.is_none() {
            return Ok(found);
        }
        let opened = page.into_iter().map(|(_, anomaly)| anomaly);
        found.extend(opened.filter(|anomaly| range.contains(anomaly.opened_at)));
    }
}

/// An alert that fires: which group's, which rule's, with which labels.
type Place = (usize, usize, Labels);

struct Replay<'a> {
    engine: &'a Engine,
    copy: &'a Store,
    clock: &'a ManualClock,
    open: BTreeMap<Place, Page>,
    replayed: Replayed,
}

impl Replay<'_> {
    fn run(
        &mut self,
        groups: Vec<Group>,
        range: TimeRange,
        progress: &mut impl FnMut(Timestamp, usize),
    ) {
        self.replayed.rules = groups.iter().map(|group| group.members.len()).sum();
        let mut due: Vec<(Timestamp, Group)> = groups
            .into_iter()
            .map(|group| (range.start(), group))
            .collect();
        loop {
            let next = due.iter().map(|(at, _)| *at).min();
            let Some(at) = next.filter(|at| *at <= range.end()) else {
                return;
            };
            for (index, (due_at, group)) in due.iter_mut().enumerate() {
                if *due_at == at {
                    self.step(index, group, at);
                    *due_at = at.after(group.interval);
                }
            }
            progress(at, self.replayed.evaluations);
        }
    }

    fn step(&mut self, index: usize, group: &mut Group, at: Timestamp) {
        let options = QueryOptions::default();
        let query = |query: &str, at: Timestamp| -> Result<_, promql::Error> {
            vector(self.engine, query, at, &options)
        };
        let writer = self.copy.writer();
        let write = |batch: Batch| writer.write_blocking(batch);
        let ground = Ground {
            query: &query,
            write: &write,
            clock: self.clock,
            external_url: "",
        };
        let evaluation = group.evaluate(at, &ground);
        self.replayed.evaluations += evaluation.rules;
        for (rule, reason) in evaluation.failures {
            self.replayed.failures.entry(rule).or_insert(reason);
        }
        for (member_index, member) in group.members.iter().enumerate() {
            for (labels, alert) in &member.alerts {
                let place = (index, member_index, labels.clone());
                match alert.state {
                    State::Firing => {
                        let page = self.open.entry(place).or_insert_with(|| begin(alert, at));
                        page.peak = page.peak.max(alert.value);
                    }
                    State::Resolved => {
                        if let Some(mut page) = self.open.remove(&place) {
                            page.to = alert.resolved_at;
                            self.replayed.pages.push(page);
                        }
                    }
                    State::Pending => {}
                }
            }
        }
    }

    fn finish(self) -> Replayed {
        let mut replayed = self.replayed;
        replayed.pages.extend(self.open.into_values());
        replayed
            .pages
            .sort_by(|a, b| (a.from, &a.name, &a.labels).cmp(&(b.from, &b.name, &b.labels)));
        replayed
    }
}

fn begin(alert: &crate::alert::rule::Active, at: Timestamp) -> Page {
    let told = alert.to_alert("");
    let labels = told.map(|told| told.labels).unwrap_or_default();
    let of = |pairs: &Pairs, name: &str| pairs.get(name).cloned().unwrap_or_default();
    Page {
        name: of(&labels, "alertname"),
        severity: of(&labels, "severity"),
        summary: of(&alert.annotations, "summary"),
        from: alert.fired_at.unwrap_or(at),
        to: None,
        peak: alert.value,
        labels,
    }
}
