//! `and`, `or`, `unless`: which series of two vectors stay, step by step.

use std::collections::HashMap;

use crate::model::Labels;
use crate::promql::error::Error;
use crate::promql::plan::{LabelSet, SetOperator};
use crate::promql::value::{ABSENT, Grid, Merged, Series, is_present};

pub(super) fn evaluate(
    op: SetOperator,
    on: &LabelSet,
    mut left: Vec<Series>,
    mut right: Vec<Series>,
    steps: Grid,
) -> Result<Vec<Series>, Error> {
    match op {
        SetOperator::And => {
            let there = presence(&right, on, steps);
            keep(&mut left, on, &there, Keep::WherePresent);
            Ok(left)
        }
        SetOperator::Unless => {
            let there = presence(&right, on, steps);
            keep(&mut left, on, &there, Keep::WhereAbsent);
            Ok(left)
        }
        SetOperator::Or => {
            let there = presence(&left, on, steps);
            keep(&mut right, on, &there, Keep::WhereAbsent);
            let mut merged = Merged::default();
            for one in left.into_iter().chain(right) {
                merged.push(one)?;
            }
            Ok(merged.into_series())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    WherePresent,
    WhereAbsent,
}

/// At which steps each set of matching labels has a value.
fn presence(series: &[Series], on: &LabelSet, steps: Grid) -> HashMap<Labels, Vec<bool>> {
    let mut presence: HashMap<Labels, Vec<bool>> = HashMap::new();
    for one in series {
        let there = presence
            .entry(one.labels.filter(|name| on.keeps(name)))
            .or_insert_with(|| vec![false; steps.len]);
        for (there, value) in there.iter_mut().zip(&one.values) {
            *there |= is_present(*value);
        }
    }
    presence
}

fn keep(
    series: &mut Vec<Series>,
    on: &LabelSet,
    presence: &HashMap<Labels, Vec<bool>>,
    keep: Keep,
) {
    series.retain_mut(|one| {
        let Some(there) = presence.get(&one.labels.filter(|name| on.keeps(name))) else {
            return keep == Keep::WhereAbsent;
        };
        for (value, there) in one.values.iter_mut().zip(there) {
            if *there != (keep == Keep::WherePresent) {
                *value = ABSENT;
            }
        }
        !one.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(pairs: &[(&str, &str)], values: &[f64]) -> Series {
        Series {
            labels: Labels::of("m", pairs),
            drop_name: false,
            values: values.to_vec(),
        }
    }

    fn two_steps(op: SetOperator) -> Vec<Vec<f64>> {
        let steps = Grid {
            start_ms: 0,
            step_ms: 1,
            len: 2,
        };
        let on = LabelSet::Only(vec!["a".into()]);
        let left = vec![series(&[("a", "1"), ("b", "x")], &[1.0, 2.0])];
        let right = vec![series(&[("a", "1")], &[5.0, ABSENT])];
        let result = evaluate(op, &on, left, right, steps).unwrap();
        result.into_iter().map(|one| one.values).collect()
    }

    #[test]
    fn membership_is_decided_at_each_step() {
        let absent = |values: &[f64]| values.iter().map(|v| is_present(*v)).collect::<Vec<_>>();
        assert_eq!(absent(&two_steps(SetOperator::And)[0]), [true, false]);
        assert_eq!(absent(&two_steps(SetOperator::Unless)[0]), [false, true]);
        assert_eq!(two_steps(SetOperator::Or), [[1.0, 2.0]]);
    }
}
