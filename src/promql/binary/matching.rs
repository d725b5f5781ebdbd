//! Arithmetic and comparisons between vectors: which series pair up, and what labels a pair gets.
//!
//! Series are put into match groups by their labels once. Whether a group is ambiguous is decided at
//! each step, by the values that are there.

use crate::model::{Labels, LabelsBuilder, METRIC_NAME};
use crate::promql::error::Error;
use crate::promql::eval::Evaluator;
use crate::promql::group::Groups;
use crate::promql::plan::{Binary, Cardinality, LabelSet, Matching, Operator};
use crate::promql::value::{ABSENT, Duplicate, Grid, Merged, Series, is_present};

use super::outcome;

/// The two sides by their part in the match rather than by their place in the text.
struct Sides<'a> {
    many: &'a [Series],
    one: &'a [Series],
    /// Whether the "one" side stands on the left.
    is_swapped: bool,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
}

/// Series of both sides that match each other, by index.
#[derive(Default)]
struct MatchGroup {
    many: Vec<usize>,
    one: Vec<usize>,
}

pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    binary: &Binary,
    op: Operator,
    left: &[Series],
    right: &[Series],
    steps: Grid,
) -> Result<Vec<Series>, Error> {
    let matching = &binary.matching;
    let is_swapped = matches!(matching.cardinality, Cardinality::OneToMany(_));
    let sides = if is_swapped {
        Sides {
            many: right,
            one: left,
            is_swapped,
            fill_many: matching.fill_right,
            fill_one: matching.fill_left,
        }
    } else {
        Sides {
            many: left,
            one: right,
            is_swapped,
            fill_many: matching.fill_left,
            fill_one: matching.fill_right,
        }
    };
    let pairing = Pairing {
        binary,
        op,
        sides: &sides,
        many_at: steps_with_values(sides.many, steps),
    };
    let mut merged = Merged::default();
    for group in groups(&sides, &matching.labels) {
        evaluator.guard().check()?;
        pairing.group(evaluator, &group, steps, &mut merged)?;
    }
    Ok(merged.into_series())
}

/// The match groups, in the order in which they first occur.
fn groups(sides: &Sides<'_>, on: &LabelSet) -> Vec<MatchGroup> {
    let mut numbers = Groups::new(on);
    let mut groups: Vec<MatchGroup> = Vec::new();
    let mut group = |labels: &Labels| {
        let number = numbers.of(labels);
        if number == groups.len() {
            groups.push(MatchGroup::default());
        }
        number
    };
    let many: Vec<usize> = sides.many.iter().map(|one| group(&one.labels)).collect();
    let one: Vec<usize> = sides.one.iter().map(|one| group(&one.labels)).collect();
    for (at, number) in many.into_iter().enumerate() {
        groups[number].many.push(at);
    }
    for (at, number) in one.into_iter().enumerate() {
        groups[number].one.push(at);
    }
    groups
}

fn steps_with_values(series: &[Series], steps: Grid) -> Vec<bool> {
    let mut there = vec![false; steps.len];
    for one in series {
        for (there, value) in there.iter_mut().zip(&one.values) {
            *there |= is_present(*value);
        }
    }
    there
}

struct Pairing<'a> {
    binary: &'a Binary,
    op: Operator,
    sides: &'a Sides<'a>,
    /// Where the "many" side has any value at all: where it has none, nothing is refused either.
    many_at: Vec<bool>,
}

