//! The one writer: takes what is queued, decides what is accepted, makes it durable with one commit,
//! publishes it, and only then answers.
//!
//! After an error of a commit nothing goes on from memory: the write-ahead file is opened again and the
//! head rebuilt from it before anything else is accepted. It also says when to seal and what else there
//! is to do with what is sealed; the doing itself is another thread's.

mod pause;
mod schedule;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use self::pause::Pause;
use super::accept::Group;
use super::entry::Entry;
use super::queue::{Intake, Reply, Request};
use super::recover::Recovered;
use super::upkeep::{Job, Kind};
use super::window::Window;
use super::{Error, Shared, Written, deletion, wal};
use crate::model::Mutation;

/// How often the writer looks at the clock when nothing is queued.
const TICK: Duration = Duration::from_secs(1);
/// A sample is taken for a row of about so many bytes when space is checked.
const ROW_BYTES_PER_SAMPLE: u64 = 24;

pub(crate) struct WriterThread {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    next_seq: u64,
    /// Bytes of rows since the last freeze.
    row_bytes: u64,
    /// When the growing part got its first row.
    active_since: Option<Duration>,
    /// What the other thread is doing.
    running: Option<Kind>,
    sealing_pause: Pause,
    /// Who waits for everything up to a sequence number to be sealed.
    seal_waiters: Vec<(u64, Reply<()>)>,
    /// Who waits for everything to be merged.
    settle_waiters: Vec<Reply<()>>,
    applied: u64,
    retained_at: Duration,
    sealed_at: Duration,
    /// When there was last nothing to merge, and in which state of the data file.
    merged_at: Duration,
    merged_revision: Option<u64>,
    /// When series without samples were last looked for, and in which state of the data file.
    searched_at: Duration,
    searched_revision: Option<u64>,
    /// Samples have gone since then.
    may_have_unused: bool,
    /// The window that is being merged into.
    merging: Option<Window>,
    /// Days in which a block turned out to be damaged; they are left as they are.
    damaged_days: BTreeSet<i64>,
    /// What the data file took after it was last written anew.
    rewritten_bytes: u64,
    failure: Option<Arc<Error>>,
    failure_pause: Pause,
    /// What was last stored of each metric: sources repeat it every minute.
    metadata: HashMap<String, Vec<u8>>,
}

