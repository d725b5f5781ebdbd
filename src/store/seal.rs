//! Sealing: a frozen part of the head becomes blocks, in one transaction with the series, symbols and
//! records as of its last sequence number.
//!
//! Runs on a thread of its own, the only one that writes the data file; the head stays readable until
//! the writer hears that it is done. Whole windows past the retention are dropped here too. Merging
//! windows belongs here, between two seals.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::block::{BLOCK_BYTES, Block, BlockBuilder, BlockKey};
use super::data::{self, Definitions, Sealed};
use super::handle::panic_text;
use super::head::{HeadColumn, Part};
use super::live::Live;
use super::manifest::{BlockRow, Manifest, WindowRow};
use super::queue::Request;
use super::window::{Width, Window};
use super::{Error, Shared};
use crate::model::{SeriesId, TimeRange, Timestamp};

/// A day of one series with fewer samples than one a minute is sparse.
const SPARSE_SAMPLES: u64 = 24 * 60;

/// What the sealing thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Seal(SealJob),
    /// Drop the windows whose last sample is before this.
    Retain(Timestamp),
    /// Open the data file again after an error.
    Reopen,
}

#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) live: Arc<Live>,
    pub(crate) part: Arc<Part>,
    /// The part's last sequence number.
    pub(crate) seq: u64,
    /// How many series and symbols to define: all that the part uses, or more.
    pub(crate) series: usize,
    pub(crate) symbols: usize,
}

/// The sealing thread: one job after the other until the writer hangs up.
pub(crate) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let result = catch_unwind(AssertUnwindSafe(|| match &job {
            Job::Seal(job) => seal(shared, job),
            Job::Retain(cutoff) => retain(shared, *cutoff),
            Job::Reopen => reopen(shared).map(|_applied| ()),
        }));
        // The writer waits for the report, whatever happened.
        let result = result.unwrap_or_else(|panic| {
            let detail = panic_text(&*panic);
            Err(shared.files.data.corrupt(format!("not sealed: {detail}")))
        });
        // A queue that was closed has nobody left who would want to know.
        if shared.queue.post(Request::Done(result)).is_err() {
            return;
        }
    }
}

fn seal(shared: &Shared, job: &SealJob) -> Result<(), Error> {
    let data = &shared.files.data;
    let transaction = data.begin_read()?;
    if data.contain(|| data::applied(&transaction))? >= job.seq {
        // An earlier try went well after all, and only what came after its commit did not.
        return Ok(());
    }
    // The index is held no longer than it takes to copy what is new: the writer waits for it.
    let (definitions, metrics) = {
        let index = job.live.index();
        let definitions =
            data.contain(|| Definitions::missing(&transaction, &index, job.series, job.symbols))?;
        let columns = job.part.columns();
        let metrics: Vec<u32> = columns
            .iter()
            .map(|column| index.metric(column.series))
            .collect();
        (definitions, metrics)
    };
    drop(transaction);
    let windows = build(&job.part, &metrics, job.seq, shared.clock.now());
    let bytes = windows
        .iter()
        .flat_map(|(_, blocks)| blocks)
        .map(|block| block.bytes.len() as u64)
        .sum();
    shared.check_space(bytes)?;
    let manifest = shared.manifest();
    let revision = manifest.revision + 1;
    let records = job.part.records();
    let sealed = Sealed {
        seq: job.seq,
        windows,
        definitions,
        records: &records,
    };
    let written = data.write(|transaction| data::write_seal(transaction, &sealed, revision));
    match written {
        Ok(()) => {
            let added = sealed.windows.into_iter().map(|(row, _)| Arc::new(row));
            let rows = manifest.rows.iter().cloned().chain(added).collect();
            shared.set_manifest(Manifest::new(revision, rows));
            Ok(())
        }
        Err(error) => {
            if reopen(shared)? >= job.seq {
                Ok(())
            } else {
                Err(error)
            }
        }
    }
}

/// Opens the data file again and answers what is in it: after an error of a commit only the file itself
/// can tell what became of it.
fn reopen(shared: &Shared) -> Result<u64, Error> {
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
    let (old, kept): (Vec<_>, Vec<_>) = manifest
        .rows
        .iter()
        .cloned()
        .partition(|row| row.range.end() < cutoff);
    if old.is_empty() {
        return Ok(());
    }
    let revision = manifest.revision + 1;
    let dropped = shared
        .files
        .data
        .write(|transaction| data::drop_windows(transaction, &old, revision));
    match dropped {
        Ok(()) => {
            shared.set_manifest(Manifest::new(revision, kept));
            Ok(())
        }
        // Nothing hangs on the outcome: what is still there is dropped the next time.
        Err(error) => reopen(shared).and(Err(error)),
    }
}

