//! The consumer's thread: reads, counts, commits, and writes the grid.
//!
//! Everything happens in order on this one thread, so a position, the counts it led to and the samples
//! that show them are always of one moment. Whatever goes wrong with the store, nothing goes on from
//! memory: the ledger is loaded again and a new client takes up the stored positions. Whatever goes
//! wrong with the brokers, the grid goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::View;
use super::client::{Client, Place};
use super::config::{Config, Start};
use super::ledger::{Ledger, Partition, PartitionId, Received};
use super::position::{Bounds, Resumption, start_place};
use super::series;
use super::topic::Selection;
use super::trouble::Troubles;
use crate::cdc::Classifier;
use crate::cdc::lag::Model;
use crate::ingest::Error;
use crate::model::{Batch, Clock};
use crate::shutdown::Shutdown;
use crate::store::{Reader, Writer};

/// The grid on which the series are written and ends are polled.
pub(super) const GRID: Duration = Duration::from_secs(5);

/// How long messages may wait for a commit, and how many or how large they may get meanwhile.
const LINGER: Duration = Duration::from_millis(100);
const BATCH_MESSAGES_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long to wait for a message before looking at the clock again.
const POLL: Duration = Duration::from_millis(50);

/// How soon the brokers are asked again when they did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Pauses after a failed commit: doubled each time, from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Everything the thread owns, but for the client and the ledger, which do not outlive an error.
pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) selection: Selection,
    pub(super) model: Model,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: Shutdown,
    pub(super) view: Arc<Mutex<View>>,
    pub(super) troubles: Troubles,
}

/// One client with one ledger, from a load of the store to the first error.
struct Session<'w> {
    worker: &'w mut Worker,
    client: Client,
    ledger: Ledger,
    /// Whether partitions found now are the first ever, to which `start` applies.
    is_first: bool,
    /// A position turned out to be outside its log: all must be compared again.
    is_misplaced: bool,
    /// When topics and partitions are next looked for.
    discover_at: Duration,
}

impl Worker {
    pub(super) fn load(&self) -> Result<Ledger, Error> {
        let classifier = Classifier::new(&*self.config.heartbeat_prefix);
        Ok(Ledger::load(&self.reader, classifier)?)
    }

