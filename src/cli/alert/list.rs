//! `cutover alert list`: alerts, groups, channels and silences at one look.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::cli::output::{print, table};
use crate::cli::{ServerArgs, block_on};
use crate::http::wire::{AlertChannel, AlertGroup, AlertState, Alerting, Silence, SilenceMatcher};
use crate::model::Timestamp;

#[derive(Args, Debug)]
pub(super) struct Command {
    #[command(flatten)]
    server: ServerArgs,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: the answers of `/api/v1/alerting` and `/api/v1/silences` in one.
#[derive(Serialize)]
struct Everything {
    #[serde(flatten)]
    alerting: Alerting,
    silences: Vec<Silence>,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let client = self.server.client()?;
        let (alerting, silences) =
            block_on(async { Ok((client.alerting().await?, client.silences().await?)) })?;
        if self.json {
            let everything = Everything { alerting, silences };
            return print(&format!("{}\n", serde_json::to_string_pretty(&everything)?));
        }
        print(&text(&alerting, &silences))
    }
}

fn text(alerting: &Alerting, silences: &[Silence]) -> String {
    let parts = [
        alerts(&alerting.alerts),
        groups(&alerting.groups),
        channels(&alerting.channels),
        list_of_silences(silences),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n")
}

fn alerts(alerts: &[AlertState]) -> String {
    if alerts.is_empty() {
        return "No alerts.\n".to_owned();
    }
    let row = |alert: &AlertState| {
        vec![
            alert.labels.get("alertname").cloned().unwrap_or_default(),
            alert.labels.get("severity").cloned().unwrap_or_default(),
            alert_state(alert, alerts),
            time(alert.starts_at_ms),
            or_dash(alert.told.join(" ")),
            other_labels(&alert.labels),
        ]
    };
    let rows: Vec<_> = alerts.iter().map(row).collect();
    let header = [
        "alert",
        "severity",
        "state",
        "since (UTC)",
        "told",
        "labels",
    ];
    table(&header, &rows, &[])
}

/// The state with what it is due to.
fn alert_state(alert: &AlertState, alerts: &[AlertState]) -> String {
    let inhibitor = |fingerprint: &String| {
        let known = alerts
            .iter()
            .find(|other| other.fingerprint == *fingerprint);
        let name = known.and_then(|known| known.labels.get("alertname"));
        format!("inhibited by {}", name.unwrap_or(fingerprint))
    };
    let silences = alert
        .silenced_by
        .iter()
        .map(|id| format!("silenced by {id}"));
    let mut causes: Vec<String> = silences
        .chain(alert.inhibited_by.iter().map(inhibitor))
        .collect();
    if let Some(since_ms) = alert.flapping_since_ms {
        causes.push(format!("flapping since {}", time(since_ms)));
    }
    if causes.is_empty() {
        return alert.state.clone();
    }
    format!("{}: {}", alert.state, causes.join(", "))
}

fn other_labels(labels: &BTreeMap<String, String>) -> String {
    let shown_apart = |name: &String| name == "alertname" || name == "severity";
    let others = labels.iter().filter(|(name, _)| !shown_apart(name));
    let texts = others.map(|(name, value)| format!("{name}={value:?}"));
    texts.collect::<Vec<_>>().join(" ")
}

fn groups(groups: &[AlertGroup]) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let row = |group: &AlertGroup| {
        vec![
            group.key.clone(),
            group.alerts.to_string(),
            time(group.next_at_ms),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    table(&["group", "alerts", "looked at next (UTC)"], &rows, &[1])
}

fn channels(channels: &[AlertChannel]) -> String {
    let row = |channel: &AlertChannel| {
        let error = channel.last_error_at_ms.zip(channel.last_error.as_ref());
        vec![
            channel.name.clone(),
            channel.waiting.to_string(),
            or_dash(channel.delivered_at_ms.map(time).unwrap_or_default()),
            or_dash(channel.next_attempt_at_ms.map(time).unwrap_or_default()),
            or_dash(
                error
                    .map(|(at_ms, error)| format!("{}: {error}", time(at_ms)))
                    .unwrap_or_default(),
            ),
        ]
    };
    let rows: Vec<_> = channels.iter().map(row).collect();
    let header = [
        "channel",
        "waiting",
        "delivered (UTC)",
        "next attempt (UTC)",
        "last error",
    ];
    table(&header, &rows, &[1])
}

/// Those that have not expired.
fn list_of_silences(silences: &[Silence]) -> String {
    let row = |silence: &Silence| {
        let matchers: Vec<String> = silence.matchers.iter().map(matcher_text).collect();
        vec![
            silence.id.clone(),
            silence.status.state.clone(),
            silence.ends_at.clone(),
            matchers.join(" "),
            or_dash(silence.created_by.clone()),
            silence.comment.clone(),
        ]
    };
    let in_force = silences
        .iter()
        .filter(|silence| silence.status.state != "expired");
    let rows: Vec<_> = in_force.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        "silence",
        "state",
        "until (UTC)",
        "matchers",
        "by",
        "comment",
    ];
    table(&header, &rows, &[])
}

fn matcher_text(matcher: &SilenceMatcher) -> String {
    let sign = match (matcher.is_regex, matcher.is_equal) {
        (false, true) => "=",
        (false, false) => "!=",
        (true, true) => "=~",
        (true, false) => "!~",
    };
    format!("{}{sign}{:?}", matcher.name, matcher.value)
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn time(ms: i64) -> String {
    Timestamp::from_ms(ms).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, fingerprint: &str) -> AlertState {
        let labels = [("alertname", name), ("severity", "warning"), ("table", "a")];
        AlertState {
            fingerprint: fingerprint.to_owned(),
            labels: labels
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            annotations: BTreeMap::new(),
            state: "active".to_owned(),
            starts_at_ms: 1_000,
            ends_at_ms: None,
            silenced_by: Vec::new(),
            inhibited_by: Vec::new(),
            flapping_since_ms: None,
            group: "{}".to_owned(),
            told: vec!["ops".to_owned()],
            generator_url: String::new(),
        }
    }

    #[test]
    fn what_holds_an_alert_back_is_named() {
        let held = AlertState {
            state: "suppressed".to_owned(),
            silenced_by: vec!["s1".to_owned()],
            inhibited_by: vec!["f1".to_owned()],
            told: Vec::new(),
            ..alert("lag", "f2")
        };
        let alerting = Alerting {
            alerts: vec![alert("down", "f1"), held],
            ..Alerting::default()
        };
        let expected = "\
alert  severity  state                                             since (UTC)               told  labels
down   warning   active                                            1970-01-01T00:00:01.000Z  ops   table=\"a\"
lag    warning   suppressed: silenced by s1, inhibited by down     1970-01-01T00:00:01.000Z  -     table=\"a\"
";
        let squeeze = |text: &str| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect()
        };
        let shown = text(&alerting, &[]);
        let shown: Vec<String> = squeeze(&shown).into_iter().take(3).collect();
        assert_eq!(shown, squeeze(expected));
    }

    #[test]
    fn without_alerts_the_channels_are_still_shown() {
        let channel = AlertChannel {
            name: "ops".to_owned(),
            waiting: 2,
            waiting_since_ms: Some(0),
            failures: 1,
            next_attempt_at_ms: Some(4_000),
            last_error: Some("refused".to_owned()),
            last_error_at_ms: Some(2_000),
            delivered_at_ms: None,
        };
        let alerting = Alerting {
            channels: vec![channel],
            ..Alerting::default()
        };
        let shown = text(&alerting, &[]);
        assert!(shown.starts_with("No alerts.\n"), "{shown}");
        let line = shown.lines().last().unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "ops 2 - 1970-01-01T00:00:04.000Z 1970-01-01T00:00:02.000Z: refused"
        );
    }
}
