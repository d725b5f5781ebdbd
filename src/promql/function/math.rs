//! Functions that map each value by itself: mathematics, trigonometry, rounding, clamping.

use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::plan::Node;
use crate::promql::statistic::{larger, smaller};
use crate::promql::value::{ABSENT, Grid, Series, is_present, map_present};

use super::drop_names;

#[derive(Clone, Copy, Debug)]
pub(in crate::promql) enum Math {
    Map(fn(f64) -> f64),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
}

impl Math {
    pub(super) fn of(name: &str) -> Option<Self> {
        let map: fn(f64) -> f64 = match name {
            "abs" => f64::abs,
            "ceil" => f64::ceil,
            "floor" => f64::floor,
            "exp" => f64::exp,
            "ln" => f64::ln,
            "log2" => f64::log2,
            "log10" => f64::log10,
            "sqrt" => f64::sqrt,
            "sgn" => sign,
            "sin" => f64::sin,
            "cos" => f64::cos,
            "tan" => f64::tan,
            "asin" => f64::asin,
            "acos" => f64::acos,
            "atan" => f64::atan,
            "sinh" => f64::sinh,
            "cosh" => f64::cosh,
            "tanh" => f64::tanh,
            "asinh" => f64::asinh,
            "acosh" => f64::acosh,
            "atanh" => f64::atanh,
            "deg" => |radians| radians * 180.0 / std::f64::consts::PI,
            "rad" => |degrees| degrees * std::f64::consts::PI / 180.0,
            "round" => return Some(Self::Round),
            "clamp" => return Some(Self::Clamp),
            "clamp_min" => return Some(Self::ClampMin),
            "clamp_max" => return Some(Self::ClampMax),
            _ => return None,
        };
        Some(Self::Map(map))
    }

    pub(super) fn evaluate(
        self,
        evaluator: &Evaluator<'_>,
        args: &[Node],
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let mut series = evaluator.vector(&args[0], steps)?;
        let param = |index: usize| match args.get(index) {
            Some(arg) => evaluator.scalar(arg, steps).map(Some),
            None => Ok(None),
        };
        match (self, param(1)?, param(2)?) {
            (Self::Map(map), ..) => {
                for one in &mut series {
                    map_present(&mut one.values, map);
                }
            }
            (Self::Round, Some(nearest), _) => {
                each_step(&mut series, |step, value| round(value, nearest[step]));
            }
            (Self::Round, None, _) => each_step(&mut series, |_, value| round(value, 1.0)),
            (Self::ClampMin, Some(min), _) => {
                each_step(&mut series, |step, value| larger(min[step], value));
            }
            (Self::ClampMax, Some(max), _) => {
                each_step(&mut series, |step, value| smaller(max[step], value));
            }
            (Self::Clamp, Some(min), Some(max)) => each_step(&mut series, |step, value| {
                if max[step] < min[step] {
                    ABSENT
                } else {
                    larger(min[step], smaller(max[step], value))
                }
            }),
            (Self::Clamp | Self::ClampMin | Self::ClampMax, ..) => {
                return Err(Error::bad_data("clamping needs its bounds"));
            }
        }
        series.retain(|one| !one.is_empty());
        drop_names(&mut series);
        Ok(series)
    }
}

fn each_step(series: &mut [Series], map: impl Fn(usize, f64) -> f64) {
    for one in series {
        for (step, value) in one.values.iter_mut().enumerate() {
            if is_present(*value) {
                *value = map(step, *value);
            }
        }
    }
}

/// The sign as -1 or 1; zeros and NaN are their own.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// The nearest multiple, ties upwards. Divides by the inverse, which is exact for 0.1 and its like.
fn round(value: f64, nearest: f64) -> f64 {
    let inverse = 1.0 / nearest;
    (value * inverse + 0.5).floor() / inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_round_upwards() {
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(-2.5, 1.0), -2.0);
        assert_eq!(round(5.25, 0.1), 5.3);
        assert_eq!(round(13.0, 5.0), 15.0);
    }

    #[test]
    fn the_sign_keeps_zero_and_nan() {
        assert_eq!([sign(-3.0), sign(0.0), sign(0.1)], [-1.0, 0.0, 1.0]);
        assert!(sign(f64::NAN).is_nan());
    }
}