    /// Writes the restored counters again, so that whoever asks first sees them.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let mut ledger = self.load()?;
        let mut batch = Batch::default();
        series::add_metadata(&mut batch);
        let at = ledger.next_stamp(self.clock.now(), &mut batch);
        series::add_counters(&mut batch, &ledger, at);
        self.commit(&mut ledger, batch)?;
        self.show(&ledger, None);
        Ok(())
    }

    /// Runs until the process is told to stop.
    pub(super) fn run(mut self) {
        let mut pause = BACKOFF_MIN;
        while !self.shutdown.has_begun() {
            let started = self.clock.monotonic();
            let Err(error) = self.session() else { return };
            self.troubles.session_failed(&error);
            self.troubles.report();
            if self.clock.monotonic() > started + BACKOFF_MAX {
                pause = BACKOFF_MIN;
            }
            self.sleep(pause);
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    fn session(&mut self) -> Result<(), Error> {
        let ledger = self.load()?;
        let client = Client::new(&self.config, self.clock.clone())?;
        let is_first = ledger.is_blank();
        let session = Session {
            worker: self,
            client,
            ledger,
            is_first,
            is_misplaced: false,
            discover_at: Duration::ZERO,
        };
        session.run()
    }

    fn sleep(&self, span: Duration) {
        let until = self.clock.monotonic() + span;
        while self.clock.monotonic() < until && !self.shutdown.has_begun() {
            std::thread::sleep(POLL);
        }
    }

    /// Writes a batch together with everything that is staged.
    fn commit(&mut self, ledger: &mut Ledger, mut batch: Batch) -> Result<(), Error> {
        ledger.stage(&mut batch);
        if !batch.is_empty() {
            let written = self.writer.write_blocking(batch)?;
            if let Some(rejection) = written.first_rejection {
                let (series, reason) = (rejection.labels, rejection.reason);
                tracing::warn!(count = written.rejected, %series, %reason, "samples not stored");
            }
        }
        let changed = ledger.committed();
        self.show(ledger, Some(&changed));
        self.troubles.session_works();
        Ok(())
    }

    /// Shows the committed state of some partitions, or of all.
    fn show(&self, ledger: &Ledger, changed: Option<&BTreeSet<PartitionId>>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        match changed {
            Some(changed) => changed.iter().for_each(|id| {
                if let Some(partition) = ledger.get(id) {
                    view.set(id.clone(), partition);
                }
            }),
            None => ledger.partitions().for_each(|(topic, number, partition)| {
                view.set((topic.to_owned(), number), partition);
            }),
        }
    }
}

impl Session<'_> {
    fn run(mut self) -> Result<(), Error> {
        // Not at once: before the heartbeats that came meanwhile are read, all tables look late.
        let mut grid_at = self.worker.clock.monotonic() + GRID;
        let mut staged_at = None;
        while !self.worker.shutdown.has_begun() {
            let now = self.worker.clock.monotonic();
            if now >= self.discover_at {
                let answered = self.discover()?;
                let interval = self.worker.config.metadata_interval;
                self.discover_at = now + if answered { interval } else { RETRY };
                self.worker.troubles.report();
            }
            if now >= grid_at {
                self.tick()?;
                staged_at = None;
                grid_at = now + GRID;
            }
            self.receive();
            let (messages, bytes) = self.ledger.staged();
            let now = self.worker.clock.monotonic();
            let is_due = messages > 0 && now >= *staged_at.get_or_insert(now) + LINGER;
            if is_due || messages >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX {
                self.worker.commit(&mut self.ledger, Batch::default())?;
            }
            if self.ledger.staged().0 == 0 {
                staged_at = None;
            }
        }
        self.write_grid()
    }

    /// Takes what has arrived, waiting a moment for the first.
    fn receive(&mut self) {
        let mut timeout = POLL;
        while let Some(message) = self.client.poll(timeout) {
            timeout = Duration::ZERO;
            match message {
                Ok(message) => {
                    let received = Received {
                        topic: message.topic(),
                        partition: message.partition(),
                        offset: message.offset(),
                        value: message.payload(),
                    };
                    self.ledger.take(received, self.worker.clock.now());
                }
                Err(error) => {
                    if is_out_of_range(&error) {
                        self.is_misplaced = true;
                        self.discover_at = Duration::ZERO;
                    }
                    tracing::debug!(%error, "kafka client");
                    self.worker.troubles.client_failed();
                }
            }
            let (messages, bytes) = self.ledger.staged();
            if messages >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX {
                return;
            }
        }
    }

    /// Polls the ends of all partitions, and writes every series.
    fn tick(&mut self) -> Result<(), Error> {
        // Our positions first, then the ends: the other way round a lag could come out negative. What
        // is staged becomes durable in the same commit as the lag that counts it.
        if let Ok(positions) = self.client.positions() {
            self.ledger.skip_markers(&positions);
        }
        let partitions: BTreeSet<_> = self.ledger.positions().into_keys().collect();
        let ends = self.client.offsets(&partitions, Place::End);
        if let Some(ends) = self.answer(ends) {
            self.ledger.set_ends(&ends, self.worker.clock.now());
        }
        self.worker.troubles.report();
        self.write_grid()
    }

    fn write_grid(&mut self) -> Result<(), Error> {
        let mut batch = Batch::default();
        let now = self.worker.clock.now();
        let at = self.ledger.next_stamp(now, &mut batch);
        series::add_counters(&mut batch, &self.ledger, at);
        series::add_lags(&mut batch, &self.ledger, &self.worker.model, at, now);
        self.worker.commit(&mut self.ledger, batch)?;
        self.worker.show(&self.ledger, None);
        self.client.publish(&self.ledger.positions());
        Ok(())
    }

    /// Looks for topics and partitions that came or went; says whether the brokers answered.
    fn discover(&mut self) -> Result<bool, Error> {
        let topics = self.client.topics();
        let Some(topics) = self.answer(topics) else {
            return Ok(false);
        };
        let wanted = self.wanted(&topics);
        let known: BTreeSet<_> = self.ledger.positions().into_keys().collect();
        let gone: BTreeSet<_> = known.difference(&wanted).cloned().collect();
        let mut to_place: BTreeSet<_> = wanted.difference(&known).cloned().collect();
        if self.is_misplaced {
            // The error names no partition, and librdkafka no longer reads the one it means.
            to_place = wanted;
        }
        self.moved(self.client.remove(&gone))?;
        for id in &gone {
            self.ledger.close(id);
        }
        let answered = self.place(&to_place)?;
        self.is_misplaced &= !answered;
        Ok(answered)
    }

    /// The partitions of all topics that are to be read.
    fn wanted(&mut self, topics: &BTreeMap<String, Vec<i32>>) -> BTreeSet<PartitionId> {
        let worker = &mut *self.worker;
        let existing = topics.keys().map(String::as_str).collect();
        let chosen = worker.selection.choose(&existing);
        worker.troubles.topics_unmatched(chosen.unmatched);
        let ours = worker.config.partitions.as_ref();
        let of_data = |number: &i32| ours.is_none_or(|ours| ours.contains(number));
        let mut wanted = BTreeSet::new();
        for topic in &chosen.data {
            let numbers = topics[topic].iter().copied().filter(of_data);
            wanted.extend(numbers.map(|number| (topic.clone(), number)));
        }
        // Every host needs the heartbeats, whichever partitions are its own.
        for topic in &chosen.control {
            wanted.extend(topics[topic].iter().map(|number| (topic.clone(), *number)));
        }
        wanted
    }

    /// Begins to read partitions where they were left, or where new ones start.
    fn place(&mut self, partitions: &BTreeSet<PartitionId>) -> Result<bool, Error> {
        if partitions.is_empty() {
            return Ok(true);
        }
        let start = if self.is_first {
            self.worker.config.start
        } else {
            Start::Beginning
        };
        let bounds = self.bounds(partitions, start);
        let Some(bounds) = self.answer(bounds) else {
            return Ok(false);
        };
        let mut reopened = BTreeSet::new();
        let mut positions = BTreeMap::new();
        for id in partitions {
            let left_at = self.ledger.get(id).map(Partition::next_offset);
            let Some(resumption) = bounds.resume(id, left_at, start) else {
                continue;
            };
            self.tell(id, resumption);
            if self.ledger.get(id).is_some_and(Partition::is_read) {
                reopened.insert(id.clone());
            }
            self.ledger.open(id, resumption.next_offset());
            positions.insert(id.clone(), resumption.next_offset());
        }
        // Stored before anything is read from there: a start at the end must hold over a restart.
        self.worker.commit(&mut self.ledger, Batch::default())?;
        self.is_first = false;
        self.moved(self.client.remove(&reopened))?;
        self.moved(self.client.add(&positions))?;
        self.worker.show(&self.ledger, None);
        Ok(true)
    }

    /// A client that refuses partitions cannot be trusted with the others: another takes its place.
    fn moved(&self, moved: KafkaResult<()>) -> Result<(), Error> {
        moved.map_err(|source| self.worker.config.client_error(source))
    }

    fn bounds(&self, partitions: &BTreeSet<PartitionId>, start: Start) -> KafkaResult<Bounds> {
        Ok(Bounds {
            lows: self.client.offsets(partitions, Place::Beginning)?,
            highs: self.client.offsets(partitions, Place::End)?,
            starts: match start_place(start) {
                Some(place) => self.client.offsets(partitions, place)?,
                None => BTreeMap::new(),
            },
        })
    }

    /// Reports a position that could not be kept.
    fn tell(&mut self, id: &PartitionId, resumption: Resumption) {
        let troubles = &mut self.worker.troubles;
        match resumption {
            Resumption::At(_) => {}
            Resumption::Gap { from, to } => troubles.gap(id, from, to),
            Resumption::Recreated { left_at, from } => troubles.made_anew(id, left_at, from),
        }
    }

    /// The brokers' answer; an error is taken as their silence.
    fn answer<T>(&mut self, answer: KafkaResult<T>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.worker.troubles.brokers_answered();
                Some(answer)
            }
            Err(error) => {
                let reason = self.client.explain(&error);
                self.worker.troubles.brokers_silent(reason);
                None
            }
        }
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}
