//! Aggregations: many series to few.
//!
//! Series are grouped once by their labels; [`super::fold`] makes one of each group.

use std::cmp::Ordering;
use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::annotation::{Annotation, general, number};
use super::error::Error;
use super::eval::Evaluator;
use super::fold::{Counts, Deviation, Each, Extremes, Fold, Presence, Sums, by_steps, fold};
use super::group::Groups;
use super::limit::Guard;
use super::plan::{Aggregate, Aggregation, LabelSet, Node};
use super::statistic::{Mean, quantile};
use super::value::{ABSENT, Grid, Series, is_absent, is_present};
use crate::model::{Labels, LabelsBuilder};

pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    aggregate: &Aggregate,
    steps: Grid,
) -> Result<Vec<Series>, Error> {
    let param = |node: &Node| evaluator.scalar(node, steps);
    let members = || evaluator.vector(&aggregate.expr, steps);
    let grouping = &aggregate.grouping;
    let guard = evaluator.guard();
    Ok(match &aggregate.op {
        Aggregation::Sum => folded::<Sums>(&members()?, grouping, steps),
        Aggregation::Avg => folded::<Each<Mean>>(&members()?, grouping, steps),
        Aggregation::Min => folded::<Extremes<false>>(&members()?, grouping, steps),
        Aggregation::Max => folded::<Extremes<true>>(&members()?, grouping, steps),
        Aggregation::Count => folded::<Counts>(&members()?, grouping, steps),
        Aggregation::Group => folded::<Presence>(&members()?, grouping, steps),
        Aggregation::Stddev => folded::<Each<Deviation<true>>>(&members()?, grouping, steps),
        Aggregation::Stdvar => folded::<Each<Deviation<false>>>(&members()?, grouping, steps),
        Aggregation::Quantile(node) => {
            let quantiles = param(node)?;
            for quantile in outermost(&quantiles) {
                if !(0.0..=1.0).contains(&quantile) {
                    evaluator.annotate(&Annotation::QuantileOutOfRange { quantile }, node.at);
                }
            }
            quantile_of(&members()?, grouping, steps, &quantiles)
        }
        Aggregation::TopK(node) => {
            let counts = counts(&param(node)?)?;
            ranked(guard, members()?, grouping, &counts, |left, right| {
                right.total_cmp(&left)
            })?
        }
        Aggregation::BottomK(node) => {
            let counts = counts(&param(node)?)?;
            ranked(guard, members()?, grouping, &counts, |left, right| {
                left.total_cmp(&right)
            })?
        }
        Aggregation::LimitK(node) => {
            let counts = counts(&param(node)?)?;
            limited(members()?, grouping, steps, &counts)
        }
        Aggregation::LimitRatio(node) => {
            let ratios = ratios(evaluator, &param(node)?, node.at)?;
            sampled(members()?, &ratios)
        }
        Aggregation::CountValues(label) => count_values(&members()?, grouping, steps, label),
    })
}

/// One group: its labels and the members by index, in order.
struct Members {
    labels: Labels,
    drop_name: bool,
    indices: Vec<usize>,
}

fn group(series: &[Series], grouping: &LabelSet) -> Vec<Members> {
    let mut groups = Groups::new(grouping);
    let mut members: Vec<(bool, Vec<usize>)> = Vec::new();
    for (at, one) in series.iter().enumerate() {
        let group = groups.of(&one.labels);
        if group == members.len() {
            members.push((false, Vec::new()));
        }
        // The name goes when it goes from any member.
        members[group].0 |= one.drop_name;
        members[group].1.push(at);
    }
    let labels = groups.into_labels().into_iter();
    labels
        .zip(members)
        .map(|(labels, (drop_name, indices))| Members {
            labels,
            drop_name,
            indices,
        })
        .collect()
}

/// Folds the values of every group and step.
fn folded<F: Fold>(series: &[Series], grouping: &LabelSet, steps: Grid) -> Vec<Series> {
    let groups = group(series, grouping);
    let members: Vec<&[usize]> = groups.iter().map(|group| &*group.indices).collect();
    let values = fold::<F>(series, &members, steps.len);
    with_values(groups, values)
}

/// One series a group.
fn with_values(groups: Vec<Members>, values: Vec<Vec<f64>>) -> Vec<Series> {
    groups
        .into_iter()
        .zip(values)
        .map(|(group, values)| Series {
            labels: group.labels,
            drop_name: group.drop_name,
            values,
        })
        .collect()
}

