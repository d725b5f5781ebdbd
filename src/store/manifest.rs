//! The manifest: which blocks there are, by window and generation.
//!
//! Every block that is read is one that a row names, with the checksum that the row gives; so a block
//! that is missing or another one's is an error and not an absence.

use std::sync::Arc;

use super::block::BlockKey;
use super::bytes::{Bytes, Malformed, checked, put_checksum};
use super::window::{Width, Window};
use crate::model::{SeriesId, TimeRange, Timestamp};

/// Blocks of floats, in the same file as the manifest.
const KIND_FLOAT: u8 = 1;

/// One window of one generation, and its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowRow {
    pub(crate) window: Window,
    /// The sequence number of the seal that wrote it.
    pub(crate) generation: u64,
    /// Deletions up to this sequence number hide nothing in it any more.
    pub(crate) purged: u64,
    /// Holds every sample; may be wider.
    pub(crate) range: TimeRange,
    /// In the order of their keys.
    pub(crate) blocks: Vec<BlockRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRow {
    pub(crate) metric: u32,
    pub(crate) first: SeriesId,
    pub(crate) last: SeriesId,
    pub(crate) samples: u32,
    pub(crate) bytes: u32,
    pub(crate) checksum: u64,
}

impl BlockRow {
    /// redb gives a large value a run of pages that is a power of two long.
    pub(crate) fn page_bytes(&self) -> u64 {
        const PAGE_BYTES: u64 = 4096;
        match u64::from(self.bytes) + 40 {
            bytes if bytes <= PAGE_BYTES => bytes,
            bytes => bytes.next_power_of_two(),
        }
    }
}

impl WindowRow {
    pub(crate) fn key(&self) -> (u8, i64, u64) {
        (self.window.width as u8, self.window.number, self.generation)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| u64::from(block.samples))
            .sum()
    }

    /// About how many samples lie in a range of time, were they spread evenly.
    pub(crate) fn samples_in(&self, range: TimeRange) -> f64 {
        let span = |start: Timestamp, end: Timestamp| end.ms() as f64 - start.ms() as f64 + 1.0;
        let start = range.start().max(self.range.start());
        let end = range.end().min(self.range.end());
        let share = span(start, end) / span(self.range.start(), self.range.end());
        self.samples() as f64 * share.clamp(0.0, 1.0)
    }

    /// What its blocks take in the file, in whole pages where they have pages of their own.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.iter().map(BlockRow::page_bytes).sum()
    }

    /// Deletions with a larger sequence number hide samples in it.
    pub(crate) fn hidden_from(&self) -> u64 {
        self.generation.max(self.purged)
    }

    pub(crate) fn block_key(&self, block: &BlockRow) -> BlockKey {
        BlockKey {
            window: self.window,
            generation: self.generation,
            metric: block.metric,
            first: block.first,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![KIND_FLOAT];
        out.extend_from_slice(&self.purged.to_le_bytes());
        out.extend_from_slice(&self.range.start().ms().to_le_bytes());
        out.extend_from_slice(&self.range.end().ms().to_le_bytes());
        out.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.metric.to_le_bytes());
            out.extend_from_slice(&block.first.0.to_le_bytes());
            out.extend_from_slice(&block.last.0.to_le_bytes());
            out.extend_from_slice(&block.samples.to_le_bytes());
            out.extend_from_slice(&block.bytes.to_le_bytes());
            out.extend_from_slice(&block.checksum.to_le_bytes());
        }
        put_checksum(&mut out);
        out
    }

    pub(crate) fn decode(
        (width, number, generation): (u8, i64, u64),
        bytes: &[u8],
    ) -> Result<Self, Malformed> {
        let width = Width::from_number(width).ok_or(Malformed("has an unknown width"))?;
        let (body, _) = checked(bytes)?;
        let mut bytes = Bytes::new(body);
        if bytes.u8()? != KIND_FLOAT {
            return Err(Malformed("is of an unknown kind"));
        }
        let purged = bytes.u64()?;
        let start = Timestamp::from_ms(bytes.i64()?);
        let end = Timestamp::from_ms(bytes.i64()?);
        let count = bytes.u32()?;
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push(BlockRow {
                metric: bytes.u32()?,
                first: SeriesId(bytes.u32()?),
                last: SeriesId(bytes.u32()?),
                samples: bytes.u32()?,
                bytes: bytes.u32()?,
                checksum: bytes.u64()?,
            });
        }
        Ok(Self {
            window: Window { width, number },
            generation,
            purged,
            range: TimeRange::new(start, end).ok_or(Malformed("ends before it begins"))?,
            blocks,
        })
    }
}

/// Everything that is sealed, as of a revision of the data file.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) revision: u64,
    /// In the order in which samples are merged: by day, then by generation, so that of two samples
    /// for one timestamp the one that was there first comes first; then by window.
    pub(crate) rows: Vec<Arc<WindowRow>>,
}

impl Manifest {
    pub(crate) fn new(revision: u64, mut rows: Vec<Arc<WindowRow>>) -> Self {
        rows.sort_by_key(|row| (row.window.day(), row.generation, row.window));
        Self { revision, rows }
    }

    /// The manifest after a change.
    pub(crate) fn with(&self, revision: u64, changed: Vec<WindowRow>) -> Self {
        let is_changed =
            |row: &Arc<WindowRow>| changed.iter().any(|other| other.key() == row.key());
        let kept = self.rows.iter().filter(|row| !is_changed(row)).cloned();
        let mut rows: Vec<_> = kept.collect();
        let changed = changed.into_iter().filter(|row| !row.blocks.is_empty());
        rows.extend(changed.map(Arc::new));
        Self::new(revision, rows)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.rows.iter().map(|row| row.samples()).sum()
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.rows.iter().map(|row| row.blocks.len() as u64).sum()
    }

    /// What all blocks take in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_find_their_damage() {
        let row = WindowRow {
            window: Window::of(-1, Width::Day),
            generation: 9,
            purged: 12,
            range: TimeRange::new(Timestamp::MIN, Timestamp::from_ms(-1)).unwrap(),
            blocks: vec![BlockRow {
                metric: 1,
                first: SeriesId(2),
                last: SeriesId(3),
                samples: 5,
                bytes: 6,
                checksum: 4,
            }],
        };
        let mut bytes = row.encode();
        assert_eq!(WindowRow::decode(row.key(), &bytes), Ok(row.clone()));
        bytes[40] ^= 1;
        assert!(WindowRow::decode(row.key(), &bytes).is_err());
    }
}
