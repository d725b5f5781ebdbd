//! What each service publishes of the requests it takes, as strict as it says.

use serde_json::{Map, Value};

use super::receiver::Request;

/// What is wrong with a request.
pub(super) type Check = fn(&Request) -> Result<(), String>;

/// The body of a request.
pub(super) fn json(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn body(request: &Request, bytes_max: usize) -> Result<Value, String> {
    if request.method != "POST" {
        return Err(format!("method {}", request.method));
    }
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type != "application/json; charset=utf-8" {
        return Err(format!("content type {content_type}"));
    }
    if !request
        .header("user-agent")
        .is_some_and(|agent| agent.starts_with("cutover/"))
    {
        return Err("no user agent".to_owned());
    }
    if request.body.len() > bytes_max {
        return Err(format!("{} bytes", request.body.len()));
    }
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

/// The members of an object, each of which is checked by being taken out; what is left is not known.
struct Object {
    place: String,
    members: Map<String, Value>,
}

impl Object {
    fn new(place: &str, value: Value) -> Result<Self, String> {
        match value {
            Value::Object(members) => Ok(Self {
                place: place.to_owned(),
                members,
            }),
            other => Err(format!("{place} is {other}")),
        }
    }

    fn take(&mut self, name: &str) -> Result<Value, String> {
        let value = self.members.remove(name);
        value.ok_or_else(|| format!("{} has no {name}", self.place))
    }

    /// A text of 1 to so many characters.
    fn text(&mut self, name: &str, chars_max: usize) -> Result<String, String> {
        let value = self.take(name)?;
        let text = value.as_str().ok_or_else(|| format!("{name} is {value}"))?;
        match text.chars().count() {
            0 => Err(format!("{}.{name} is empty", self.place)),
            chars if chars > chars_max => Err(format!("{}.{name}: {chars} characters", self.place)),
            _ => Ok(text.to_owned()),
        }
    }

    fn is(&mut self, name: &str, expected: &Value) -> Result<(), String> {
        let value = self.take(name)?;
        if value == *expected {
            Ok(())
        } else {
            Err(format!("{}.{name} is {value}", self.place))
        }
    }

    fn one_of(&mut self, name: &str, values: &[&str]) -> Result<String, String> {
        let text = self.text(name, 100)?;
        if values.contains(&&*text) {
            Ok(text)
        } else {
            Err(format!("{name} is {text}"))
        }
    }

    fn list(&mut self, name: &str, most: usize) -> Result<Vec<Value>, String> {
        match self.take(name)? {
            Value::Array(list) if list.len() <= most => Ok(list),
            Value::Array(list) => Err(format!("{}.{name} has {}", self.place, list.len())),
            other => Err(format!("{}.{name} is {other}", self.place)),
        }
    }

    /// An object whose values are texts.
    fn texts(&mut self, name: &str) -> Result<Map<String, Value>, String> {
        let value = self.take(name)?;
        let object = Object::new(name, value)?;
        match object.members.values().find(|value| !value.is_string()) {
            None => Ok(object.members),
            Some(other) => Err(format!("{name} holds {other}")),
        }
    }

    /// A moment in RFC 3339.
    fn time(&mut self, name: &str) -> Result<jiff::Timestamp, String> {
        let text = self.text(name, 40)?;
        text.parse().map_err(|error| format!("{name}: {error}"))
    }

    fn url(&mut self, name: &str) -> Result<(), String> {
        let text = self.text(name, 3_000)?;
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        if is_url {
            Ok(())
        } else {
            Err(format!("{name} is {text}"))
        }
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn end(self) -> Result<(), String> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("{} has {name}", self.place)),
        }
    }
}

