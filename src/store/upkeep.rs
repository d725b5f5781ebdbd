//! The thread that writes the data file: it seals, drops what is past the retention, merges, looks for
//! series that nothing is left of, and writes the file anew when too much of it is dead.
//!
//! One job at a time, as the writer asks for them. After an error of a commit only the file itself can
//! tell what became of it: it is opened again, and the writer asks again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use super::data::{self, Change};
use super::deletion::Deletions;
use super::handle::panic_text;
use super::merge::{Merger, Plan, Purge};
use super::queue::Request;
use super::seal::{SealJob, seal};
use super::{Error, Shared, forget};
use crate::model::Timestamp;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Seal(SealJob),
    /// Drop the windows whose last sample is before this.
    Retain(Timestamp),
    /// Do one slice of a merge.
    Merge {
        plan: Plan,
        deletions: Deletions,
        applied: u64,
    },
    /// Look for series without samples, and have the writer forget them.
    FindUnused,
    /// Write the data file anew without what is dead in it.
    Rewrite,
    /// Open the data file again after an error.
    Reopen,
}

/// One job after the other until the writer hangs up.
pub(crate) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    let mut purging = None;
    while let Ok(job) = jobs.recv() {
        let begun = shared.clock.monotonic();
        let result = catch_unwind(AssertUnwindSafe(|| match &job {
            Job::Seal(job) => seal(shared, job),
            Job::Retain(cutoff) => retain(shared, *cutoff),
            Job::Merge {
                plan,
                deletions,
                applied,
            } => merge(shared, plan, (deletions, *applied), &mut purging),
            Job::FindUnused => find_unused(shared),
            Job::Rewrite => rewrite(shared),
            Job::Reopen => reopen(shared).map(|_applied| ()),
        }));
        // The writer waits for the report, whatever happened.
        let result = result.unwrap_or_else(|panic| {
            let detail = panic_text(&*panic);
            let detail = format!("{} not done: {detail}", job.kind().name());
            Err(shared.files.data.corrupt(detail))
        });
        let took = shared.clock.monotonic().saturating_sub(begun);
        match &result {
            Ok(()) => shared.tally.did(job.kind(), took),
            Err(_) => shared.tally.failed(),
        }
        // A queue that was closed has nobody left who would want to know.
        if shared.queue.post(Request::Done(result)).is_err() {
            return;
        }
    }
}

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Seal,
    Retain,
    Merge,
    FindUnused,
    Rewrite,
    Reopen,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Retain => "retention",
            Self::Merge => "merge",
            Self::FindUnused => "search for series without samples",
            Self::Rewrite => "rewrite",
            Self::Reopen => "reopen",
        }
    }
}

impl Job {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Seal(_) => Kind::Seal,
            Self::Retain(_) => Kind::Retain,
            Self::Merge { .. } => Kind::Merge,
            Self::FindUnused => Kind::FindUnused,
            Self::Rewrite => Kind::Rewrite,
            Self::Reopen => Kind::Reopen,
        }
    }
}

/// Opens the data file again and answers what is in it: after an error of a commit only the file itself
/// can tell what became of it.
pub(crate) fn reopen(shared: &Shared) -> Result<u64, Error> {
    let data = &shared.files.data;
    data.reopen()
        .map_err(|source| Error::Recovering { source })?;
    let transaction = data.begin_read()?;
    let (applied, manifest) = data.contain(|| {
        Ok((
            data::applied(&transaction)?,
            data::load_manifest(&transaction)?,
        ))
    })?;
    shared.set_manifest(manifest);
    Ok(applied)
}

/// Drops whole windows that nobody may read any more.
fn retain(shared: &Shared, cutoff: Timestamp) -> Result<(), Error> {
    let manifest = shared.manifest();
    let mut change = Change::default();
    for row in manifest.rows.iter().filter(|row| row.range.end() < cutoff) {
        let dropped = Change::drop_row(row);
        change.rows.extend(dropped.rows);
        change.remove.extend(dropped.remove);
    }
    if change.rows.is_empty() {
        return Ok(());
    }
    commit(shared, change)
}

/// Does one slice of a merge or of a purge.
fn merge(
    shared: &Shared,
    plan: &Plan,
    (deletions, applied): (&Deletions, u64),
    purging: &mut Option<Purge>,
) -> Result<(), Error> {
    let data = &shared.files.data;
    let (change, under_way) = {
        let transaction = data.begin_read()?;
        let merger = Merger::new(data, &transaction, deletions)?;
        match plan {
            Plan::Merge { rows, window } => (merger.slice(rows, *window)?, None),
            Plan::Purge(row) => {
                let purge = Purge::of(row, purging.take(), applied);
                merger.purge(row, purge)?
            }
        }
    };
    shared.check_space(change.insert_bytes())?;
    let conflicts = change.conflicts;
    commit(shared, change)?;
    shared.tally.conflicted(conflicts);
    *purging = under_way;
    Ok(())
}

/// Proposes series to the writer, which has its answer before that to the job: nothing is sealed in
/// between.
fn find_unused(shared: &Shared) -> Result<(), Error> {
    let unused = forget::unused(shared)?;
    if unused.is_empty() {
        return Ok(());
    }
    match shared.queue.post(Request::Forget(unused)) {
        // Whoever is closing has no time for it.
        Err(Error::Closed) => Ok(()),
        posted => posted,
    }
}

/// Writes the data file anew.
fn rewrite(shared: &Shared) -> Result<(), Error> {
    shared.check_space(shared.live_bytes()?)?;
    shared.files.rewrite_data()
}

/// Commits a change of windows. After an error nothing hangs on its outcome: what is still to be done
/// is seen from the rows.
fn commit(shared: &Shared, change: Change) -> Result<(), Error> {
    let manifest = shared.manifest();
    let revision = manifest.revision + 1;
    let written = shared
        .files
        .data
        .write(|transaction| data::write_change(transaction, &change, revision));
    match written {
        Ok(()) => {
            shared.set_manifest(manifest.with(revision, change.rows));
            Ok(())
        }
        Err(error) => reopen(shared).and(Err(error)),
    }
}
