//! The store of a directory at rest: its state, its contents, and what is done to them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::{clock, open, options};
use crate::app::{UsageError, runtime};
use crate::http::export::Export;
use crate::http::wire;
use crate::ingest::admission::Admission;
use crate::ingest::text::{self, Format};
use crate::model::{Clock, Matcher, TimeRange};
use crate::promql::{self, Limits};
use crate::store::{self, Compacted, Head, Store, Verified};

/// How long samples wait for room in memory before they are given up, and how often they ask.
const BUSY_TRIES: u32 = 600;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The state of a store; with how its blocks are encoded, which reads them all.
pub fn status(data: &Path, with_blocks: bool) -> anyhow::Result<wire::StoreStatus> {
    let store = open(data)?;
    let reader = store.reader();
    let mut status = wire::StoreStatus::from(reader.stats()?);
    if with_blocks {
        status.encoding = Some(reader.block_stats()?.into());
    }
    drop(reader);
    store.close()?;
    Ok(status)
}

/// Copies a store to a directory that is new or empty.
pub fn backup(data: &Path, dir: &Path) -> anyhow::Result<wire::Snapshot> {
    let store = open(data)?;
    let backup = store.writer().backup(dir, Head::Seal)?;
    store.close()?;
    Ok(backup.into())
}

/// Reads everything in a directory and says what is wrong with it.
pub fn verify(data: &Path, progress: impl FnMut(u64, u64)) -> anyhow::Result<Verified> {
    Ok(store::verify(data, &*clock(), progress)?)
}

/// Merges what there is to merge and gives all dead space back.
pub fn compact(data: &Path) -> anyhow::Result<Compacted> {
    Ok(store::compact(data, options(), clock())?)
}

/// Passes what is stored of the selected series to `sink`, as text; answers how many samples that is.
pub fn export(
    data: &Path,
    selectors: &[&str],
    range: TimeRange,
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<u64> {
    let selectors = parse(selectors)?;
    let store = open(data)?;
    let mut export = Export::new(&store.reader(), &selectors, range)?;
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let goes_on = export.write_next(&mut piece)?;
        sink(&piece)?;
        if !goes_on {
            break;
        }
    }
    let samples = export.samples();
    drop(export);
    store.close()?;
    Ok(samples)
}

/// A store whose samples are to be deleted.
#[derive(Debug)]
pub struct Deletion {
    store: Store,
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
}

impl Deletion {
    pub fn prepare(data: &Path, selectors: &[&str], range: TimeRange) -> anyhow::Result<Self> {
        Ok(Self {
            selectors: parse(selectors)?,
            store: open(data)?,
            range,
        })
    }

    /// How many series have samples that would go.
    pub fn count(&self) -> anyhow::Result<usize> {
        let snapshot = self.store.reader().snapshot()?;
        let mut series = Vec::new();
        for matchers in &self.selectors {
            series.extend(snapshot.series(matchers, self.range)?);
        }
        series.sort_unstable();
        series.dedup();
        Ok(series.len())
    }

    pub fn run(self) -> anyhow::Result<()> {
        let deleting = self.store.writer();
        runtime()?.block_on(deleting.delete(self.selectors, self.range))?;
        drop(deleting);
        Ok(self.store.close()?)
    }
}

/// A store that takes texts.
#[derive(Debug)]
pub struct Import {
    store: Store,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Runtime,
}

/// What a text came to.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub stored: u64,
    pub refused: u64,
    pub first_refusal: Option<String>,
}

impl Import {
    /// Opens the store, and makes one where there is nothing yet.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let is_empty = std::fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
        let store = if is_empty {
            Store::open(data, options(), clock())?
        } else {
            open(data)?
        };
        Ok(Self {
            store,
            clock: clock(),
            runtime: runtime()?,
        })
    }

    /// Stores what is valid of a text, and waits until that is on the disk.
    pub fn take(&self, format: Format, text: &[u8]) -> anyhow::Result<Imported> {
        for _ in 0..BUSY_TRIES {
            match self.try_take(format, text) {
                Err(error) if is_busy(&error) => std::thread::sleep(BUSY_PAUSE),
                taken => return taken,
            }
        }
        self.try_take(format, text)
    }

    fn try_take(&self, format: Format, text: &[u8]) -> anyhow::Result<Imported> {
        let mut append = self.store.writer().append();
        let mut fill = append.fill();
        let mut admission = Admission::new(&mut fill);
        text::decode(format, text, self.clock.now(), &mut admission)?;
        let refused = admission.finish();
        drop(fill);
        let written = if append.is_empty() {
            store::Written::default()
        } else {
            self.runtime.block_on(append.commit())?
        };
        let by_rules = refused.first.map(|refusal| refusal.to_string());
        let by_store = written.first_rejection.map(|rejection| {
            let at = rejection.sample.timestamp;
            format!("{} at {at}: {}", rejection.labels, rejection.reason)
        });
        Ok(Imported {
            stored: written.accepted,
            refused: refused.samples + written.rejected,
            first_refusal: by_rules.or(by_store),
        })
    }

    pub fn close(self) -> anyhow::Result<()> {
        Ok(self.store.close()?)
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<store::Error>(),
        Some(store::Error::Busy { .. })
    )
}

/// Selectors in PromQL's form.
fn parse(selectors: &[&str]) -> anyhow::Result<Vec<Vec<Matcher>>> {
    let mut parsed = Vec::new();
    for selector in selectors {
        let alternatives = promql::parse_selector(selector, &Limits::default())
            .map_err(|error| UsageError(error.to_string()))
            .with_context(|| format!("{selector:?} is not a selector"))?;
        parsed.extend(alternatives);
    }
    Ok(parsed)
}
