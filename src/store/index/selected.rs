//! What selectors mean, remembered: dashboards ask the same again and again, and to put labels together
//! and in order costs more than to read the samples.
//!
//! While no series is forgotten, what is remembered stays right but for what came since: that is looked
//! through when it is little, else the selector is resolved anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::select::Wanted;
use super::Index;
use crate::model::{Labels, Matcher, SeriesId};

/// Series of all remembered selectors together; a selector takes some 30 bytes for each.
const SERIES_MAX: usize = 200_000;

/// The series that a selector means.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    /// In the order of blocks.
    pub(crate) wanted: Vec<Wanted>,
    /// Of each of them.
    pub(crate) labels: Vec<Labels>,
    /// Their positions in the order of labels.
    pub(crate) by_labels: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    selectors: HashMap<String, Entry>,
    series: usize,
}

#[derive(Debug)]
struct Entry {
    selected: Arc<Selected>,
    /// The next series' id at that time.
    next_id: u32,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all, since series are forgotten.
    pub(super) fn clear(&self) {
        *self.lock() = Remembered::default();
    }
}

impl Index {
    /// The series that pass all matchers, with their labels.
    pub(crate) fn selected(&self, matchers: &[Matcher]) -> Arc<Selected> {
        let key = key(matchers);
        let mut remembered = self.selected.lock();
        let mut series = Vec::new();
        if let Some(entry) = remembered.selectors.get_mut(&key) {
            let added = self.select_from(matchers, entry.next_id);
            entry.next_id = self.next_id();
            if added.is_empty() {
                return entry.selected.clone();
            }
            series.extend(entry.selected.wanted.iter().map(|wanted| wanted.series));
            series.extend(added);
        } else {
            series = self.select(matchers);
        }
        let selected = Arc::new(self.resolve(series));
        remembered.remember(key, selected.clone(), self.next_id());
        selected
    }

    fn resolve(&self, series: Vec<SeriesId>) -> Selected {
        let mut wanted: Vec<Wanted> = series
            .into_iter()
            .map(|series| Wanted {
                metric: self.metric(series),
                series,
                group: series.0,
            })
            .collect();
        wanted.sort_unstable();
        let labels: Vec<Labels> = self
            .labels_of(wanted.iter().map(|wanted| wanted.series))
            .collect();
        let mut by_labels: Vec<u32> = (0..labels.len() as u32).collect();
        by_labels
            .sort_unstable_by(|left, right| labels[*left as usize].cmp(&labels[*right as usize]));
        Selected {
            wanted,
            labels,
            by_labels,
        }
    }
}

impl Remembered {
    fn remember(&mut self, key: String, selected: Arc<Selected>, next_id: u32) {
        let count = selected.wanted.len() + 1;
        if self.series + count > SERIES_MAX {
            self.selectors.clear();
            self.series = 0;
        }
        if count > SERIES_MAX {
            return;
        }
        self.series += count;
        if let Some(old) = self.selectors.insert(key, Entry { selected, next_id }) {
            self.series -= old.selected.wanted.len() + 1;
        }
    }
}

/// What a selector asks, as text; equal for equal selectors only.
fn key(matchers: &[Matcher]) -> String {
    let mut key = String::with_capacity(64);
    for Matcher {
        name, op, value, ..
    } in matchers
    {
        key.push_str(&format!("{name:?}{op:?}{value:?},"));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MatchOp;

    fn names(index: &Index, matchers: &[Matcher]) -> Vec<String> {
        let selected = index.selected(matchers);
        let order = selected.by_labels.iter();
        order
            .map(|&at| selected.labels[at as usize].to_string())
            .collect()
    }

    #[test]
    fn series_that_came_since_are_selected_too() {
        let mut index = Index::default();
        let matchers = [Matcher::new("a", MatchOp::NotEqual, "2").unwrap()];
        assert_eq!(names(&index, &matchers), [""; 0]);
        index.define(&Labels::of("m", &[("a", "3")]));
        index.define(&Labels::of("m", &[("a", "2")]));
        assert_eq!(names(&index, &matchers), ["m{a=\"3\"}"]);
        let first = index.selected(&matchers);
        index.define(&Labels::of("n", &[("a", "2")]));
        assert!(
            Arc::ptr_eq(&first, &index.selected(&matchers)),
            "nothing of it is new"
        );
        index.define(&Labels::of("m", &[("a", "1")]));
        index.define(&Labels::of("k", &[]));
        assert_eq!(names(&index, &matchers), ["k", "m{a=\"1\"}", "m{a=\"3\"}"]);
    }

    #[test]
    fn what_is_forgotten_is_not_selected_any_more() {
        let mut index = Index::default();
        let matchers = [Matcher::equal("a", "1")];
        let series = index.define(&Labels::of("m", &[("a", "1")]));
        assert_eq!(names(&index, &matchers), ["m{a=\"1\"}"]);
        index.forget(7, &[series]);
        index.sweep(7);
        assert_eq!(names(&index, &matchers), [""; 0]);
        index.define(&Labels::of("m", &[("a", "1")]));
        assert_eq!(names(&index, &matchers), ["m{a=\"1\"}"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut index = Index::default();
        index.define(&Labels::of("m", &[]));
        for number in 0..SERIES_MAX {
            index.selected(&[Matcher::equal("__name__", number.to_string())]);
        }
        let remembered = index.selected.lock();
        assert!(remembered.selectors.len() <= SERIES_MAX);
        assert!(remembered.series <= SERIES_MAX);
    }
}
