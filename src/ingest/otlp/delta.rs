//! Deltas added up: a sum that tells what came since it was last told, as one that only grows.
//!
//! What a series has come to is its last sample in the store; so it is durable, and in one commit with
//! the samples that it came from. In memory there is a copy for the series that send, and after a commit
//! that failed it is read again. A delta that is sent twice has the time of one that is there, and counts
//! once; one from before cannot be told from one that was counted, and is refused.

use std::collections::HashMap;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use super::translate::{Point, Translated};
use crate::model::{MatchOp, Matcher, TimeRange, Timestamp, is_stale};
use crate::store::{self, Reader, Snapshot};

/// Series in memory. Beyond, all are forgotten and read again as they send.
const SERIES_MAX: usize = 1 << 20;
/// How far back a series that was not heard of since the start is looked for. One that was silent for
/// longer starts again, as a counter does.
const MEMORY: Duration = Duration::from_secs(6 * 3600);
/// Samples that such a look may read.
const SAMPLES_MAX: usize = 1 << 20;
/// A start is not taken for true when it is longer ago than this.
const START_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Deltas(HashMap<u128, Sum>);

/// What a series has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sum {
    value: f64,
    at: Timestamp,
}

impl Deltas {
    /// Forgets what is in memory: it may not be what is in the store.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Turns every delta of a request into what its series comes to by it.
    pub(super) fn add_up(
        &mut self,
        translated: &mut Translated,
        reader: &Reader,
    ) -> Result<(), store::Error> {
        if self.0.len() > SERIES_MAX {
            self.forget();
        }
        let mut snapshot = None;
        let mut points = std::mem::take(&mut translated.points);
        points.sort_by_key(|point| point.at);
        let mut refused = None;
        for mut point in points {
            let Some(since) = point.delta_since else {
                translated.points.push(point);
                continue;
            };
            let hash = point.with_labels(hash);
            let known = if let Some(sum) = self.0.get(&hash) {
                Some(*sum)
            } else {
                if snapshot.is_none() {
                    snapshot = Some(reader.snapshot()?);
                }
                let snapshot = snapshot.as_ref().expect("it was just taken");
                load(snapshot, &point)?
            };
            if is_stale(point.value) {
                self.0.remove(&hash);
                translated.points.push(point);
                continue;
            }
            if let Some(sum) = known.filter(|sum| point.at <= sum.at) {
                self.0.insert(hash, sum);
                if point.at < sum.at && refused != Some(point.number) {
                    refused = Some(point.number);
                    translated.reject(1, || {
                        let series = point.with_labels(|pairs| format!("{pairs:?}"));
                        format!("a delta of {series} is older than one that was added before")
                    });
                }
                continue;
            }
            let before = known.map_or(0.0, |sum| sum.value);
            // The first increase is one from zero, which somebody has to have seen.
            if known.is_none() && since < point.at && since >= point.at.before(START_MAX) {
                let mut zero = point.clone();
                (zero.at, zero.value) = (since, 0.0);
                translated.points.push(zero);
            }
            point.value += before;
            let sum = Sum {
                value: point.value,
                at: point.at,
            };
            self.0.insert(hash, sum);
            translated.points.push(point);
        }
        Ok(())
    }
}

fn hash(pairs: &[(&str, &str)]) -> u128 {
    let mut text = Vec::new();
    for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
        text.extend_from_slice(part.as_bytes());
        // No byte of a text.
        text.push(0xff);
    }
    xxh3_128(&text)
}

/// What a series came to, as the store has it; `None` when it is new, has ended or was silent too long.
fn load(snapshot: &Snapshot, point: &Point) -> Result<Option<Sum>, store::Error> {
    let (matchers, labels) = point.with_labels(|pairs| {
        let matchers = pairs.iter().map(|(name, value)| {
            Matcher::new(*name, MatchOp::Equal, *value).expect("equality holds no pattern")
        });
        (matchers.collect::<Vec<_>>(), pairs.len())
    });
    let Some(range) = TimeRange::new(point.at.before(MEMORY), Timestamp::MAX) else {
        return Ok(None);
    };
    let columns = snapshot.select(&matchers, range, SAMPLES_MAX)?;
    let own = columns.iter().find(|column| column.labels.len() == labels);
    let last = own.and_then(|column| {
        let at = *column.timestamps.last()?;
        let value = *column.values.last()?;
        (!is_stale(value)).then_some(Sum { value, at })
    });
    Ok(last)
}
