//! Windows over the samples of a series, sliding with the steps.
//!
//! A window is `(start, end]`: a sample at its start is outside, one at its end inside. As the steps
//! rise both bounds only move forward, so no sample is looked for twice.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use super::limit::Guard;
use super::select::Samples;
use super::value::{ABSENT, Grid, Series};
use crate::model::Timestamp;
use crate::store::parallel;

/// The samples in `(start, end]`, and the step that asks for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    /// Never empty.
    pub(super) timestamps: &'a [Timestamp],
    pub(super) values: &'a [f64],
    pub(super) span: Span,
}

/// The bounds of a window.
#[expect(clippy::struct_field_names, reason = "each time carries its unit")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The bound on the left, outside.
    pub(super) start_ms: i64,
    /// The bound on the right, inside.
    pub(super) end_ms: i64,
    /// The time of the step, which offset and `@` may set apart from the end.
    pub(super) step_ms: i64,
}

/// The windows of one range vector at each step; their ends never fall.
pub(super) fn spans(steps: Grid, refs: Grid, range_ms: i64) -> Vec<Span> {
    steps
        .times()
        .enumerate()
        .map(|(index, step_ms)| {
            let end_ms = refs.time(if refs.len == 1 { 0 } else { index });
            Span {
                start_ms: end_ms.saturating_sub(range_ms),
                end_ms,
                step_ms,
            }
        })
        .collect()
}

/// The index ranges of the samples in each span.
pub(super) type Bounds = Vec<(usize, usize)>;

pub(super) fn bounds(timestamps: &[Timestamp], spans: &[Span]) -> Bounds {
    let mut low = 0;
    let mut high = 0;
    let mut is_first = true;
    spans
        .iter()
        .map(|span| {
            if is_first {
                // A series may begin long before the first step.
                low = timestamps.partition_point(|time| time.ms() <= span.start_ms);
                high = low;
                is_first = false;
            }
            while timestamps
                .get(low)
                .is_some_and(|time| time.ms() <= span.start_ms)
            {
                low += 1;
            }
            high = high.max(low);
            while timestamps
                .get(high)
                .is_some_and(|time| time.ms() <= span.end_ms)
            {
                high += 1;
            }
            (low, high)
        })
        .collect()
}

/// What depends on the timestamps of a series and the steps alone: worked out once for all series
/// that share their timestamps.
#[derive(Debug)]
pub(super) struct PerTimes<T> {
    /// By the address of the timestamps.
    known: HashMap<usize, Known<T>>,
    /// Items of all.
    len: usize,
}

#[derive(Debug)]
struct Known<T> {
    made: Arc<[T]>,
    /// Held so that the address stays theirs.
    _timestamps: Arc<[Timestamp]>,
}

impl<T> Default for PerTimes<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> PerTimes<T> {
    pub(super) fn get(
        &mut self,
        timestamps: &Arc<[Timestamp]>,
        make: impl FnOnce(&[Timestamp]) -> Vec<T>,
    ) -> Arc<[T]> {
        /// Some megabytes; more only where hardly any series share their timestamps.
        const LEN_MAX: usize = 1 << 17;
        let key = timestamps.as_ptr() as usize;
        if let Some(known) = self.known.get(&key) {
            return known.made.clone();
        }
        let made: Arc<[T]> = make(timestamps).into();
        if self.len + made.len() > LEN_MAX {
            self.known.clear();
            self.len = 0;
        }
        self.len += made.len();
        let known = Known {
            made: made.clone(),
            _timestamps: timestamps.clone(),
        };
        self.known.insert(key, known);
        made
    }
}

