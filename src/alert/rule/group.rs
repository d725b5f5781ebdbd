//! One group: its rules in order, each seeing what those before it wrote.
//!
//! Reads and writes through a [`Ground`], so that the same evaluation runs on the live store, on a replay
//! and in tests. A rule whose results were not written stays as it was before it was evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::record::{self, Kept};
use super::state::{self, Active, Alerts, Found, State};
use super::{Alerting, Error, Kind, Rule, Spec};
use crate::alert::Pairs;
use crate::alert::template::Data;
use crate::model::{
    Batch, Clock, Labels, LabelsBuilder, METRIC_NAME, STALE_NAN, Sample, Timestamp,
};
use crate::promql::{self, VectorSample};
use crate::store::{self, Written};

pub(super) const ALERTS: &str = "ALERTS";
const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";

/// What a group is evaluated on.
pub struct Ground<'a> {
    pub query: &'a dyn Fn(&str, Timestamp) -> Result<Vec<VectorSample>, promql::Error>,
    pub write: &'a dyn Fn(Batch) -> Result<Written, store::Error>,
    pub clock: &'a dyn Clock,
    /// `$externalURL`.
    pub external_url: &'a str,
}

impl std::fmt::Debug for Ground<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ground").finish_non_exhaustive()
    }
}

/// A group with the state of its rules. Cloning copies the state.
#[derive(Clone, Debug)]
pub struct Group {
    pub spec: Arc<Spec>,
    pub interval: Duration,
    /// One for each rule, in their order.
    pub members: Vec<Member>,
    /// The time for which it was evaluated last.
    pub evaluated_at: Option<Timestamp>,
    /// When that was, and how long it took.
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
}

/// The state of one rule.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) number: u64,
    pub alerts: BTreeMap<Labels, Active>,
    /// What its last evaluation wrote: what is missing from the next one gets a stale marker.
    pub(super) series: BTreeSet<Labels>,
    pub health: Health,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
}

/// Whether the last evaluation of a rule worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not evaluated yet.
    Unknown,
    Ok,
    Failed(String),
}

/// What came of evaluating a group.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Rules that were evaluated.
    pub rules: usize,
    /// Those that failed, with the reason.
    pub failures: Vec<(String, String)>,
    pub samples: usize,
}

impl Group {
    pub fn new(spec: Arc<Spec>, every: Duration) -> Self {
        let mut numbers: BTreeMap<u64, usize> = BTreeMap::new();
        let members = spec.rules.iter().map(|rule| {
            let ordinal = numbers
                .entry(record::rule_number(&spec, rule, 0))
                .or_default();
            *ordinal += 1;
            Member::new(record::rule_number(&spec, rule, *ordinal - 1))
        });
        Self {
            members: members.collect(),
            interval: spec.interval.unwrap_or(every),
            spec,
            evaluated_at: None,
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
        }
    }

    /// Rules with their state.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, &Member)> {
        self.spec.rules.iter().zip(&self.members)
    }

    /// Takes the alerts up that were stored of its rules.
    pub(super) fn restore(&mut self, kept: &mut BTreeMap<u64, Vec<Kept>>, now: Timestamp) {
        for (rule, member) in self.spec.rules.iter().zip(&mut self.members) {
            let alerts = kept.remove(&member.number).unwrap_or_default().into_iter();
            let alerts = alerts.filter_map(|kept| kept.taken_up(self.interval, now));
            member.alerts = alerts.map(|alert| (alert.labels.clone(), alert)).collect();
            member.series = member.series_of_alerts(rule);
        }
    }

    /// Takes the state of rules over that are the same in a group that goes, and leaves the rest there.
    pub(super) fn take_over(&mut self, from: &mut Self) {
        self.evaluated_at = from.evaluated_at;
        self.last_evaluation = from.last_evaluation;
        self.evaluation_time = from.evaluation_time;
        for member in &mut self.members {
            let same = from
                .members
                .iter()
                .position(|it| it.number == member.number);
            if let Some(at) = same {
                *member = from.members.swap_remove(at);
            }
        }
    }

    /// Evaluates every rule for a point in time.
    pub fn evaluate(&mut self, at: Timestamp, ground: &Ground<'_>) -> Evaluation {
        let mut evaluation = Evaluation::default();
        let begun = ground.clock.monotonic();
        self.last_evaluation = Some(ground.clock.now());
        for index in 0..self.members.len() {
            let begun = ground.clock.monotonic();
            let outcome = self.evaluate_rule(index, at, ground);
            let (rule, member) = (&self.spec.rules[index], &mut self.members[index]);
            member.last_evaluation = Some(ground.clock.now());
            member.evaluation_time = ground.clock.monotonic().saturating_sub(begun);
            evaluation.rules += 1;
            member.health = match outcome {
                Ok(samples) => {
                    evaluation.samples += samples;
                    Health::Ok
                }
                Err(error) => {
                    let reason = error.to_string();
                    evaluation
                        .failures
                        .push((rule.name.clone(), reason.clone()));
                    Health::Failed(reason)
                }
            };
        }
        self.evaluated_at = Some(at);
        self.evaluation_time = ground.clock.monotonic().saturating_sub(begun);
        evaluation
    }

    /// Answers how many samples were written.
    fn evaluate_rule(
        &mut self,
        index: usize,
        at: Timestamp,
        ground: &Ground<'_>,
    ) -> Result<usize, Error> {
        let rule = &self.spec.rules[index];
        let member = &mut self.members[index];
        // What a rule reads is as old as it writes.
        let read_at = at.before(self.spec.query_offset);
        let found = (ground.query)(&rule.query, read_at)?;
        let limit = self.spec.limit;
        let (alerts, samples, failure) = match &rule.kind {
            Kind::Recording => (Alerts::new(), recorded(rule, found, limit)?, None),
            Kind::Alerting(alerting) => {
                let found = alerts_of(rule, alerting, found, ground.external_url)?;
                let mut alerts = state::advance(&member.alerts, found, alerting, at);
                let failure = within_limit(&mut alerts, limit, at);
                let samples = samples_of(alerts.values());
                (alerts, samples, failure)
            }
        };
        let series: BTreeSet<Labels> = samples.iter().map(|(labels, _)| labels.clone()).collect();
        let mut batch = Batch::default();
        let count = samples.len();
        for (labels, value) in samples {
            batch.push(labels, Sample::new(read_at, value));
        }
        for gone in member.series.difference(&series) {
            batch.push(gone.clone(), Sample::new(read_at, STALE_NAN));
        }
        batch.mutations = record::changes(member.number, &member.alerts, &alerts, at);
        let refused = if batch.is_empty() {
            None
        } else {
            (ground.write)(batch)?.first_rejection
        };
        (member.alerts, member.series) = (alerts, series);
        match (failure, refused) {
            (Some(failure), _) => Err(failure),
            (None, Some(refused)) => Err(Error::Result(format!(
                "{} is not written: {}",
                refused.labels, refused.reason
            ))),
            (None, None) => Ok(count),
        }
    }
}

