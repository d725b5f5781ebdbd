//! The generic webhook: the JSON that Alertmanager posts, version 4, so that what understands the one
//! understands the other.
//!
//! `Idempotency-Key` is the notification's id, 16 hexadecimal digits, the same each time it is tried.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::address::{self, Address};
use super::config::Connection;
use super::http::{self, Http};
use super::{Error, text};
use crate::alert::{Alert, Notification, Pairs, Status};
use crate::net::secret::{self, Secret, Source};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Go's zero time, which is what Alertmanager writes for an alert that is not over.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// `type = "webhook"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it is posted; may be a secret, and is treated as one.
    #[serde(serialize_with = "address::shown")]
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    /// The variable of the environment that holds it.
    pub url_env: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<PathBuf>,
    pub bearer_token_env: Option<String>,
    /// Sent with the password as `Authorization: Basic`.
    pub username: String,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    /// Alerts of one request; 0 for as many as there are.
    pub max_alerts: usize,
}

/// Who we say that we are.
#[derive(Clone, Debug)]
enum Credentials {
    None,
    Bearer(Source),
    Basic { username: String, password: Source },
}

impl Config {
    fn url(&self) -> Result<Source, String> {
        address::source(
            self.url.as_ref(),
            self.url_file.as_ref(),
            self.url_env.as_ref(),
        )
    }

    fn bearer_token(&self) -> Result<Option<Source>, secret::Error> {
        Source::of(
            "bearer_token",
            self.bearer_token.as_ref(),
            self.bearer_token_file.as_ref(),
            self.bearer_token_env.as_ref(),
        )
    }

    fn password(&self) -> Result<Option<Source>, secret::Error> {
        Source::of(
            "password",
            self.password.as_ref(),
            self.password_file.as_ref(),
            self.password_env.as_ref(),
        )
    }

    fn credentials(&self) -> Result<Credentials, String> {
        let text = |error: secret::Error| error.to_string();
        let (token, password) = (self.bearer_token(), self.password());
        match (token.map_err(text)?, password.map_err(text)?) {
            (None, None) if self.username.is_empty() => Ok(Credentials::None),
            (Some(token), None) if self.username.is_empty() => Ok(Credentials::Bearer(token)),
            (Some(_), _) => {
                Err("a bearer_token and a username are two ways to say who we are".to_owned())
            }
            (None, None) => {
                Err("username needs password, password_file or password_env".to_owned())
            }
            (None, Some(_)) if self.username.is_empty() => {
                Err("a password needs a username".to_owned())
            }
            (None, Some(password)) => Ok(Credentials::Basic {
                username: self.username.clone(),
                password,
            }),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.url()?;
        self.credentials().map(drop)
    }

    pub(super) fn sources(&self) -> Result<Vec<Source>, String> {
        let credentials = match self.credentials()? {
            Credentials::None => None,
            Credentials::Bearer(secret)
            | Credentials::Basic {
                password: secret, ..
            } => Some(secret),
        };
        Ok([self.url()?].into_iter().chain(credentials).collect())
    }
}

impl Credentials {
    /// The header's value, and the secret in it.
    fn load(&self) -> Result<Option<(HeaderValue, Secret)>, Error> {
        let (text, secret) = match self {
            Self::None => return Ok(None),
            Self::Bearer(token) => {
                let token = http::load(token)?;
                (format!("Bearer {}", token.expose()), token)
            }
            Self::Basic { username, password } => {
                let password = http::load(password)?;
                let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
                (format!("Basic {pair}"), password)
            }
        };
        Ok(Some((http::sensitive(&text)?, secret)))
    }
}

#[derive(Debug)]
pub(super) struct Webhook {
    http: Http,
    /// What Alertmanager calls the receiver.
    name: String,
    url: Source,
    credentials: Credentials,
    alerts_max: usize,
}

impl Webhook {
    pub(super) fn new(
        config: &Config,
        connection: &Connection,
        name: &str,
    ) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(connection)?,
            name: name.to_owned(),
            url: config.url()?,
            credentials: config.credentials()?,
            alerts_max: match config.max_alerts {
                0 => usize::MAX,
                max => max,
            },
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let address = Address::load(&self.url)?;
        let mut headers = HeaderMap::new();
        let id = HeaderValue::from_str(&text::hex(notification.id)).expect("digits are ASCII");
        headers.insert(IDEMPOTENCY_KEY, id);
        let mut secrets = Vec::new();
        if let Some((value, secret)) = self.credentials.load()? {
            // As it is sent: an echo of the header would show it.
            secrets.extend(
                value
                    .to_str()
                    .ok()
                    .and_then(|sent| sent.split_once(' '))
                    .map(|(_, sent)| Secret::new(sent)),
            );
            secrets.push(secret);
            headers.insert(AUTHORIZATION, value);
        }
        let secrets: Vec<&Secret> = secrets.iter().collect();
        let body = body(&Message::new(notification, &self.name, self.alerts_max));
        let answer = self.http.post(&address, headers, body, &secrets);
        answer.await?.accepted()
    }
}