impl Pairing<'_> {
    fn group(
        &self,
        evaluator: &Evaluator<'_>,
        group: &MatchGroup,
        steps: Grid,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let can_fill = self.sides.fill_many.is_some() || self.sides.fill_one.is_some();
        if !can_fill && (group.many.is_empty() || group.one.is_empty()) {
            if group.one.len() > 1 {
                self.partners(evaluator, group, steps)?;
            }
            return Ok(());
        }
        let partners = self.partners(evaluator, group, steps)?;
        self.refuse_many_to_one(group, &partners)?;
        for index in &group.many {
            self.pair(&self.sides.many[*index], group, &partners, merged)?;
        }
        if let Some(fill) = self.sides.fill_many {
            self.fill_many(group, &partners, fill, merged)?;
        }
        Ok(())
    }

    /// The series of the "one" side at each step.
    fn partners(
        &self,
        evaluator: &Evaluator<'_>,
        group: &MatchGroup,
        steps: Grid,
    ) -> Result<Vec<Option<usize>>, Error> {
        let mut partners = vec![None; steps.len];
        for index in &group.one {
            evaluator.guard().check()?;
            let values = &self.sides.one[*index].values;
            for (step, (partner, value)) in partners.iter_mut().zip(values).enumerate() {
                if !is_present(*value) {
                    continue;
                }
                match partner {
                    Some(other) if self.many_at[step] => {
                        return Err(self.ambiguous(*other, *index));
                    }
                    _ => *partner = Some(*index),
                }
            }
        }
        Ok(partners)
    }

    fn ambiguous(&self, first: usize, second: usize) -> Error {
        let one = self.sides.one;
        let on = &self.binary.matching.labels;
        Error::execution(format!(
            "found duplicate series for the match group {} on the {} hand-side of the operation: \
             [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            one[first].labels.filter(|name| on.keeps(name)),
            if self.sides.is_swapped {
                "left"
            } else {
                "right"
            },
            one[second].labels,
            one[first].labels,
        ))
    }

    /// One-to-one matching takes a single series on either side, also where a comparison would drop it.
    fn refuse_many_to_one(
        &self,
        group: &MatchGroup,
        partners: &[Option<usize>],
    ) -> Result<(), Error> {
        if self.binary.matching.cardinality != Cardinality::OneToOne || group.many.len() < 2 {
            return Ok(());
        }
        for (step, partner) in partners.iter().enumerate() {
            let is_matched = partner.is_some() || self.sides.fill_one.is_some();
            let present = group
                .many
                .iter()
                .filter(|index| is_present(self.sides.many[**index].values[step]));
            if is_matched && present.count() > 1 {
                return Err(Error::execution(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)",
                ));
            }
        }
        Ok(())
    }

    /// The results of one series of the "many" side; they part where its partner changes.
    fn pair(
        &self,
        many: &Series,
        group: &MatchGroup,
        partners: &[Option<usize>],
        merged: &mut Merged,
    ) -> Result<(), Error> {
        for index in &group.one {
            let one = &self.sides.one[*index];
            let values = zip_steps(&many.values, &one.values, |step, value, other| {
                if partners[step] == Some(*index) {
                    self.outcome(value, other)
                } else {
                    ABSENT
                }
            });
            self.push(many, &one.labels, one.drop_name, values, merged)?;
        }
        if let Some(fill) = self.sides.fill_one {
            let values = many
                .values
                .iter()
                .zip(partners)
                .map(|(value, partner)| match partner {
                    None if is_present(*value) => self.outcome(*value, fill),
                    _ => ABSENT,
                })
                .collect();
            let stand_in = self.matching_labels(&many.labels);
            self.push(many, &stand_in, false, values, merged)?;
        }
        Ok(())
    }

    /// The results where the "one" side is there and the "many" side is not.
    fn fill_many(
        &self,
        group: &MatchGroup,
        partners: &[Option<usize>],
        fill: f64,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        for index in &group.one {
            let one = &self.sides.one[*index];
            let values = one
                .values
                .iter()
                .enumerate()
                .map(|(step, other)| {
                    let is_alone = group
                        .many
                        .iter()
                        .all(|many| !is_present(self.sides.many[*many].values[step]));
                    if is_alone && partners[step] == Some(*index) {
                        self.outcome(fill, *other)
                    } else {
                        ABSENT
                    }
                })
                .collect();
            let stand_in = Series {
                labels: self.matching_labels(&one.labels),
                drop_name: one.drop_name,
                values: Vec::new(),
            };
            self.push(&stand_in, &one.labels, one.drop_name, values, merged)?;
        }
        Ok(())
    }

    /// The labels of a series made up for a missing one.
    fn matching_labels(&self, labels: &Labels) -> Labels {
        labels.filter(|name| self.binary.matching.labels.keeps(name))
    }

    /// The value for a pair, given as many and one.
    fn outcome(&self, many: f64, one: f64) -> f64 {
        let (left, right) = if self.sides.is_swapped {
            (one, many)
        } else {
            (many, one)
        };
        outcome(self.binary, left, right, left)
    }

    fn push(
        &self,
        many: &Series,
        one: &Labels,
        one_drops_name: bool,
        values: Vec<f64>,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let takes_name = includes(&self.binary.matching)
            .iter()
            .any(|name| name == METRIC_NAME);
        let series = Series {
            labels: pair_labels(&many.labels, one, self.op, &self.binary.matching),
            drop_name: self.binary.return_bool
                || if takes_name {
                    one_drops_name
                } else {
                    many.drop_name
                },
            values,
        };
        if series.is_empty() {
            return Ok(());
        }
        merged.push(series).map_err(|Duplicate| {
            Error::execution(
                "multiple matches for labels: grouping labels must ensure unique matches",
            )
        })
    }
}

