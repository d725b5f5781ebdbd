//! A channel's task: sends one notification at a time and reports what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::alert::Notification;
use crate::alert::channel::Error;
use crate::alert::dispatch::outlet::Outlet;
use crate::model::Clock;
use crate::shutdown::Shutdown;

/// The longest that one attempt may take, whatever time-outs the channel has of its own.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);

/// What came of one attempt.
pub(super) struct Report {
    pub(super) outlet: usize,
    pub(super) result: Result<String, Error>,
    pub(super) took: Duration,
}

/// The dispatcher's end of a channel's task.
pub(super) struct Worker(mpsc::Sender<Notification>);

impl Worker {
    pub(super) fn start(
        outlet: usize,
        Outlet { send, .. }: Outlet,
        reports: &mpsc::Sender<Report>,
        clock: &Arc<dyn Clock>,
        shutdown: &Shutdown,
    ) -> Self {
        // One at a time: the dispatcher hands out the next when it has the report.
        let (jobs, mut waiting) = mpsc::channel(1);
        let (reports, clock) = (reports.clone(), clock.clone());
        // It ends with the dispatcher, which waits a little for what is under way.
        shutdown.spawn("alert channel", async move {
            while let Some(notification) = waiting.recv().await {
                let began = clock.monotonic();
                let result = tokio::select! {
                    () = reports.closed() => return,
                    sent = tokio::time::timeout(ATTEMPT_MAX, send(notification)) => sent,
                };
                let result = result.unwrap_or_else(|_elapsed| {
                    Err(Error::Later {
                        reason: format!("it took longer than {ATTEMPT_MAX:?}"),
                        retry_after: None,
                    })
                });
                let took = clock.monotonic().saturating_sub(began);
                let report = Report {
                    outlet,
                    result,
                    took,
                };
                if reports.send(report).await.is_err() {
                    return;
                }
            }
        });
        Self(jobs)
    }

    pub(super) fn send(&self, notification: Notification) {
        let sent = self.0.try_send(notification);
        debug_assert!(sent.is_ok(), "a channel has one notification at a time");
    }
}
