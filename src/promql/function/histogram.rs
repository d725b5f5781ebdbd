//! Quantiles and fractions of classic histograms.
//!
//! A histogram is the series that differ in their `le` label alone. There are no native histograms
//! in the store, so the functions that know only those find nothing.

use std::collections::HashMap;

use crate::model::Labels;
use crate::promql::annotation::{Annotation, metric_of};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::Node;
use crate::promql::value::{ABSENT, Grid, Series, is_present, merge};

const BUCKET_LABEL: &str = "le";

#[derive(Clone, Debug)]
pub(in crate::promql) enum Histogram {
    Quantile,
    /// Several quantiles at once, told apart by this label.
    Quantiles(String),
    Fraction,
    /// `histogram_count` and its like, which know native histograms only.
    OfNative,
}

/// Observations up to a bound, cumulative.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    upper: f64,
    count: f64,
}

impl Histogram {
    pub(super) fn of(name: &str, texts: &[String]) -> Option<Self> {
        Some(match name {
            "histogram_quantile" => Self::Quantile,
            "histogram_quantiles" => Self::Quantiles(texts.first()?.clone()),
            "histogram_fraction" => Self::Fraction,
            "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev"
            | "histogram_stdvar" => Self::OfNative,
            _ => return None,
        })
    }

    pub(super) fn evaluate(
        &self,
        evaluator: &Evaluator<'_>,
        args: &[Node],
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let scalar = |index: usize| evaluator.scalar(&args[index], steps);
        match self {
            Self::Quantile => {
                let quantiles = quantile_param(evaluator, &args[0], steps)?;
                let histograms = histograms(evaluator, &args[1], steps)?;
                quantile_series(evaluator, &histograms, &quantiles, args[1].at, steps)
            }
            Self::Quantiles(label) => {
                let histograms = histograms(evaluator, &args[0], steps)?;
                let mut results = Vec::new();
                for param in &args[2..] {
                    let quantiles = quantile_param(evaluator, param, steps)?;
                    let text = quantiles.first().map(|quantile| bound_text(*quantile));
                    let series =
                        quantile_series(evaluator, &histograms, &quantiles, args[0].at, steps)?;
                    results.extend(series.into_iter().map(|one| Series {
                        labels: one.labels.with(label, text.as_deref().unwrap_or_default()),
                        ..one
                    }));
                }
                merge(results)
            }
            Self::Fraction => {
                let (lower, upper) = (scalar(0)?, scalar(1)?);
                let histograms = histograms(evaluator, &args[2], steps)?;
                each_histogram(evaluator, &histograms, steps, |step, buckets, _| {
                    fraction(lower[step], upper[step], buckets)
                })
            }
            Self::OfNative => {
                evaluator.vector(&args[0], steps)?;
                Ok(Vec::new())
            }
        }
    }
}

fn quantile_param(evaluator: &Evaluator<'_>, param: &Node, steps: Grid) -> Result<Vec<f64>, Error> {
    let quantiles = evaluator.scalar(param, steps)?;
    for quantile in &quantiles {
        if !(0.0..=1.0).contains(quantile) {
            let quantile = *quantile;
            evaluator.annotate(&Annotation::QuantileOutOfRange { quantile }, param.at);
        }
    }
    Ok(quantiles)
}

/// The buckets of one histogram as series, by rising bound.
struct Buckets {
    labels: Labels,
    series: Vec<(f64, Vec<f64>)>,
}

/// Puts the series of a vector together to histograms; those without a readable bound are left out
/// with a warning.
fn histograms(
    evaluator: &Evaluator<'_>,
    vector: &Node,
    steps: Grid,
) -> Result<Vec<Buckets>, Error> {
    let mut histograms: Vec<Buckets> = Vec::new();
    let mut index: HashMap<Labels, usize> = HashMap::new();
    for one in evaluator.vector(vector, steps)? {
        let bound = one.labels.value(BUCKET_LABEL);
        let Ok(upper) = bound.parse::<f64>() else {
            let warning = Annotation::BadBucketLabel {
                value: bound.to_owned(),
                metric: metric_of(&one.labels),
            };
            evaluator.annotate(&warning, vector.at);
            continue;
        };
        let labels = one.labels.filter(|name| name != BUCKET_LABEL);
        let slot = *index.entry(labels).or_insert_with_key(|labels| {
            histograms.push(Buckets {
                labels: labels.clone(),
                series: Vec::new(),
            });
            histograms.len() - 1
        });
        histograms[slot].series.push((upper, one.values));
    }
    for histogram in &mut histograms {
        histogram
            .series
            .sort_by(|(left, _), (right, _)| left.total_cmp(right));
    }
    Ok(histograms)
}