impl Member {
    fn new(number: u64) -> Self {
        Self {
            number,
            alerts: BTreeMap::new(),
            series: BTreeSet::new(),
            health: Health::Unknown,
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
        }
    }

    /// The strongest state of its alerts; `None` when nothing holds.
    pub fn state(&self) -> Option<State> {
        let states = self.alerts.values().map(|alert| alert.state);
        states.filter(|state| *state != State::Resolved).max()
    }

    fn series_of_alerts(&self, rule: &Rule) -> BTreeSet<Labels> {
        match rule.kind {
            Kind::Recording => BTreeSet::new(),
            Kind::Alerting(_) => samples_of(self.alerts.values())
                .into_iter()
                .map(|(labels, _)| labels)
                .collect(),
        }
    }
}

/// The series that a recording rule writes.
fn recorded(
    rule: &Rule,
    found: Vec<VectorSample>,
    limit: usize,
) -> Result<Vec<(Labels, f64)>, Error> {
    let mut samples = BTreeMap::new();
    for sample in found {
        let mut labels = LabelsBuilder::from(&sample.labels);
        labels.set(METRIC_NAME, &*rule.name);
        for (name, value) in &rule.labels {
            labels.set(name, &**value);
        }
        let labels = labels.build();
        if let Some(_twin) = samples.insert(labels.clone(), sample.sample.value) {
            return Err(Error::Result(format!(
                "two series have the same labels once those of the rule are applied: {labels}"
            )));
        }
    }
    if limit > 0 && samples.len() > limit {
        let found = samples.len();
        return Err(Error::Result(format!(
            "exceeded limit of {limit} with {found} series"
        )));
    }
    Ok(samples.into_iter().collect())
}

/// The alerts that an expression's samples are, each once.
fn alerts_of(
    rule: &Rule,
    alerting: &Alerting,
    found: Vec<VectorSample>,
    external_url: &str,
) -> Result<BTreeMap<Labels, Found>, Error> {
    let mut alerts = BTreeMap::new();
    for sample in found {
        let value = sample.sample.value;
        let data = Data {
            labels: &sample.labels,
            value,
            external_url,
        };
        let mut labels = LabelsBuilder::from(&sample.labels);
        labels.remove(METRIC_NAME);
        for (name, template) in &alerting.labels {
            labels.set(name, template.expand_or_tell(data));
        }
        labels.set(ALERT_NAME, &*rule.name);
        let labels = labels.build();
        let annotations: Pairs = alerting
            .annotations
            .iter()
            .map(|(name, template)| (name.clone(), template.expand_or_tell(data)))
            .collect();
        let found = Found {
            labels: labels.clone(),
            annotations,
            value,
        };
        if let Some(twin) = alerts.insert(labels, found) {
            return Err(Error::Result(format!(
                "two alerts have the same labels once those of the rule are applied: {}",
                twin.labels
            )));
        }
    }
    Ok(alerts)
}

/// More alerts than the group allows are none, as in Prometheus; those that were told are over.
fn within_limit(alerts: &mut Alerts, limit: usize, at: Timestamp) -> Option<Error> {
    let is_active = |alert: &&Active| alert.state != State::Resolved;
    let found = alerts.values().filter(is_active).count();
    if limit == 0 || found <= limit {
        return None;
    }
    alerts.retain(|_, alert| match alert.state {
        State::Pending => false,
        State::Firing => {
            alert.resolve(at);
            alert.fired_at != Some(at)
        }
        State::Resolved => true,
    });
    Some(Error::Result(format!(
        "exceeded limit of {limit} with {found} alerts"
    )))
}

/// The series that tell of alerts which are pending or firing.
fn samples_of<'a>(alerts: impl Iterator<Item = &'a Active>) -> Vec<(Labels, f64)> {
    let mut samples = Vec::new();
    for alert in alerts.filter(|alert| alert.state != State::Resolved) {
        let mut labels = LabelsBuilder::from(&alert.labels);
        labels.set(METRIC_NAME, ALERTS_FOR_STATE);
        let seconds = alert.active_at.ms().div_euclid(1_000);
        samples.push((labels.clone().build(), seconds as f64));
        labels.set(METRIC_NAME, ALERTS);
        labels.set(ALERT_STATE, alert.state.name());
        samples.push((labels.build(), 1.0));
    }
    samples
}
