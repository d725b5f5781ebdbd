//! What an operator asks about the store: how much there is, where it lies, and what it costs.
//!
//! [`Reader::stats`] is cheap enough for every 15 seconds; [`Reader::block_stats`] reads every block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::block::BlockReader;
use super::codec;
use super::data;
use super::growth::NewSeries;
use super::index::cardinality::Cardinality;
use super::tally::Counts;
use super::{Error, Reader, Shared};
use crate::model::{TimeRange, Timestamp};

/// The store at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Series that are defined; one without samples is forgotten in time.
    pub series: u64,
    pub new_series: NewSeries,
    /// Samples that are not in blocks yet.
    pub head_samples: u64,
    /// What they take in memory.
    pub head_bytes: u64,
    pub sealed_samples: u64,
    /// Windows of time with sealed samples, and the generations that lie in them.
    pub windows: u64,
    pub generations: u64,
    pub blocks: u64,
    /// Deletions whose samples are not all gone yet.
    pub deletions: u64,
    /// What each file takes on the disk.
    pub wal_bytes: u64,
    pub data_bytes: u64,
    /// What of the data file is in use; the rest is given back when it is written anew.
    pub live_bytes: u64,
    pub counts: Counts,
}

impl Stats {
    /// What both files take on the disk.
    pub fn file_bytes(&self) -> u64 {
        self.wal_bytes + self.data_bytes
    }

    /// The part of the data file that is not in use, 0 to 1.
    pub fn dead_ratio(&self) -> f64 {
        if self.data_bytes == 0 {
            return 0.0;
        }
        let dead = self.data_bytes.saturating_sub(self.live_bytes);
        dead as f64 / self.data_bytes as f64
    }

    /// What a sealed sample takes of what is in use; `None` without one.
    pub fn bytes_per_sample(&self) -> Option<f64> {
        (self.sealed_samples > 0).then(|| self.live_bytes as f64 / self.sealed_samples as f64)
    }
}

/// What the blocks hold, by the way it is encoded.
#[derive(Clone, Debug, Default)]
pub struct BlockStats {
    pub blocks: u64,
    /// Bytes of the blocks themselves, and of the pages that they fill.
    pub block_bytes: u64,
    pub page_bytes: u64,
    /// Chunks of values by their codec, the largest first.
    pub values: Vec<CodecStats>,
    /// Timestamp columns, which several chunks may share.
    pub timestamps: Vec<CodecStats>,
}

/// What one codec is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecStats {
    pub codec: &'static str,
    /// Whether a list of values that are no ordinary numbers comes with it.
    pub has_exceptions: bool,
    /// Chunks or columns.
    pub count: u64,
    pub samples: u64,
    pub bytes: u64,
}

/// The index and the span of what is stored, as Prometheus' status page has them.
#[derive(Clone, Debug)]
pub struct IndexStats {
    pub series: u64,
    pub blocks: u64,
    /// From the oldest sample to the newest; `None` when there is none.
    pub span: Option<TimeRange>,
    pub cardinality: Cardinality,
}

impl Reader {
    pub fn stats(&self) -> Result<Stats, Error> {
        let shared = &self.shared;
        let live = shared.live();
        let manifest = shared.manifest();
        let (series, defined) = {
            let index = live.index();
            (index.count() as u64, index.next_id().into())
        };
        let windows: BTreeSet<_> = manifest.rows.iter().map(|row| row.window).collect();
        Ok(Stats {
            series,
            new_series: shared
                .growth
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .note(shared.clock.monotonic(), defined),
            head_samples: live.samples(),
            head_bytes: live.bytes(),
            sealed_samples: manifest.samples(),
            windows: windows.len() as u64,
            generations: manifest.rows.len() as u64,
            blocks: manifest.blocks(),
            deletions: live.deletions().iter().count() as u64,
            wal_bytes: shared.files.wal.allocated()?,
            data_bytes: shared.files.data.allocated()?,
            live_bytes: shared.live_bytes()?,
            counts: shared.tally.counts(),
        })
    }

