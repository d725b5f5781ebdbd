//! The appliance's metrics about itself, written into its own store on a fixed grid.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::store_series::StoreSeries;
use crate::model::{Clock, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::{Reader, Stats, Writer};
use crate::telemetry::Metrics;

/// The grid of own metrics.
const INTERVAL: Duration = Duration::from_secs(15);

/// Writes every own metric each interval, changed or not, until the shutdown begins.
pub(super) async fn run(
    metrics: Metrics,
    reader: Reader,
    writer: Writer,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let store = StoreSeries::new(&metrics);
    let mut last = Timestamp::MIN;
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            _ = ticks.tick() => {}
        }
        match stats(&reader).await {
            Ok(stats) => store.set(&stats),
            Err(error) => tracing::warn!(error, "the state of the store cannot be told"),
        }
        // A clock that steps back must not make two samples of one time.
        last = clock.now().max(last.offset_ms(1));
        if let Err(error) = writer.write(metrics.batch(last)).await {
            tracing::warn!(%error, "own metrics were not written");
        }
    }
}

/// The state of the store, whose files are asked off the async runtime.
async fn stats(reader: &Reader) -> Result<Stats, String> {
    let reader = reader.clone();
    match tokio::task::spawn_blocking(move || reader.stats()).await {
        Ok(stats) => stats.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
