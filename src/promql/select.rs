//! What a query reads: every selector once, all from one snapshot, before evaluation begins.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::Error;
use super::limit::Guard;
use super::plan::{Kind, Node, Plan, Range, Selection, Source};
use super::value::{Grid, QuerySpan};
use crate::model::{Column, Labels, TimeRange, Timestamp, is_stale};
use crate::store::{self, Reader, Snapshot};

/// How a query looks at time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// How old a sample may be to stand for an instant; the bound itself is too old.
    pub(super) lookback_ms: i64,
    pub(super) query: QuerySpan,
}

/// All that a query has read.
#[derive(Debug)]
pub(super) struct Data {
    /// By selection and start.
    reads: Vec<Read>,
}

/// The samples of one selection over one span of time.
#[derive(Debug)]
struct Read {
    need: Need,
    columns: Vec<Column>,
}

/// A span that some selector looks at, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    selection: usize,
    start_ms: i64,
    end_ms: i64,
}

/// The samples of one series without stale markers: what a window is cut from.
#[derive(Clone, Debug)]
pub(super) struct Samples<'a> {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    pub(super) timestamps: Arc<[Timestamp]>,
    pub(super) values: Cow<'a, [f64]>,
}

/// Reads what the plan needs at the steps of the query.
pub(super) fn read(
    reader: &Reader,
    plan: &Plan,
    steps: Grid,
    reading: &Reading,
    guard: &Guard,
) -> Result<Data, Error> {
    let mut needs = Vec::new();
    collect(&plan.root, steps, reading, &mut needs);
    let snapshot = reader.snapshot()?;
    let mut reads = Vec::new();
    let mut left = guard.samples_max();
    for need in joined(needs) {
        guard.check()?;
        let columns =
            load(&snapshot, &plan.selections[need.selection], need, left).map_err(|error| {
                match error {
                    store::Error::TooManySamples { .. } => guard.too_many_samples(),
                    other => other.into(),
                }
            })?;
        left = left.saturating_sub(columns.iter().map(|column| column.values.len()).sum());
        reads.push(Read { need, columns });
    }
    guard.count_read(guard.samples_max().saturating_sub(left));
    Ok(Data { reads })
}

/// The steps at which a subquery's expression is evaluated for a range that is asked for at `refs`.
pub(super) fn subquery_grid(refs: Grid, range_ms: i64, step_ms: i64) -> Grid {
    if refs.len == 0 {
        return Grid { len: 0, ..refs };
    }
    Grid::multiples(
        step_ms,
        refs.start_ms.saturating_sub(range_ms),
        refs.end_ms(),
    )
}

/// Adds what `node` looks at when it is evaluated at `steps`.
fn collect(node: &Node, steps: Grid, reading: &Reading, needs: &mut Vec<Need>) {
    match &node.kind {
        Kind::Select(select) => {
            let refs = select.shift.apply(steps, reading.query);
            push(needs, select.selection, refs, reading.lookback_ms);
        }
        Kind::Range(Range {
            source,
            window_ms,
            shift,
        }) => {
            let refs = shift.apply(steps, reading.query);
            match source {
                Source::Samples(selection) => push(needs, *selection, refs, *window_ms),
                Source::Subquery { expr, step_ms } => {
                    let inner = subquery_grid(refs, *window_ms, *step_ms);
                    collect(expr, inner, reading, needs);
                }
            }
        }
        _ => {
            for operand in node.operands() {
                collect(operand, steps, reading, needs);
            }
        }
    }
}

fn push(needs: &mut Vec<Need>, selection: usize, refs: Grid, span_ms: i64) {
    if refs.len > 0 {
        needs.push(need(selection, refs, span_ms));
    }
}

fn need(selection: usize, refs: Grid, span_ms: i64) -> Need {
    let end_ms = refs.end_ms();
    Need {
        selection,
        start_ms: refs
            .start_ms
            .saturating_sub(span_ms)
            .saturating_add(1)
            .min(end_ms),
        end_ms,
    }
}

/// Joins spans of the same selection that overlap or touch.
fn joined(mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort_unstable();
    let mut joined: Vec<Need> = Vec::with_capacity(needs.len());
    for need in needs {
        match joined.last_mut() {
            Some(last)
                if last.selection == need.selection
                    && need.start_ms <= last.end_ms.saturating_add(1) =>
            {
                last.end_ms = last.end_ms.max(need.end_ms);
            }
            _ => joined.push(need),
        }
    }
    joined
}

