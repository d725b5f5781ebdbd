//! Outlets: a channel as the dispatcher sees it, a name, a route and a way to send.
//!
//! Without any channel configured the log is the one outlet, so that every alert is told once somewhere.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::route::Route;
use crate::alert::channel::{Channel, Error};
use crate::alert::{Alert, Notification, Status};

/// Sends one notification; what the receiver answered, in one line.
pub type Send = Arc<dyn Fn(Notification) -> Sending + std::marker::Send + Sync>;

type Sending = Pin<Box<dyn Future<Output = Result<String, Error>> + std::marker::Send>>;

/// Where notifications leave.
#[derive(Clone)]
pub struct Outlet {
    pub(super) name: String,
    pub(super) route: Route,
    pub(super) send: Send,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Outlet")
            .field("name", &self.name)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl Outlet {
    pub fn new(name: impl Into<String>, route: Route, send: Send) -> Self {
        Self {
            name: name.into(),
            route,
            send,
        }
    }

    pub fn channel(route: Route, channel: Channel) -> Self {
        let name = channel.name().to_owned();
        let channel = Arc::new(channel);
        let send = move |notification: Notification| -> Sending {
            let channel = channel.clone();
            Box::pin(async move { channel.send(&notification).await })
        };
        Self::new(name, route, Arc::new(send))
    }

    /// The log, a line an alert.
    pub(super) fn log() -> Self {
        let send = |notification: Notification| -> Sending {
            notification.alerts.iter().for_each(log_alert);
            Box::pin(std::future::ready(Ok("logged".to_owned())))
        };
        Self::new("log", Route::default(), Arc::new(send))
    }
}

fn log_alert(alert: &Alert) {
    let (name, severity, summary) = (alert.name(), alert.severity(), summary(alert));
    match (alert.status(), severity) {
        (Status::Firing, "critical") => {
            tracing::error!(alert = name, severity, "firing: {summary}");
        }
        (Status::Firing, "info") => tracing::info!(alert = name, severity, "firing: {summary}"),
        (Status::Firing, _) => tracing::warn!(alert = name, severity, "firing: {summary}"),
        (Status::Resolved, _) => tracing::info!(alert = name, severity, "resolved: {summary}"),
    }
}

/// What an alert says of itself, or else its labels.
fn summary(alert: &Alert) -> String {
    let said = ["summary", "description"];
    let said = said.iter().find_map(|name| alert.annotations.get(*name));
    said.cloned().unwrap_or_else(|| {
        let pairs = alert
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"));
        pairs.collect::<Vec<_>>().join(" ")
    })
}
