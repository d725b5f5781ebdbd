//! Slack's incoming webhooks, and what takes the same: Mattermost, for one.
//!
//! A message is a title and an attachment an alert, in the colour of how bad it is. Slack answers `ok` and
//! nothing else when it has taken a message; any other text says what is wrong with the webhook or the message.

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::Error;
use super::address::{self, Address};
use super::config::Connection;
use super::http::Http;
use super::text::{self, Level};
use crate::alert::{Alert, Notification, Pairs, Status};
use crate::net::secret::Source;

/// Attachments of a message; Slack asks for no more.
const ALERTS_MAX: usize = 20;
/// Labels of an alert that are shown.
const FACTS_MAX: usize = 10;
/// Of a message. Slack cuts texts itself; this is far below where it refuses a message.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Slack {
    http: Http,
    url: Source,
}

impl Slack {
    pub(super) fn new(config: &address::Config, connection: &Connection) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(connection)?,
            url: config.source()?,
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let address = Address::load(&self.url)?;
        let body = text::fit(notification, ALERTS_MAX, BODY_BYTES_MAX, |shown| {
            message(notification, shown).to_string().into_bytes()
        });
        let answer = self
            .http
            .post(&address, HeaderMap::new(), body, &[])
            .await?;
        match answer.status {
            StatusCode::OK if answer.body == "ok" => Ok(answer.shown()),
            StatusCode::OK => {
                let body = &answer.body;
                Err(Error::never(format!(
                    "{address} answers {body:?} instead of \"ok\""
                )))
            }
            _ => Err(answer.refused()),
        }
    }
}

fn message(notification: &Notification, shown: usize) -> Value {
    let title = escape(&text::title(notification));
    let alerts = notification.alerts.iter().take(shown);
    let mut attachments: Vec<Value> = alerts
        .map(|alert| attachment(alert, notification))
        .collect();
    let more = text::more(notification, shown);
    if !more.is_empty() {
        attachments.push(json!({ "fallback": more, "text": more }));
    }
    // Without markup, labels are shown as they are: a star in one is a star.
    json!({ "text": title, "mrkdwn": false, "attachments": attachments })
}

fn attachment(alert: &Alert, notification: &Notification) -> Value {
    let link = [&alert.generator_url, &notification.external_url]
        .into_iter()
        .find(|url| !url.is_empty());
    let lines = [
        text::sentence(alert),
        text::description(alert),
        text::times(alert),
    ];
    let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    let mut attachment = json!({
        "color": color(alert),
        "fallback": escape(&text::one_line(alert)),
        "title": escape(&text::heading(alert)),
        "text": escape(&lines.join("\n")),
        "fields": fields(alert, &notification.group_labels),
        "footer": "cutover",
        "ts": alert.ends_at.unwrap_or(alert.starts_at).ms().div_euclid(1_000),
        "mrkdwn_in": [],
    });
    if let Some(link) = link {
        attachment["title_link"] = json!(link);
    }
    attachment
}

fn fields(alert: &Alert, said: &Pairs) -> Vec<Value> {
    let facts = text::facts(alert, said).into_iter().take(FACTS_MAX);
    facts
        .filter_map(|fact| {
            let (name, value) = fact.split_once('=')?;
            Some(json!({ "title": escape(name), "value": escape(value), "short": true }))
        })
        .collect()
}

fn color(alert: &Alert) -> &'static str {
    match (alert.status(), Level::of(alert)) {
        (Status::Resolved, _) | (_, Level::Info) => "good",
        (_, Level::Warning) => "warning",
        (_, Level::Error | Level::Critical) => "danger",
    }
}

/// The three characters that mean something to Slack; `<!channel>` in a label must not ring everybody.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::notification;
    use super::*;

    #[test]
    fn a_message_has_a_title_and_an_attachment_an_alert() {
        let message = message(&notification(), 3);
        let title =
            "[FIRING 2, RESOLVED 1] shop: high_error_rate (critical), low_throughput (warning)";
        assert_eq!(message["text"], title);
        let attachments = message["attachments"].as_array().unwrap();
        let colors: Vec<_> = attachments
            .iter()
            .map(|attachment| &attachment["color"])
            .collect();
        assert_eq!(colors, ["danger", "warning", "good"]);
        assert_eq!(
            attachments[0],
            json!({
                "color": "danger",
                "fallback": "CRITICAL high_error_rate: 2.3 % of rows fail (since 2026-11-26 03:00:00 UTC)",
                "title": "CRITICAL high_error_rate",
                "title_link": "http://cutover:9490/graph?a=1",
                "text": "2.3 % of rows fail\nMost of them are duplicate keys.\nsince 2026-11-26 03:00:00 UTC",
                "fields": [{ "title": "table", "value": "orders", "short": true }],
                "footer": "cutover",
                "ts": 1_795_662_000,
                "mrkdwn_in": [],
            })
        );
        assert_eq!(attachments[2]["ts"], 1_795_662_240);
    }

    #[test]
    fn labels_cannot_ring_everybody() {
        let mut all = notification();
        all.alerts.truncate(1);
        all.group_labels
            .insert("migration_id".to_owned(), "<!channel>".to_owned());
        all.alerts[0]
            .annotations
            .insert("summary".to_owned(), "<!here> & more".to_owned());
        let body = message(&all, 1).to_string();
        assert!(body.contains("&lt;!channel&gt;"), "{body}");
        assert!(body.contains("&lt;!here&gt; &amp; more"), "{body}");
        assert!(!body.contains('<'), "{body}");
    }

    #[test]
    fn alerts_beyond_the_limit_are_counted() {
        let message = message(&notification(), 1);
        let attachments = message["attachments"].as_array().unwrap();
        assert_eq!(attachments.len(), 2);
        assert_eq!(attachments[1]["text"], "and 2 more alerts");
    }
}
