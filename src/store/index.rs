//! Which series exist, and which of them a selector means: interned symbols, postings, and a hash of
//! every label set.
//!
//! Held in memory whole and rebuilt at start. Series are only ever added; an id is the position in
//! which its series was defined. Whether a series has samples is none of its business.

pub(crate) mod cardinality;
mod pattern;
mod postings;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use self::pattern::Shape;
use crate::model::{Label, Labels, METRIC_NAME, MatchOp, Matcher, SeriesId};

/// The metric of a series that has no name.
pub(crate) const NO_METRIC: u32 = u32::MAX;

/// Regular expressions whose matching values are remembered.
const REMEMBERED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Index {
    symbols: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// Name and value of every label of every series, one series after the other, sorted by name.
    pairs: Vec<(u32, u32)>,
    /// Where a series' pairs end.
    ends: Vec<usize>,
    by_hash: HashMap<u64, SeriesId, BuildHasherDefault<Hashed>>,
    by_name: HashMap<u32, Values>,
    remembered: Mutex<HashMap<(String, String), Remembered>>,
}

/// The values of one label.
#[derive(Debug, Default)]
struct Values {
    sorted: BTreeMap<Arc<str>, u32>,
    /// By the value's symbol: its series, rising.
    postings: HashMap<u32, Vec<u32>>,
}

/// The values that an expression matched when the label had this many. Values are only ever added.
#[derive(Debug)]
struct Remembered {
    values: usize,
    matching: Arc<[u32]>,
}

