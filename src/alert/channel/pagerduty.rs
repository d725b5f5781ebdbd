//! PagerDuty's Events API v2: one event a group.
//!
//! The key by which PagerDuty tells events apart is made of the group's, so that what was triggered is
//! resolved by the same key, and a group of which only some alerts are over stays triggered. An event that is
//! sent twice is one.

use std::path::PathBuf;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use super::address::Address;
use super::config::Connection;
use super::http::{self, Http};
use super::text::{self, Level};
use crate::alert::{Alert, Notification, Status};
use crate::net::secret::{self, Secret, Source};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Characters of an integration key.
const KEY_CHARS: usize = 32;
/// Of an event: PagerDuty refuses what is larger than 512 KB.
const BODY_BYTES_MAX: usize = 512_000;
/// Alerts of an event, and links of it.
const ALERTS_MAX: usize = 100;
const LINKS_MAX: usize = 10;

/// `type = "pagerduty"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The integration key of a service's Events API v2.
    pub routing_key: Option<Secret>,
    pub routing_key_file: Option<PathBuf>,
    /// The variable of the environment that holds it.
    pub routing_key_env: Option<String>,
    /// Where events go; accounts in the EU have `https://events.eu.pagerduty.com/v2/enqueue`.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routing_key: None,
            routing_key_file: None,
            routing_key_env: None,
            url: URL.to_owned(),
        }
    }
}

impl Config {
    fn source(&self) -> Result<Option<Source>, secret::Error> {
        Source::of(
            "routing_key",
            self.routing_key.as_ref(),
            self.routing_key_file.as_ref(),
            self.routing_key_env.as_ref(),
        )
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.parts().map(drop)
    }

    pub(super) fn sources(&self) -> Result<Vec<Source>, String> {
        let key = self.source().map_err(|error| error.to_string())?;
        Ok(key.into_iter().collect())
    }

    fn parts(&self) -> Result<(Address, Source), String> {
        let source = self.source().map_err(|error| error.to_string())?;
        let source = source.ok_or("set routing_key, routing_key_file or routing_key_env")?;
        if let Source::Given(key) = &source
            && key.expose().chars().count() != KEY_CHARS
        {
            return Err(format!("routing_key does not have {KEY_CHARS} characters"));
        }
        let address = Address::parse(&self.url)
            .ok_or("url is not an address that begins with http:// or https://")?;
        Ok((address, source))
    }
}

#[derive(Debug)]
pub(super) struct PagerDuty {
    http: Http,
    address: Address,
    routing_key: Source,
}