/// The blocks of a part, by window; `metrics` are those of its columns.
fn build(
    part: &Part,
    metrics: &[u32],
    generation: u64,
    now: Timestamp,
) -> Vec<(WindowRow, Vec<Block>)> {
    let columns = part.columns();
    let mut order: Vec<(u32, &HeadColumn)> = metrics.iter().copied().zip(columns.iter()).collect();
    order.sort_unstable_by_key(|(metric, column)| (*metric, column.series));
    let sparse = sparse_days(columns.iter(), now);

    let mut windows: BTreeMap<Window, WindowBuilder> = BTreeMap::new();
    let (mut timestamps, mut values) = (Vec::new(), Vec::new());
    for (metric, column) in order {
        timestamps.clear();
        values.clear();
        column.merged_into(&mut timestamps, &mut values);
        let mut start = 0;
        while let Some(&first) = timestamps.get(start) {
            let day = Window::of(first, Width::Day);
            let window = if sparse.contains(&day.number) {
                day
            } else {
                Window::of(first, Width::TwoHours)
            };
            let end_ms = window.range().end().ms();
            let end = start + timestamps[start..].partition_point(|&at| at <= end_ms);
            windows
                .entry(window)
                .or_insert_with(|| WindowBuilder::new(window, generation))
                .add(
                    metric,
                    column.series,
                    &timestamps[start..end],
                    &values[start..end],
                );
            start = end;
        }
    }
    windows.into_values().map(WindowBuilder::finish).collect()
}

/// The days long past in which series have so few samples that two hours of them make no chunk.
fn sparse_days<'a>(columns: impl Iterator<Item = &'a HeadColumn>, now: Timestamp) -> BTreeSet<i64> {
    let yesterday = Window::of(now.ms(), Width::Day).number - 1;
    let mut days: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for column in columns {
        column.count_by(
            |timestamp_ms| Window::of(timestamp_ms, Width::Day),
            |day, samples| {
                if day.number < yesterday {
                    let (all, series) = days.entry(day.number).or_default();
                    *all += samples;
                    *series += 1;
                }
            },
        );
    }
    days.into_iter()
        .filter(|(_, (samples, series))| samples / series < SPARSE_SAMPLES)
        .map(|(day, _)| day)
        .collect()
}

/// Collects the blocks of one window.
struct WindowBuilder {
    window: Window,
    generation: u64,
    range: Option<TimeRange>,
    current: Option<BlockBuilder>,
    blocks: Vec<Block>,
}

impl WindowBuilder {
    fn new(window: Window, generation: u64) -> Self {
        Self {
            window,
            generation,
            range: None,
            current: None,
            blocks: Vec::new(),
        }
    }

    fn add(&mut self, metric: u32, series: SeriesId, timestamps: &[i64], values: &[f64]) {
        let (first, last) = (timestamps[0], timestamps[timestamps.len() - 1]);
        let (start, end) = (Timestamp::from_ms(first), Timestamp::from_ms(last));
        let (start, end) = self.range.map_or((start, end), |range| {
            (range.start().min(start), range.end().max(end))
        });
        self.range = TimeRange::new(start, end);
        if let Some(current) = &mut self.current
            && current.metric() == metric
            && current.try_add(series, timestamps, values, BLOCK_BYTES)
        {
            return;
        }
        self.blocks
            .extend(self.current.take().map(BlockBuilder::finish));
        let mut next = BlockBuilder::new(BlockKey {
            window: self.window,
            generation: self.generation,
            metric,
            first: series,
        });
        next.try_add(series, timestamps, values, BLOCK_BYTES);
        self.current = Some(next);
    }

    fn finish(mut self) -> (WindowRow, Vec<Block>) {
        self.blocks
            .extend(self.current.take().map(BlockBuilder::finish));
        let row = WindowRow {
            window: self.window,
            generation: self.generation,
            samples: self.blocks.iter().map(|block| block.samples).sum(),
            range: self.range.expect("a window is made for its first samples"),
            blocks: self
                .blocks
                .iter()
                .map(|block| BlockRow {
                    metric: block.key.metric,
                    first: block.key.first,
                    last: block.last,
                    checksum: block.checksum,
                })
                .collect(),
        };
        (row, self.blocks)
    }
}