/// Makes a series of each, with a value for every step; those without any value are left out. Works in
/// as many threads as it is worth; `work` has a state of its own in each.
pub(super) fn each_series<S: Default>(
    samples: &[Samples<'_>],
    steps: usize,
    guard: &Guard,
    work: impl Fn(&mut S, &Samples<'_>) -> Result<Vec<f64>, Error> + Sync,
) -> Result<Vec<Series>, Error> {
    let read: usize = samples.iter().map(|one| one.values.len()).sum();
    let threads = threads_worth(read + samples.len().saturating_mul(steps));
    let parts = parallel::split(samples, threads, |part| {
        let mut state = S::default();
        let mut results = Vec::with_capacity(part.len());
        for one in part {
            guard.check()?;
            let series = Series {
                labels: one.labels.clone(),
                drop_name: one.drop_name,
                values: work(&mut state, one)?,
            };
            if !series.is_empty() {
                results.push(series);
            }
        }
        Ok::<_, Error>(results)
    });
    let mut results = Vec::with_capacity(samples.len());
    for part in parts {
        results.append(&mut part?);
    }
    Ok(results)
}

/// How many threads so many values are worth.
pub(super) fn threads_worth(values: usize) -> usize {
    /// They take several times as long as it takes to start a thread.
    const VALUES_PER_THREAD: usize = 100_000;
    values / VALUES_PER_THREAD + 1
}

/// The value of `function` for each window that holds a sample, [`ABSENT`] for the others.
pub(super) fn evaluate(
    samples: &Samples<'_>,
    bounds: &[(usize, usize)],
    spans: &[Span],
    guard: &Guard,
    mut function: impl FnMut(Window<'_>, usize) -> Option<f64>,
) -> Result<Vec<f64>, Error> {
    const WINDOWS_BETWEEN_CHECKS: usize = 256;
    let mut results = Vec::with_capacity(spans.len());
    for (index, (&(low, high), span)) in bounds.iter().zip(spans).enumerate() {
        if index % WINDOWS_BETWEEN_CHECKS == WINDOWS_BETWEEN_CHECKS - 1 {
            guard.check()?;
        }
        let result = if low < high {
            let window = Window {
                timestamps: &samples.timestamps[low..high],
                values: &samples.values[low..high],
                span: *span,
            };
            function(window, index)
        } else {
            None
        };
        results.push(result.unwrap_or(ABSENT));
    }
    Ok(results)
}

/// The extreme of each window by a queue of candidates, each sample entering and leaving it once.
///
/// `beats` says that a newer value is beyond an older one; of equals the oldest is the extreme. NaNs
/// count only where a window holds nothing else. Returns the index of the extreme.
pub(super) fn extremes(
    values: &[f64],
    bounds: &[(usize, usize)],
    beats: impl Fn(f64, f64) -> bool,
) -> Vec<Option<usize>> {
    if let [(low, high)] = *bounds {
        // A single window does not slide.
        let best = |best: usize, next: usize| {
            if beats(values[next], values[best]) || values[best].is_nan() {
                next
            } else {
                best
            }
        };
        return vec![
            (low..high)
                .reduce(best)
                .map(|at| if values[at].is_nan() { low } else { at }),
        ];
    }
    let mut candidates = std::collections::VecDeque::new();
    let mut next = 0;
    bounds
        .iter()
        .map(|(low, high)| {
            next = next.max(*low);
            while next < *high {
                if !values[next].is_nan() {
                    while candidates
                        .back()
                        .is_some_and(|older: &usize| beats(values[next], values[*older]))
                    {
                        candidates.pop_back();
                    }
                    candidates.push_back(next);
                }
                next += 1;
            }
            while candidates.front().is_some_and(|index| index < low) {
                candidates.pop_front();
            }
            if low < high {
                Some(candidates.front().copied().unwrap_or(*low))
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(at_ms: &[i64]) -> Vec<Timestamp> {
        at_ms.iter().copied().map(Timestamp::from_ms).collect()
    }

    #[test]
    fn a_window_leaves_out_its_left_bound_and_holds_its_right() {
        let timestamps = times(&[10, 20, 30]);
        let steps = Grid {
            start_ms: 20,
            step_ms: 10,
            len: 3,
        };
        let found = bounds(&timestamps, &spans(steps, steps, 10));
        assert_eq!(found, [(1, 2), (2, 3), (3, 3)]);
    }

    #[test]
    fn a_fixed_end_serves_every_step() {
        let steps = Grid {
            start_ms: 0,
            step_ms: 5,
            len: 2,
        };
        let fixed = spans(steps, Grid::single(100), 10);
        assert_eq!(fixed[0].end_ms, 100);
        assert_eq!((fixed[1].start_ms, fixed[1].step_ms), (90, 5));
    }

    #[test]
    fn nan_is_an_extreme_only_alone() {
        let values = [f64::NAN, 3.0, f64::NAN, 3.0];
        let max = |bounds: &[_]| extremes(&values, bounds, |new, old| new > old);
        assert_eq!(max(&[(0, 1), (0, 2), (1, 4)]), [Some(0), Some(1), Some(1)]);
        assert_eq!(max(&[(2, 3), (3, 3)]), [Some(2), None]);
        assert_eq!(
            [max(&[(0, 4)]), max(&[(2, 3)]), max(&[(3, 3)])].concat(),
            [Some(1), Some(2), None]
        );
    }

    proptest! {
        #[test]
        fn sliding_finds_what_a_rescan_finds(
            gaps in proptest::collection::vec(1_i64..40, 0..60),
            values in proptest::collection::vec(-5_i32..5, 60),
            start in -50_i64..200,
            step in 1_i64..60,
            range in 1_i64..90,
        ) {
            let timestamps: Vec<_> = gaps
                .iter()
                .scan(0, |at, gap| { *at += gap; Some(Timestamp::from_ms(*at)) })
                .collect();
            let values: Vec<_> = values.iter().take(timestamps.len()).map(|v| f64::from(*v)).collect();
            let steps = Grid { start_ms: start, step_ms: step, len: 20 };
            let spans = spans(steps, steps, range);
            let bounds = bounds(&timestamps, &spans);
            let largest = extremes(&values, &bounds, |new, old| new > old);
            for ((span, (low, high)), found) in spans.iter().zip(&bounds).zip(largest) {
                let alone = extremes(&values, &[(*low, *high)], |new, old| new > old);
                prop_assert_eq!(&alone, &[found]);
                let inside: Vec<_> = (0..timestamps.len())
                    .filter(|i| span.start_ms < timestamps[*i].ms() && timestamps[*i].ms() <= span.end_ms)
                    .collect();
                prop_assert_eq!(&inside, &(*low..*high).collect::<Vec<_>>());
                let expected = inside.iter().copied().reduce(|best, i| {
                    if values[i] > values[best] { i } else { best }
                });
                prop_assert_eq!(found, expected);
            }
        }
    }
}