impl PagerDuty {
    pub(super) fn new(config: &Config, connection: &Connection) -> Result<Self, String> {
        let (address, routing_key) = config.parts()?;
        Ok(Self {
            http: Http::new(connection)?,
            address,
            routing_key,
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let key = http::load(&self.routing_key)?;
        let body = body(notification, &key);
        let secrets = [&key];
        let posting = self
            .http
            .post(&self.address, HeaderMap::new(), body, &secrets);
        posting.await?.accepted()
    }
}

fn body(notification: &Notification, key: &Secret) -> Vec<u8> {
    text::fit(notification, ALERTS_MAX, BODY_BYTES_MAX, |shown| {
        event(notification, key, shown).to_string().into_bytes()
    })
}

fn event(notification: &Notification, key: &Secret, shown: usize) -> Value {
    let dedup_key = dedup_key(notification);
    let Some(level) = Level::worst(notification) else {
        return json!({
            "routing_key": key.expose(), "event_action": "resolve", "dedup_key": dedup_key,
        });
    };
    let firing = || notification.with_status(Status::Firing);
    let since = firing().map(|alert| alert.starts_at).min();
    let lines = |status| -> Vec<String> {
        let alerts = notification.alerts.iter().take(shown);
        let alerts = alerts.filter(|alert| alert.status() == status);
        alerts.map(text::one_line).collect()
    };
    let details = json!({
        "firing": lines(Status::Firing),
        "resolved": lines(Status::Resolved),
        "left_out": text::more(notification, shown),
        "labels": notification.common_labels().iter().map(|(name, value)| {
            (text::line(name, 100), text::line(value, 200))
        }).take(20).collect::<std::collections::BTreeMap<_, _>>(),
    });
    let mut event = json!({
        "routing_key": key.expose(),
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "cutover",
        "links": links(firing()),
        "payload": {
            "summary": text::title(notification),
            "source": source(notification),
            "severity": level.name(),
            "timestamp": text::rfc3339(since.unwrap_or(notification.at)),
            "class": text::line(firing().next().map_or("", Alert::name), 200),
            "custom_details": details,
        },
    });
    if !notification.external_url.is_empty() {
        event["client_url"] = json!(notification.external_url);
    }
    event
}

/// The same for all that is ever said of a group.
fn dedup_key(notification: &Notification) -> String {
    format!("cutover-{}", text::group_id(notification))
}

/// What is affected: the migration, or whatever alerts are grouped by.
fn source(notification: &Notification) -> String {
    let values = notification.group_labels.values();
    let values: Vec<&str> = values.map(String::as_str).collect();
    match text::line(&values.join(" "), 200) {
        none if none.is_empty() => "cutover".to_owned(),
        source => source,
    }
}

/// Where the expressions behind the alerts are shown.
fn links<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Vec<Value> {
    let shown = alerts.filter(|alert| Address::parse(&alert.generator_url).is_some());
    let shown = shown.filter(|alert| alert.generator_url.len() <= 2_000);
    shown
        .take(LINKS_MAX)
        .map(|alert| json!({ "href": alert.generator_url, "text": text::heading(alert) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alert, notification};
    use super::*;
    use crate::model::Timestamp;

    fn key() -> Secret {
        Secret::new("0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn a_group_is_triggered_and_resolved_under_one_key() {
        let mut all = notification();
        let trigger = event(&all, &key(), 3);
        assert_eq!(trigger["event_action"], "trigger");
        let payload = &trigger["payload"];
        let title =
            "[FIRING 2, RESOLVED 1] shop: high_error_rate (critical), low_throughput (warning)";
        assert_eq!(payload["summary"], title);
        assert_eq!(payload["source"], "shop");
        assert_eq!(payload["severity"], "critical");
        assert_eq!(payload["timestamp"], "2026-11-26T02:58:00.000Z");
        let details = &payload["custom_details"];
        assert_eq!(details["firing"].as_array().unwrap().len(), 2);
        assert_eq!(details["resolved"].as_array().unwrap().len(), 1);
        assert_eq!(
            details["labels"],
            json!({ "migration_id": "shop", "table": "orders" })
        );
        assert_eq!(trigger["client_url"], "http://cutover:9490");
        assert_eq!(trigger["links"][0]["href"], "http://cutover:9490/graph?a=1");

        for alert in &mut all.alerts {
            alert.ends_at = Some(Timestamp::from_ms(1));
        }
        all.id += 1;
        let resolve = event(&all, &key(), 3);
        let expected = json!({
            "routing_key": key().expose(), "event_action": "resolve",
            "dedup_key": trigger["dedup_key"],
        });
        assert_eq!(resolve, expected);
    }

    #[test]
    fn the_severity_is_that_of_the_worst_alert_that_fires() {
        let mut all = notification();
        let severity = |all: &Notification| event(all, &key(), 9)["payload"]["severity"].clone();
        all.alerts.remove(0);
        assert_eq!(severity(&all), "warning");
        all.alerts.push(alert("a", "page", None));
        assert_eq!(severity(&all), "error");
        all.alerts = vec![alert("a", "info", None)];
        assert_eq!(severity(&all), "info");
    }

    #[test]
    fn an_event_is_never_too_large() {
        let mut all = notification();
        let mut large = alert(&"n".repeat(10_000), "critical", None);
        let sentence = "\"ä".repeat(10_000);
        large
            .annotations
            .insert("summary".to_owned(), sentence.clone());
        large.labels.insert("table".to_owned(), sentence.clone());
        large.generator_url = format!("http://a/{}", "x".repeat(100_000));
        all.alerts = vec![large; 1_000];
        all.group_labels.insert("migration_id".to_owned(), sentence);
        let body = body(&all, &key());
        assert!(body.len() <= BODY_BYTES_MAX, "{}", body.len());
        let event: Value = serde_json::from_slice(&body).unwrap();
        let payload = &event["payload"];
        let summary = payload["summary"].as_str().unwrap();
        assert!(summary.chars().count() <= 1_024);
        assert_eq!(payload["custom_details"]["left_out"], "and 900 more alerts");
    }
}
