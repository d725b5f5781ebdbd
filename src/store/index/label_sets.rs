//! Label sets that were asked for lately: a dashboard asks for the same series again and again, and to
//! make a set takes longer than all else that a query does for a series with few samples.
//!
//! A cache: bounded, and begun anew when it is full.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Hashed;
use crate::model::{Label, Labels, SeriesId};

/// Memory for label sets, which is enough for some 40,000 of ten labels.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct LabelSets {
    by_series: HashMap<u64, Labels, BuildHasherDefault<Hashed>>,
    bytes: usize,
}

impl LabelSets {
    pub(super) fn get_or_make(
        &mut self,
        series: SeriesId,
        make: impl FnOnce() -> Labels,
    ) -> Labels {
        let key = key(series);
        if let Some(labels) = self.by_series.get(&key) {
            return labels.clone();
        }
        let labels = make();
        if self.bytes > BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += bytes(&labels);
        self.by_series.insert(key, labels.clone());
        labels
    }

    pub(super) fn remove(&mut self, gone: &[SeriesId]) {
        for &series in gone {
            if let Some(labels) = self.by_series.remove(&key(series)) {
                self.bytes -= bytes(&labels);
            }
        }
    }
}

/// Spread over all bits, as a hash is.
fn key(series: SeriesId) -> u64 {
    u64::from(series.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What a label set takes beside its strings, which the index has anyway.
fn bytes(labels: &Labels) -> usize {
    const ENTRY: usize = 64;
    labels.len() * size_of::<Label>() + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_shared() {
        let mut sets = LabelSets::default();
        let name = |series: u32| Labels::of("up", &[("job", &series.to_string())]);
        let made = sets.get_or_make(SeriesId(1), || name(1));
        assert_eq!(sets.get_or_make(SeriesId(1), || unreachable!()), made);
        sets.remove(&[SeriesId(1), SeriesId(2)]);
        assert_eq!((sets.by_series.len(), sets.bytes), (0, 0));
        // 128 bytes each: twice as many as there is room for.
        for series in 0..2 * (BYTES_MAX / 128) as u32 {
            sets.get_or_make(SeriesId(series), || name(7));
        }
        assert!(sets.bytes <= BYTES_MAX + 128);
        assert!(sets.by_series.len() <= BYTES_MAX / 128 + 1);
    }
}
