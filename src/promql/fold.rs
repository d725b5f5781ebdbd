//! Folds the series of each group to one, step by step.
//!
//! The values of a step are taken in the order of the series, which is what makes sums agree with
//! Prometheus to the last bit. So work is split between threads by steps, never by series.

use super::statistic::Mean;
use super::value::{ABSENT, Series, is_absent, is_present};
use super::window::threads_worth;
use crate::store::parallel;

/// What becomes of the values of one group.
pub(super) trait Fold: Send {
    /// For so many steps.
    fn new(steps: usize) -> Self;

    /// Takes the values of the next member, one for each step.
    fn add(&mut self, values: &[f64]);

    /// One value for each step, [`ABSENT`] where no member had any.
    fn finish(self) -> Vec<f64>;
}

/// The values of each group, whose members are given by index in their order.
pub(super) fn fold<F: Fold>(series: &[Series], groups: &[&[usize]], steps: usize) -> Vec<Vec<f64>> {
    by_steps(series, steps, |range| {
        let of_group = |members: &&[usize]| {
            let mut fold = F::new(range.len());
            for index in *members {
                fold.add(&series[*index].values[range.clone()]);
            }
            fold.finish()
        };
        groups.iter().map(of_group).collect()
    })
}

/// Works on runs of steps, in as many threads as the values of the series are worth; gives the values
/// of each group over all steps.
pub(super) fn by_steps(
    series: &[Series],
    steps: usize,
    work: impl Fn(std::ops::Range<usize>) -> Vec<Vec<f64>> + Sync,
) -> Vec<Vec<f64>> {
    let threads = threads_worth(series.len().saturating_mul(steps));
    if threads == 1 {
        return work(0..steps);
    }
    let all: Vec<usize> = (0..steps).collect();
    let parts = parallel::split(&all, threads, |part| {
        let start = part.first().copied().unwrap_or(0);
        work(start..start + part.len())
    });
    let joined = parts.into_iter().reduce(|mut groups, part| {
        for (group, mut values) in groups.iter_mut().zip(part) {
            group.append(&mut values);
        }
        groups
    });
    joined.unwrap_or_default()
}

/// Sums with Neumaier's compensation, as `statistic::KahanSum` has it for a single one; in columns and
/// without branches, since most of the time of a wide query goes here.
pub(super) struct Sums {
    totals: Vec<f64>,
    compensations: Vec<f64>,
    is_there: Vec<bool>,
}

impl Fold for Sums {
    fn new(steps: usize) -> Self {
        Self {
            // Of the two zeros the one that changes nothing it is added to.
            totals: vec![-0.0; steps],
            compensations: vec![0.0; steps],
            is_there: vec![false; steps],
        }
    }

    fn add(&mut self, values: &[f64]) {
        let totals = self.totals.iter_mut().zip(&mut self.compensations);
        for (((sum, compensation), is_there), &term) in totals.zip(&mut self.is_there).zip(values) {
            let is_present = is_present(term);
            let total = *sum + term;
            let lost = if sum.abs() >= term.abs() {
                (*sum - total) + term
            } else {
                (term - total) + *sum
            };
            let compensated = if total.is_infinite() {
                0.0
            } else {
                *compensation + lost
            };
            *sum = if is_present { total } else { *sum };
            *compensation = if is_present {
                compensated
            } else {
                *compensation
            };
            *is_there |= is_present;
        }
    }

    fn finish(self) -> Vec<f64> {
        let totals = self.totals.into_iter().zip(self.compensations);
        totals
            .zip(self.is_there)
            .map(|((sum, compensation), is_there)| match is_there {
                false => ABSENT,
                true if sum.is_infinite() => sum,
                true => sum + compensation,
            })
            .collect()
    }
}

/// The largest or smallest value; NaN only when there is nothing else.
pub(super) struct Extremes<const LARGEST: bool>(Vec<f64>);

impl<const LARGEST: bool> Fold for Extremes<LARGEST> {
    fn new(steps: usize) -> Self {
        Self(vec![ABSENT; steps])
    }

    fn add(&mut self, values: &[f64]) {
        for (extreme, &value) in self.0.iter_mut().zip(values) {
            let beats = if LARGEST {
                value > *extreme
            } else {
                value < *extreme
            };
            // What is absent is a NaN, too.
            if beats || (extreme.is_nan() && is_present(value)) {
                *extreme = value;
            }
        }
    }

    fn finish(self) -> Vec<f64> {
        self.0
    }
}

/// How many values there are.
pub(super) struct Counts(Vec<f64>);

impl Fold for Counts {
    fn new(steps: usize) -> Self {
        Self(vec![0.0; steps])
    }

    fn add(&mut self, values: &[f64]) {
        for (count, value) in self.0.iter_mut().zip(values) {
            *count += f64::from(u8::from(is_present(*value)));
        }
    }