fn load(
    snapshot: &Snapshot,
    selection: &Selection,
    need: Need,
    samples_max: usize,
) -> Result<Vec<Column>, store::Error> {
    let range = TimeRange::new(
        Timestamp::from_ms(need.start_ms),
        Timestamp::from_ms(need.end_ms),
    )
    .expect("a need's start is not after its end");
    let mut columns: Vec<Column> = Vec::new();
    let mut left = samples_max;
    for branch in &selection.branches {
        let more = snapshot.select(branch, range, left)?;
        left = left.saturating_sub(more.iter().map(|column| column.values.len()).sum());
        columns.extend(more);
    }
    if selection.branches.len() > 1 {
        // A series may pass more than one branch.
        columns.sort_by(|left, right| left.labels.cmp(&right.labels));
        columns.dedup_by(|left, right| left.labels == right.labels);
    }
    Ok(columns)
}

impl Data {
    /// The series that a selector sees over `refs` looking back by `span_ms`; they may hold samples
    /// outside of that, read for another selector.
    pub(super) fn columns(&self, selection: usize, refs: Grid, span_ms: i64) -> &[Column] {
        if refs.len == 0 {
            return &[];
        }
        let wanted = need(selection, refs, span_ms);
        // The spans of a selection do not overlap: the last that begins early enough holds it.
        let after = self.reads.partition_point(|read| {
            (read.need.selection, read.need.start_ms) <= (selection, wanted.start_ms)
        });
        let read = after
            .checked_sub(1)
            .map(|index| &self.reads[index])
            .filter(|read| read.need.selection == selection && wanted.end_ms <= read.need.end_ms)
            .expect("every selector's span was collected before reading");
        &read.columns
    }
}

impl<'a> Samples<'a> {
    /// A stored series without its stale markers.
    pub(super) fn of(column: &'a Column) -> Self {
        // All are looked at, which is faster than to look for the first.
        let has_stale = |has, value: &f64| has | is_stale(*value);
        let (timestamps, values) = if column.values.iter().fold(false, has_stale) {
            let samples = column.timestamps.iter().zip(&column.values);
            let (timestamps, values): (Vec<_>, Vec<_>) =
                samples.filter(|(_, value)| !is_stale(**value)).unzip();
            (timestamps.into(), Cow::Owned(values))
        } else {
            (
                column.timestamps.clone(),
                Cow::Borrowed(column.values.as_slice()),
            )
        };
        Self {
            labels: column.labels.clone(),
            drop_name: false,
            timestamps,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::lower;

    fn needs(query: &str, steps: Grid) -> Vec<(usize, i64, i64)> {
        let plan = lower::plan(query).unwrap();
        let reading = Reading {
            lookback_ms: 300_000,
            query: QuerySpan {
                start_ms: steps.start_ms,
                end_ms: steps.end_ms(),
                step_ms: steps.step_ms,
            },
        };
        let mut needs = Vec::new();
        collect(&plan.root, steps, &reading, &mut needs);
        joined(needs)
            .into_iter()
            .map(|need| (need.selection, need.start_ms, need.end_ms))
            .collect()
    }

    #[test]
    fn windows_and_lookback_leave_out_their_left_bound() {
        let at = Grid::single(1_000_000);
        assert_eq!(needs("x", at), [(0, 700_001, 1_000_000)]);
        assert_eq!(needs("rate(x[60s])", at), [(0, 940_001, 1_000_000)]);
    }

    #[test]
    fn overlapping_spans_of_a_selector_are_read_once() {
        let at = Grid::single(10_000_000);
        assert_eq!(
            needs("x + x offset 1m + rate(x[10m])", at),
            [(0, 9_400_001, 10_000_000)]
        );
        assert_eq!(
            needs("x - x offset 1h", at),
            [(0, 6_100_001, 6_400_000), (0, 9_700_001, 10_000_000)],
            "what lies between is not read"
        );
    }

    #[test]
    fn a_subquery_reads_from_its_first_step() {
        // Steps of the subquery: 360 s, 420 s, ..., 600 s.
        let at = Grid::single(620_000);
        assert_eq!(
            needs("max_over_time(rate(x[30s])[5m:1m])", at),
            [(0, 330_001, 600_000)]
        );
    }

    #[test]
    fn a_fixed_time_is_read_once_for_all_steps() {
        let steps = Grid {
            start_ms: 0,
            step_ms: 1000,
            len: 100,
        };
        assert_eq!(needs("x @ 600", steps), [(0, 300_001, 600_000)]);
        assert_eq!(needs("x @ end()", steps), [(0, -200_999, 99_000)]);
    }
}