/// A number of every histogram at every step at which it has a bucket.
fn each_histogram(
    evaluator: &Evaluator<'_>,
    histograms: &[Buckets],
    steps: Grid,
    function: impl Fn(usize, &mut Vec<Bucket>, &Labels) -> f64,
) -> Result<Vec<Series>, Error> {
    let mut results = Vec::with_capacity(histograms.len());
    let mut buckets = Vec::new();
    for histogram in histograms {
        evaluator.guard().check()?;
        let values = (0..steps.len)
            .map(|step| {
                buckets.clear();
                for (upper, counts) in &histogram.series {
                    let (upper, count) = (*upper, counts[step]);
                    if is_present(count) {
                        buckets.push(Bucket { upper, count });
                    }
                }
                if buckets.is_empty() {
                    ABSENT
                } else {
                    function(step, &mut buckets, &histogram.labels)
                }
            })
            .collect();
        results.push(Series {
            labels: histogram.labels.clone(),
            drop_name: true,
            values,
        });
    }
    results.retain(|one| !one.is_empty());
    Ok(results)
}

fn quantile_series(
    evaluator: &Evaluator<'_>,
    histograms: &[Buckets],
    quantiles: &[f64],
    at: usize,
    steps: Grid,
) -> Result<Vec<Series>, Error> {
    each_histogram(evaluator, histograms, steps, |step, buckets, labels| {
        let (value, was_repaired) = quantile(quantiles[step], buckets);
        if was_repaired {
            let metric = metric_of(labels);
            evaluator.annotate(&Annotation::ForcedMonotonicity { metric }, at);
        }
        value
    })
}

/// Adds up buckets of the same bound, such as `0.1` and `1e-1`.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let is_same = next.upper == kept.upper;
        if is_same {
            kept.count += next.count;
        }
        is_same
    });
}

/// Makes the counts rise again where they fall; true when that changed more than the last bits.
///
/// Series of one histogram are scraped or summed apart, so rounding may make a count a hair smaller
/// than the one before, which is put right in silence.
fn repair(buckets: &mut [Bucket]) -> bool {
    const TOLERANCE: f64 = 1e-12;
    let mut was_repaired = false;
    let mut highest = buckets.first().map_or(0.0, |bucket| bucket.count);
    for bucket in buckets.iter_mut().skip(1) {
        let is_equal = bucket.count == highest;
        let is_close =
            (bucket.count - highest).abs() < TOLERANCE * (bucket.count.abs() + highest.abs());
        if is_equal {
            continue;
        }
        if is_close {
            bucket.count = highest;
        } else if bucket.count < highest {
            bucket.count = highest;
            was_repaired = true;
        } else {
            highest = bucket.count;
        }
    }
    was_repaired
}

/// The quantile by linear interpolation within a bucket, and whether counts had to be repaired.
///
/// The lowest bucket begins at 0 when its bound is positive; the highest has to reach +Inf, and a
/// quantile in it is the bound below.
fn quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if quantile.is_nan() {
        return (f64::NAN, false);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets
        .last()
        .is_none_or(|last| last.upper != f64::INFINITY)
    {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let was_repaired = repair(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, was_repaired);
    }
    let rank = quantile * observations;
    let index = buckets[..last]
        .iter()
        .position(|bucket| bucket.count >= rank)
        .unwrap_or(last);
    let value = if index == last {
        buckets[last - 1].upper
    } else if index == 0 {
        let Bucket { upper, count } = buckets[0];
        if upper <= 0.0 {
            upper
        } else {
            upper * (rank / count)
        }
    } else {
        let (below, within) = (buckets[index - 1], buckets[index]);
        let share = (rank - below.count) / (within.count - below.count);
        below.upper + (within.upper - below.upper) * share
    };
    (value, was_repaired)
}