/// Slack: "Sending messages using incoming webhooks" and "Secondary message attachments".
pub(super) fn slack(request: &Request) -> Result<(), String> {
    if !request.path.starts_with("/services/") {
        return Err(format!("path {}", request.path));
    }
    let mut message = Object::new("message", body(request, 1 << 20)?)?;
    unescaped(&message.text("text", 40_000)?)?;
    message.is("mrkdwn", &Value::Bool(false))?;
    for attachment in message.list("attachments", 100)? {
        let mut attachment = Object::new("attachment", attachment)?;
        unescaped(&attachment.text("fallback", 4_000)?)?;
        unescaped(&attachment.text("text", 8_000)?)?;
        if attachment.has("color") {
            attachment.one_of("color", &["good", "warning", "danger"])?;
            unescaped(&attachment.text("title", 1_000)?)?;
            if attachment.has("title_link") {
                attachment.url("title_link")?;
            }
            attachment.text("footer", 300)?;
            attachment.is("mrkdwn_in", &Value::Array(Vec::new()))?;
            let ts = attachment.take("ts")?;
            if !ts
                .as_i64()
                .is_some_and(|ts| (1_500_000_000..5_000_000_000).contains(&ts))
            {
                return Err(format!("ts is {ts}"));
            }
            for field in attachment.list("fields", 10)? {
                let mut field = Object::new("field", field)?;
                unescaped(&field.text("title", 300)?)?;
                unescaped(&field.text("value", 2_000)?)?;
                field.is("short", &Value::Bool(true))?;
                field.end()?;
            }
        }
        attachment.end()?;
    }
    message.end()
}

fn unescaped(text: &str) -> Result<(), String> {
    let bare = text
        .replace("&amp;", "")
        .replace("&lt;", "")
        .replace("&gt;", "");
    match bare.find(['&', '<', '>']) {
        None => Ok(()),
        Some(_) => Err(format!("unescaped: {text}")),
    }
}

/// PagerDuty: "Send an alert event", Events API v2.
pub(super) fn pagerduty(request: &Request) -> Result<(), String> {
    if request.path != "/v2/enqueue" {
        return Err(format!("path {}", request.path));
    }
    let mut event = Object::new("event", body(request, 512_000)?)?;
    if event.text("routing_key", 32)?.len() != 32 {
        return Err("length of 'routing_key' is incorrect (should be 32 characters)".to_owned());
    }
    event.text("dedup_key", 255)?;
    if event.one_of("event_action", &["trigger", "acknowledge", "resolve"])? != "trigger" {
        return event.end();
    }
    event.text("client", 200)?;
    if event.has("client_url") {
        event.url("client_url")?;
    }
    for link in event.list("links", 100)? {
        let mut link = Object::new("link", link)?;
        link.url("href")?;
        link.text("text", 1_000)?;
        link.end()?;
    }
    let mut payload = Object::new("payload", event.take("payload")?)?;
    payload.text("summary", 1_024)?;
    payload.text("source", 255)?;
    payload.one_of("severity", &["critical", "error", "warning", "info"])?;
    payload.time("timestamp")?;
    payload.text("class", 255)?;
    Object::new("custom_details", payload.take("custom_details")?)?;
    payload.end()?;
    event.end()
}

/// Alertmanager: "webhook_config" of its configuration, version 4 of the message.
pub(super) fn webhook(request: &Request) -> Result<(), String> {
    if request.header("authorization") != Some("Bearer secret-token") {
        return Err("no authorization".to_owned());
    }
    let key = request.header("idempotency-key").unwrap_or_default();
    if key.len() != 16 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("idempotency key {key}"));
    }
    let mut message = Object::new("message", body(request, usize::MAX)?)?;
    message.is("version", &Value::from("4"))?;
    message.text("groupKey", usize::MAX)?;
    if !message.take("truncatedAlerts")?.is_u64() {
        return Err("truncatedAlerts is no number".to_owned());
    }
    let status = message.one_of("status", &["firing", "resolved"])?;
    message.is("receiver", &Value::from("ops"))?;
    for labels in ["groupLabels", "commonLabels", "commonAnnotations"] {
        message.texts(labels)?;
    }
    message.url("externalURL")?;
    let mut any_fires = false;
    for alert in message.list("alerts", usize::MAX)? {
        let mut alert = Object::new("alert", alert)?;
        let fires = alert.one_of("status", &["firing", "resolved"])? == "firing";
        any_fires |= fires;
        alert.texts("labels")?;
        alert.texts("annotations")?;
        let start = alert.time("startsAt")?;
        if fires {
            alert.is("endsAt", &Value::from("0001-01-01T00:00:00Z"))?;
        } else if alert.time("endsAt")? < start {
            return Err("it ends before it starts".to_owned());
        }
        alert.url("generatorURL")?;
        if alert.text("fingerprint", 16)?.len() != 16 {
            return Err("fingerprint".to_owned());
        }
        alert.end()?;
    }
    if any_fires != (status == "firing") {
        return Err(format!("status is {status}"));
    }
    message.end()
}

