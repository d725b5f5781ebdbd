//! An Alertmanager, or several of one cluster: alerts are posted to its API, version 2.
//!
//! All of them are told, and it is enough that one takes it: what that one has, they share. Alertmanager
//! drops an alert that is not said again, while the dispatcher says one again only after its
//! `repeat_interval`. So an alert that fires is given an end of three such intervals from now: two may be lost
//! before it goes out there, and should `cutover` be gone for good, it goes out after that time. One that is
//! over is given its end.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};

use super::address::{self, Address};
use super::config::Connection;
use super::http::Http;
use super::{Error, text};
use crate::alert::{Alert, Notification, Pairs};
use crate::model::Timestamp;
use crate::net::secret::Secret;

const ALERTS_PATH: &str = "/api/v2/alerts";
/// How many times the interval of repetition an alert is good for.
const INTERVALS: u32 = 3;

/// `type = "alertmanager"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Each member of the cluster, as `http://host:9093` with the path of its prefix if it has one.
    #[serde(serialize_with = "shown")]
    pub urls: Vec<Secret>,
}

/// Of each only what is no secret: a proxy in front may have one in its path.
fn shown<S: serde::Serializer>(urls: &[Secret], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(address::redact))
}

impl Config {
    fn addresses(&self) -> Result<Vec<Address>, String> {
        if self.urls.is_empty() {
            return Err("urls is empty: name one, such as \"http://localhost:9093\"".to_owned());
        }
        let address = |url: &Secret| Address::parse(url.expose())?.below(ALERTS_PATH);
        let addresses: Option<Vec<_>> = self.urls.iter().map(address).collect();
        addresses.ok_or_else(|| {
            "urls holds what is not an address that begins with http:// or https://".to_owned()
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.addresses().map(drop)
    }
}

#[derive(Debug)]
pub(super) struct Alertmanager {
    http: Http,
    addresses: Vec<Address>,
    /// How long an alert fires over there if it is not said again.
    good_for: Duration,
}

impl Alertmanager {
    pub(super) fn new(
        config: &Config,
        connection: &Connection,
        repeat_interval: Duration,
    ) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(connection)?,
            addresses: config.addresses()?,
            good_for: repeat_interval.saturating_mul(INTERVALS),
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let until = notification.at.after(self.good_for);
        let alerts = notification.alerts.iter();
        let alerts: Vec<_> = alerts.map(|alert| PostedAlert::new(alert, until)).collect();
        let body = serde_json::to_vec(&alerts).expect("texts become JSON");
        let mut outcomes = Vec::new();
        for address in &self.addresses {
            let posting = self.http.post(address, HeaderMap::new(), body.clone(), &[]);
            outcomes.push(posting.await.and_then(|answer| {
                let accepted = answer.accepted()?;
                Ok(format!("{address} {accepted}"))
            }));
        }
        any_took_it(outcomes)
    }
}

/// What several answered, as one: a success if one took it, else the error that gives most hope.
fn any_took_it(outcomes: Vec<Result<String, Error>>) -> Result<String, Error> {
    let (taken, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let errors: Vec<Error> = refused.into_iter().filter_map(Result::err).collect();
    let reasons: Vec<String> = errors.iter().map(Error::to_string).collect();
    let reasons = reasons.join("; ");
    if !taken.is_empty() {
        if !reasons.is_empty() {
            tracing::warn!("one of several took the alerts, others did not: {reasons}");
        }
        let taken: Vec<String> = taken.into_iter().filter_map(Result::ok).collect();
        return Ok(taken.join("; "));
    }
    let waits = errors.iter().filter_map(|error| match error {
        Error::Later { retry_after, .. } => Some(*retry_after),
        Error::Never { .. } => None,
    });
    match waits.min() {
        Some(retry_after) => Err(Error::Later {
            reason: reasons,
            retry_after,
        }),
        None => Err(Error::never(reasons)),
    }
}

/// An alert as the API takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert<'a> {
    /// A label without a value is none, there as here, but is refused there.
    #[serde(serialize_with = "with_values")]
    labels: &'a Pairs,
    annotations: &'a Pairs,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn with_values<S: serde::Serializer>(labels: &&Pairs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().filter(|(_, value)| !value.is_empty()))
}

impl<'a> PostedAlert<'a> {
    fn new(alert: &'a Alert, until: Timestamp) -> Self {
        // An end before the start would be refused.
        let ends_at = alert.ends_at.unwrap_or(until).max(alert.starts_at);
        Self {
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: text::rfc3339(alert.starts_at),
            ends_at: text::rfc3339(ends_at),
            generator_url: &alert.generator_url,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{alert, notification};
    use super::*;

    #[test]
    fn an_alert_that_fires_is_given_an_end_that_is_far_away() {
        let all = notification();
        let until = all.at.after(Duration::from_secs(12 * 3_600));
        let posted = |alert: &Alert| serde_json::to_value(PostedAlert::new(alert, until)).unwrap();
        let expected = json!({
            "labels": {
                "alertname": "high_error_rate", "migration_id": "shop", "severity": "critical",
                "table": "orders",
            },
            "annotations": {
                "summary": "2.3 % of rows fail", "description": "Most of them are duplicate keys.",
            },
            "startsAt": "2026-11-26T03:00:00.000Z",
            "endsAt": "2026-11-26T15:05:00.000Z",
            "generatorURL": "http://cutover:9490/graph?a=1",
        });
        assert_eq!(posted(&all.alerts[0]), expected);
        assert_eq!(posted(&all.alerts[2])["endsAt"], "2026-11-26T03:04:00.000Z");
        let odd = alert("a", "", Some(Timestamp::EPOCH));
        let odd_posted = posted(&odd);
        assert_eq!(odd_posted["endsAt"], odd_posted["startsAt"]);
        assert_eq!(odd_posted["labels"].get("severity"), None);
        assert_eq!(odd_posted.get("generatorURL"), None);
        let endless = Alert {
            ends_at: None,
            starts_at: Timestamp::MAX,
            ..odd.clone()
        };
        assert_eq!(posted(&endless)["endsAt"], "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn it_is_enough_that_one_takes_it() {
        let later = |seconds: Option<u64>| {
            Err(Error::Later {
                reason: "busy".to_owned(),
                retry_after: seconds.map(Duration::from_secs),
            })
        };
        let never = || Err(Error::never("wrong"));
        let taken = any_took_it(vec![never(), Ok("a 200 OK".to_owned()), later(None)]);
        assert_eq!(taken.unwrap(), "a 200 OK");
        let error = any_took_it(vec![never(), later(Some(9)), later(Some(3))]).unwrap_err();
        assert_eq!(error.to_string(), "wrong; busy; busy");
        let Error::Later { retry_after, .. } = error else {
            panic!("{error:?} gives up")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(3)));
        let error = any_took_it(vec![never(), never()]).unwrap_err();
        assert!(matches!(error, Error::Never { .. }), "{error:?}");
    }
}
