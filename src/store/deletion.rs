//! Deletions: matchers and a range of time, in sequence with the samples that they hide.
//!
//! A deletion hides every sample of a smaller sequence number. The growing part of the head is purged
//! when the deletion is committed; frozen parts and blocks, which are never changed in place, hide
//! what it names until they are sealed, merged or purged. Once nothing older is left its record goes.

use std::sync::Arc;

use redb::ReadTransaction;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::manifest::WindowRow;
use super::{Error, Table, data};
use crate::model::{MatchOp, Matcher, Mutation, SeriesId, TimeRange, Timestamp};

/// Keyed by the sequence number, eight bytes, most significant first.
const DELETIONS: Table<Record> = Table::new("store.deletions", 1);

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Samples of the series that pass all matchers of any of these,
    pub(crate) selectors: Vec<Vec<Matcher>>,
    /// in this range.
    pub(crate) range: TimeRange,
}

/// A deletion in force.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) seq: u64,
    pub(crate) range: TimeRange,
    /// Rising.
    pub(crate) series: Vec<SeriesId>,
}

/// All deletions in force, in the order of their sequence numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions(Vec<Arc<Deletion>>);

/// Operator (0 to 3: `=`, `!=`, `=~`, `!~`), name and value of a matcher.
type MatcherRecord = (u8, String, String);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    selectors: Vec<Vec<MatcherRecord>>,
    start_ms: i64,
    end_ms: i64,
}

const OPERATORS: [MatchOp; 4] = [
    MatchOp::Equal,
    MatchOp::NotEqual,
    MatchOp::Regex,
    MatchOp::NotRegex,
];

impl Request {
    /// The record that makes it durable.
    pub(crate) fn mutation(&self, seq: u64) -> Mutation {
        let matcher = |matcher: &Matcher| {
            let operator = OPERATORS.iter().position(|&op| op == matcher.op);
            let operator = operator.expect("all operators are listed") as u8;
            (operator, matcher.name.clone(), matcher.value.clone())
        };
        let record = Record {
            selectors: self
                .selectors
                .iter()
                .map(|selector| selector.iter().map(matcher).collect())
                .collect(),
            start_ms: self.range.start().ms(),
            end_ms: self.range.end().ms(),
        };
        DELETIONS.put(seq.to_be_bytes(), &record)
    }

    /// The series that it means now. Those defined later have no samples that it could hide.
    pub(crate) fn resolve(&self, seq: u64, index: &Index) -> Deletion {
        let mut series: Vec<SeriesId> = self
            .selectors
            .iter()
            .flat_map(|selector| index.select(selector))
            .collect();
        series.sort_unstable();
        series.dedup();
        Deletion {
            seq,
            range: self.range,
            series,
        }
    }
}

/// What is wrong with a record, if it is one of these.
pub(crate) fn check_record(table: &str, value: &[u8]) -> Option<Error> {
    (table == DELETIONS.name())
        .then(|| decode(value).err())
        .flatten()
}

/// The change that ends a deletion.
pub(crate) fn end(seq: u64) -> Mutation {
    DELETIONS.remove(seq.to_be_bytes())
}

/// What a record's change says of deletions, if that is what it is about: the sequence number, and the
/// request unless the deletion ended.
pub(crate) fn of_mutation(mutation: &Mutation) -> Option<(u64, Result<Option<Request>, Error>)> {
    if mutation.table != DELETIONS.name() {
        return None;
    }
    let seq = seq_of(&mutation.key);
    Some((seq, mutation.value.as_deref().map(decode).transpose()))
}

fn seq_of(key: &[u8]) -> u64 {
    key.iter().fold(0, |seq, &byte| seq << 8 | u64::from(byte))
}

