//! The one writer: takes what is queued, decides what is accepted, makes it durable with one commit,
//! publishes it, and only then answers.
//!
//! After an error of a commit nothing goes on from memory: the write-ahead file is opened again and the
//! head rebuilt from it before anything else is accepted. It also says when to seal; the sealing itself
//! is another thread's.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::accept::Group;
use super::deletion::Deletions;
use super::entry::Entry;
use super::live::Live;
use super::queue::{Intake, Reply, Request};
use super::recover::Recovered;
use super::seal::SealJob;
use super::upkeep::{Job, Kind};
use super::window::Window;
use super::{Error, Shared, Written, deletion, merge, wal};
use crate::model::Mutation;

/// How often the writer looks at the clock when nothing is queued.
const TICK: Duration = Duration::from_secs(1);
/// How often windows past the retention are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// How often merging is thought of when nothing was sealed.
const MERGE_INTERVAL: Duration = Duration::from_secs(2);
/// After a seal, so long nothing more may come for the windows that it wrote to.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Dead bytes that are not worth writing the data file anew.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// An empty write-ahead file of this size is replaced.
const WAL_RENEWED_BYTES: u64 = 1 << 20;
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

    /// Seals what is left, so that the next start has nothing to replay. What cannot be sealed is covered
    /// by the write-ahead file as ever.
    fn seal_last(&mut self) {
        if self.failure.is_some() || self.shared.live().published() <= self.applied {
            return;
        }
        self.freeze();
        while self.sealing_pause.length == Duration::ZERO && self.start_seal() {
            while self.running.is_some()
                && let Some(requests) = self.shared.queue.take(TICK, true)
            {
                self.handle(requests);
            }
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
                Request::Settle(reply) => self.settle_waiters.push(reply),
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
        if self.running.is_some() || self.failure.is_some() || !self.sealing_pause.is_over(now) {
            return;
        }
        if self.shared.files.data.needs_reopening() {
            self.start(Job::Reopen);
            return;
        }
        self.seal_if_due(now);
        if self.running.is_some() {
            return;
        }
        if let Some(cutoff) = self.shared.cutoff()
            && now.saturating_sub(self.retained_at) >= RETENTION_INTERVAL
        {
            self.retained_at = now;
            self.start(Job::Retain(cutoff));
            return;
        }
        self.merge_if_due(now);
    }

    /// Merges what there is to merge; then, when too much of the file is dead, has it written anew.
    fn merge_if_due(&mut self, now: Duration) {
        let is_asked = !self.settle_waiters.is_empty();
        let revision = self.shared.manifest().revision;
        let is_unchanged = self.merged_revision == Some(revision);
        if !is_asked && is_unchanged && now.saturating_sub(self.merged_at) < MERGE_INTERVAL {
            return;
        }
        self.end_deletions();
        let is_quiet = now.saturating_sub(self.sealed_at) >= SETTLED_AFTER;
        let moment = merge::Moment {
            now: self.shared.clock.now(),
            applied: self.applied,
            settled: if is_asked || is_quiet {
                u64::MAX
            } else {
                self.applied.saturating_sub(1)
            },
            merges_days: merge::Moment::merges_days(self.shared.options.retention),
            started: self.merging,
        };
        let manifest = self.shared.manifest();
        let deletions = self.shared.live().deletions();
        if let Some(plan) = merge::plan(&manifest, &deletions, &self.damaged_days, moment) {
            self.merging = Some(plan.window());
            self.start(Job::Merge {
                plan,
                deletions: Deletions::clone(&deletions),
                applied: self.applied,
            });
            return;
        }
        self.merging = None;
        self.merged_revision = Some(revision);
        self.merged_at = now;
        if (is_asked || is_quiet) && self.is_rewrite_due() {
            self.start(Job::Rewrite);
            return;
        }
        for reply in self.settle_waiters.drain(..) {
            answer(reply, Ok(()));
        }
    }

    /// Whether a good part of the data file is dead, and more so than after it was last written anew.
    fn is_rewrite_due(&mut self) -> bool {
        let (Ok(allocated), Ok(live)) =
            (self.shared.files.data.allocated(), self.shared.live_bytes())
        else {
            return false;
        };
        let useful = live.max(self.rewritten_bytes);
        let is_due = allocated > useful + useful / 4 + REWRITE_BYTES_MIN;
        if !is_due && allocated < self.rewritten_bytes {
            self.rewritten_bytes = allocated;
        }
        is_due
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
                Some((known_by, _)) if !Arc::ptr_eq(known_by, &live) => {
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

    /// Ends the deletions that nothing older than them is left of.
    fn end_deletions(&mut self) {
        let live = self.shared.live();
        let deletions = live.deletions();
        if deletions.is_empty() || self.failure.is_some() {
            return;
        }
        let manifest = self.shared.manifest();
        for seq in deletions.done(self.applied, &manifest.rows) {
            if self.record(deletion::end(seq)).is_err() {
                return;
            }
            live.change_deletions(|deletions| deletions.remove(seq));
            live.publish(self.next_seq - 1);
        }
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

    fn seal_if_due(&mut self, now: Duration) {
        let live = self.shared.live();
        if live.frozen().is_none() {
            if live.published() <= self.applied || !self.is_seal_due(&live, now) {
                return;
            }
            self.freeze();
        }
        self.start_seal();
    }

    fn freeze(&mut self) {
        self.shared.live().freeze();
        self.row_bytes = 0;
        self.active_since = None;
    }

    /// Has the oldest frozen part sealed, if there is one.
    fn start_seal(&mut self) -> bool {
        let live = self.shared.live();
        let Some((part, seq)) = live.frozen() else {
            return false;
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
        self.running.is_some()
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
        let kind = job.kind();
        self.running = self.jobs.try_send(job).is_ok().then_some(kind);
    }

    fn job_done(&mut self, result: Result<(), Error>) {
        let done = self.running.take();
        match result.and_then(|()| self.shared.applied()) {
            Ok(applied) => {
                self.sealing_pause = Pause::default();
                if done == Some(Kind::Rewrite) {
                    self.rewritten_bytes = self.shared.files.data.allocated().unwrap_or(0);
                }
                if applied > self.applied {
                    self.sealed(applied);
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    job = done.map(Kind::name),
                    "data file not written, trying again"
                );
                if done == Some(Kind::Merge) && matches!(error, Error::Corrupt { .. }) {
                    self.damaged_days.extend(self.merging.map(Window::day));
                }
                self.sealing_pause.extend(self.shared.clock.monotonic());
                let source = Arc::new(error);
                let seal_waiters = self.seal_waiters.drain(..).map(|(_, reply)| reply);
                for reply in seal_waiters.chain(self.settle_waiters.drain(..)) {
                    let source = source.clone();
                    answer(reply, Err(Error::NotSealed { source }));
                }
            }
        }
    }

    /// Lets go of what is in the data file now.
    fn sealed(&mut self, applied: u64) {
        self.applied = applied;
        self.sealed_at = self.shared.clock.monotonic();
        let live = self.shared.live();
        live.release(applied);
        if self.failure.is_some() {
            return;
        }
        let cut = self.cut(live.published() == applied);
        if let Err(error) = cut {
            self.fail(Arc::new(error));
        }
    }

    fn cut(&self, is_all: bool) -> Result<(), Error> {
        let files = &self.shared.files;
        if is_all && files.wal.allocated()? >= WAL_RENEWED_BYTES {
            return files.renew_wal();
        }
        wal::cut(&files.wal, self.applied)
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