impl WriterThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        jobs: SyncSender<Job>,
        applied: u64,
        row_bytes: u64,
    ) -> Self {
        let retained_at = shared.clock.monotonic();
        Self {
            jobs,
            next_seq: shared.live().published() + 1,
            row_bytes,
            active_since: (row_bytes > 0).then_some(retained_at),
            running: None,
            sealing_pause: Pause::default(),
            seal_waiters: Vec::new(),
            settle_waiters: Vec::new(),
            applied,
            retained_at,
            sealed_at: retained_at,
            merged_at: retained_at,
            merged_revision: None,
            searched_at: retained_at,
            searched_revision: None,
            may_have_unused: false,
            merging: None,
            damaged_days: BTreeSet::new(),
            rewritten_bytes: 0,
            failure: None,
            failure_pause: Pause::default(),
            metadata: HashMap::new(),
            shared,
        }
    }

    /// Runs until the queue is closed and empty and the sealing thread is idle.
    pub(crate) fn run(mut self) {
        // Should this thread ever die, nobody is to wait for an answer.
        let shared = self.shared.clone();
        let _abandon = Abandon(&shared);
        while let Some(requests) = shared.queue.take(TICK, self.running.is_some()) {
            self.handle(requests);
            self.tick();
        }
        self.seal_last();
        let seal_waiters = self.seal_waiters.drain(..).map(|(_, reply)| reply);
        for reply in seal_waiters.chain(self.settle_waiters.drain(..)) {
            answer(reply, Err(Error::Closed));
        }
    }

    /// Commits runs of batches as groups, everything in order.
    fn handle(&mut self, requests: Vec<Request>) {
        let mut writes = Vec::new();
        for request in requests {
            match request {
                Request::Write(intake, reply) => writes.push((intake, reply)),
                Request::Seal(reply) => {
                    self.write(std::mem::take(&mut writes));
                    let published = self.shared.live().published();
                    self.seal_waiters.push((published, reply));
                }
                Request::Delete(request, reply) => {
                    self.write(std::mem::take(&mut writes));
                    answer(reply, self.delete(&request));
                }
                Request::Forget(unused) => {
                    self.write(std::mem::take(&mut writes));
                    self.forget(&unused);
                }
                Request::Settle(reply) => self.settle_waiters.push(reply),
                Request::Done(result) => self.job_done(result),
            }
        }
        self.write(writes);
    }

    fn write(&mut self, writes: Vec<(Intake, Reply<Written>)>) {
        if writes.is_empty() {
            return;
        }
        let bytes = writes.iter().map(|(intake, _)| row_bytes(intake)).sum();
        if let Err(refusal) = self.admit(bytes) {
            for (_, reply) in writes {
                answer(reply, Err(refusal.clone().into()));
            }
            return;
        }
        let live = self.shared.live();
        let mut group = Group::new(&self.shared, &live, self.next_seq, &mut self.metadata);
        let mut accepted: Vec<(Written, Reply<Written>)> = Vec::with_capacity(writes.len());
        for (intake, reply) in writes {
            match &intake.known {
                Some(known) if !known.is_valid_in(&live) => {
                    answer(reply, Err(Error::Restarted));
                }
                _ => {
                    let written = group.accept(intake);
                    self.shared.tally.rejected(&written);
                    accepted.push((written, reply));
                }
            }
        }
        let entry = group.into_entry();
        if !entry.is_empty() {
            if let Err(source) = self.append(&entry) {
                for (_, reply) in accepted {
                    let source = source.clone();
                    answer(reply, Err(Error::Uncertain { source }));
                }
                return;
            }
            live.publish(self.next_seq - 1);
        }
        let seq = self.next_seq - 1;
        for (written, reply) in accepted {
            answer(reply, Ok(Written { seq, ..written }));
        }
    }

    /// Makes an entry durable; whoever asked publishes it. After an error it may be so or not, and the
    /// store recovers before anything else.
    fn append(&mut self, entry: &Entry) -> Result<(), Arc<Error>> {
        let row = entry.encode(self.next_seq);
        let begun = self.shared.clock.monotonic();
        if let Err(error) = wal::append(&self.shared.files.wal, self.next_seq, &row) {
            let source = Arc::new(error);
            self.fail(source.clone());
            return Err(source);
        }
        self.next_seq += 1;
        self.row_bytes += row.len() as u64;
        let now = self.shared.clock.monotonic();
        self.shared.tally.committed(now.saturating_sub(begun));
        self.active_since.get_or_insert(now);
        Ok(())
    }

    /// Hides every sample committed before, and answers how many series that concerns.
    fn delete(&mut self, request: &deletion::Request) -> Result<u64, Error> {
        self.admit(0)?;
        let live = self.shared.live();
        let seq = self.next_seq;
        let deletion = request.resolve(seq, &live.index());
        let count = deletion.series.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        self.record(request.mutation(seq))
            .map_err(|source| Error::Uncertain { source })?;
        live.active().purge(&deletion);
        live.change_deletions(|deletions| deletions.push(Arc::new(deletion)));
        live.publish(seq);
        Ok(count)
    }

    /// Commits the change of one record of the store's own; whoever asked publishes it.
    fn record(&mut self, mutation: Mutation) -> Result<(), Arc<Error>> {
        let live = self.shared.live();
        live.active()
            .mutate(self.next_seq, &mutation, live.oldest());
        self.append(&Entry {
            mutations: vec![mutation],
            ..Entry::default()
        })
    }

    /// Whether a group may be begun; otherwise what everybody in it is told.
    fn admit(&self, bytes: u64) -> Result<(), Refusal> {
        if let Some(source) = &self.failure {
            return Err(Refusal::Recovering(source.clone()));
        }
        let max_bytes = self.shared.options.memory_bytes_max;
        let held_bytes = self.shared.live().bytes();
        if held_bytes >= max_bytes {
            return Err(Refusal::Busy {
                held_bytes,
                max_bytes,
            });
        }
        self.shared.check_space(bytes).map_err(|error| match error {
            Error::DiskFull {
                path,
                free_bytes,
                needed_bytes,
            } => Refusal::DiskFull {
                path,
                free_bytes,
                needed_bytes,
            },
            error => Refusal::Recovering(Arc::new(error)),
        })
    }

    fn fail(&mut self, source: Arc<Error>) {
        tracing::error!(
            error = &*source as &dyn std::error::Error,
            "write-ahead file failed, opening it again"
        );
        self.shared.tally.failed();
        self.failure_pause.extend(self.shared.clock.monotonic());
        self.failure = Some(source);
    }

    /// Opens the write-ahead file again and rebuilds the head, once the pause is over. Not while a seal
    /// is under way: what it seals would be in the rebuilt head as well.
    fn recover_if_due(&mut self) {
        let now = self.shared.clock.monotonic();
        if self.failure.is_none() || self.running.is_some() || !self.failure_pause.is_over(now) {
            return;
        }
        match self.recover() {
            Ok(recovered) => {
                self.next_seq = recovered.live.published() + 1;
                self.row_bytes = recovered.row_bytes;
                self.applied = recovered.applied;
                self.active_since = (recovered.row_bytes > 0).then_some(now);
                self.metadata.clear();
                self.shared.set_live(recovered.live);
                self.failure = None;
                self.failure_pause = Pause::default();
                tracing::info!("write-ahead file recovered");
            }
            Err(source) => self.fail(source),
        }
    }

    fn recover(&self) -> Result<Recovered, Arc<Error>> {
        self.shared.files.wal.reopen()?;
        Ok(Recovered::load(&self.shared.files)?)
    }
}

/// Why nothing of a group was begun; told to each of its batches.
#[derive(Clone, Debug)]
enum Refusal {
    Recovering(Arc<Error>),
    Busy {
        held_bytes: u64,
        max_bytes: u64,
    },
    DiskFull {
        path: PathBuf,
        free_bytes: u64,
        needed_bytes: u64,
    },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Recovering(source) => Self::Recovering { source },
            Refusal::Busy {
                held_bytes,
                max_bytes,
            } => Self::Busy {
                held_bytes,
                max_bytes,
            },
            Refusal::DiskFull {
                path,
                free_bytes,
                needed_bytes,
            } => Self::DiskFull {
                path,
                free_bytes,
                needed_bytes,
            },
        }
    }
}

/// Roughly what a batch takes in the write-ahead file.
fn row_bytes(intake: &Intake) -> u64 {
    let records = intake.batch.mutations.iter().map(|mutation| {
        mutation.key.len() as u64 + mutation.value.as_ref().map_or(0, Vec::len) as u64
    });
    intake.sample_count() as u64 * ROW_BYTES_PER_SAMPLE + records.sum::<u64>()
}

/// Closes the queue when the writer ends, whatever the way.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}

/// Whoever asked may have gone.
fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    drop(reply.send(result));
}