impl Index {
    /// How many series there are; also the next series' id.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn symbols(&self) -> &[Arc<str>] {
        &self.symbols
    }

    /// The symbols of a series' labels.
    pub(crate) fn pairs(&self, series: SeriesId) -> &[(u32, u32)] {
        let at = series.0 as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.pairs[start..self.ends[at]]
    }

    pub(crate) fn labels(&self, series: SeriesId) -> Labels {
        let labels = self
            .pairs(series)
            .iter()
            .map(|&(name, value)| Label {
                name: self.symbols[name as usize].clone(),
                value: self.symbols[value as usize].clone(),
            })
            .collect();
        Labels::try_from_labels(labels).expect("they came from a label set")
    }

    /// The symbol of the metric's name.
    pub(crate) fn metric(&self, series: SeriesId) -> u32 {
        self.numbers
            .get(METRIC_NAME)
            .and_then(|&name| self.value_of(series, name))
            .unwrap_or(NO_METRIC)
    }

    pub(crate) fn find(&self, labels: &Labels) -> Option<SeriesId> {
        let pairs = labels.iter().map(|label| (&*label.name, &*label.value));
        self.find_pairs(&pairs, &mut Vec::with_capacity(256))
    }

    /// The series of labels in canonical form: sorted by name, each once, none empty. `text` is room
    /// for them.
    pub(crate) fn find_pairs<'a>(
        &self,
        pairs: &(impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone),
        text: &mut Vec<u8>,
    ) -> Option<SeriesId> {
        let mut hash = hash_of(pairs.clone(), text);
        loop {
            let series = *self.by_hash.get(&hash)?;
            if self.is(series, pairs.clone()) {
                return Some(series);
            }
            hash = hash.wrapping_add(1);
        }
    }

    fn is<'a>(
        &self,
        series: SeriesId,
        labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> bool {
        let pairs = self.pairs(series);
        pairs.len() == labels.len()
            && pairs.iter().zip(labels).all(|(&(name, value), label)| {
                *self.symbols[name as usize] == *label.0
                    && *self.symbols[value as usize] == *label.1
            })
    }

    /// Gives the next id to a label set that has none yet.
    pub(crate) fn define(&mut self, labels: &Labels) -> SeriesId {
        let pairs: Vec<_> = labels
            .iter()
            .map(|label| (self.intern(&label.name), self.intern(&label.value)))
            .collect();
        self.push(&pairs)
    }

    /// The number of a string, a new one if it has none.
    pub(crate) fn intern(&mut self, string: &Arc<str>) -> u32 {
        if let Some(&number) = self.numbers.get(string) {
            return number;
        }
        let number = self.symbols.len() as u32;
        self.symbols.push(string.clone());
        self.numbers.insert(string.clone(), number);
        number
    }

    /// Gives the next id to a series whose symbols are all interned; names are sorted.
    pub(crate) fn push(&mut self, pairs: &[(u32, u32)]) -> SeriesId {
        let series = SeriesId(self.ends.len() as u32);
        self.pairs.extend_from_slice(pairs);
        self.ends.push(self.pairs.len());
        for &(name, value) in pairs {
            let values = self.by_name.entry(name).or_default();
            values
                .postings
                .entry(value)
                .or_insert_with(|| {
                    values
                        .sorted
                        .insert(self.symbols[value as usize].clone(), value);
                    Vec::new()
                })
                .push(series.0);
        }
        let strings = pairs.iter().map(|&(name, value)| {
            (
                &*self.symbols[name as usize],
                &*self.symbols[value as usize],
            )
        });
        let mut hash = hash_of(strings, &mut Vec::with_capacity(256));
        while self.by_hash.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.by_hash.insert(hash, series);
        series
    }

    /// The values of a label, each with the series that have it.
    pub(crate) fn values_of(&self, name: u32) -> impl Iterator<Item = (u32, &[u32])> {
        let values = self.by_name.get(&name);
        let postings = values.into_iter().flat_map(|values| &values.postings);
        postings.map(|(&value, list)| (value, list.as_slice()))
    }

    /// The number of a string that is interned.
    pub(crate) fn number(&self, string: &str) -> Option<u32> {
        self.numbers.get(string).copied()
    }

    pub(crate) fn value_of(&self, series: SeriesId, name: u32) -> Option<u32> {
        self.pairs(series)
            .iter()
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1)
    }

    /// The series that pass all matchers, rising by id.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        let mut lists = Vec::new();
        let mut filters = Vec::new();
        for matcher in matchers {
            if matcher.matches_empty() {
                filters.push(self.filter(matcher));
            } else {
                lists.push((self.postings(matcher), matcher));
            }
        }
        lists.sort_by_key(|(lists, _)| postings::total(lists));
        let mut lists = lists.into_iter();
        let mut selected = match lists.next() {
            Some((first, _)) => postings::union(&first),
            None => (0..self.len() as u32).collect(),
        };
        for (next, matcher) in lists {
            if selected.is_empty() {
                break;
            }
            if let [list] = next.as_slice() {
                postings::intersect(&mut selected, list);
            } else if postings::total(&next) > 4 * selected.len() {
                // Looking at the few is cheaper than putting the many together.
                let filter = self.filter(matcher);
                selected.retain(|&series| self.passes(SeriesId(series), &filter));
            } else {
                postings::intersect(&mut selected, &postings::union(&next));
            }
        }
        for filter in &filters {
            selected.retain(|&series| self.passes(SeriesId(series), filter));
        }
        selected.into_iter().map(SeriesId).collect()
    }

    /// The postings of the values that pass a matcher, for one that the absent label does not pass.
    fn postings(&self, matcher: &Matcher) -> Vec<&[u32]> {
        let Some(values) = self.values(&matcher.name) else {
            return Vec::new();
        };
        let filter = self.filter(matcher);
        if filter.listed_pass {
            let list = |value| values.postings.get(value).map(Vec::as_slice);
            filter.listed.iter().filter_map(list).collect()
        } else {
            values
                .postings
                .iter()
                .filter(|(value, _)| filter.listed.binary_search(value).is_err())
                .map(|(_, list)| list.as_slice())
                .collect()
        }
    }

    fn values(&self, name: &str) -> Option<&Values> {
        self.by_name.get(self.numbers.get(name)?)
    }

    fn passes(&self, series: SeriesId, filter: &Filter) -> bool {
        match filter.name.and_then(|name| self.value_of(series, name)) {
            Some(value) => filter.listed.binary_search(&value).is_ok() == filter.listed_pass,
            None => filter.absent_pass,
        }
    }

    fn filter(&self, matcher: &Matcher) -> Filter {
        let listed = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => self
                .numbers
                .get(&*matcher.value)
                .copied()
                .into_iter()
                .collect(),
            MatchOp::Regex | MatchOp::NotRegex => self.matching(matcher),
        };
        Filter {
            name: self.numbers.get(&*matcher.name).copied(),
            listed,
            listed_pass: matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
            absent_pass: matcher.matches_empty(),
        }
    }

    /// The values of a label that an expression matches, negated or not, rising by symbol.
    fn matching(&self, matcher: &Matcher) -> Arc<[u32]> {
        let Some(values) = self.values(&matcher.name) else {
            return Arc::default();
        };
        let key = (matcher.name.clone(), matcher.value.clone());
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = remembered.get(&key)
            && found.values == values.sorted.len()
        {
            return found.matching.clone();
        }
        let is_match = |value: &str| matcher.matches(value) == (matcher.op == MatchOp::Regex);
        let mut matching: Vec<u32> = match Shape::of(&matcher.value) {
            Shape::Alternatives(alternatives) => alternatives
                .iter()
                .filter_map(|value| values.sorted.get(value.as_str()).copied())
                .collect(),
            Shape::Prefix(prefix) => values
                .sorted
                .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
                .take_while(|(value, _)| value.starts_with(&prefix))
                .filter(|(value, _)| is_match(value))
                .map(|(_, &number)| number)
                .collect(),
        };
        matching.sort_unstable();
        matching.dedup();
        let matching: Arc<[u32]> = matching.into();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        let entry = Remembered {
            values: values.sorted.len(),
            matching: matching.clone(),
        };
        remembered.insert(key, entry);
        matching
    }
}

/// A matcher in symbols.
struct Filter {
    name: Option<u32>,
    /// Rising.
    listed: Arc<[u32]>,
    /// Whether the listed values pass, or all others.
    listed_pass: bool,
    absent_pass: bool,
}

fn hash_of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, text: &mut Vec<u8>) -> u64 {
    text.clear();
    for (name, value) in pairs {
        // No UTF-8 text holds the separator.
        text.extend_from_slice(name.as_bytes());
        text.push(0xff);
        text.extend_from_slice(value.as_bytes());
        text.push(0xff);
    }
    xxh3_64(text)
}

/// Passes a key through that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are keys");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
