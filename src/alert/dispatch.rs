//! Who is told what, and when: groups, silences, inhibition, the durable queue.
//!
//! ```text
//!  rules, anomalies, POST ─► dispatcher ─► outbox ─► outlet ─► channel
//!                            groups        told,     one task a channel
//!                            silences      waiting
//! ```
//!
//! `dispatcher` decides and is pure; [`run`] is the loop around it and the only part that does I/O. It
//! writes what was decided in one commit, then hands the first notification of each channel to that
//! channel's own task, and writes what came of it: a channel that is slow or down holds up no other.
//!
//! What callers may rely on, across crashes at any point: an alert that fires past its `group_wait` is
//! delivered at least once on every channel that takes it, with the same id each time; its end is told if
//! and only if its firing was delivered there; what waits for a channel is delivered in order.

pub mod anomaly;
mod dispatcher;
mod flap;
mod group;
mod handle;
pub mod inhibit;
pub mod matchers;
mod outbox;
mod outlet;
mod overview;
mod record;
pub mod route;
pub mod run;
pub mod silence;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use dispatcher::{ALERTS_MAX, FLAPPING};
pub use handle::{Error, Handle};
pub use outbox::WAITING_MAX;
pub use outlet::{Outlet, Send};
pub use overview::{AlertView, ChannelView, GroupView, Overview};

use crate::model::unit;

/// `[alert]` in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Alerts that agree in these labels are told together; `...` tells each by itself.
    pub group_by: Vec<String>,
    /// How long a new group waits for more alerts.
    #[serde(with = "unit::duration_text")]
    pub group_wait: Duration,
    /// How long a group that was told waits before it tells what changed.
    #[serde(with = "unit::duration_text")]
    pub group_interval: Duration,
    /// How long until what still fires is told again.
    #[serde(with = "unit::duration_text")]
    pub repeat_interval: Duration,
    /// An alert that is not said again for so long is over.
    #[serde(with = "unit::duration_text")]
    pub resolve_timeout: Duration,
    /// An alert flaps that changes more often than this within `flap_window`; 0: none does.
    pub flap_changes: usize,
    #[serde(with = "unit::duration_text")]
    pub flap_window: Duration,
    /// Where this server's users find it, for links in notifications.
    pub external_url: String,
    /// Which alerts hold others back.
    pub inhibit: Vec<inhibit::Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group_by: vec!["migration_id".to_owned()],
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3_600),
            resolve_timeout: Duration::from_secs(5 * 60),
            flap_changes: 4,
            flap_window: Duration::from_secs(30 * 60),
            external_url: String::new(),
            inhibit: inhibit::built_in(),
        }
    }
}

/// A key of the section that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("alert.{key}: {reason}")]
pub struct BadKey {
    key: &'static str,
    reason: String,
}

/// Changes of one alert that are remembered at most.
const FLAP_CHANGES_MAX: usize = 100;

impl Config {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), BadKey> {
        let least = |key, span: Duration, least: Duration| {
            if span >= least {
                return Ok(());
            }
            let (span, least) = (unit::format_duration(span), unit::format_duration(least));
            let reason = format!("{span} is shorter than {least}");
            Err(BadKey { key, reason })
        };
        let second = Duration::from_secs(1);
        least("group_interval", self.group_interval, second)?;
        least("repeat_interval", self.repeat_interval, self.group_interval)?;
        least("resolve_timeout", self.resolve_timeout, second)?;
        least("flap_window", self.flap_window, second)?;
        if self.flap_changes > FLAP_CHANGES_MAX {
            let reason = format!("more than {FLAP_CHANGES_MAX} changes are not remembered");
            let key = "flap_changes";
            return Err(BadKey { key, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn inhibition_can_be_replaced_and_turned_off() {
        let off: Config = toml::from_str("inhibit = []").unwrap();
        assert!(off.inhibit.is_empty());
        let text = "[[inhibit]]\nsource = [\"a=1\"]\ntarget = [\"b=1\"]\nequal = [\"c\"]";
        let other: Config = toml::from_str(text).unwrap();
        assert_eq!(other.inhibit[0].equal, ["c"]);
    }

    #[test]
    fn a_wrong_section_names_its_key() {
        let error = |text: &str| {
            let section: Config = toml::from_str(text).unwrap();
            section.check().unwrap_err().to_string()
        };
        assert_eq!(
            error("repeat_interval = \"1m\""),
            "alert.repeat_interval: 1m is shorter than 5m"
        );
        assert!(error("group_interval = \"0\"").starts_with("alert.group_interval: "));
        assert!(error("resolve_timeout = \"5ms\"").starts_with("alert.resolve_timeout: "));
        assert!(error("flap_changes = 101").starts_with("alert.flap_changes: "));
        assert!(toml::from_str::<Config>("group_wiat = \"1s\"").is_err());
    }
}
