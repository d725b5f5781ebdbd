//! Channels: where notifications go, one file each.
//!
//! A channel sends one [`Notification`] and says what came of it; whether and when to try again is the
//! dispatcher's to decide. No secret and no address that is one appears in a log or an error: addresses
//! are shown as `https://host/<redacted>`, and what a receiver answers is cleared of them too.
//!
//! Each is tried at least once for every notification, and perhaps again after a crash or a time-out;
//! what they send carries a key that is the same each time, so that receivers can drop the second.

mod address;
mod alertmanager;
mod config;
mod email;
mod http;
mod pagerduty;
mod slack;
mod teams;
mod text;
mod trial;
mod webhook;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use config::{Config, Error as ConfigError, Kind, check};
pub use trial::trial;

use super::Notification;

/// Ready to send.
///
/// Secrets are read for each notification, so that they can be renewed without a restart.
#[derive(Debug)]
pub struct Channel {
    name: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Slack(slack::Slack),
    Email(Box<email::Email>),
    PagerDuty(pagerduty::PagerDuty),
    Webhook(webhook::Webhook),
    Alertmanager(alertmanager::Alertmanager),
    Teams(teams::Teams),
}

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

impl Error {
    fn later(reason: impl Into<String>) -> Self {
        Self::Later {
            reason: reason.into(),
            retry_after: None,
        }
    }

    fn never(reason: impl Into<String>) -> Self {
        Self::Never {
            reason: reason.into(),
        }
    }
}

impl Channel {
    /// `repeat_interval` is how long the dispatcher waits until it tells again what still fires.
    ///
    /// A secret that cannot be read yet is no error here but one of each notification, which waits for
    /// it; it is logged at once, though.
    pub fn new(config: &Config, repeat_interval: Duration) -> Result<Self, ConfigError> {
        let connection = &config.connection;
        let way = match &config.kind {
            Kind::Slack(slack) => slack::Slack::new(slack, connection).map(Way::Slack),
            Kind::Email(email) => {
                email::Email::new(email, connection).map(|email| Way::Email(Box::new(email)))
            }
            Kind::PagerDuty(duty) => {
                pagerduty::PagerDuty::new(duty, connection).map(Way::PagerDuty)
            }
            Kind::Webhook(webhook) => {
                webhook::Webhook::new(webhook, connection, &config.name).map(Way::Webhook)
            }
            Kind::Alertmanager(alertmanager) => {
                alertmanager::Alertmanager::new(alertmanager, connection, repeat_interval)
                    .map(Way::Alertmanager)
            }
            Kind::Teams(teams) => teams::Teams::new(teams, connection).map(Way::Teams),
        };
        let way = way.map_err(|reason| config.error(&reason))?;
        let sources = config
            .kind
            .sources()
            .map_err(|error| config.error(&error))?;
        for source in sources {
            if let Err(error) = source.load() {
                tracing::warn!(channel = config.name, "nothing can be sent yet: {error}");
            }
        }
        Ok(Self {
            name: config.name.clone(),
            way,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the receiver answered, in one line, for `cutover alert test`.
    pub async fn send(&self, notification: &Notification) -> Result<String, Error> {
        match &self.way {
            Way::Slack(slack) => slack.send(notification).await,
            Way::Email(email) => email.send(notification).await,
            Way::PagerDuty(duty) => duty.send(notification).await,
            Way::Webhook(webhook) => webhook.send(notification).await,
            Way::Alertmanager(alertmanager) => alertmanager.send(notification).await,
            Way::Teams(teams) => teams.send(notification).await,
        }
    }
}
