//! Puts series into groups by some of their labels.
//!
//! Series of one store share their strings, so the group of most is found by the addresses of the
//! strings that count; what is the same text at another address is found by its text.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::plan::LabelSet;
use crate::model::{Label, Labels};

/// Groups in the order in which they first came.
pub(super) struct Groups<'a> {
    by: &'a LabelSet,
    labels: Vec<Labels>,
    by_address: HashMap<u64, usize, BuildHasherDefault<Mixed>>,
    by_text: HashMap<Labels, usize>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(by: &'a LabelSet) -> Self {
        Self {
            by,
            labels: Vec::new(),
            by_address: HashMap::default(),
            by_text: HashMap::new(),
        }
    }

    /// The number of the group that a series belongs to; a group that is new gets the next number.
    pub(super) fn of(&mut self, labels: &Labels) -> usize {
        let kept = || labels.iter().filter(|label| self.by.keeps(&label.name));
        let address = address(kept());
        if let Some(&group) = self.by_address.get(&address)
            && kept().eq(self.labels[group].iter())
        {
            return group;
        }
        let text = labels.filter(|name| self.by.keeps(name));
        let group = *self.by_text.entry(text).or_insert_with_key(|text| {
            self.labels.push(text.clone());
            self.labels.len() - 1
        });
        self.by_address.insert(address, group);
        group
    }

    /// The labels of each group.
    pub(super) fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

/// A number for strings at their addresses.
fn address<'a>(labels: impl Iterator<Item = &'a Label>) -> u64 {
    /// Odd and without a pattern: 2^64 over the golden ratio.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let of = |text: &Arc<str>| text.as_ptr() as u64;
    labels.fold(0, |mixed: u64, label| {
        let name = (mixed.rotate_left(23) ^ of(&label.name)).wrapping_mul(SPREAD);
        (name.rotate_left(23) ^ of(&label.value)).wrapping_mul(SPREAD)
    })
}

/// Passes a key through that is mixed already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only mixed addresses are keys");
    }

    fn write_u64(&mut self, mixed: u64) {
        self.0 = mixed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_group_wherever_they_are() {
        let by = LabelSet::Only(vec!["a".into()]);
        let mut groups = Groups::new(&by);
        let series = |a: &str, b: &str| Labels::of("m", &[("a", a), ("b", b)]);
        let shared = series("1", "x");
        assert_eq!(groups.of(&shared), 0);
        assert_eq!(groups.of(&series("2", "x")), 1);
        assert_eq!(groups.of(&shared.with("b", "y")), 0);
        assert_eq!(groups.of(&series("1", "z")), 0, "other strings, same text");
        assert_eq!(groups.of(&Labels::of("m", &[])), 2);
        let labels: Vec<_> = groups.into_labels().iter().map(Labels::to_string).collect();
        assert_eq!(labels, ["{a=\"1\"}", "{a=\"2\"}", "{}"]);
    }
}
