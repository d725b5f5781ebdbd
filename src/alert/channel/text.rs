//! The words that channels share: a title for the whole, and what there is to say of each alert.
//!
//! A title summarises the group, `[FIRING 2, RESOLVED 1] shop: low_throughput (warning)`; an alert is one
//! line of what was checked and what was found, `high_error_rate: 2.3 % of rows fail`. Everything here is one
//! line without control characters and of bounded length, whatever labels and annotations hold.

use crate::alert::{Alert, Notification, Pairs, Status};
use crate::model::Timestamp;

/// Characters of a title.
const TITLE_CHARS_MAX: usize = 250;
/// Characters of a summary or a description; those of rules are a sentence or two.
const SENTENCE_CHARS_MAX: usize = 1_000;
/// Characters of a label with its name.
const FACT_CHARS_MAX: usize = 200;
/// Alerts that a title names.
const NAMES_MAX: usize = 3;
/// 9999-12-30 22:00:00 UTC, the last moment that can be written in every time zone.
const LAST_MS: i64 = 253_402_207_200_000;

/// How bad an alert is, from the label `severity`. In ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Info,
    Warning,
    /// Also what an alert is that does not say how bad it is, or says it in a word of its own.
    Error,
    Critical,
}

impl Level {
    pub(super) fn of(alert: &Alert) -> Self {
        match alert.severity() {
            "critical" => Self::Critical,
            "warning" => Self::Warning,
            "info" => Self::Info,
            _ => Self::Error,
        }
    }

