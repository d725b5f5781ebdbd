//! Microsoft Teams: the webhook of a workflow, which posts an Adaptive Card.
//!
//! Texts are runs of rich text, which know no markup: what looks like a link in a label does not become one.

use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::Error;
use super::address::{self, Address};
use super::config::Connection;
use super::http::Http;
use super::text::{self, Level};
use crate::alert::{Alert, Notification, Pairs, Status};
use crate::net::secret::Source;

/// Alerts of a card; more would not be read.
const ALERTS_MAX: usize = 20;
/// Of a message, card and all: Teams refuses what is larger than 28 KB.
const BODY_BYTES_MAX: usize = 28_000;
const CARD_TYPE: &str = "application/vnd.microsoft.card.adaptive";

#[derive(Debug)]
pub(super) struct Teams {
    http: Http,
    url: Source,
}

impl Teams {
    pub(super) fn new(config: &address::Config, connection: &Connection) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(connection)?,
            url: config.source()?,
        })
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<String, Error> {
        let address = Address::load(&self.url)?;
        let answer = self
            .http
            .post(&address, HeaderMap::new(), body(notification), &[]);
        answer.await?.accepted()
    }
}

fn body(notification: &Notification) -> Vec<u8> {
    text::fit(notification, ALERTS_MAX, BODY_BYTES_MAX, |shown| {
        message(notification, shown).to_string().into_bytes()
    })
}

fn message(notification: &Notification, shown: usize) -> Value {
    let title = text::title(notification);
    let level = match Level::worst(notification) {
        None => "Good",
        Some(level) => color(level),
    };
    let mut blocks = vec![block(&json!({
        "type": "TextRun", "text": title, "size": "Large", "weight": "Bolder", "color": level,
    }))];
    for alert in notification.alerts.iter().take(shown) {
        blocks.extend(alert_blocks(alert, &notification.group_labels));
    }
    let more = text::more(notification, shown);
    if !more.is_empty() {
        blocks.push(block(&run(&more)));
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": title,
        "msteams": { "width": "Full" },
        "body": blocks,
    });
    if !notification.external_url.is_empty() {
        let url = &notification.external_url;
        card["actions"] =
            json!([{ "type": "Action.OpenUrl", "title": "Open cutover", "url": url }]);
    }
    json!({ "type": "message", "attachments": [{ "contentType": CARD_TYPE, "content": card }] })
}

fn alert_blocks(alert: &Alert, said: &Pairs) -> Vec<Value> {
    let color = match alert.status() {
        Status::Firing => color(Level::of(alert)),
        Status::Resolved => "Good",
    };
    let heading = json!({
        "type": "TextRun", "text": text::heading(alert), "weight": "Bolder", "color": color,
    });
    let mut heading = block(&heading);
    heading["separator"] = json!(true);
    heading["spacing"] = json!("Medium");
    let facts = text::facts(alert, said).join(", ");
    let texts = [
        text::sentence(alert),
        text::description(alert),
        facts,
        text::times(alert),
    ];
    let texts = texts.iter().filter(|text| !text.is_empty());
    let lines = texts.map(|text| {
        let mut line = block(&run(text));
        line["spacing"] = json!("None");
        line
    });
    std::iter::once(heading).chain(lines).collect()
}

fn block(inline: &Value) -> Value {
    json!({ "type": "RichTextBlock", "inlines": [inline] })
}

fn run(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text })
}

fn color(level: Level) -> &'static str {
    match level {
        Level::Info => "Accent",
        Level::Warning => "Warning",
        Level::Error | Level::Critical => "Attention",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alert, notification};
    use super::*;

    #[test]
    fn a_card_says_each_alert_in_its_colour() {
        let message = message(&notification(), 3);
        assert_eq!(message["attachments"][0]["contentType"], CARD_TYPE);
        let card = &message["attachments"][0]["content"];
        assert_eq!(card["version"], "1.4");
        assert_eq!(card["actions"][0]["url"], "http://cutover:9490");
        let runs = card["body"].as_array().unwrap().iter();
        let runs: Vec<_> = runs.map(|block| &block["inlines"][0]).collect();
        let bold: Vec<_> = runs
            .iter()
            .filter(|run| run["weight"] == "Bolder")
            .map(|run| {
                (
                    run["text"].as_str().unwrap(),
                    run["color"].as_str().unwrap(),
                )
            })
            .collect();
        let title =
            "[FIRING 2, RESOLVED 1] shop: high_error_rate (critical), low_throughput (warning)";
        let expected = [
            (title, "Attention"),
            ("CRITICAL high_error_rate", "Attention"),
            ("WARNING low_throughput", "Warning"),
            ("RESOLVED lag", "Good"),
        ];
        assert_eq!(bold, expected);
        assert_eq!(runs[2]["text"], "2.3 % of rows fail");
        assert_eq!(runs[4]["text"], "table=orders");
    }

    #[test]
    fn a_card_is_never_too_large() {
        let mut all = notification();
        let mut large = alert("a", "critical", None);
        for name in ["summary", "description"] {
            large
                .annotations
                .insert(name.to_owned(), format!("{name} {}", "ä\"".repeat(5_000)));
        }
        all.alerts = vec![large; 100];
        let body = body(&all);
        assert!(body.len() <= BODY_BYTES_MAX, "{}", body.len());
        let body = String::from_utf8(body).unwrap();
        let shown = body.matches("CRITICAL a").count();
        assert!(
            shown > 1 && body.contains(&format!("and {} more alerts", 100 - shown)),
            "{shown}"
        );
    }
}
