//! Binary operators: arithmetic, comparisons and sets, on scalars and vectors.

mod matching;
mod set;

use super::error::Error;
use super::eval::Evaluator;
use super::plan::{Arithmetic, Binary, Comparison, Operator, ValueType};
use super::value::{ABSENT, EvalValue, Grid, Series, is_present};

pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    steps: Grid,
) -> Result<EvalValue, Error> {
    let (left, right) = (&binary.left, &binary.right);
    let is_scalar = |node: &super::plan::Node| node.value_type() == ValueType::Scalar;
    Ok(match (is_scalar(left), is_scalar(right)) {
        (true, true) => {
            let mut values = evaluator.scalar(left, steps)?;
            let others = evaluator.scalar(right, steps)?;
            for (value, other) in values.iter_mut().zip(others) {
                *value = between_scalars(binary.op, *value, other);
            }
            EvalValue::Scalar(values)
        }
        (false, true) => {
            let mut series = evaluator.vector(left, steps)?;
            let scalar = evaluator.scalar(right, steps)?;
            with_scalar(&mut series, &scalar, binary, |value, scalar| {
                (value, scalar)
            });
            EvalValue::Vector(series)
        }
        (true, false) => {
            let scalar = evaluator.scalar(left, steps)?;
            let mut series = evaluator.vector(right, steps)?;
            with_scalar(&mut series, &scalar, binary, |value, scalar| {
                (scalar, value)
            });
            EvalValue::Vector(series)
        }
        (false, false) => {
            let left = evaluator.vector(left, steps)?;
            let right = evaluator.vector(right, steps)?;
            EvalValue::Vector(match binary.op {
                Operator::Set(op) => {
                    set::evaluate(op, &binary.matching.labels, left, right, steps)?
                }
                op => matching::evaluate(evaluator, binary, op, &left, &right, steps)?,
            })
        }
    })
}

/// Comparisons of scalars always yield a number: the parser insists on `bool`.
fn between_scalars(op: Operator, left: f64, right: f64) -> f64 {
    match op {
        Operator::Arithmetic(op) => op.apply(left, right),
        Operator::Comparison(op) => f64::from(op.holds(left, right)),
        Operator::Set(_) => ABSENT,
    }
}

/// Applies the operator between each value and the scalar of its step; `sides` puts the two in the
/// order of the text. A comparison that does not hold drops the value.
fn with_scalar(
    series: &mut Vec<Series>,
    scalar: &[f64],
    binary: &Binary,
    sides: impl Fn(f64, f64) -> (f64, f64),
) {
    let changes_name = binary.return_bool || matches!(binary.op, Operator::Arithmetic(_));
    for one in &mut *series {
        one.drop_name |= changes_name;
        for (value, scalar) in one.values.iter_mut().zip(scalar) {
            if is_present(*value) {
                let (left, right) = sides(*value, *scalar);
                *value = outcome(binary, left, right, *value);
            }
        }
    }
    series.retain(|one| !one.is_empty());
}

/// The value of an operation whose comparison keeps `kept` when it holds.
fn outcome(binary: &Binary, left: f64, right: f64, kept: f64) -> f64 {
    match binary.op {
        Operator::Arithmetic(op) => op.apply(left, right),
        Operator::Comparison(op) => match (binary.return_bool, op.holds(left, right)) {
            (true, holds) => f64::from(holds),
            (false, true) => kept,
            (false, false) => ABSENT,
        },
        Operator::Set(_) => ABSENT,
    }
}

impl Arithmetic {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
        }
    }
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_floats() {
        assert_eq!(Arithmetic::Mod.apply(-7.0, 3.0), -1.0);
        assert!(Arithmetic::Mod.apply(1.0, 0.0).is_nan());
        assert_eq!(Arithmetic::Div.apply(1.0, 0.0), f64::INFINITY);
        assert_eq!(Arithmetic::Pow.apply(2.0, -1.0), 0.5);
        assert_eq!(Arithmetic::Atan2.apply(0.0, -1.0), std::f64::consts::PI);
    }

    #[test]
    fn nan_differs_from_everything() {
        assert!(Comparison::NotEqual.holds(f64::NAN, f64::NAN));
        assert!(!Comparison::Equal.holds(f64::NAN, f64::NAN));
        assert!(!Comparison::GreaterOrEqual.holds(f64::NAN, 0.0));
    }
}
