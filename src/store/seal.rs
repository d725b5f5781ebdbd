//! Sealing: a frozen part of the head becomes blocks, in one transaction with the series, symbols and
//! records as of its last sequence number. The head stays readable until the writer hears that it is
//! done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::assemble::{Assembled, Assembly};
use super::data::{self, Definitions, Sealed};
use super::head::{HeadColumn, Part};
use super::live::{Frozen, Live};
use super::upkeep;
use super::window::{Width, Window};
use super::{Error, Shared};
use crate::model::Timestamp;

/// A day of one series with fewer samples than one a minute is sparse.
const SPARSE_SAMPLES: u64 = 24 * 60;

#[derive(Debug)]
pub(crate) struct SealJob {
    pub(crate) live: Arc<Live>,
    pub(crate) frozen: Frozen,
}

/// Seals a part, unless that was done already.
pub(crate) fn seal(shared: &Shared, job: &SealJob) -> Result<(), Error> {
    let data = &shared.files.data;
    let Frozen {
        part,
        seq,
        series,
        symbols,
    } = &job.frozen;
    let transaction = data.begin_read()?;
    if data.contain(|| data::applied(&transaction))? >= *seq {
        // An earlier try went well after all, and only what came after its commit did not.
        return Ok(());
    }
    // The index is held no longer than it takes to copy what is new: the writer waits for it.
    let (definitions, metrics) = {
        let index = job.live.index();
        let definitions =
            data.contain(|| Definitions::missing(&transaction, &index, *series, *symbols))?;
        let columns = part.columns();
        let metrics: Vec<u32> = columns
            .iter()
            .map(|column| index.metric(column.series))
            .collect();
        (definitions, metrics)
    };
    drop(transaction);
    let windows = build(part, &metrics, *seq, shared.clock.now());
    let bytes = windows
        .iter()
        .flat_map(|(_, blocks)| blocks)
        .map(|block| block.bytes.len() as u64)
        .sum();
    shared.check_space(bytes)?;
    let manifest = shared.manifest();
    let revision = manifest.revision + 1;
    let records = part.records();
    let gone = part.gone();
    let sealed = Sealed {
        seq: *seq,
        windows,
        definitions,
        gone: &gone,
        records: &records,
    };
    let written = data.write(|transaction| data::write_seal(transaction, &sealed, revision));
    match written {
        Ok(()) => {
            let added = sealed.windows.into_iter().map(|(row, _)| row);
            shared.set_manifest(manifest.with(revision, added.collect()));
            Ok(())
        }
        Err(error) => {
            if upkeep::reopen(shared)? >= *seq {
                Ok(())
            } else {
                Err(error)
            }
        }
    }
}

/// The blocks of a part, by window; `metrics` are those of its columns.
fn build(part: &Part, metrics: &[u32], generation: u64, now: Timestamp) -> Vec<Assembled> {
    let columns = part.columns();
    let mut order: Vec<(u32, &HeadColumn)> = metrics.iter().copied().zip(columns.iter()).collect();
    order.sort_unstable_by_key(|(metric, column)| (*metric, column.series));
    let sparse = sparse_days(columns.iter(), now);

    let mut windows: BTreeMap<Window, Assembly> = BTreeMap::new();
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
                .or_insert_with(|| Assembly::new(window, generation))
                .add(
                    metric,
                    column.series,
                    &timestamps[start..end],
                    &values[start..end],
                );
            start = end;
        }
    }
    windows.into_values().filter_map(Assembly::finish).collect()
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