fn decode(value: &[u8]) -> Result<Request, Error> {
    let record = DELETIONS.decode(value)?;
    let matcher = |(operator, name, value): MatcherRecord| {
        let operator = OPERATORS.get(usize::from(operator)).copied()?;
        Matcher::new(name, operator, value).ok()
    };
    let selectors: Option<Vec<Vec<Matcher>>> = record
        .selectors
        .into_iter()
        .map(|selector| selector.into_iter().map(matcher).collect())
        .collect();
    let (start, end) = (record.start_ms, record.end_ms);
    let range = TimeRange::new(Timestamp::from_ms(start), Timestamp::from_ms(end));
    match (selectors, range) {
        (Some(selectors), Some(range)) => Ok(Request { selectors, range }),
        _ => Err(Error::Deletion),
    }
}

/// The sealed deletions, resolved by an index.
pub(crate) fn load(
    transaction: &ReadTransaction,
    index: &Index,
) -> Result<Result<Deletions, Error>, redb::Error> {
    let mut requests = Vec::new();
    data::each_record(transaction, DELETIONS.name(), None, |key, value| {
        requests.push((seq_of(key), decode(value)));
        std::ops::ControlFlow::Continue(())
    })?;
    let resolve =
        |(seq, request): (u64, Result<Request, Error>)| Ok(Arc::new(request?.resolve(seq, index)));
    let deletions: Result<Vec<_>, Error> = requests.into_iter().map(resolve).collect();
    Ok(deletions.map(Deletions))
}

impl Deletions {
    pub(crate) fn push(&mut self, deletion: Arc<Deletion>) {
        self.0.push(deletion);
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        self.0.retain(|deletion| deletion.seq != seq);
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Deletion>> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that hide samples of something that was complete at a sequence number, as far as they
    /// touch a range of time.
    pub(crate) fn hiding(&self, complete_at: u64, range: TimeRange) -> HiddenSeries<'_> {
        let hides = |deletion: &&Arc<Deletion>| {
            deletion.seq > complete_at && deletion.range.overlaps(range)
        };
        HiddenSeries(
            self.0
                .iter()
                .filter(hides)
                .map(|deletion| &**deletion)
                .collect(),
        )
    }

    /// Whether one of them hides a sample of something complete at a sequence number.
    pub(crate) fn hides(&self, complete_at: u64, series: SeriesId, at: Timestamp) -> bool {
        self.0.iter().any(|deletion| {
            deletion.seq > complete_at && deletion.range.contains(at) && deletion.has(series)
        })
    }

    /// Those that nothing older than them is left of.
    pub(crate) fn done<'a>(
        &'a self,
        applied: u64,
        rows: &'a [Arc<WindowRow>],
    ) -> impl Iterator<Item = u64> + 'a {
        let is_done = move |deletion: &&Arc<Deletion>| {
            let touches = |row: &Arc<WindowRow>| {
                row.hidden_from() < deletion.seq && row.range.overlaps(deletion.range)
            };
            applied >= deletion.seq && !rows.iter().any(touches)
        };
        self.0.iter().filter(is_done).map(|deletion| deletion.seq)
    }
}

impl Deletion {
    pub(crate) fn has(&self, series: SeriesId) -> bool {
        self.series.binary_search(&series).is_ok()
    }

    /// Whether any of its series lies between two, both included.
    fn touches(&self, first: SeriesId, last: SeriesId) -> bool {
        let at = self.series.partition_point(|&series| series < first);
        self.series.get(at).is_some_and(|&series| series <= last)
    }
}

/// What is hidden of one part of the head or one window.
#[derive(Debug, Default)]
pub(crate) struct HiddenSeries<'a>(Vec<&'a Deletion>);

impl HiddenSeries<'_> {
    /// The hidden ranges of a series.
    pub(crate) fn ranges(&self, series: SeriesId) -> Vec<TimeRange> {
        let of_series = self.0.iter().filter(|deletion| deletion.has(series));
        of_series.map(|deletion| deletion.range).collect()
    }

    /// Whether any series between two, both included, has hidden ranges.
    pub(crate) fn touches(&self, first: SeriesId, last: SeriesId) -> bool {
        self.0.iter().any(|deletion| deletion.touches(first, last))
    }
}
