//! What the tests of the channels share.

use crate::alert::{Alert, Notification, Pairs};
use crate::model::Timestamp;

/// 2026-11-26 03:00:00 UTC.
pub(super) const START_MS: i64 = 1_795_662_000_000;

pub(super) fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Pairs {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// An alert that began two minutes before [`START_MS`].
pub(super) fn alert(name: &str, severity: &str, ends_at: Option<Timestamp>) -> Alert {
    let labels = [
        ("alertname", name),
        ("migration_id", "shop"),
        ("severity", severity),
        ("table", "orders"),
    ];
    Alert {
        labels: pairs(labels),
        annotations: pairs([("summary", "The lag is over 60 s")]),
        starts_at: Timestamp::from_ms(START_MS - 120_000),
        ends_at,
        generator_url: String::new(),
    }
}

/// Two alerts that fire and one that is over.
pub(super) fn notification() -> Notification {
    let critical = Alert {
        annotations: pairs([
            ("summary", "2.3 % of rows fail"),
            ("description", "Most of them are duplicate keys."),
        ]),
        starts_at: Timestamp::from_ms(START_MS),
        generator_url: "http://cutover:9490/graph?a=1".to_owned(),
        ..alert("high_error_rate", "critical", None)
    };
    let over = Timestamp::from_ms(START_MS + 240_000);
    Notification {
        group_key: "{migration_id=\"shop\"}".to_owned(),
        group_labels: pairs([("migration_id", "shop")]),
        alerts: vec![
            critical,
            alert("low_throughput", "warning", None),
            alert("lag", "warning", Some(over)),
        ],
        alerts_truncated: 0,
        at: Timestamp::from_ms(START_MS + 300_000),
        external_url: "http://cutover:9490".to_owned(),
        id: 0xfeed,
    }
}