fn quantile_of(
    series: &[Series],
    grouping: &LabelSet,
    steps: Grid,
    quantiles: &[f64],
) -> Vec<Series> {
    let groups = group(series, grouping);
    let values = by_steps(series, steps.len, |range| {
        let mut gathered = Vec::new();
        let mut of_step = |group: &Members, step: usize| {
            gathered.clear();
            let values = group.indices.iter().map(|at| series[*at].values[step]);
            gathered.extend(values.filter(|value| is_present(*value)));
            if gathered.is_empty() {
                ABSENT
            } else {
                quantile(quantiles[step], &mut gathered)
            }
        };
        groups
            .iter()
            .map(|group| range.clone().map(|step| of_step(group, step)).collect())
            .collect()
    });
    with_values(groups, values)
}

/// How many of a group are wanted at each step.
fn counts(params: &[f64]) -> Result<Vec<usize>, Error> {
    // The largest float below 2^63, Prometheus' bound.
    const COUNT_MAX: f64 = 9_223_372_036_854_774_784.0;
    params
        .iter()
        .map(|param| {
            if param.is_nan() {
                Err(Error::execution("Parameter value is NaN"))
            } else if *param > COUNT_MAX {
                Err(Error::execution(format!(
                    "Scalar value {} overflows int64",
                    general(*param)
                )))
            } else if *param < -COUNT_MAX {
                Err(Error::execution(format!(
                    "Scalar value {} underflows int64",
                    general(*param)
                )))
            } else {
                Ok(param.max(0.0) as usize)
            }
        })
        .collect()
}

/// Keeps of every group and step the first `counts[step]` members by `order`, NaNs after all
/// others; what is kept comes in that order when there is a single step.
fn ranked(
    guard: &Guard,
    mut series: Vec<Series>,
    grouping: &LabelSet,
    counts: &[usize],
    order: impl Fn(f64, f64) -> Ordering,
) -> Result<Vec<Series>, Error> {
    // Of equals the first stay.
    let compare = |(left, left_at): &(f64, usize), (right, right_at): &(f64, usize)| {
        left.is_nan()
            .cmp(&right.is_nan())
            .then_with(|| order(normal(*left), normal(*right)))
            .then_with(|| left_at.cmp(right_at))
    };
    let is_instant = counts.len() == 1;
    let mut sequence = Vec::new();
    let mut present = Vec::new();
    for members in group(&series, grouping) {
        for (step, &count) in counts.iter().enumerate() {
            guard.check()?;
            present.clear();
            present.extend(members.indices.iter().filter_map(|index| {
                let value = series[*index].values[step];
                is_present(value).then_some((value, *index))
            }));
            if count < present.len() {
                present.select_nth_unstable_by(count, compare);
                for (_, index) in &present[count..] {
                    series[*index].values[step] = ABSENT;
                }
                present.truncate(count);
            }
        }
        if is_instant {
            present.sort_unstable_by(compare);
            sequence.extend(present.iter().map(|(_, index)| *index));
        }
    }
    if is_instant {
        let mut slots: Vec<_> = series.into_iter().map(Some).collect();
        let in_order = sequence.into_iter().filter_map(|index| slots[index].take());
        return Ok(in_order.collect());
    }
    series.retain(|one| !one.is_empty());
    Ok(series)
}

/// A value with one zero and one NaN, so that a total order agrees with `==`.
fn normal(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    }
}

/// Keeps of every group and step the first `counts[step]` members that have a value.
fn limited(
    mut series: Vec<Series>,
    grouping: &LabelSet,
    steps: Grid,
    counts: &[usize],
) -> Vec<Series> {
    for members in group(&series, grouping) {
        let mut taken = vec![0; steps.len];
        for index in members.indices {
            for (step, value) in series[index].values.iter_mut().enumerate() {
                if is_present(*value) {
                    taken[step] += 1;
                    if taken[step] > counts[step] {
                        *value = ABSENT;
                    }
                }
            }
        }
    }
    series.retain(|one| !one.is_empty());
    series
}

