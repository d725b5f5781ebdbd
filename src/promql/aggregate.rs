//! Aggregations: many series to few.
//!
//! Series are grouped once by their labels; within a group the values of a step are taken in the
//! order of the series, which is what makes sums agree with Prometheus to the last bit.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::annotation::{Annotation, number};
use super::error::Error;
use super::eval::Evaluator;
use super::plan::{Aggregate, Aggregation, LabelSet, Node};
use super::statistic::{KahanSum, Mean, quantile};
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
    Ok(match &aggregate.op {
        Aggregation::Sum => fold(&members()?, grouping, steps, Sum::of),
        Aggregation::Avg => fold(&members()?, grouping, steps, Mean::of),
        Aggregation::Min => fold(&members()?, grouping, steps, Extreme::<false>),
        Aggregation::Max => fold(&members()?, grouping, steps, Extreme::<true>),
        Aggregation::Count => fold(&members()?, grouping, steps, |_| Count(1.0)),
        Aggregation::Group => fold(&members()?, grouping, steps, |_| Group),
        Aggregation::Stddev => fold(&members()?, grouping, steps, Deviation::<true>::of),
        Aggregation::Stdvar => fold(&members()?, grouping, steps, Deviation::<false>::of),
        Aggregation::Quantile(node) => {
            let quantiles = param(node)?;
            for quantile in &quantiles {
                if !(0.0..=1.0).contains(quantile) {
                    let quantile = *quantile;
                    evaluator.annotate(&Annotation::QuantileOutOfRange { quantile }, node.at);
                }
            }
            quantile_of(&members()?, grouping, steps, &quantiles)
        }
        Aggregation::TopK(node) => {
            let counts = counts(&param(node)?)?;
            ranked(members()?, grouping, steps, &counts, |left, right| {
                right.total_cmp(&left)
            })
        }
        Aggregation::BottomK(node) => {
            let counts = counts(&param(node)?)?;
            ranked(members()?, grouping, steps, &counts, |left, right| {
                left.total_cmp(&right)
            })
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
    let mut groups: Vec<Members> = Vec::new();
    let mut index: HashMap<Labels, usize> = HashMap::new();
    for (at, one) in series.iter().enumerate() {
        let labels = one.labels.filter(|name| grouping.keeps(name));
        let slot = *index.entry(labels).or_insert_with_key(|labels| {
            groups.push(Members {
                labels: labels.clone(),
                drop_name: one.drop_name,
                indices: Vec::new(),
            });
            groups.len() - 1
        });
        groups[slot].indices.push(at);
    }
    groups
}

/// What becomes of the values of a group at one step, taken one by one.
trait Accumulator {
    fn add(&mut self, value: f64);
    fn result(&self) -> f64;
}

/// Folds the values of every group and step; `first` makes an accumulator of the first value.
fn fold<A: Accumulator>(
    series: &[Series],
    grouping: &LabelSet,
    steps: Grid,
    first: impl Fn(f64) -> A,
) -> Vec<Series> {
    group(series, grouping)
        .into_iter()
        .map(|members| {
            let mut accumulators: Vec<Option<A>> = (0..steps.len).map(|_| None).collect();
            for index in members.indices {
                for (accumulator, value) in accumulators.iter_mut().zip(&series[index].values) {
                    if is_absent(*value) {
                        continue;
                    }
                    match accumulator {
                        Some(accumulator) => accumulator.add(*value),
                        None => *accumulator = Some(first(*value)),
                    }
                }
            }
            Series {
                labels: members.labels,
                drop_name: members.drop_name,
                values: accumulators
                    .iter()
                    .map(|accumulator| accumulator.as_ref().map_or(ABSENT, A::result))
                    .collect(),
            }
        })
        .collect()
}

struct Sum(KahanSum);

impl Sum {
    fn of(first: f64) -> Self {
        Self(KahanSum::of(first))
    }
}

impl Accumulator for Sum {
    fn add(&mut self, value: f64) {
        self.0.add(value);
    }

    fn result(&self) -> f64 {
        self.0.total()
    }
}

impl Accumulator for Mean {
    fn add(&mut self, value: f64) {
        Mean::add(self, value);
    }

    fn result(&self) -> f64 {
        self.value()
    }
}

/// The largest or smallest value; NaN only when there is nothing else.
struct Extreme<const LARGEST: bool>(f64);

impl<const LARGEST: bool> Accumulator for Extreme<LARGEST> {
    fn add(&mut self, value: f64) {
        let beats = if LARGEST {
            value > self.0
        } else {
            value < self.0
        };
        if beats || self.0.is_nan() {
            self.0 = value;
        }
    }

    fn result(&self) -> f64 {
        self.0
    }
}

struct Count(f64);

impl Accumulator for Count {
    fn add(&mut self, _: f64) {
        self.0 += 1.0;
    }

    fn result(&self) -> f64 {
        self.0
    }
}

struct Group;

impl Accumulator for Group {
    fn add(&mut self, _: f64) {}

    fn result(&self) -> f64 {
        1.0
    }
}

/// Population variance, or its root, by Welford's method; NaN once a value is not finite.
struct Deviation<const ROOT: bool> {
    count: f64,
    mean: f64,
    squares: f64,
}

impl<const ROOT: bool> Deviation<ROOT> {
    fn of(first: f64) -> Self {
        Self {
            count: 1.0,
            mean: first,
            squares: if first.is_finite() { 0.0 } else { f64::NAN },
        }
    }
}

impl<const ROOT: bool> Accumulator for Deviation<ROOT> {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn result(&self) -> f64 {
        let variance = self.squares / self.count;
        if ROOT { variance.sqrt() } else { variance }
    }
}

fn quantile_of(
    series: &[Series],
    grouping: &LabelSet,
    steps: Grid,
    quantiles: &[f64],
) -> Vec<Series> {
    group(series, grouping)
        .into_iter()
        .map(|members| {
            let mut gathered = Vec::with_capacity(members.indices.len());
            let values = (0..steps.len)
                .map(|step| {
                    gathered.clear();
                    gathered.extend(
                        members
                            .indices
                            .iter()
                            .map(|index| series[*index].values[step])
                            .filter(|value| is_present(*value)),
                    );
                    if gathered.is_empty() {
                        ABSENT
                    } else {
                        quantile(quantiles[step], &mut gathered)
                    }
                })
                .collect();
            Series {
                labels: members.labels,
                drop_name: members.drop_name,
                values,
            }
        })
        .collect()
}

/// How many of a group are wanted at each step.
fn counts(params: &[f64]) -> Result<Vec<usize>, Error> {
    // The largest float below 2^63, Prometheus' bound.
    const COUNT_MAX: f64 = 9_223_372_036_854_774_784.0;
    params
        .iter()
        .map(|param| {
            if param.is_nan() {
                Err(Error::execution("parameter value is NaN"))
            } else if *param > COUNT_MAX {
                Err(Error::execution(format!(
                    "scalar value {} overflows int64",
                    number(*param)
                )))
            } else if *param < -COUNT_MAX {
                Err(Error::execution(format!(
                    "scalar value {} underflows int64",
                    number(*param)
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
    mut series: Vec<Series>,
    grouping: &LabelSet,
    steps: Grid,
    counts: &[usize],
    order: impl Fn(f64, f64) -> std::cmp::Ordering,
) -> Vec<Series> {
    let mut sequence = Vec::with_capacity(series.len());
    for members in group(&series, grouping) {
        let mut present = Vec::with_capacity(members.indices.len());
        for (step, count) in counts.iter().enumerate().take(steps.len) {
            present.clear();
            present.extend(members.indices.iter().filter_map(|index| {
                let value = series[*index].values[step];
                is_present(value).then_some((value, *index))
            }));
            // A stable sort: of equals the first stay.
            present.sort_by(|(left, _), (right, _)| {
                left.is_nan()
                    .cmp(&right.is_nan())
                    .then_with(|| order(normal(*left), normal(*right)))
            });
            for (_, index) in present.iter().skip(*count) {
                series[*index].values[step] = ABSENT;
            }
        }
        if steps.len == 1 {
            sequence.extend(present.iter().take(counts[0]).map(|(_, index)| *index));
        }
    }
    if steps.len == 1 {
        let mut slots: Vec<_> = series.into_iter().map(Some).collect();
        return sequence
            .into_iter()
            .filter_map(|index| slots[index].take())
            .collect();
    }
    series.retain(|one| !one.is_empty());
    series
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
    params
        .iter()
        .map(|ratio| {
            if ratio.is_nan() {
                return Err(Error::execution("ratio value is NaN"));
            }
            let capped = ratio.clamp(-1.0, 1.0);
            if capped != *ratio {
                let ratio = *ratio;
                evaluator.annotate(&Annotation::RatioOutOfRange { ratio, capped }, at);
            }
            Ok(capped)
        })
        .collect()
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
        let steps = Grid::single(0);
        let series = || one_step(&[f64::NAN, 1.0, 3.0, 3.0, -0.0, 0.0]);
        let descending = |left: f64, right: f64| right.total_cmp(&left);
        let top = ranked(series(), &all(), steps, &[3], descending);
        assert_eq!(kept(&top), ["2", "3", "1"]);
        let every = ranked(series(), &all(), steps, &[9], descending);
        assert_eq!(kept(&every), ["2", "3", "1", "4", "5", "0"]);
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

    #[test]
    fn a_value_that_is_not_finite_has_no_deviation() {
        let stdvar = |values: &[f64]| {
            fold(
                &one_step(values),
                &all(),
                Grid::single(0),
                Deviation::<false>::of,
            )[0]
            .values[0]
        };
        assert_eq!(stdvar(&[2.0, 4.0]), 1.0);
        assert!(stdvar(&[f64::INFINITY]).is_nan());
        assert!(stdvar(&[1.0, f64::INFINITY]).is_nan());
    }
}
