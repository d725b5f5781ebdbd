//! Sums, means, deviations and quantiles, with the arithmetic of Prometheus step by step.
//!
//! Order matters here: the same samples in another order may differ in the last bits, and an answer
//! has to agree with the field's.

/// A running sum with Neumaier's compensation, the variant of Kahan's that survives terms larger
/// than the sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KahanSum {
    pub(super) sum: f64,
    pub(super) compensation: f64,
}

impl KahanSum {
    pub(super) fn of(first: f64) -> Self {
        Self {
            sum: first,
            compensation: 0.0,
        }
    }

    pub(super) fn add(&mut self, term: f64) {
        let total = self.sum + term;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= term.abs() {
            self.compensation += (self.sum - total) + term;
        } else {
            self.compensation += (term - total) + self.sum;
        }
        self.sum = total;
    }

    pub(super) fn total(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.compensation
        }
    }
}

/// A running mean: the compensated sum divided at the end, until that sum overflows; from there on
/// the mean itself is carried forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    accumulated: KahanSum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(super) fn of(first: f64) -> Self {
        Self {
            accumulated: KahanSum::of(first),
            count: 1.0,
            incremental: false,
        }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.accumulated;
            next.add(value);
            if !next.sum.is_infinite() {
                self.accumulated = next;
                return;
            }
            self.incremental = true;
            self.accumulated.sum /= self.count - 1.0;
            self.accumulated.compensation /= self.count - 1.0;
        }
        let shrink = (self.count - 1.0) / self.count;
        let mut next = KahanSum {
            sum: shrink * self.accumulated.sum,
            compensation: shrink * self.accumulated.compensation,
        };
        // Written as (new share) + (old mean): the order decides which rounding is compensated.
        next.add(value / self.count);
        self.accumulated = next;
    }

    pub(super) fn value(self) -> f64 {
        if self.incremental {
            self.accumulated.sum + self.accumulated.compensation
        } else {
            self.accumulated.sum / self.count + self.accumulated.compensation / self.count
        }
    }
}

pub(super) fn sum(values: &[f64]) -> f64 {
    let mut sum = KahanSum::default();
    for value in values {
        sum.add(*value);
    }
    sum.total()
}

/// The mean of at least one value.
pub(super) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::of(values[0]);
    for value in &values[1..] {
        mean.add(*value);
    }
    mean.value()
}

/// The population variance of a window, by Welford's method with compensated sums.
pub(super) fn variance(values: &[f64]) -> f64 {
    let mut mean = KahanSum::default();
    let mut squares = KahanSum::default();
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    (squares.sum + squares.compensation) / count
}

/// The quantile of unsorted values, linear between neighbours; NaNs count as the smallest values.
///
/// Below 0 it is -Inf, above 1 +Inf, of nothing NaN. The values are left in another order.
pub(super) fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let order = |left: &f64, right: &f64| {
        left.partial_cmp(right)
            .unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
    };
    let last = (values.len() - 1) as f64;
    let rank = quantile * last;
    let at = rank.floor().max(0.0) as usize;
    let weight = rank - rank.floor();
    // The two that are asked for, without putting the others in order.
    let (_, &mut lower, above) = values.select_nth_unstable_by(at, order);
    let upper = above.iter().copied().min_by(order).unwrap_or(lower);
    lower * (1.0 - weight) + upper * weight
}

/// The larger of two, NaN when either is.
pub(super) fn larger(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() {
        f64::NAN
    } else {
        left.max(right)
    }
}

/// The smaller of two, NaN when either is.
pub(super) fn smaller(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() {
        f64::NAN
    } else {
        left.min(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compensated_sum_keeps_what_a_plain_one_loses() {
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn a_mean_survives_a_sum_that_overflows() {
        let big = f64::MAX / 1.5;
        assert_eq!(mean(&[big, big]), big);
        assert_eq!(mean(&[big, -big]), 0.0);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(mean(&[1.0, f64::INFINITY]), f64::INFINITY);
    }

    #[test]
    fn variance_is_that_of_the_population() {
        // mean 4.2, squares 17.64 + 2 * 14.44 + 4.84 + 1.44 = 52.8, over 5
        assert!((variance(&[0.0, 8.0, 8.0, 2.0, 3.0]) - 10.56).abs() < 1e-12);
        assert_eq!(variance(&[7.0]), 0.0);
    }

    #[test]
    fn quantiles_interpolate_and_sort_nan_first() {
        assert_eq!(quantile(0.5, &mut [4.0, 1.0]), 2.5);
        // NaN, 0, 1: rank 1.5
        assert_eq!(quantile(0.75, &mut [0.0, 1.0, f64::NAN]), 0.5);
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn nan_wins_over_any_bound() {
        assert!(larger(f64::NAN, 1.0).is_nan() && smaller(1.0, f64::NAN).is_nan());
        assert_eq!((larger(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
    }
}
