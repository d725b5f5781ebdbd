//! The counters of an earlier run without a consumer: kept in sight when Kafka is not read, and begun at
//! a value for a story that continues a made-up history.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::ledger::{Ledger, counted};
use super::{series, worker};
use crate::cdc::{Classifier, Key, Tally};
use crate::ingest::Error;
use crate::model::{Batch, Clock, Mutation};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Writer};

/// Changes counted on a topic before its first message.
#[derive(Clone, Debug)]
pub struct Counted {
    pub topic: String,
    pub key: Key,
    pub count: u64,
}

/// The records that make a consumer continue from these counts, each topic in one partition of which
/// nothing has been read.
pub fn continue_from(counts: impl IntoIterator<Item = Counted>) -> Vec<Mutation> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for Counted { topic, key, count } in counts {
        tallies.entry(topic).or_default().add_changes(&key, count);
    }
    tallies
        .into_iter()
        .map(|(topic, tally)| counted(&topic, tally))
        .collect()
}

/// The offset that comes next in every partition that has ever been read into this store.
pub fn positions(reader: &Reader) -> Result<BTreeMap<(String, i32), i64>, store::Error> {
    let ledger = Ledger::load(reader, Classifier::new(""))?;
    let partitions = ledger.partitions();
    Ok(partitions
        .map(|(topic, number, partition)| ((topic.to_owned(), number), partition.next_offset()))
        .collect())
}

/// Goes on writing the counters that an earlier run left, while Kafka is not read: an idle counter does
/// not vanish. The first time is before this returns.
///
/// Must be called within a Tokio runtime, off its async threads.
pub fn keep(
    writer: Writer,
    reader: &Reader,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut ledger = Ledger::load(reader, Classifier::new(""))?;
    if ledger.is_blank() {
        return Ok(());
    }
    let mut first = Batch::default();
    series::add_metadata(&mut first);
    fill(&mut first, &mut ledger, &*clock);
    writer.write_blocking(first)?;
    let stopping = shutdown.clone();
    shutdown.spawn("kafka counters", async move {
        let mut ticks = tokio::time::interval(worker::GRID);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.reset();
        loop {
            tokio::select! {
                () = stopping.begun() => return,
                _ = ticks.tick() => {}
            }
            let mut batch = Batch::default();
            fill(&mut batch, &mut ledger, &*clock);
            if let Err(error) = writer.write(batch).await {
                tracing::warn!(%error, "counters were not written");
            }
        }
    });
    Ok(())
}

fn fill(batch: &mut Batch, ledger: &mut Ledger, clock: &dyn Clock) {
    let at = ledger.next_stamp(clock.now(), batch);
    series::add_counters(batch, ledger, at);
}