fn zip_steps(left: &[f64], right: &[f64], outcome: impl Fn(usize, f64, f64) -> f64) -> Vec<f64> {
    left.iter()
        .zip(right)
        .enumerate()
        .map(|(step, (left, right))| {
            if is_present(*left) && is_present(*right) {
                outcome(step, *left, *right)
            } else {
                ABSENT
            }
        })
        .collect()
}

/// The labels that the "many" side takes from the "one" side.
fn includes(matching: &Matching) -> &[String] {
    match &matching.cardinality {
        Cardinality::OneToOne => &[],
        Cardinality::ManyToOne(names) | Cardinality::OneToMany(names) => names,
    }
}

/// The labels of a pair: those of the "many" side, with what the match takes away and brings.
fn pair_labels(many: &Labels, one: &Labels, op: Operator, matching: &Matching) -> Labels {
    let mut labels = LabelsBuilder::from(&match (&matching.cardinality, &matching.labels) {
        (Cardinality::OneToOne, LabelSet::Only(names)) => {
            many.filter(|label| names.iter().any(|name| name == label))
        }
        (Cardinality::OneToOne, LabelSet::Except(names)) => {
            many.filter(|label| !names.iter().any(|name| name == label))
        }
        _ => many.clone(),
    });
    if matches!(op, Operator::Arithmetic(_)) {
        labels.remove(METRIC_NAME);
    }
    for name in includes(matching) {
        labels.set(name, one.value(name));
    }
    labels.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::plan::{Arithmetic, Comparison};

    const ADD: Operator = Operator::Arithmetic(Arithmetic::Add);
    const LESS: Operator = Operator::Comparison(Comparison::Less);

    fn matching(labels: LabelSet, cardinality: Cardinality) -> Matching {
        Matching {
            labels,
            cardinality,
            fill_left: None,
            fill_right: None,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn labels(op: Operator, set: LabelSet, cardinality: Cardinality) -> String {
        let many = Labels::of("m", &[("a", "1"), ("b", "2")]);
        let one = Labels::of("n", &[("a", "1"), ("c", "3")]);
        pair_labels(&many, &one, op, &matching(set, cardinality)).to_string()
    }

    #[test]
    fn a_pair_keeps_the_labels_it_was_matched_by() {
        let only = || LabelSet::Only(names(&["a"]));
        let except = || LabelSet::Except(names(&["b", "c"]));
        assert_eq!(labels(ADD, only(), Cardinality::OneToOne), "{a=\"1\"}");
        assert_eq!(labels(LESS, only(), Cardinality::OneToOne), "{a=\"1\"}");
        assert_eq!(labels(ADD, except(), Cardinality::OneToOne), "{a=\"1\"}");
        assert_eq!(labels(LESS, except(), Cardinality::OneToOne), "m{a=\"1\"}");
    }

    #[test]
    fn the_many_side_keeps_its_labels_and_takes_those_named() {
        let only = || LabelSet::Only(names(&["a"]));
        let taking = |taken: &[&str]| Cardinality::ManyToOne(names(taken));
        assert_eq!(labels(ADD, only(), taking(&[])), "{a=\"1\",b=\"2\"}");
        assert_eq!(
            labels(LESS, only(), taking(&["c"])),
            "m{a=\"1\",b=\"2\",c=\"3\"}"
        );
        // The one side has no `b`: the many side loses its own.
        assert_eq!(labels(ADD, only(), taking(&["b"])), "{a=\"1\"}");
    }

    #[test]
    fn series_are_grouped_by_what_counts_in_the_match() {
        let series = |metric: &str, a: &str, b: &str| Series {
            labels: Labels::of(metric, &[("a", a), ("b", b)]),
            drop_name: false,
            values: vec![1.0],
        };
        let many = [
            series("m", "1", "x"),
            series("m", "2", "x"),
            series("m", "1", "y"),
        ];
        let one = [series("n", "2", "z"), series("n", "3", "z")];
        let sides = Sides {
            many: &many,
            one: &one,
            is_swapped: false,
            fill_many: None,
            fill_one: None,
        };
        let found: Vec<_> = groups(&sides, &LabelSet::Only(names(&["a"])))
            .into_iter()
            .map(|group| (group.many, group.one))
            .collect();
        assert_eq!(
            found,
            [(vec![0, 2], vec![]), (vec![1], vec![0]), (vec![], vec![1])]
        );
    }
}
