//! The appliance's metrics about itself, written into its own store on a fixed grid.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::model::{Clock, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::Writer;
use crate::telemetry::Metrics;

/// The grid of own metrics.
const INTERVAL: Duration = Duration::from_secs(15);

/// Writes every own metric each interval, changed or not, until the shutdown begins.
pub(super) async fn run(
    metrics: Metrics,
    writer: Writer,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = Timestamp::MIN;
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            _ = ticks.tick() => {}
        }
        // A clock that steps back must not make two samples of one time.
        last = clock.now().max(last.offset_ms(1));
        if let Err(error) = writer.write(metrics.batch(last)).await {
            tracing::warn!(%error, "own metrics were not written");
        }
    }
}