    /// That of the worst alert that fires; `None` when none does.
    pub(super) fn worst(notification: &Notification) -> Option<Self> {
        let firing = notification.with_status(Status::Firing);
        firing.map(Self::of).max()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What there is to say of a group, in a line.
pub(super) fn title(notification: &Notification) -> String {
    let status = notification.status();
    let count = |status| notification.with_status(status).count();
    let counts = match (count(Status::Firing), count(Status::Resolved)) {
        (0, resolved) => format!("RESOLVED {resolved}"),
        (firing, 0) => format!("FIRING {firing}"),
        (firing, resolved) => format!("FIRING {firing}, RESOLVED {resolved}"),
    };
    let group: Vec<&str> = notification
        .group_labels
        .values()
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .collect();
    let mut names: Vec<String> = Vec::new();
    for alert in notification.with_status(status) {
        let name = match status {
            Status::Firing => format!("{} ({})", alert.name(), severity(alert)),
            Status::Resolved => alert.name().to_owned(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let mut names = names.join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    let group = match group.join(" ") {
        group if group.is_empty() => group,
        group => format!("{group}: "),
    };
    line(&format!("[{counts}] {group}{names}"), TITLE_CHARS_MAX)
}

/// As its rule has it; an alert without one counts as an error.
fn severity(alert: &Alert) -> &str {
    match alert.severity() {
        "" => Level::Error.name(),
        severity => severity,
    }
}

/// `CRITICAL high_error_rate`, or `RESOLVED high_error_rate`.
pub(super) fn heading(alert: &Alert) -> String {
    let state = match alert.status() {
        Status::Firing => severity(alert).to_uppercase(),
        Status::Resolved => "RESOLVED".to_owned(),
    };
    line(&format!("{state} {}", alert.name()), TITLE_CHARS_MAX)
}

/// What was found, in a sentence: its summary, else its description, else its labels.
pub(super) fn sentence(alert: &Alert) -> String {
    let annotation = |name: &str| alert.annotations.get(name).filter(|text| !text.is_empty());
    let said = annotation("summary").or_else(|| annotation("description"));
    match said {
        Some(text) => line(text, SENTENCE_CHARS_MAX),
        None => facts(alert, &Pairs::new()).join(", "),
    }
}

/// What its description adds to its summary; empty if nothing.
pub(super) fn description(alert: &Alert) -> String {
    let annotation = |name: &str| alert.annotations.get(name);
    match (annotation("summary"), annotation("description")) {
        (Some(summary), Some(description)) if summary != description && !summary.is_empty() => {
            line(description, SENTENCE_CHARS_MAX)
        }
        _ => String::new(),
    }
}

/// `since 2026-11-26 11:20:00 UTC`, or from when to when.
pub(super) fn times(alert: &Alert) -> String {
    let start = clock(alert.starts_at);
    match alert.ends_at {
        None => format!("since {start}"),
        Some(end) => format!("from {start} to {}", clock(end)),
    }
}

/// All of it in a line.
pub(super) fn one_line(alert: &Alert) -> String {
    let (heading, sentence, times) = (heading(alert), sentence(alert), times(alert));
    format!("{heading}: {sentence} ({times})")
}

/// The labels that neither the heading nor the group says, as `name=value`.
pub(super) fn facts(alert: &Alert, said: &Pairs) -> Vec<String> {
    let is_new =
        |name: &str| !["alertname", "severity"].contains(&name) && !said.contains_key(name);
    let labels = alert.labels.iter().filter(|(name, _)| is_new(name));
    labels
        .map(|(name, value)| line(&format!("{name}={value}"), FACT_CHARS_MAX))
        .collect()
}

/// `and 12 more`, empty when there are none.
pub(super) fn more(notification: &Notification, shown: usize) -> String {
    let left_out = notification.alerts.len().saturating_sub(shown);
    match left_out + notification.alerts_truncated {
        0 => String::new(),
        1 => "and 1 more alert".to_owned(),
        count => format!("and {count} more alerts"),
    }
}

/// A text on one line of at most so many characters, without control characters.
pub(super) fn line(text: &str, chars_max: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().nth(chars_max).is_none() {
        return line;
    }
    let kept = line.chars().take(chars_max.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// `2026-11-26 11:20:00 UTC`.
pub(super) fn clock(timestamp: Timestamp) -> String {
    let text = rfc3339(timestamp);
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let (time, _) = time.split_once('.').unwrap_or((time, ""));
    format!("{date} {time} UTC")
}

/// A moment for a machine, within the years that the format has.
pub(super) fn rfc3339(timestamp: Timestamp) -> String {
    within_years(timestamp).to_string()
}

/// The nearest moment from 1970 to 9999.
pub(super) fn within_years(timestamp: Timestamp) -> Timestamp {
    Timestamp::from_ms(timestamp.ms().clamp(0, LAST_MS))
}

/// An identity as receivers see it: 16 hexadecimal digits.
pub(super) fn hex(id: u64) -> String {
    format!("{id:016x}")
}

/// The group's identity, short and without anything that a header or a key may not hold.
pub(super) fn group_id(notification: &Notification) -> String {
    hex(xxhash_rust::xxh3::xxh3_64(
        notification.group_key.as_bytes(),
    ))
}

/// A body of at most so many bytes: `render` is given how many of the alerts are to be shown, fewer and
/// fewer until what comes of it fits.
pub(super) fn fit(
    notification: &Notification,
    alerts_max: usize,
    bytes_max: usize,
    render: impl Fn(usize) -> Vec<u8>,
) -> Vec<u8> {
    let mut shown = notification.alerts.len().min(alerts_max);
    loop {
        let body = render(shown);
        if body.len() <= bytes_max || shown == 0 {
            return body;
        }
        shown -= shown.div_ceil(8);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alert, notification};
    use super::*;

    #[test]
    fn a_title_counts_and_names_what_fires() {
        let mut all = notification();
        assert_eq!(
            title(&all),
            "[FIRING 2, RESOLVED 1] shop: high_error_rate (critical), low_throughput (warning)"
        );
        all.alerts.truncate(2);
        assert_eq!(
            title(&all),
            "[FIRING 2] shop: high_error_rate (critical), low_throughput (warning)"
        );
        for alert in &mut all.alerts {
            alert.ends_at = Some(Timestamp::from_ms(1));
        }
        let over = "[RESOLVED 2] shop: high_error_rate, low_throughput";
        assert_eq!(title(&all), over);
        all.group_labels.clear();
        all.alerts = ["a", "b", "c", "d", "e"]
            .map(|name| alert(name, "", None))
            .into();
        let many = "[FIRING 5] a (error), b (error), c (error) and 2 more";
        assert_eq!(title(&all), many);
    }

    #[test]
    fn an_alert_is_a_line_of_what_was_checked_and_what_was_found() {
        let all = notification();
        assert_eq!(
            one_line(&all.alerts[0]),
            "CRITICAL high_error_rate: 2.3 % of rows fail (since 2026-11-26 03:00:00 UTC)"
        );
        assert_eq!(
            one_line(&all.alerts[2]),
            "RESOLVED lag: The lag is over 60 s (from 2026-11-26 02:58:00 UTC to 2026-11-26 03:04:00 UTC)"
        );
        let mut bare = alert("lag", "info", None);
        bare.annotations.clear();
        assert_eq!(sentence(&bare), "migration_id=shop, table=orders");
        assert_eq!(facts(&bare, &all.group_labels), ["table=orders"]);
    }

    #[test]
    fn a_line_has_no_end_of_line_and_a_bounded_length() {
        assert_eq!(line(" a\r\nBcc: b\u{0}\tc\u{85} ", 100), "a Bcc: b c");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let mut all = notification();
        all.alerts = vec![alert("a", "", None); 100];
        let body = fit(&all, 50, 100, |shown| vec![b'x'; 10 * shown]);
        assert_eq!(body.len(), 90);
        assert_eq!(fit(&all, 50, 0, |shown| vec![b'x'; 10 + shown]).len(), 10);
        assert_eq!(more(&all, 9), "and 91 more alerts");
    }
}
