//! The embedded time-series store: one directory, one writer, many readers.

pub mod error;
pub mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use error::Error;
pub use record::Table;

use crate::model::{
    Batch, Clock, Column, Labels, Matcher, MetricMetadata, Sample, TimeRange, Timestamp,
};

/// What an operator may set about the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples older than this are refused and dropped; `None` keeps everything.
    pub retention: Option<Duration>,
    /// Bytes of samples held in memory before writers are told to wait.
    pub memory_bytes_max: u64,
    /// Series that may exist at once.
    pub series_max: usize,
    /// The part of the file system that must stay free, in percent.
    pub disk_free_percent_min: u8,
    /// The server's address, written to the lock file so that a second process can name the first.
    pub listen: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_secs(90 * 86_400)),
            memory_bytes_max: 512 << 20,
            series_max: 1_000_000,
            disk_free_percent_min: 5,
            listen: None,
        }
    }
}

#[derive(Debug, Default)]
struct Memory {
    series: BTreeMap<Labels, BTreeMap<Timestamp, f64>>,
    metadata: BTreeMap<String, MetricMetadata>,
    records: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    seq: u64,
}

/// The open store. Dropping it closes it; [`Store::close`] also reports what went wrong.
#[derive(Debug)]
pub struct Store {
    memory: Arc<Mutex<Memory>>,
    dir: PathBuf,
}

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The write-ahead sequence of the commit that holds the batch.
    pub seq: u64,
    /// Samples now stored, identical duplicates included.
    pub accepted: u64,
    /// Samples left out, with the first offender; the rest of the batch is stored.
    pub rejected: u64,
    pub first_rejection: Option<Rejection>,
}

/// One sample that was refused.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub labels: Labels,
    pub sample: Sample,
    pub reason: RejectReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    #[error("another value is stored for this timestamp")]
    DuplicateTimestamp,
    #[error("older than the retention")]
    TooOld,
    #[error("more than 10 minutes ahead of the clock")]
    TooFarAhead,
    #[error("too many series (store.series_max)")]
    TooManySeries,
}

/// The way in. Cloning is cheap; all clones feed the one writer.
#[derive(Clone, Debug)]
pub struct Writer {
    memory: Arc<Mutex<Memory>>,
}

/// The way out. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Reader {
    memory: Arc<Mutex<Memory>>,
}

/// One consistent view of everything acknowledged before it was taken.
pub struct Snapshot<'a> {
    memory: MutexGuard<'a, Memory>,
}

/// What an operator asks about the store.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub series: u64,
    pub head_samples: u64,
    pub sealed_samples: u64,
    pub file_bytes: u64,
}

impl Store {
    pub fn open(dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let _ = (options, clock);
        Ok(Self {
            memory: Arc::default(),
            dir: dir.to_owned(),
        })
    }

    pub fn writer(&self) -> Writer {
        Writer {
            memory: self.memory.clone(),
        }
    }

    pub fn reader(&self) -> Reader {
        Reader {
            memory: self.memory.clone(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops the writer after what is queued, and closes the files.
    pub fn close(self) -> Result<(), Error> {
        Ok(())
    }
}

impl Writer {
    /// Queues a batch and waits until it is durable and visible.
    ///
    /// Cancelling the future does not take the batch back.
    pub async fn write(&self, batch: Batch) -> Result<Written, Error> {
        self.write_blocking(batch)
    }

    /// [`Writer::write`] for threads outside the async runtime.
    pub fn write_blocking(&self, batch: Batch) -> Result<Written, Error> {
        let mut memory = self.memory.lock().expect("not poisoned");
        let mut written = Written::default();
        for series in batch.samples {
            let column = memory.series.entry(series.labels).or_default();
            for sample in series.samples {
                column.entry(sample.timestamp).or_insert(sample.value);
                written.accepted += 1;
            }
        }
        memory.metadata.extend(batch.metadata);
        for mutation in batch.mutations {
            let key = (mutation.table, mutation.key);
            match mutation.value {
                Some(value) => memory.records.insert(key, value),
                None => memory.records.remove(&key),
            };
        }
        memory.seq += 1;
        written.seq = memory.seq;
        Ok(written)
    }
}

impl Reader {
    pub fn snapshot(&self) -> Result<Snapshot<'_>, Error> {
        Ok(Snapshot {
            memory: self.memory.lock().expect("not poisoned"),
        })
    }
}

impl Snapshot<'_> {
    /// The samples in `range` of every series that passes all matchers, sorted by labels; series
    /// without a sample there are left out.
    ///
    /// Refused with [`Error::TooManySamples`] when more than `samples_max` would be read.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        samples_max: usize,
    ) -> Result<Vec<Column>, Error> {
        let mut columns = Vec::new();
        let mut count = 0;
        for (labels, samples) in &self.memory.series {
            if !matchers
                .iter()
                .all(|matcher| matcher.matches(labels.value(&matcher.name)))
            {
                continue;
            }
            let (timestamps, values): (Vec<_>, Vec<_>) = samples
                .range(range.start()..=range.end())
                .map(|(at, value)| (*at, *value))
                .unzip();
            count += values.len();
            if count > samples_max {
                return Err(Error::TooManySamples { samples_max });
            }
            if !values.is_empty() {
                columns.push(Column {
                    labels: labels.clone(),
                    timestamps,
                    values,
                });
            }
        }
        Ok(columns)
    }

    /// The series with data in `range` that pass all matchers, sorted.
    pub fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        let columns = self.select(matchers, range, usize::MAX)?;
        Ok(columns.into_iter().map(|column| column.labels).collect())
    }

    /// The label names of those series, sorted.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let series = self.series(matchers, range)?;
        let names: std::collections::BTreeSet<_> = series
            .iter()
            .flatten()
            .map(|label| label.name.to_string())
            .collect();
        Ok(names.into_iter().collect())
    }

    /// The values that a label has among those series, sorted.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let series = self.series(matchers, range)?;
        let values: std::collections::BTreeSet<_> = series
            .iter()
            .filter_map(|labels| labels.get(name))
            .map(str::to_owned)
            .collect();
        Ok(values.into_iter().collect())
    }

    /// What is known of each metric, by name.
    pub fn metadata(&self) -> Result<Vec<(String, MetricMetadata)>, Error> {
        Ok(self.memory.metadata.clone().into_iter().collect())
    }

    /// One record of a table.
    pub fn record<V: record::Record>(
        &self,
        table: &Table<V>,
        key: &[u8],
    ) -> Result<Option<V>, Error> {
        let found = self
            .memory
            .records
            .get(&(table.name().to_owned(), key.to_vec()));
        found.map(|bytes| table.decode(bytes)).transpose()
    }

    /// At most `limit` records whose keys come after `after`, in key order.
    pub fn records<V: record::Record>(
        &self,
        table: &Table<V>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, V)>, Error> {
        self.memory
            .records
            .iter()
            .filter(|((name, key), _)| {
                name == table.name() && after.is_none_or(|after| key.as_slice() > after)
            })
            .take(limit)
            .map(|((_, key), value)| Ok((key.clone(), table.decode(value)?)))
            .collect()
    }
}
