//! `absent` and `absent_over_time`: one series where there is none.

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp};
use crate::promql::plan::Selection;
use crate::promql::value::{ABSENT, Grid, Series, is_present};

/// The labels that a selector fixes: those with a single matcher, which asks for equality.
pub(super) fn labels(selection: &Selection) -> Labels {
    let [branch] = selection.branches.as_slice() else {
        return Labels::empty();
    };
    let mut labels = LabelsBuilder::default();
    let mut seen = Vec::new();
    for matcher in branch {
        if matcher.name == METRIC_NAME {
            continue;
        }
        if matcher.op == MatchOp::Equal && !seen.contains(&&matcher.name) {
            labels.set(&matcher.name, matcher.value.as_str());
            seen.push(&matcher.name);
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels.build()
}

/// One where no series has a value.
pub(super) fn absent(series: &[Series], labels: &Labels, steps: Grid) -> Vec<Series> {
    let mut values = vec![1.0; steps.len];
    for one in series {
        for (absent, value) in values.iter_mut().zip(&one.values) {
            if is_present(*value) {
                *absent = ABSENT;
            }
        }
    }
    let absent = Series {
        labels: labels.clone(),
        drop_name: false,
        values,
    };
    if absent.is_empty() {
        Vec::new()
    } else {
        vec![absent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Matcher;

    fn labels_of(matchers: Vec<Matcher>) -> String {
        labels(&Selection {
            branches: vec![matchers],
        })
        .to_string()
    }

    #[test]
    fn only_a_single_equality_fixes_a_label() {
        let differs = Matcher::new("b", MatchOp::NotEqual, "1").expect("no regex");
        assert_eq!(
            labels_of(vec![
                Matcher::equal(METRIC_NAME, "m"),
                Matcher::equal("a", "1"),
                differs.clone(),
            ]),
            "{a=\"1\"}"
        );
        assert_eq!(
            labels_of(vec![Matcher::equal("a", "1"), Matcher::equal("a", "2")]),
            "{}"
        );
        assert_eq!(labels_of(vec![Matcher::equal("b", "2"), differs]), "{}");
    }
}
