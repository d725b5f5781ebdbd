//! The shapes of the store's state and of what operators do to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ingest::counters::reason_name;
use crate::store;

/// `GET /api/v1/status/store`. Counters run since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    pub series: u64,
    /// Series defined in the last hour and in the last day, as far back as it was looked.
    pub series_new_hour: u64,
    pub series_new_day: u64,
    pub series_observed_seconds: f64,
    /// Samples that are not in blocks yet, and what they take in memory.
    pub head_samples: u64,
    pub head_bytes: u64,
    pub sealed_samples: u64,
    /// Windows of time with sealed samples, the generations in them, and their blocks.
    pub windows: u64,
    pub generations: u64,
    pub blocks: u64,
    /// Deletions whose samples are not all gone yet.
    pub deletions: u64,
    /// What each file takes on the disk.
    pub wal_bytes: u64,
    pub data_bytes: u64,
    /// What of the data file is in use.
    pub live_bytes: u64,
    /// The part of the data file that is not, 0 to 1.
    pub dead_ratio: f64,
    /// What is in use for each sealed sample.
    pub bytes_per_sample: Option<f64>,
    pub commits_total: u64,
    pub commit_seconds_total: f64,
    pub seals_total: u64,
    pub seal_seconds_total: f64,
    pub merges_total: u64,
    pub merge_seconds_total: f64,
    pub rewrites_total: u64,
    pub failures_total: u64,
    /// Samples refused, by reason.
    pub rejected_samples_total: BTreeMap<String, u64>,
    /// With `?blocks=true`: every block was read for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// How the blocks are encoded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    pub blocks: u64,
    /// Bytes of the blocks, and of the pages that they fill.
    pub block_bytes: u64,
    pub page_bytes: u64,
    /// The chunks of values by codec, the largest first.
    pub values: Vec<Codec>,
    /// The columns of timestamps, which several chunks may share.
    pub timestamps: Vec<Codec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Codec {
    /// `constant`, `frame`, `step`, `zigzag`, `xor` or `grid`.
    pub codec: String,
    /// Whether a list of values that are no ordinary numbers comes with it.
    pub exceptions: bool,
    /// Chunks or columns.
    pub count: u64,
    pub samples: u64,
    pub bytes: u64,
}

/// `POST /api/v1/admin/tsdb/snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last part of the directory's path.
    pub name: String,
    pub dir: String,
    pub bytes: u64,
    /// Everything committed up to this sequence number is in it.
    pub seq: u64,
}

impl From<store::Stats> for StoreStatus {
    fn from(stats: store::Stats) -> Self {
        let counts = &stats.counts;
        Self {
            series: stats.series,
            series_new_hour: stats.new_series.last_hour,
            series_new_day: stats.new_series.last_day,
            series_observed_seconds: stats.new_series.observed.as_secs_f64(),
            head_samples: stats.head_samples,
            head_bytes: stats.head_bytes,
            sealed_samples: stats.sealed_samples,
            windows: stats.windows,
            generations: stats.generations,
            blocks: stats.blocks,
            deletions: stats.deletions,
            wal_bytes: stats.wal_bytes,
            data_bytes: stats.data_bytes,
            live_bytes: stats.live_bytes,
            dead_ratio: stats.dead_ratio(),
            bytes_per_sample: stats.bytes_per_sample(),
            commits_total: counts.commits.count,
            commit_seconds_total: counts.commits.time.as_secs_f64(),
            seals_total: counts.seals.count,
            seal_seconds_total: counts.seals.time.as_secs_f64(),
            merges_total: counts.merges.count,
            merge_seconds_total: counts.merges.time.as_secs_f64(),
            rewrites_total: counts.rewrites.count,
            failures_total: counts.failures,
            rejected_samples_total: counts
                .rejected
                .iter()
                .map(|(reason, count)| (reason_name(*reason).to_owned(), *count))
                .collect(),
            encoding: None,
        }
    }
}

impl From<store::BlockStats> for Encoding {
    fn from(stats: store::BlockStats) -> Self {
        let codecs = |list: Vec<store::CodecStats>| -> Vec<Codec> {
            let codec = |stats: store::CodecStats| Codec {
                codec: stats.codec.to_owned(),
                exceptions: stats.has_exceptions,
                count: stats.count,
                samples: stats.samples,
                bytes: stats.bytes,
            };
            list.into_iter().map(codec).collect()
        };
        Self {
            blocks: stats.blocks,
            block_bytes: stats.block_bytes,
            page_bytes: stats.page_bytes,
            values: codecs(stats.values),
            timestamps: codecs(stats.timestamps),
        }
    }
}

impl From<store::Backup> for Snapshot {
    fn from(backup: store::Backup) -> Self {
        let name = backup.dir.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            dir: backup.dir.to_string_lossy().into_owned(),
            bytes: backup.bytes,
            seq: backup.seq,
        }
    }
}