fn body(message: &Message<'_>) -> Vec<u8> {
    serde_json::to_vec(message).expect("texts and numbers become JSON")
}

/// Alertmanager's message, field by field.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
    status: Status,
    receiver: &'a str,
    group_labels: &'a Pairs,
    common_labels: Pairs,
    common_annotations: Pairs,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<MessageAlert<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageAlert<'a> {
    status: Status,
    labels: &'a Pairs,
    annotations: &'a Pairs,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

impl<'a> Message<'a> {
    fn new(notification: &'a Notification, receiver: &'a str, alerts_max: usize) -> Self {
        let left_out = notification.alerts.len().saturating_sub(alerts_max);
        let alerts = notification.alerts.iter().take(alerts_max);
        Self {
            version: "4",
            group_key: &notification.group_key,
            truncated_alerts: notification.alerts_truncated + left_out,
            status: notification.status(),
            receiver,
            group_labels: &notification.group_labels,
            common_labels: notification.common_labels(),
            common_annotations: notification.common_annotations(),
            external_url: &notification.external_url,
            alerts: alerts.map(MessageAlert::new).collect(),
        }
    }
}

impl<'a> MessageAlert<'a> {
    fn new(alert: &'a Alert) -> Self {
        Self {
            status: alert.status(),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: text::rfc3339(alert.starts_at),
            ends_at: alert
                .ends_at
                .map_or_else(|| NO_TIME.to_owned(), text::rfc3339),
            generator_url: &alert.generator_url,
            fingerprint: text::hex(alert.fingerprint()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::notification;
    use super::*;

    fn message(all: &Notification, alerts_max: usize) -> Value {
        serde_json::from_slice(&body(&Message::new(all, "hook", alerts_max))).unwrap()
    }

    #[test]
    fn a_message_is_that_of_alertmanager() {
        let all = notification();
        let fingerprints = all
            .alerts
            .iter()
            .map(|alert| text::hex(alert.fingerprint()));
        let fingerprints: Vec<_> = fingerprints.collect();
        let labels = |name, severity| {
            json!({
                "alertname": name, "migration_id": "shop", "severity": severity, "table": "orders",
            })
        };
        let expected = json!({
            "version": "4",
            "groupKey": "{migration_id=\"shop\"}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "hook",
            "groupLabels": { "migration_id": "shop" },
            "commonLabels": { "migration_id": "shop", "table": "orders" },
            "commonAnnotations": {},
            "externalURL": "http://cutover:9490",
            "alerts": [
                {
                    "status": "firing",
                    "labels": labels("high_error_rate", "critical"),
                    "annotations": {
                        "summary": "2.3 % of rows fail",
                        "description": "Most of them are duplicate keys.",
                    },
                    "startsAt": "2026-11-26T03:00:00.000Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "http://cutover:9490/graph?a=1",
                    "fingerprint": fingerprints[0],
                },
                {
                    "status": "firing",
                    "labels": labels("low_throughput", "warning"),
                    "annotations": { "summary": "The lag is over 60 s" },
                    "startsAt": "2026-11-26T02:58:00.000Z",
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "",
                    "fingerprint": fingerprints[1],
                },
                {
                    "status": "resolved",
                    "labels": labels("lag", "warning"),
                    "annotations": { "summary": "The lag is over 60 s" },
                    "startsAt": "2026-11-26T02:58:00.000Z",
                    "endsAt": "2026-11-26T03:04:00.000Z",
                    "generatorURL": "",
                    "fingerprint": fingerprints[2],
                },
            ],
        });
        assert_eq!(message(&all, usize::MAX), expected);
    }

    #[test]
    fn alerts_beyond_the_limit_are_counted_and_the_status_is_that_of_all() {
        let mut all = notification();
        all.alerts_truncated = 4;
        all.alerts.rotate_right(1);
        let message = message(&all, 1);
        assert_eq!(message["truncatedAlerts"], 6);
        assert_eq!(message["status"], "firing");
        assert_eq!(message["alerts"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn who_we_are_is_said_in_one_way() {
        let error = |toml: &str| {
            let toml = format!("url = 'https://a/b'\n{toml}");
            let config: Config = toml::from_str(&toml).unwrap();
            config.check().unwrap_err()
        };
        let two = "a bearer_token and a username are two ways to say who we are";
        assert_eq!(error("bearer_token_file = 't'\nusername = 'u'"), two);
        let none = "username needs password, password_file or password_env";
        assert_eq!(error("username = 'u'"), none);
        assert_eq!(error("password = 'p'"), "a password needs a username");
    }
}
