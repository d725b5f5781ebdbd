//! The life of an alert: pending, firing, resolved. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Alerting;
use crate::alert::{Alert, Pairs};
use crate::model::{Labels, Timestamp};

/// How long an alert that is over is kept and said again.
pub(super) const RESOLVED_KEPT: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was firing and is over.
    Resolved,
    /// Its expression holds, not yet for as long as `for` says.
    Pending,
    Firing,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolved => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule; its labels, `alertname` among them, are its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    pub labels: Labels,
    pub annotations: Pairs,
    pub state: State,
    /// What the expression gave last.
    pub value: f64,
    /// When the expression began to hold.
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    /// Since when only `keep_firing_for` keeps it.
    pub keep_firing_since: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
}

/// What an evaluation found of one alert.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) labels: Labels,
    pub(super) annotations: Pairs,
    pub(super) value: f64,
}

pub(super) type Alerts = BTreeMap<Labels, Active>;

/// The alerts after an evaluation that found exactly these.
pub(super) fn advance(
    alerts: &Alerts,
    found: BTreeMap<Labels, Found>,
    terms: &Alerting,
    at: Timestamp,
) -> Alerts {
    let mut next = alerts.clone();
    for (labels, alert) in &mut next {
        if !found.contains_key(labels) {
            alert.miss(terms, at);
        }
    }
    next.retain(|labels, alert| found.contains_key(labels) || alert.is_kept(at));
    for (labels, found) in found {
        let alert = next
            .entry(labels)
            .and_modify(|alert| alert.meet(&found, at))
            .or_insert_with(|| Active::begin(&found, at));
        alert.ripen(terms, at);
    }
    next
}

impl Active {
    fn begin(found: &Found, at: Timestamp) -> Self {
        Self {
            labels: found.labels.clone(),
            annotations: found.annotations.clone(),
            state: State::Pending,
            value: found.value,
            active_at: at,
            fired_at: None,
            keep_firing_since: None,
            resolved_at: None,
        }
    }

    /// The expression holds.
    fn meet(&mut self, found: &Found, at: Timestamp) {
        if self.state == State::Resolved {
            *self = Self::begin(found, at);
            return;
        }
        self.value = found.value;
        self.annotations.clone_from(&found.annotations);
        self.keep_firing_since = None;
    }

    /// The expression does not hold.
    fn miss(&mut self, terms: &Alerting, at: Timestamp) {
        if self.state != State::Firing {
            return;
        }
        if !terms.keep_firing_for.is_zero() {
            let since = *self.keep_firing_since.get_or_insert(at);
            if at.since(since) < terms.keep_firing_for {
                return;
            }
        }
        self.resolve(at);
    }

    pub(super) fn resolve(&mut self, at: Timestamp) {
        self.state = State::Resolved;
        self.resolved_at = Some(at);
    }

    /// Whether an alert that was not found is still of interest.
    pub(super) fn is_kept(&self, at: Timestamp) -> bool {
        match self.state {
            // What never fired is not over either.
            State::Pending => false,
            State::Firing => true,
            State::Resolved => self
                .resolved_at
                .is_some_and(|resolved_at| at.since(resolved_at) <= RESOLVED_KEPT),
        }
    }

    fn ripen(&mut self, terms: &Alerting, at: Timestamp) {
        if self.state == State::Pending && at.since(self.active_at) >= terms.hold {
            self.state = State::Firing;
            self.fired_at = Some(at);
        }
    }

    /// What is said of it to those who tell; nothing while it is pending.
    pub fn to_alert(&self, generator_url: &str) -> Option<Alert> {
        let pairs = self.labels.iter();
        Some(Alert {
            labels: pairs
                .map(|label| (label.name.to_string(), label.value.to_string()))
                .collect(),
            annotations: self.annotations.clone(),
            starts_at: self.fired_at?,
            ends_at: self.resolved_at,
            generator_url: generator_url.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [(&str, &str); 2] = [("alertname", "Lag"), ("table", "orders")];

    fn terms(hold_s: u64, keep_s: u64) -> Alerting {
        Alerting {
            hold: Duration::from_secs(hold_s),
            keep_firing_for: Duration::from_secs(keep_s),
            labels: Vec::new(),
            annotations: Vec::new(),
        }
    }

    /// The state after each minute in which the expression held (`x`) or did not (`.`); `-` is no alert.
    fn timeline(terms: &Alerting, minutes: &str) -> String {
        let labels = Labels::try_from_pairs(LABELS).unwrap();
        let mut alerts = Alerts::new();
        let step = |(minute, holds): (usize, char)| {
            let at = Timestamp::from_ms(minute as i64 * 60_000);
            let found = (holds == 'x').then(|| {
                let found = Found {
                    labels: labels.clone(),
                    annotations: Pairs::new(),
                    value: minute as f64,
                };
                (labels.clone(), found)
            });
            alerts = advance(&alerts, found.into_iter().collect(), terms, at);
            match alerts.values().next().map(|alert| alert.state) {
                None => '-',
                Some(State::Pending) => 'p',
                Some(State::Firing) => 'F',
                Some(State::Resolved) => 'r',
            }
        };
        minutes.chars().enumerate().map(step).collect()
    }

    #[test]
    fn an_alert_fires_once_its_expression_held_long_enough() {
        assert_eq!(timeline(&terms(0, 0), ".x."), "-Fr");
        assert_eq!(timeline(&terms(120, 0), "xxxx.x"), "ppFFrp");
        // Shorter than a step: the next one that finds it.
        assert_eq!(timeline(&terms(61, 0), "xxx"), "ppF");
    }

    #[test]
    fn pending_starts_anew_after_a_miss_and_leaves_nothing_behind() {
        assert_eq!(timeline(&terms(120, 0), "xx.xxx"), "pp-ppF");
    }

    #[test]
    fn firing_is_kept_for_as_long_as_it_says() {
        // Missed at 1, 2 and 3: kept until 120 s after the first miss.
        assert_eq!(timeline(&terms(0, 120), "x...."), "FFFrr");
        assert_eq!(timeline(&terms(0, 120), "x.x..."), "FFFFFr");
        // Only what fires is kept.
        assert_eq!(timeline(&terms(120, 120), "xx.x"), "pp-p");
    }

    #[test]
    fn what_is_over_is_kept_for_a_quarter_of_an_hour() {
        let minutes = format!("x{}", ".".repeat(17));
        assert_eq!(
            timeline(&terms(0, 0), &minutes),
            format!("F{}-", "r".repeat(16))
        );
        assert_eq!(timeline(&terms(60, 0), "xx.xx"), "pFrpF");
    }

    #[test]
    fn what_is_said_has_the_time_of_firing_and_not_of_the_first_sight() {
        let labels = Labels::try_from_pairs(LABELS).unwrap();
        let found = Found {
            labels: labels.clone(),
            annotations: Pairs::new(),
            value: 1.0,
        };
        let terms = terms(60, 0);
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1_000);
        let found: BTreeMap<_, _> = [(labels, found)].into();
        let pending = advance(&Alerts::new(), found.clone(), &terms, at(0));
        let only = |alerts: &Alerts| alerts.values().next().unwrap().to_alert("");
        assert_eq!(only(&pending), None);
        let firing = advance(&pending, found, &terms, at(60));
        assert_eq!(only(&firing).unwrap().starts_at, at(60));
        let over = advance(&firing, BTreeMap::new(), &terms, at(90));
        let said = only(&over).unwrap();
        assert_eq!((said.starts_at, said.ends_at), (at(60), Some(at(90))));
        assert_eq!(said.name(), "Lag");
    }
}
