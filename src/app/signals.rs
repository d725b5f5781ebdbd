//! Signals: the first SIGINT or SIGTERM drains, the second ends the process at once; SIGHUP is passed on.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::shutdown::Shutdown;

/// The exit code after a second interrupt, as shells have it.
const INTERRUPTED: i32 = 130;

/// Starts listening to signals; what it answers is told of each SIGHUP.
pub(super) fn watch(shutdown: &Shutdown) -> anyhow::Result<Arc<Notify>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?;
    let begun = shutdown.clone();
    let told = Arc::new(Notify::new());
    let hung_up = told.clone();
    // Outside the tracker: it has to be there until the very end.
    #[expect(
        clippy::disallowed_methods,
        reason = "it outlives the shutdown that it begins"
    )]
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {
                    hung_up.notify_one();
                    continue;
                }
            }
            if begun.has_begun() {
                tracing::warn!("interrupted again: ending at once");
                std::process::exit(INTERRUPTED);
            }
            tracing::info!("interrupted: draining");
            begun.begin();
        }
    });
    Ok(told)
}
