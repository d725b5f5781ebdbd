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
        gone_of_three in 0u32..3,
    ) {
        let mut index = Index::default();
        for labels in &all {
            index.define(labels);
        }
        let check = |index: &Index| {
            let expected: Vec<SeriesId> = (0..index.next_id())
                .map(SeriesId)
                .filter(|&series| index.has(series))
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
        // Nor is a value seen that went, though another one came for it.
        let gone: Vec<SeriesId> =
            (0..index.next_id()).filter(|id| id % 3 == gone_of_three).map(SeriesId).collect();
        let labels: Vec<Labels> = gone.iter().map(|&series| index.labels(series)).collect();
        index.forget(1, &gone);
        index.sweep(1);
        check(&index);
        for labels in labels {
            assert_eq!(index.find(&labels), None);
            index.define(&labels);
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

#[test]
fn a_forgotten_series_is_seen_until_its_readers_are_gone() {
    let mut index = Index::default();
    let labels = |job| Labels::of("up", &[("job", job)]);
    let (a, b) = (index.define(&labels("a")), index.define(&labels("b")));
    index.forget(7, &[a]);
    assert_eq!((index.count(), index.find(&labels("a"))), (1, None));
    assert!(!index.has(a) && index.has(b));
    index.sweep(6);
    assert_eq!(index.labels(a), labels("a"));
    assert_eq!(index.select(&[Matcher::equal("job", "a")]), [a]);
    // It comes again as another one.
    let again = index.define(&labels("a"));
    assert_eq!(
        (again, index.find(&labels("a"))),
        (SeriesId(2), Some(again))
    );
    index.sweep(7);
    assert_eq!(index.select(&[Matcher::equal("job", "a")]), [again]);
    // Its symbols are those of the other one too; b's value is its own.
    index.forget(8, &[b]);
    let freed = index.sweep(8);
    let symbols: Vec<&str> = index.symbols().iter().map(|symbol| &**symbol).collect();
    assert_eq!(
        (freed, symbols),
        (vec![4], vec!["__name__", "up", "job", "a", ""])
    );
    index.forget(9, &[again]);
    assert_eq!(index.sweep(9), [0, 1, 2, 3]);
    assert_eq!((index.count(), index.next_id()), (0, 3));
    // A string that comes back has another number.
    let back = index.define(&labels("b"));
    assert_eq!(index.metric(back), 6);
    assert_eq!(index.labels(back), labels("b"));
    index.forget(10, &[back]);
    index.sweep(10);
    assert_eq!(index.cardinality(5).label_pairs, 0);
}

#[test]
fn series_whose_hashes_collide_are_found_when_one_of_them_goes() {
    let mut index = Index::default();
    let labels = |job| Labels::of("up", &[("job", job)]);
    let (a, b, c) = (
        index.define(&labels("a")),
        index.define(&labels("b")),
        index.define(&labels("c")),
    );
    // As if a and b had been defined where c belongs.
    let hash = index.hash(c);
    for series in [a, b, c] {
        index.unlink(series);
    }
    index.by_hash.extend([(hash, a), (hash.wrapping_add(1), b)]);
    index.link(c);
    assert_eq!(index.find(&labels("c")), Some(c));
    index.by_hash.remove(&hash);
    index.by_hash.remove(&hash.wrapping_add(1));
    index.by_hash.extend([(hash, a), (hash.wrapping_add(1), c)]);
    index.by_hash.remove(&hash.wrapping_add(2));
    // What lies behind c goes nearer, and a itself stays where it is.
    index.unlink(c);
    assert_eq!(index.find(&labels("c")), None);
    index.link(c);
    assert_eq!(index.find(&labels("c")), Some(c));
}
