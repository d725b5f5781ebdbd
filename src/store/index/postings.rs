//! Rising lists of series ids: union, intersection and difference.

pub(super) fn total(lists: &[&[u32]]) -> usize {
    lists.iter().map(|list| list.len()).sum()
}

/// All ids of lists that have none in common: a series has one value of a label.
pub(super) fn union(lists: &[&[u32]]) -> Vec<u32> {
    let mut all = lists.concat();
    if lists.len() > 1 {
        all.sort_unstable();
    }
    all
}

/// Keeps what is in both.
pub(super) fn intersect(kept: &mut Vec<u32>, list: &[u32]) {
    if list.len() < kept.len() {
        let common = common(list, kept);
        *kept = common;
    } else {
        *kept = common(kept, list);
    }
}

/// Takes out of a list what is in another.
pub(super) fn subtract(list: &mut Vec<u32>, gone: &[u32]) {
    let mut gone = gone.iter().copied().peekable();
    list.retain(|&id| {
        while gone.next_if(|&next| next < id).is_some() {}
        gone.peek() != Some(&id)
    });
    if list.capacity() > 2 * list.len() {
        list.shrink_to_fit();
    }
}

/// Gallops through the long list: the cost goes with the short one and the logarithm of the gaps.
fn common(short: &[u32], mut long: &[u32]) -> Vec<u32> {
    let mut common = Vec::with_capacity(short.len());
    for &id in short {
        let mut step = 1;
        while long.get(step).is_some_and(|&at| at < id) {
            step *= 2;
        }
        let window = &long[step / 2..long.len().min(step + 1)];
        let at = step / 2 + window.partition_point(|&at| at < id);
        long = &long[at.min(long.len())..];
        match long.first() {
            Some(&found) if found == id => common.push(id),
            Some(_) => {}
            None => break,
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_sets(
            left in prop::collection::btree_set(0u32..400, 0..60),
            right in prop::collection::btree_set(0u32..400, 0..300),
        ) {
            let expected: Vec<u32> = left.intersection(&right).copied().collect();
            let list = |set: &BTreeSet<u32>| set.iter().copied().collect::<Vec<_>>();
            let mut kept = list(&left);
            intersect(&mut kept, &list(&right));
            prop_assert_eq!(&kept, &expected);
            let mut kept = list(&right);
            intersect(&mut kept, &list(&left));
            prop_assert_eq!(kept, expected);
            let expected: Vec<u32> = left.difference(&right).copied().collect();
            let mut kept = list(&left);
            subtract(&mut kept, &list(&right));
            prop_assert_eq!(kept, expected);
        }
    }
}
