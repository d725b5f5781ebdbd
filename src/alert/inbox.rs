//! The way from those who find alerts to the dispatcher.
//!
//! Whoever finds alerts says all of them again at every evaluation, those that fire and those that have
//! been over for less than 15 minutes; so what is lost on a full way is made good by the next evaluation.

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Alert;

/// Evaluations under way at most; the dispatcher takes them in at once.
const POSTS_MAX: usize = 256;

/// One evaluation's alerts.
pub type Posted = Vec<Alert>;

/// Where alerts are said. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Inbox(Sender<Posted>);

/// The inbox and the dispatcher's end of it.
pub fn inbox() -> (Inbox, Receiver<Posted>) {
    let (sender, receiver) = mpsc::channel(POSTS_MAX);
    (Inbox(sender), receiver)
}

impl Inbox {
    /// Whether the alerts are on their way; if not, the next evaluation says them again.
    #[must_use]
    pub fn post(&self, alerts: Posted) -> bool {
        alerts.is_empty() || self.0.try_send(alerts).is_ok()
    }
}
