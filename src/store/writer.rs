//! The one writer: takes what is queued, decides what is accepted, makes it durable with one commit,
//! publishes it, and only then answers.
//!
//! After an error of a commit nothing goes on from memory: the write-ahead file is opened again and the
//! head rebuilt from it before anything else is accepted. It also says when to seal; the sealing itself
//! is another thread's.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::accept::Group;
use super::live::Live;
use super::queue::{Intake, Reply, Request};
use super::recover::Recovered;
use super::seal::{Job, SealJob};
use super::{Error, Shared, Written, wal};

/// How often the writer looks at the clock when nothing is queued.
const TICK: Duration = Duration::from_secs(1);
/// How often windows past the retention are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// Pauses after a failure: doubled each time from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
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
    is_sealing: bool,
    sealing_pause: Pause,
    /// Who waits for everything up to a sequence number to be sealed.
    seal_waiters: Vec<(u64, Reply<()>)>,
    applied: u64,
    retained_at: Duration,
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
            is_sealing: false,
            sealing_pause: Pause::default(),
            seal_waiters: Vec::new(),
            applied,
            retained_at,
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
        while let Some(requests) = shared.queue.take(TICK, self.is_sealing) {
            self.handle(requests);
            self.tick();
        }
        for (_, reply) in self.seal_waiters.drain(..) {
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
                Request::Done(result) => self.job_done(result),
            }
        }
        self.write(writes);
    }

    /// What is due by the clock, or because something finished.
    fn tick(&mut self) {
        self.recover_if_due();
        self.answer_sealed();
        let now = self.shared.clock.monotonic();
        // What failed before, be it the writing or the reading of a block, waits out its pause.
        if self.is_sealing || self.failure.is_some() || !self.sealing_pause.is_over(now) {
            return;
        }
        if self.shared.files.data.needs_reopening() {
            self.start(Job::Reopen);
            return;
        }
        self.seal_if_due(now);
        if !self.is_sealing
            && let Some(cutoff) = self.shared.cutoff()
            && now.saturating_sub(self.retained_at) >= RETENTION_INTERVAL
        {
            self.retained_at = now;
            self.start(Job::Retain(cutoff));
        }
    }

    fn write(&mut self, writes: Vec<(Intake, Reply<Written>)>) {
        if writes.is_empty() {
            return;
        }
        if let Err(refusal) = self.admit(&writes) {
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
                Some((known_by, _)) if !Arc::ptr_eq(known_by, &live) => {
                    answer(reply, Err(Error::Restarted));
                }
                _ => accepted.push((group.accept(intake), reply)),
            }
        }
        let entry = group.into_entry();
        if !entry.is_empty() {
            let row = entry.encode(self.next_seq);
            if let Err(error) = wal::append(&self.shared.files.wal, self.next_seq, &row) {
                let source = Arc::new(error);
                for (_, reply) in accepted {
                    let source = source.clone();
                    answer(reply, Err(Error::Uncertain { source }));
                }
                self.fail(source);
                return;
            }
            live.publish(self.next_seq);
            self.next_seq += 1;
            self.row_bytes += row.len() as u64;
            let now = self.shared.clock.monotonic();
            self.active_since.get_or_insert(now);
        }
        let seq = self.next_seq - 1;
        for (written, reply) in accepted {
            answer(reply, Ok(Written { seq, ..written }));
        }
    }

    /// Whether a group may be begun; otherwise what everybody in it is told.
    fn admit(&self, writes: &[(Intake, Reply<Written>)]) -> Result<(), Refusal> {
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
        let bytes = writes.iter().map(|(intake, _)| row_bytes(intake)).sum();
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
        self.failure_pause.extend(self.shared.clock.monotonic());
        self.failure = Some(source);
    }

    /// Opens the write-ahead file again and rebuilds the head, once the pause is over. Not while a seal
    /// is under way: what it seals would be in the rebuilt head as well.
    fn recover_if_due(&mut self) {
        let now = self.shared.clock.monotonic();
        if self.failure.is_none() || self.is_sealing || !self.failure_pause.is_over(now) {
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

    fn seal_if_due(&mut self, now: Duration) {
        let live = self.shared.live();
        if live.frozen().is_none() {
            if live.published() <= self.applied || !self.is_seal_due(&live, now) {
                return;
            }
            live.freeze();
            self.row_bytes = 0;
            self.active_since = None;
        }
        let Some((part, seq)) = live.frozen() else {
            return;
        };
        // When an earlier try failed, the index is larger than at the freeze: series whose samples are
        // not sealed yet are defined by their rows as well.
        let (series, symbols) = {
            let index = live.index();
            (index.len(), index.symbols().len())
        };
        self.start(Job::Seal(SealJob {
            live,
            part,
            seq,
            series,
            symbols,
        }));
    }

    fn is_seal_due(&self, live: &Live, now: Duration) -> bool {
        let rule = &self.shared.seal_rule;
        let part = live.active();
        let series = part.columns().len() as u64;
        let is_full =
            self.row_bytes >= rule.row_bytes && part.samples() >= series * rule.samples_per_series;
        let is_old = self
            .active_since
            .is_some_and(|since| now.saturating_sub(since) >= rule.age);
        let is_pressed = part.bytes() >= self.shared.options.memory_bytes_max / 2;
        is_full || is_old || is_pressed || !self.seal_waiters.is_empty()
    }

    fn start(&mut self, job: Job) {
        // The thread takes one job at a time and is idle now, so there is room.
        self.is_sealing = self.jobs.try_send(job).is_ok();
    }

    fn job_done(&mut self, result: Result<(), Error>) {
        self.is_sealing = false;
        match result.and_then(|()| self.shared.applied()) {
            Ok(applied) => {
                self.sealing_pause = Pause::default();
                if applied > self.applied {
                    self.applied = applied;
                    self.shared.live().release(applied);
                    if self.failure.is_none()
                        && let Err(error) = wal::cut(&self.shared.files.wal, applied)
                    {
                        self.fail(Arc::new(error));
                    }
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "not sealed, trying again"
                );
                self.sealing_pause.extend(self.shared.clock.monotonic());
                let source = Arc::new(error);
                for (_, reply) in self.seal_waiters.drain(..) {
                    let source = source.clone();
                    answer(reply, Err(Error::NotSealed { source }));
                }
            }
        }
    }

    fn answer_sealed(&mut self) {
        let applied = self.applied;
        for (_, reply) in self.seal_waiters.extract_if(.., |(seq, _)| *seq <= applied) {
            answer(reply, Ok(()));
        }
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

/// A growing pause after failures.
#[derive(Debug, Default)]
struct Pause {
    length: Duration,
    until: Duration,
}

impl Pause {
    fn extend(&mut self, now: Duration) {
        self.length = (self.length * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = now + self.length;
    }

    fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }
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
