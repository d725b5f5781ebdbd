use proptest::prelude::*;

use super::*;

fn any_labels() -> impl Strategy<Value = Labels> {
    let label = ("[abc]", "(x|y|svc-[0-9]|a\\.b|é|)");
    prop::collection::btree_map(label.0, label.1, 0..4)
        .prop_map(|pairs| Labels::try_from_pairs(pairs).unwrap())
}

fn any_matcher() -> impl Strategy<Value = Matcher> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    let value = prop_oneof![
        Just(""),
        Just("x"),
        Just("svc-1"),
        Just("x|y"),
        Just("(x|svc-2)"),
        Just("svc-.*"),
        Just("svc-[0-4]"),
        Just(".*"),
        Just(".+"),
        Just("a\\.b"),
        Just("a.b"),
        Just("x?"),
        Just("nothing"),
        Just("x|svc.*"),
        Just("é|y"),
    ];
    ("[abcd]", op, value).prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
}

proptest! {
    #[test]
    fn selection_is_that_of_testing_every_series(
        all in prop::collection::btree_set(any_labels(), 0..40),
        matchers in prop::collection::vec(any_matcher(), 0..4),
        later in any_labels(),
    ) {
        let mut index = Index::default();
        for labels in &all {
            index.define(labels);
        }
        let check = |index: &Index| {
            let expected: Vec<SeriesId> = (0..index.len() as u32)
                .map(SeriesId)
                .filter(|&series| {
                    let labels = index.labels(series);
                    matchers.iter().all(|matcher| matcher.matches(labels.value(&matcher.name)))
                })
                .collect();
            assert_eq!(index.select(&matchers), expected);
        };
        check(&index);
        // What is remembered of an expression does not hide a new value.
        if index.find(&later).is_none() {
            index.define(&later);
        }
        check(&index);
    }

    #[test]
    fn every_series_is_found_by_its_labels(all in prop::collection::btree_set(any_labels(), 0..40)) {
        let mut index = Index::default();
        for labels in &all {
            prop_assert_eq!(index.find(labels), None);
            let series = index.define(labels);
            prop_assert_eq!(index.find(labels), Some(series));
            prop_assert_eq!(&index.labels(series), labels);
        }
    }
}

#[test]
fn the_metric_is_the_symbol_of_its_name() {
    let mut index = Index::default();
    let up = index.define(&Labels::of("up", &[("job", "a")]));
    let nameless = index.define(&Labels::try_from_pairs([("job", "a")]).unwrap());
    assert_eq!(&*index.symbols()[index.metric(up) as usize], "up");
    assert_eq!(index.metric(nameless), NO_METRIC);
}