    fn finish(mut self) -> Vec<f64> {
        for count in &mut self.0 {
            if *count == 0.0 {
                *count = ABSENT;
            }
        }
        self.0
    }
}

/// One where there is any value.
pub(super) struct Presence(Counts);

impl Fold for Presence {
    fn new(steps: usize) -> Self {
        Self(Counts::new(steps))
    }

    fn add(&mut self, values: &[f64]) {
        self.0.add(values);
    }

    fn finish(self) -> Vec<f64> {
        let mut there = self.0.finish();
        for count in &mut there {
            if is_present(*count) {
                *count = 1.0;
            }
        }
        there
    }
}

/// What is accumulated value by value, for each step by itself.
pub(super) trait Accumulator: Send {
    fn of(first: f64) -> Self;
    fn add(&mut self, value: f64);
    fn result(&self) -> f64;
}

pub(super) struct Each<A>(Vec<Option<A>>);

impl<A: Accumulator> Fold for Each<A> {
    fn new(steps: usize) -> Self {
        Self((0..steps).map(|_| None).collect())
    }

    fn add(&mut self, values: &[f64]) {
        for (accumulator, &value) in self.0.iter_mut().zip(values) {
            if is_absent(value) {
                continue;
            }
            match accumulator {
                Some(accumulator) => accumulator.add(value),
                None => *accumulator = Some(A::of(value)),
            }
        }
    }

    fn finish(self) -> Vec<f64> {
        self.0
            .iter()
            .map(|accumulator| accumulator.as_ref().map_or(ABSENT, A::result))
            .collect()
    }
}

impl Accumulator for Mean {
    fn of(first: f64) -> Self {
        Self::of(first)
    }

    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }

    fn result(&self) -> f64 {
        self.value()
    }
}

/// Population variance, or its root, by Welford's method; NaN once a value is not finite.
pub(super) struct Deviation<const ROOT: bool> {
    count: f64,
    mean: f64,
    squares: f64,
}

impl<const ROOT: bool> Accumulator for Deviation<ROOT> {
    fn of(first: f64) -> Self {
        Self {
            count: 1.0,
            mean: first,
            squares: if first.is_finite() { 0.0 } else { f64::NAN },
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promql::statistic::KahanSum;

    fn folded<F: Fold>(columns: &[Vec<f64>]) -> Vec<f64> {
        let mut fold = F::new(columns[0].len());
        for column in columns {
            fold.add(column);
        }
        fold.finish()
    }

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -1e3..1e3_f64,
            2 => any::<f64>(),
            1 => Just(ABSENT),
            1 => Just(-0.0),
            1 => Just(f64::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn sums_in_columns_are_those_of_single_steps_to_the_bit(
            columns in prop::collection::vec(prop::collection::vec(any_value(), 5), 1..30),
        ) {
            let sums = folded::<Sums>(&columns);
            for (step, sum) in sums.iter().enumerate() {
                let mut single: Option<KahanSum> = None;
                for value in columns.iter().map(|column| column[step]) {
                    match &mut single {
                        _ if is_absent(value) => {}
                        Some(single) => single.add(value),
                        None => single = Some(KahanSum::of(value)),
                    }
                }
                let expected = single.map_or(ABSENT, KahanSum::total);
                prop_assert!(
                    sum.to_bits() == expected.to_bits()
                        || (sum.is_nan() && expected.is_nan() && is_present(*sum)),
                    "{} is not {}", sum, expected
                );
            }
        }
    }

    #[test]
    fn nan_is_an_extreme_only_alone() {
        let columns = [vec![f64::NAN, f64::NAN, ABSENT], vec![1.0, ABSENT, ABSENT]];
        let largest = folded::<Extremes<true>>(&columns);
        assert_eq!(largest[0], 1.0);
        assert!(largest[1].is_nan() && is_present(largest[1]));
        assert!(is_absent(largest[2]));
    }

    #[test]
    fn what_has_no_value_is_not_counted() {
        let columns = [vec![f64::NAN, ABSENT], vec![1.0, ABSENT]];
        assert_eq!(folded::<Counts>(&columns)[0], 2.0);
        assert!(is_absent(folded::<Counts>(&columns)[1]));
        assert_eq!(folded::<Presence>(&columns)[0], 1.0);
    }

    #[test]
    fn a_value_that_is_not_finite_has_no_deviation() {
        let stdvar = |values: &[f64]| {
            let columns: Vec<_> = values.iter().map(|value| vec![*value]).collect();
            folded::<Each<Deviation<false>>>(&columns)[0]
        };
        assert_eq!(stdvar(&[2.0, 4.0]), 1.0);
        assert!(stdvar(&[f64::INFINITY]).is_nan());
        assert!(stdvar(&[1.0, f64::INFINITY]).is_nan());
    }
}
