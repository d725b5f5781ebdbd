//! Kafka as a way in: Debezium's change events, each counted once.
//!
//! [`Consumer::start`] runs one thread that reads the configured topics and writes counts, lags and
//! dead letters to the store. Positions live in the store, in the same commits as the counts they led
//! to; partitions are assigned by us and never by a group. After any crash, counts equal the topics'
//! truth: a message is counted exactly once, whatever was read twice.
//!
//! `worker` is the thread, `client` its conversation with the brokers, `ledger` what has been
//! read, `position` where a partition is taken up, `topic` which topics are read, `series` what is
//! written, and `trouble` what is told when something is wrong.

mod client;
pub mod config;
mod counters;
mod ledger;
mod position;
pub mod security;
mod series;
mod topic;
mod trouble;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

pub use config::{Config, Start};
pub use counters::{Counted, continue_from, keep, positions};

use self::ledger::{Partition, PartitionId};
use self::topic::Selection;
use self::trouble::Troubles;
use self::worker::Worker;
use super::Error;
use crate::cdc::lag::Model;
use crate::cdc::{Key, Tally};
use crate::model::Clock;
use crate::shutdown::Shutdown;
use crate::store::{Reader, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State};

/// The reader of Kafka.
#[derive(Debug)]
pub struct Consumer;

impl Consumer {
    /// Starts the consumer's thread, and waits until the counters of an earlier run have been written
    /// again: whoever is served after this returns sees them.
    ///
    /// Returns an error for a configuration that cannot work or a store that does not answer; brokers
    /// that do not answer are a matter of health. Must be called within a Tokio runtime, since
    /// `shutdown` waits for the thread, whose last act is a commit.
    pub fn start(
        config: Config,
        writer: Writer,
        reader: Reader,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        health: Health,
        shutdown: &Shutdown,
    ) -> Result<Handle, Error> {
        let selection = Selection::new(&config.topics, &config.heartbeat_prefix)?;
        config.check()?;
        if config.sasl.is_some() && config.tls.is_none() {
            tracing::warn!(
                "kafka.sasl without [kafka.tls]: credentials cross the network in the clear"
            );
        }
        health.set(
            trouble::PART,
            State::Starting,
            format!("connecting to {}", config.brokers),
        );
        let view = Arc::new(Mutex::new(View::default()));
        let mut worker = Worker {
            model: Model::new(config.heartbeat_interval, worker::GRID),
            troubles: Troubles::new(&config.brokers, metrics, health.clone()),
            config,
            selection,
            writer,
            reader,
            clock,
            shutdown: shutdown.clone(),
            view: view.clone(),
        };
        let (restored, is_restored) = mpsc::sync_channel(1);
        let (ended, has_ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("kafka".to_owned());
        let thread = thread.spawn(move || {
            // Dropped at the end, also of a panic.
            let _ended = ended;
            let result = worker.restore();
            let is_ready = result.is_ok();
            if restored.send(result).is_ok() && is_ready {
                worker.run();
            }
        });
        let thread = thread.map_err(|source| Error::Thread { source })?;
        shutdown.spawn("kafka", async move {
            // Nothing is ever sent: the channel closes when the thread ends.
            has_ended.await.unwrap_or_default();
            if thread.join().is_err() {
                tracing::error!("the kafka consumer's thread panicked");
                health.set(
                    trouble::PART,
                    State::Failed,
                    "the consumer's thread panicked",
                );
            }
        });
        is_restored
            .recv()
            .expect("the thread answers or has panicked")?;
        Ok(Handle { view })
    }
}

/// What has been read and committed. Cloning is cheap.
#[derive(Clone)]
pub struct Handle {
    view: Arc<Mutex<View>>,
}

/// How far the reading of one partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset after the last message whose count is durable.
    pub next_offset: i64,
    /// The offset after the last message in Kafka, when the brokers were last asked.
    pub end_offset: Option<i64>,
}

impl Handle {
    /// How many changes have been counted and committed, over all partitions ever read.
    pub fn counts(&self) -> BTreeMap<Key, u64> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for tally in view.tallies.values() {
            for (key, count) in tally.changes() {
                *counts.entry(key).or_default() += count;
            }
        }
        counts
    }

    /// The partitions that are read, by topic and number.
    pub fn positions(&self) -> BTreeMap<(String, i32), Position> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.positions.clone()
    }

    /// The offset after the last committed message of one partition, if it is read.
    pub fn next_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let position = view.positions.get(&(topic.to_owned(), partition))?;
        Some(position.next_offset)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Handle")
            .field("positions", &self.positions())
            .finish()
    }
}

/// The committed state, as the thread last showed it.
#[derive(Debug, Default)]
struct View {
    positions: BTreeMap<PartitionId, Position>,
    tallies: BTreeMap<PartitionId, Tally>,
}

impl View {
    fn set(&mut self, id: PartitionId, partition: &Partition) {
        self.tallies.insert(id.clone(), partition.tally().clone());
        if partition.is_read() {
            let position = Position {
                next_offset: partition.next_offset(),
                end_offset: partition.end_offset(),
            };
            self.positions.insert(id, position);
        } else {
            self.positions.remove(&id);
        }
    }
}
