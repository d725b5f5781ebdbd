//! What the writer has the other thread do, and when: seal, drop, merge, look for series without
//! samples, and write the data file anew. One job at a time, the most urgent first.

use std::sync::Arc;
use std::time::Duration;

use super::super::deletion::{self, Deletions};
use super::super::entry::Entry;
use super::super::live::Live;
use super::super::seal::SealJob;
use super::super::upkeep::{Job, Kind};
use super::super::window::Window;
use super::super::{Error, merge, wal};
use super::pause::Pause;
use super::{TICK, WriterThread, answer};
use crate::model::SeriesId;

/// How often windows past the retention are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);
/// How often merging is thought of when nothing was sealed.
const MERGE_INTERVAL: Duration = Duration::from_secs(2);
/// After a seal, so long nothing more may come for the windows that it wrote to.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// How often series without samples are looked for.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// Series that one entry forgets: readers and writers wait while the index is changed.
const FORGET_MAX: usize = 1 << 13;
/// Dead bytes that are not worth writing the data file anew.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// An empty write-ahead file of this size is replaced.
const WAL_RENEWED_BYTES: u64 = 1 << 20;

impl WriterThread {
    /// What is due by the clock, or because something finished.
    pub(super) fn tick(&mut self) {
        self.recover_if_due();
        self.answer_sealed();
        self.shared.live().sweep();
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
        self.retain_if_due(now);
        if self.running.is_some() {
            return;
        }
        self.merge_if_due(now);
    }

    /// Has windows dropped that nobody may read any more.
    fn retain_if_due(&mut self, now: Duration) {
        let Some(cutoff) = self.shared.cutoff() else {
            return;
        };
        if now.saturating_sub(self.retained_at) < RETENTION_INTERVAL {
            return;
        }
        self.retained_at = now;
        let manifest = self.shared.manifest();
        if manifest.rows.iter().any(|row| row.range.end() < cutoff) {
            self.may_have_unused = true;
            self.start(Job::Retain(cutoff));
        }
    }

    /// Merges what there is to merge; then looks for series without samples, and when too much of the
    /// file is dead, has it written anew.
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
        if self.is_search_due(is_asked, revision, now) {
            self.may_have_unused = false;
            self.searched_at = now;
            self.searched_revision = Some(revision);
            self.start(Job::FindUnused);
            return;
        }
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

    /// Whether series may have lost their last samples: by retention or a deletion, or as far as whoever
    /// asks may know.
    fn is_search_due(&self, is_asked: bool, revision: u64, now: Duration) -> bool {
        if is_asked && self.searched_revision != Some(revision) {
            return true;
        }
        let is_time = now.saturating_sub(self.searched_at) >= SEARCH_INTERVAL;
        self.may_have_unused && (is_asked || is_time)
    }

    /// Forgets series, unless they have samples again, in several commits where they are many.
    pub(super) fn forget(&mut self, unused: &[SeriesId]) {
        let live = self.shared.live();
        let unused: Vec<SeriesId> = {
            let index = live.index();
            let known = unused.iter().filter(|&&series| index.has(series));
            known.copied().collect()
        };
        let unused: Vec<SeriesId> = live.without_columns(unused);
        for piece in unused.chunks(FORGET_MAX) {
            if self.admit(0).is_err() {
                // There is a next time.
                self.may_have_unused = true;
                return;
            }
            let entry = Entry {
                forgotten: piece.to_vec(),
                ..Entry::default()
            };
            if self.append(&entry).is_err() {
                self.may_have_unused = true;
                return;
            }
            let seq = self.next_seq - 1;
            live.forget(seq, piece);
            live.publish(seq);
            live.sweep();
        }
        if !unused.is_empty() {
            tracing::debug!(series = unused.len(), "forgot series without samples");
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
            self.may_have_unused = true;
            live.publish(self.next_seq - 1);
        }
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
        let Some(frozen) = live.frozen() else {
            return false;
        };
        self.start(Job::Seal(SealJob { live, frozen }));
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

    pub(super) fn job_done(&mut self, result: Result<(), Error>) {
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

    /// Seals what is left, so that the next start has nothing to replay. What cannot be sealed is covered
    /// by the write-ahead file as ever.
    pub(super) fn seal_last(&mut self) {
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
}