/// The fraction of observations between two bounds, by the same interpolation; buckets without a
/// finite width lie at their finite bound.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets
        .last()
        .is_none_or(|last| last.upper != f64::INFINITY)
    {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, count) - rank_of(lower, buckets, count)) / count
}

/// How many observations are at most `value`.
fn rank_of(value: f64, buckets: &[Bucket], count: f64) -> f64 {
    let mut below = Bucket {
        upper: match buckets.first() {
            Some(first) if first.upper > 0.0 => 0.0,
            _ => f64::NEG_INFINITY,
        },
        count: 0.0,
    };
    for bucket in buckets {
        if value <= below.upper {
            return below.count;
        }
        if value < bucket.upper {
            if below.upper == f64::NEG_INFINITY {
                return bucket.count;
            }
            let share = (value - below.upper) / (bucket.upper - below.upper);
            return below.count + (bucket.count - below.count) * share;
        }
        below = *bucket;
    }
    count
}

/// A quantile as a label's value, in the form of OpenMetrics: `0.5`, `1.0`.
fn bound_text(value: f64) -> String {
    if value.is_finite() {
        format!("{value:?}")
    } else {
        crate::promql::annotation::number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs
            .iter()
            .map(|(upper, count)| Bucket {
                upper: *upper,
                count: *count,
            })
            .collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let pairs = [(1.0, 2.0), (2.0, 6.0), (4.0, 8.0), (INF, 10.0)];
        let at = |q| quantile(q, &mut buckets(&pairs)).0;
        // rank 1 of the 2 in (0, 1]
        assert_eq!(at(0.1), 0.5);
        // rank 5: 3 of the 4 in (1, 2]
        assert_eq!(at(0.5), 1.75);
        assert_eq!(
            at(0.95),
            4.0,
            "the open bucket answers with its lower bound"
        );
        assert_eq!((at(-1.0), at(2.0)), (f64::NEG_INFINITY, INF));
    }

    #[test]
    fn no_quantile_without_an_open_bucket_or_observations() {
        assert!(quantile(0.5, &mut buckets(&[(1.0, 2.0)])).0.is_nan());
        assert!(quantile(0.5, &mut buckets(&[(INF, 2.0)])).0.is_nan());
        assert!(
            quantile(0.5, &mut buckets(&[(1.0, 0.0), (INF, 0.0)]))
                .0
                .is_nan()
        );
    }

    #[test]
    fn counts_that_fall_are_repaired_and_noise_is_not_mentioned() {
        let mut falling = buckets(&[(1.0, 4.0), (2.0, 3.0), (INF, 8.0)]);
        assert_eq!(quantile(0.5, &mut falling), (1.0, true));
        let mut noisy = buckets(&[(1.0, 4.0), (2.0, 4.0 - 1e-13), (INF, 8.0)]);
        assert_eq!(quantile(0.5, &mut noisy), (1.0, false));
    }

    #[test]
    fn equal_bounds_are_one_bucket() {
        let mut twice = buckets(&[(1.0, 1.0), (1.0, 1.0), (INF, 4.0)]);
        assert_eq!(quantile(0.25, &mut twice).0, 0.5);
    }

    #[test]
    fn a_fraction_counts_what_lies_between() {
        let pairs = [(1.0, 1.0), (2.0, 3.0), (3.0, 6.0), (INF, 100.0)];
        let between = |lower, upper| fraction(lower, upper, &mut buckets(&pairs));
        assert_eq!(between(0.0, 1.5), 0.02);
        assert_eq!(between(2.0, 3.5), 0.03);
        assert_eq!(between(400.0, INF), 0.94);
        assert_eq!(between(f64::NEG_INFINITY, INF), 1.0);
        assert_eq!(between(3.0, 2.0), 0.0);
        assert!(between(f64::NAN, 2.0).is_nan());
    }

    #[test]
    fn the_lowest_bucket_of_a_negative_histogram_lies_at_its_bound() {
        let pairs = [(-3.0, 10.0), (-2.0, 12.0), (INF, 100.0)];
        let between = |lower, upper| fraction(lower, upper, &mut buckets(&pairs));
        assert_eq!(between(-4.0, -2.5), 0.01);
        assert_eq!(between(f64::NEG_INFINITY, -2.5), 0.11);
    }
}
