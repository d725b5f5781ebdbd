//! Groups: alerts that agree in some labels and are told together.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::matchers;
use crate::alert::Pairs;
use crate::model::{Matcher, Timestamp};

/// A hash of the group's key.
pub(super) type GroupId = u64;

/// In place of names: every label counts, and each alert is a group of its own.
pub(super) const BY_ALL: &str = "...";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// The labels as a text; what receivers know the group by.
    pub(super) key: String,
    pub(super) labels: Pairs,
    /// When it is next looked at whether there is something to tell.
    pub(super) next_flush: Timestamp,
    /// The alerts that fire, and those whose end is still to be told. Each alert's record names its
    /// group, so these are not stored again.
    #[serde(skip)]
    pub(super) members: BTreeSet<u64>,
}

impl Group {
    /// The group that an alert with these labels belongs to.
    pub(super) fn of(labels: &Pairs, by: &[String], first_flush: Timestamp) -> (GroupId, Self) {
        let is_wanted = |name: &String| by.contains(name) || by.iter().any(|name| name == BY_ALL);
        let wanted = labels.iter().filter(|(name, _)| is_wanted(name));
        let labels: Pairs = wanted
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let texts: Vec<String> = labels
            .iter()
            .map(|(name, value)| matchers::format(&Matcher::equal(name, value)))
            .collect();
        let key = format!("{{{}}}", texts.join(", "));
        let group = Self {
            labels,
            next_flush: first_flush,
            members: BTreeSet::new(),
            key,
        };
        (xxh3_64(group.key.as_bytes()), group)
    }

    /// The time that a flush at `now` counts for: the one it was due at, so that the grid holds and a
    /// repeat is not put off by a moment's delay. After a pause the grid begins anew.
    pub(super) fn tick(&mut self, now: Timestamp, interval: Duration) -> Timestamp {
        let at = if now.since(self.next_flush) < interval {
            self.next_flush
        } else {
            now
        };
        self.next_flush = at.after(interval);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Pairs {
        let pairs = [
            ("alertname", "lag"),
            ("migration_id", "a \"b\""),
            ("job", ""),
        ];
        pairs
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    fn key(by: &[&str]) -> String {
        let by: Vec<String> = by.iter().map(|name| (*name).to_owned()).collect();
        Group::of(&labels(), &by, Timestamp::EPOCH).1.key
    }

    #[test]
    fn the_key_says_the_labels_that_count() {
        assert_eq!(key(&["migration_id"]), r#"{migration_id="a \"b\""}"#);
        assert_eq!(key(&["table"]), "{}");
        assert_eq!(key(&[]), "{}");
        assert_eq!(
            key(&["..."]),
            r#"{alertname="lag", job="", migration_id="a \"b\""}"#
        );
    }

    #[test]
    fn a_late_flush_keeps_the_grid_and_a_pause_begins_a_new_one() {
        let at = Timestamp::from_ms;
        let interval = Duration::from_secs(300);
        let (_, mut group) = Group::of(&labels(), &[], at(30_000));
        assert_eq!(group.tick(at(30_250), interval), at(30_000));
        assert_eq!(group.next_flush, at(330_000));
        assert_eq!(group.tick(at(3_630_000), interval), at(3_630_000));
        assert_eq!(group.next_flush, at(3_930_000));
    }
}
