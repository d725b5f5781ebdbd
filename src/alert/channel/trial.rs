//! A made-up notification, to see whether a channel works.

use std::time::Duration;

use crate::alert::{Alert, Notification, Pairs, Status};
use crate::model::Timestamp;

/// One alert that fires, or the same alert that is over; `group` keeps trials of different channels apart.
pub fn trial(group: &str, external_url: &str, status: Status, at: Timestamp) -> Notification {
    let began = at.before(Duration::from_secs(60));
    let id = at.ms().unsigned_abs() << 1 | u64::from(status == Status::Resolved);
    Notification {
        group_key: format!("trial of {group}"),
        group_labels: pairs([("migration_id", "trial")]),
        alerts: vec![Alert {
            labels: pairs([
                ("alertname", "cutover_trial"),
                ("migration_id", "trial"),
                ("severity", "info"),
            ]),
            annotations: pairs([
                ("summary", "This is a trial: nothing is wrong."),
                (
                    "description",
                    "Somebody ran `cutover alert test` to see whether this arrives.",
                ),
            ]),
            starts_at: began,
            ends_at: (status == Status::Resolved).then_some(at),
            generator_url: String::new(),
        }],
        alerts_truncated: 0,
        at,
        external_url: external_url.to_owned(),
        id,
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Pairs {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