    /// Reads every block and says how its chunks are encoded.
    pub fn block_stats(&self) -> Result<BlockStats, Error> {
        let snapshot = self.snapshot()?;
        let data = &self.shared.files.data;
        let blocks = data.contain(|| data::open_blocks(&snapshot.transaction))?;
        let mut stats = BlockStats::default();
        let (mut values, mut timestamps) = (Uses::default(), Uses::default());
        let mut reader = BlockReader::default();
        for row in &snapshot.manifest.rows {
            for block in &row.blocks {
                let key = row.block_key(block);
                let guard = data.contain(|| data::block(&blocks, &key))?;
                let bytes = guard.value();
                let mut count = || {
                    reader.open(bytes, &key, block.checksum)?;
                    for (samples, encoded) in reader.encoded_values(bytes) {
                        let codec = codec::name_of_values(encoded, samples)?;
                        values.add(codec, samples, encoded.len());
                    }
                    for (samples, encoded) in reader.encoded_timestamps(bytes) {
                        let codec = codec::name_of_timestamps(encoded)?;
                        timestamps.add((codec, false), samples, encoded.len());
                    }
                    Ok(())
                };
                count().map_err(|error: super::bytes::Malformed| {
                    data.corrupt(format!("block {key:?}: {error}"))
                })?;
                stats.blocks += 1;
                stats.block_bytes += u64::from(block.bytes);
                stats.page_bytes += block.page_bytes();
            }
        }
        stats.values = values.into_list();
        stats.timestamps = timestamps.into_list();
        Ok(stats)
    }

    /// What the index holds, with the `limit` most frequent of each kind.
    pub fn index_stats(&self, limit: usize) -> IndexStats {
        let live = self.shared.live();
        let manifest = self.shared.manifest();
        let mut span: Option<TimeRange> = None;
        let mut widen = |start: Timestamp, end: Timestamp| {
            let (start, end) = span.map_or((start, end), |span| {
                (span.start().min(start), span.end().max(end))
            });
            span = TimeRange::new(start, end);
        };
        for row in &manifest.rows {
            widen(row.range.start(), row.range.end());
        }
        for slot in live.parts() {
            for column in slot.part.columns().iter() {
                let (timestamps, _, late) = column.visible(TimeRange::ALL, u32::MAX);
                let late = late.into_iter().map(|(at, _)| at);
                for at in timestamps.first().into_iter().chain(timestamps.last()) {
                    widen(Timestamp::from_ms(*at), Timestamp::from_ms(*at));
                }
                for at in late {
                    widen(Timestamp::from_ms(at), Timestamp::from_ms(at));
                }
            }
        }
        let index = live.index();
        IndexStats {
            series: index.count() as u64,
            blocks: manifest.blocks(),
            span,
            cardinality: index.cardinality(limit),
        }
    }
}

impl Shared {
    /// What is live in the data file.
    pub(crate) fn live_bytes(&self) -> Result<u64, Error> {
        let data = &self.files.data;
        let transaction = data.begin_read()?;
        let revision = data.contain(|| data::revision(&transaction))?;
        let known = *self
            .small_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let small = match known {
            Some((known_at, small)) if known_at == revision => small,
            _ => {
                // It takes a walk over tables that only a new revision changes.
                let small = data.contain(|| data::small_table_bytes(&transaction))?;
                *self
                    .small_bytes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some((revision, small));
                small
            }
        };
        Ok(self.manifest().bytes() + small)
    }
}

/// Uses of codecs while they are counted.
#[derive(Default)]
struct Uses(BTreeMap<(&'static str, bool), CodecStats>);

impl Uses {
    fn add(&mut self, codec: (&'static str, bool), samples: usize, bytes: usize) {
        let known = self.0.entry(codec).or_default();
        known.count += 1;
        known.samples += samples as u64;
        known.bytes += bytes as u64;
    }

    fn into_list(self) -> Vec<CodecStats> {
        let named = self.0.into_iter();
        let mut list: Vec<CodecStats> = named
            .map(|((codec, has_exceptions), stats)| CodecStats {
                codec,
                has_exceptions,
                ..stats
            })
            .collect();
        list.sort_by_key(|stats| std::cmp::Reverse(stats.bytes));
        list
    }
}