fn ratios(evaluator: &Evaluator<'_>, params: &[f64], at: usize) -> Result<Vec<f64>, Error> {
    let capped = params
        .iter()
        .map(|ratio| {
            if ratio.is_nan() {
                return Err(Error::execution("Ratio value is NaN"));
            }
            Ok(ratio.clamp(-1.0, 1.0))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for ratio in outermost(params) {
        let capped = ratio.clamp(-1.0, 1.0);
        if capped != ratio {
            evaluator.annotate(&Annotation::RatioOutOfRange { ratio, capped }, at);
        }
    }
    Ok(capped)
}

/// The smallest and the largest of the parameters over all steps, and NaN when it is one of them.
fn outermost(params: &[f64]) -> impl Iterator<Item = f64> {
    let numbers = || params.iter().copied().filter(|param| !param.is_nan());
    let nan = params.iter().copied().find(|param| param.is_nan());
    let (least, most) = (numbers().reduce(f64::min), numbers().reduce(f64::max));
    nan.into_iter().chain(most).chain(least)
}

/// Keeps the series whose place on `[0, 1)`, given by their labels, is below the ratio; a negative
/// ratio keeps exactly those that its complement leaves out.
fn sampled(mut series: Vec<Series>, ratios: &[f64]) -> Vec<Series> {
    for one in &mut series {
        let place = place(&one.labels);
        for (value, ratio) in one.values.iter_mut().zip(ratios) {
            let is_kept = if *ratio >= 0.0 {
                place < *ratio
            } else {
                place >= 1.0 + ratio
            };
            if !is_kept {
                *value = ABSENT;
            }
        }
    }
    series.retain(|one| !one.is_empty());
    series
}

fn place(labels: &Labels) -> f64 {
    let mut hasher = Xxh3::new();
    for label in labels {
        hasher.update(label.name.as_bytes());
        hasher.update(&[0xff]);
        hasher.update(label.value.as_bytes());
        hasher.update(&[0xff]);
    }
    // The upper 53 bits: exactly a float, and below one.
    (hasher.digest() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Counts equal values of each group and step, the value becoming a label. Groups that this label
/// makes the same are counted together.
fn count_values(series: &[Series], grouping: &LabelSet, steps: Grid, label: &str) -> Vec<Series> {
    let is_kept = match grouping {
        LabelSet::Only(_) => true,
        LabelSet::Except(_) => grouping.keeps(label),
    };
    let mut counted: Vec<Series> = Vec::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for members in group(series, grouping) {
        let mut by_value: HashMap<u64, usize> = HashMap::new();
        for index in members.indices {
            for (step, value) in series[index].values.iter().enumerate() {
                if is_absent(*value) {
                    continue;
                }
                // All NaNs are one value, the two zeros are two.
                let bits = if value.is_nan() { f64::NAN } else { *value }.to_bits();
                let slot = *by_value.entry(bits).or_insert_with(|| {
                    let mut labels = LabelsBuilder::from(&members.labels);
                    if is_kept {
                        labels.set(label, number(*value));
                    }
                    let labels = labels.build();
                    *by_labels.entry(labels).or_insert_with_key(|labels| {
                        counted.push(Series {
                            labels: labels.clone(),
                            drop_name: members.drop_name,
                            values: vec![ABSENT; steps.len],
                        });
                        counted.len() - 1
                    })
                });
                let count = &mut counted[slot].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::{Limits, QueryOptions};

    fn one_step(values: &[f64]) -> Vec<Series> {
        values
            .iter()
            .enumerate()
            .map(|(index, value)| Series {
                labels: Labels::of("m", &[("i", &index.to_string())]),
                drop_name: false,
                values: vec![*value],
            })
            .collect()
    }

    fn all() -> LabelSet {
        LabelSet::Only(Vec::new())
    }

    fn kept(series: &[Series]) -> Vec<&str> {
        series.iter().map(|one| one.labels.value("i")).collect()
    }

    #[test]
    fn ranking_puts_nan_last_and_keeps_the_first_of_equals() {
        let guard = Guard::new(&Limits::default(), &QueryOptions::default());
        let top = |count: usize| {
            let series = one_step(&[f64::NAN, 1.0, 3.0, 3.0, -0.0, 0.0]);
            let descending = |left: f64, right: f64| right.total_cmp(&left);
            ranked(&guard, series, &all(), &[count], descending).unwrap()
        };
        assert_eq!(kept(&top(3)), ["2", "3", "1"]);
        assert_eq!(kept(&top(1)), ["2"]);
        assert_eq!(kept(&top(9)), ["2", "3", "1", "4", "5", "0"]);
        assert!(top(0).is_empty());
    }

    #[test]
    fn a_ratio_and_its_complement_part_the_series() {
        let values: Vec<_> = (0..200).map(f64::from).collect();
        let low = sampled(one_step(&values), &[0.3]);
        let high = sampled(one_step(&values), &[-0.7]);
        assert_eq!(low.len() + high.len(), 200);
        assert!((30..90).contains(&low.len()), "{}", low.len());
        assert!(kept(&low).iter().all(|one| !kept(&high).contains(one)));
        assert_eq!(sampled(one_step(&values), &[1.0]).len(), 200);
        assert_eq!(sampled(one_step(&values), &[-1.0]).len(), 200);
        assert!(sampled(one_step(&values), &[0.0]).is_empty());
    }

    #[test]
    fn counts_that_are_no_integer_are_refused() {
        assert_eq!(counts(&[2.9, -1.0]).unwrap(), [2, 0]);
        assert!(counts(&[f64::NAN]).is_err());
        assert!(counts(&[f64::INFINITY]).is_err());
        assert!(counts(&[-1e300]).is_err());
    }
}