/// Alertmanager: `postableAlerts` of its API, version 2.
pub(super) fn alertmanager(request: &Request) -> Result<(), String> {
    if request.path != "/am/api/v2/alerts" {
        return Err(format!("path {}", request.path));
    }
    let Value::Array(alerts) = body(request, usize::MAX)? else {
        return Err("no list".to_owned());
    };
    for alert in alerts {
        let mut alert = Object::new("alert", alert)?;
        let labels = alert.texts("labels")?;
        if !labels.contains_key("alertname") || labels.values().any(|value| value == "") {
            return Err(format!("labels {labels:?}"));
        }
        alert.texts("annotations")?;
        if alert.time("startsAt")? > alert.time("endsAt")? {
            return Err("start time must be before end time".to_owned());
        }
        alert.url("generatorURL")?;
        alert.end()?;
    }
    Ok(())
}

/// Microsoft Teams: "Post an adaptive card" of a workflow; Adaptive Cards 1.4.
pub(super) fn teams(request: &Request) -> Result<(), String> {
    if request.path != "/workflows/secret-of-teams?sig=secret-signature" {
        return Err(format!("path {}", request.path));
    }
    let mut message = Object::new("message", body(request, 28 * 1_024)?)?;
    message.is("type", &Value::from("message"))?;
    let attachments = message.list("attachments", 1)?;
    message.end()?;
    for attachment in attachments {
        let mut attachment = Object::new("attachment", attachment)?;
        let card_type = Value::from("application/vnd.microsoft.card.adaptive");
        attachment.is("contentType", &card_type)?;
        card(Object::new("content", attachment.take("content")?)?)?;
        attachment.end()?;
    }
    Ok(())
}

fn card(mut card: Object) -> Result<(), String> {
    card.url("$schema")?;
    card.is("type", &Value::from("AdaptiveCard"))?;
    card.is("version", &Value::from("1.4"))?;
    card.text("fallbackText", 1_000)?;
    card.take("msteams")?;
    for action in card.list("actions", 6)? {
        let mut action = Object::new("action", action)?;
        action.is("type", &Value::from("Action.OpenUrl"))?;
        action.text("title", 100)?;
        action.url("url")?;
        action.end()?;
    }
    let colors = [
        "Default",
        "Dark",
        "Light",
        "Accent",
        "Good",
        "Warning",
        "Attention",
    ];
    for block in card.list("body", usize::MAX)? {
        let mut block = Object::new("block", block)?;
        block.is("type", &Value::from("RichTextBlock"))?;
        if block.has("separator") {
            block.is("separator", &Value::Bool(true))?;
        }
        if block.has("spacing") {
            block.one_of("spacing", &["None", "Small", "Default", "Medium", "Large"])?;
        }
        for run in block.list("inlines", 10)? {
            let mut run = Object::new("run", run)?;
            run.is("type", &Value::from("TextRun"))?;
            run.text("text", 5_000)?;
            for (name, values) in [
                ("color", &colors[..]),
                ("weight", &["Lighter", "Default", "Bolder"]),
                (
                    "size",
                    &["Small", "Default", "Medium", "Large", "ExtraLarge"],
                ),
            ] {
                if run.has(name) {
                    run.one_of(name, values)?;
                }
            }
            run.end()?;
        }
        block.end()?;
    }
    card.end()
}
