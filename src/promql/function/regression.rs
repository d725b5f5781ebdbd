//! `deriv`, `predict_linear` and `double_exponential_smoothing`: trends of a window.

use crate::model::Timestamp;
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::Node;
use crate::promql::statistic::KahanSum;
use crate::promql::value::{Grid, Series};

use super::{drop_names, range};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum Regression {
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
}

impl Regression {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            _ => return None,
        })
    }

    pub(super) fn evaluate(
        self,
        evaluator: &Evaluator<'_>,
        args: &[Node],
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let range = range(args)?;
        let mut results = match self {
            Self::Deriv => evaluator.over_windows(range, steps, |(): &mut (), window, _| {
                (window.values.len() > 1).then(|| {
                    line(window.timestamps, window.values, window.timestamps[0].ms()).slope
                })
            })?,
            Self::PredictLinear => {
                let ahead = evaluator.scalar(&args[1], steps)?;
                evaluator.over_windows(range, steps, |(): &mut (), window, step| {
                    (window.values.len() > 1).then(|| {
                        let line = line(window.timestamps, window.values, window.span.step_ms);
                        line.slope * ahead[step] + line.intercept
                    })
                })?
            }
            Self::DoubleExponentialSmoothing => {
                let smoothing = factors(&evaluator.scalar(&args[1], steps)?, "smoothing")?;
                let trend = factors(&evaluator.scalar(&args[2], steps)?, "trend")?;
                evaluator.over_windows(range, steps, |(): &mut (), window, step| {
                    smoothed(window.values, smoothing[step], trend[step])
                })?
            }
        };
        drop_names(&mut results);
        Ok(results)
    }
}

struct Line {
    /// Per second.
    slope: f64,
    /// At the time that was asked for.
    intercept: f64,
}

/// The line of least squares through at least one sample. A constant gives itself exactly, an
/// infinite one nothing.
fn line(timestamps: &[Timestamp], values: &[f64], intercept_ms: i64) -> Line {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() {
            Line {
                slope: f64::NAN,
                intercept: f64::NAN,
            }
        } else {
            Line {
                slope: 0.0,
                intercept: first,
            }
        };
    }
    let mut sums = [KahanSum::default(); 4];
    for (time, y) in timestamps.iter().zip(values) {
        let x = time.ms().saturating_sub(intercept_ms) as f64 / 1e3;
        for (sum, term) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            sum.add(term);
        }
    }
    let n = values.len() as f64;
    let [x, y, xy, xx] = sums.map(|sum| sum.sum + sum.compensation);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Line {
        slope,
        intercept: y / n - slope * x / n,
    }
}

fn factors(params: &[f64], what: &str) -> Result<Vec<f64>, Error> {
    params
        .iter()
        .map(|factor| {
            if *factor > 0.0 && *factor < 1.0 {
                Ok(*factor)
            } else {
                Err(Error::execution(format!(
                    "invalid {what} factor, expected 0 < factor < 1, got {factor}"
                )))
            }
        })
        .collect()
}

/// Holt's linear method: the last level, `None` with fewer than two samples.
fn smoothed(values: &[f64], smoothing: f64, trend: f64) -> Option<f64> {
    let [first, second, ..] = values else {
        return None;
    };
    let mut previous = 0.0;
    let mut level = *first;
    let mut slope = second - first;
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (level - previous) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        previous = level;
        level = next;
    }
    Some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(times: &[i64]) -> Vec<Timestamp> {
        times.iter().map(|s| Timestamp::from_ms(s * 1000)).collect()
    }

    #[test]
    fn a_line_is_found_through_its_points() {
        let line = line(&seconds(&[0, 10, 20]), &[1.0, 6.0, 11.0], 20_000);
        assert_eq!((line.slope, line.intercept), (0.5, 11.0));
    }

    #[test]
    fn a_constant_is_its_own_line_and_infinity_has_none() {
        let flat = line(&seconds(&[0, 10]), &[7.1, 7.1], 99_000);
        assert_eq!((flat.slope, flat.intercept), (0.0, 7.1));
        assert!(
            line(&seconds(&[0, 10]), &[f64::INFINITY; 2], 0)
                .slope
                .is_nan()
        );
    }

    #[test]
    fn smoothing_follows_a_straight_line() {
        let values: Vec<_> = (0..20).map(|i| f64::from(i) * 3.0).collect();
        assert!((smoothed(&values, 0.3, 0.4).unwrap() - 57.0).abs() < 1e-9);
        // level 2 and slope 2 after (0, 2); slope .5 * 2 + .5 * 2, level .5 * 3 + .5 * (2 + 2)
        assert_eq!(smoothed(&[0.0, 2.0, 3.0], 0.5, 0.5), Some(3.5));
        assert_eq!(smoothed(&[1.0], 0.5, 0.5), None);
    }
}
