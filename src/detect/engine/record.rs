//! The engine's records in the store: how a state is kept, and how the engine comes back from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Engine;
use super::follow::Series;
use super::score::Written;
use crate::detect::anomaly::{ANOMALIES, Anomaly};
use crate::detect::monitor::Monitor;
use crate::detect::watch::Watch;
use crate::model::{Label, Labels, Mutation, Timestamp};
use crate::store::{self, Reader, Table};

/// The state of every series under watch, keyed by watch and labels.
pub(super) const MONITORS: Table<Stored> = Table::new("detect_monitors", 1);
/// One record under the empty key: the time of the last step.
pub(super) const LAST_STEP: Table<Timestamp> = Table::new("detect_last_step", 1);

/// Records read at once.
const PAGE: usize = 1_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    watch: String,
    /// A hash of the watch's expression: another one has another normal.
    expr_hash: u64,
    labels: Vec<(String, String)>,
    phase: Option<String>,
    is_present: bool,
    monitor: Monitor,
}

impl Engine {
    /// The engine as its last written batch left it.
    ///
    /// The state of a watch that has another expression or other detectors by now is not used.
    pub fn load(watches: Vec<Watch>, reader: &Reader) -> Result<Self, store::Error> {
        let mut engine = Self::new(watches);
        let snapshot = reader.snapshot()?;
        engine.last_step = snapshot.record(&LAST_STEP, b"")?;
        each_record(
            |after| snapshot.records(&MONITORS, after, PAGE),
            |key, stored| engine.restore(key, stored),
        )?;
        let followed: BTreeSet<Vec<u8>> = engine
            .watches
            .iter()
            .flat_map(|followed| followed.series.values())
            .filter_map(|series| series.monitor.open().map(Anomaly::key))
            .collect();
        each_record(
            |after| snapshot.records(&ANOMALIES, after, PAGE),
            |key, anomaly| {
                if anomaly.closed_at.is_some() {
                    engine.closed.push_back(key);
                } else if !followed.contains(&key) {
                    engine.orphans.push(anomaly);
                }
            },
        )?;
        Ok(engine)
    }

    fn restore(&mut self, key: Vec<u8>, stored: Stored) {
        let followed = self.watches.iter_mut().find(|followed| {
            let watch = &followed.watch;
            watch.name == stored.watch
                && xxh3_64(watch.expr.as_bytes()) == stored.expr_hash
                && stored.monitor.fits(watch)
        });
        let labels = Labels::try_from_pairs(stored.labels).ok();
        match (followed, labels) {
            (Some(followed), Some(labels)) => {
                let series = Series {
                    key,
                    monitor: stored.monitor,
                    phase: stored.phase,
                    is_present: stored.is_present,
                    written: Written::of(&followed.watch, &labels),
                };
                followed.series.insert(labels, series);
            }
            _ => self.leftovers.push(key),
        }
    }
}

/// Reads a table page by page, in the order of its keys.
fn each_record<V>(
    read: impl Fn(Option<&[u8]>) -> Result<Vec<(Vec<u8>, V)>, store::Error>,
    mut take: impl FnMut(Vec<u8>, V),
) -> Result<(), store::Error> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = read(after.as_deref())?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for (key, record) in page {
            take(key, record);
        }
    }
}

/// The change that stores the state of a series.
pub(super) fn put(watch: &Watch, labels: &Labels, series: &Series) -> Mutation {
    let pair = |label: &Label| (label.name.to_string(), label.value.to_string());
    let stored = Stored {
        watch: watch.name.clone(),
        expr_hash: xxh3_64(watch.expr.as_bytes()),
        labels: labels.iter().map(pair).collect(),
        phase: series.phase.clone(),
        is_present: series.is_present,
        monitor: series.monitor.clone(),
    };
    MONITORS.put(series.key.clone(), &stored)
}
