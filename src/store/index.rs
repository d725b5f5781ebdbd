//! Which series exist, and which of them a selector means: interned symbols, postings, and a hash of
//! every label set.
//!
//! Held in memory whole and rebuilt at start. Ids are given in the order of definitions and never
//! again. Whether a series has samples is none of its business: it is told to forget those without.
//! A series that is forgotten is not found by its labels from then on; what selectors see of it stays
//! until the last reader from before is gone.

pub(crate) mod cardinality;
mod label_sets;
mod pattern;
mod postings;
pub(crate) mod selected;
mod series;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use self::label_sets::LabelSets;
use self::pattern::Shape;
use crate::model::{Label, Labels, METRIC_NAME, MatchOp, Matcher, SeriesId};

/// The metric of a series that has no name.
pub(crate) const NO_METRIC: u32 = u32::MAX;

/// Regular expressions whose matching values are remembered.
const REMEMBERED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By number; empty where one was freed, as no name and no value of a label is.
    symbols: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// The number of [`METRIC_NAME`].
    metric_name: Option<u32>,
    series: series::Table,
    /// Every series that is not forgotten.
    by_hash: HashMap<u64, SeriesId, BuildHasherDefault<Hashed>>,
    by_name: HashMap<u32, Values>,
    /// Forgotten series, rising, which readers from before a sequence number may still see.
    departing: Vec<(u64, Vec<SeriesId>)>,
    /// How often series were forgotten.
    forgets: u64,
    remembered: Mutex<HashMap<(String, String), Remembered>>,
    label_sets: Mutex<LabelSets>,
    selected: selected::Memory,
}

/// The values of one label.
#[derive(Debug, Default)]
struct Values {
    sorted: BTreeMap<Arc<str>, u32>,
    /// By the value's symbol: its series, rising.
    postings: HashMap<u32, Vec<u32>>,
}

/// The values that an expression matched when the label had this many. Values are only added, or all of
/// this is dropped.
#[derive(Debug)]
struct Remembered {
    values: usize,
    matching: Arc<[u32]>,
}

impl Index {
    /// How many series there are, without those that are forgotten.
    pub(crate) fn count(&self) -> usize {
        self.by_hash.len()
    }

    /// The next series' id.
    pub(crate) fn next_id(&self) -> u32 {
        self.series.next()
    }

    /// Whether a series is there and not forgotten.
    pub(crate) fn has(&self, series: SeriesId) -> bool {
        let mut departing = self.departing.iter();
        self.series.pairs(series).is_some()
            && !departing.any(|(_, list)| list.binary_search(&series).is_ok())
    }

    pub(crate) fn symbols(&self) -> &[Arc<str>] {
        &self.symbols
    }

    /// The symbols of a series' labels; none of one that is not there.
    pub(crate) fn pairs(&self, series: SeriesId) -> &[(u32, u32)] {
        self.series.pairs(series).unwrap_or_default()
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

    /// The labels of one series after the other. Those that were asked for lately need not be made.
    pub(crate) fn labels_of<'a>(
        &'a self,
        series: impl Iterator<Item = SeriesId> + 'a,
    ) -> impl Iterator<Item = Labels> + 'a {
        let mut made = self
            .label_sets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        series.map(move |series| made.get_or_make(series, || self.labels(series)))
    }

    /// The symbol of the metric's name.
    pub(crate) fn metric(&self, series: SeriesId) -> u32 {
        self.metric_name
            .and_then(|name| self.value_of(series, name))
            .unwrap_or(NO_METRIC)
    }

    /// The ids of a metric's series from one to another, both included, rising.
    pub(crate) fn of_metric(&self, metric: u32, first: SeriesId, last: SeriesId) -> Vec<u32> {
        if metric == NO_METRIC {
            let ids = self.series.ids();
            let within = ids.filter(|id| (first.0..=last.0).contains(id));
            let nameless = within.filter(|&id| self.metric(SeriesId(id)) == NO_METRIC);
            return nameless.collect();
        }
        let values = self.metric_name.and_then(|name| self.by_name.get(&name));
        let list = values.and_then(|values| values.postings.get(&metric));
        let list = list.map_or(&[][..], Vec::as_slice);
        let start = list.partition_point(|&id| id < first.0);
        let end = list.partition_point(|&id| id <= last.0);
        list[start..end].to_vec()
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
        if **string == *METRIC_NAME {
            self.metric_name = Some(number);
        }
        self.symbols.push(string.clone());
        self.numbers.insert(string.clone(), number);
        number
    }

    /// Leaves out the ids before one: their series were forgotten.
    pub(crate) fn skip_to(&mut self, id: u32) {
        self.series.skip_to(id);
    }

    /// Gives the next id to a series whose symbols are all interned; names are sorted.
    pub(crate) fn push(&mut self, pairs: &[(u32, u32)]) -> SeriesId {
        let series = self.series.push(pairs);
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
        self.link(series);
        series
    }

    fn hash(&self, series: SeriesId) -> u64 {
        let strings = self.pairs(series).iter().map(|&(name, value)| {
            (
                &*self.symbols[name as usize],
                &*self.symbols[value as usize],
            )
        });
        hash_of(strings, &mut Vec::with_capacity(256))
    }

    /// Lets a series be found by its labels.
    fn link(&mut self, series: SeriesId) {
        let mut hash = self.hash(series);
        while self.by_hash.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.by_hash.insert(hash, series);
    }

    fn unlink(&mut self, series: SeriesId) {
        let mut hash = self.hash(series);
        while self.by_hash.get(&hash).is_some_and(|&at| at != series) {
            hash = hash.wrapping_add(1);
        }
        self.by_hash.remove(&hash);
        // Those behind it may lie there because of it.
        while let Some(other) = {
            hash = hash.wrapping_add(1);
            self.by_hash.remove(&hash)
        } {
            self.link(other);
        }
    }

    /// Forgets series, whose ids rise, as of a sequence number.
    pub(crate) fn forget(&mut self, seq: u64, series: &[SeriesId]) {
        for &series in series {
            self.unlink(series);
        }
        self.departing.push((seq, series.to_vec()));
        self.forgets += 1;
        self.selected.clear();
    }

    /// How often series were forgotten.
    pub(crate) fn forgets(&self) -> u64 {
        self.forgets
    }

    /// The sequence numbers since which forgotten series wait for their readers to end.
    pub(crate) fn departing(&self) -> impl Iterator<Item = u64> {
        self.departing.iter().map(|(seq, _)| *seq)
    }

    /// Drops the forgotten series that no reader sees any more, now that there are none from before a
    /// sequence number. Answers the numbers of symbols that were theirs alone, which are freed and not
    /// given again.
    pub(crate) fn sweep(&mut self, oldest: u64) -> Vec<u32> {
        let lists = self.departing.extract_if(.., |(seq, _)| *seq <= oldest);
        let mut gone: Vec<SeriesId> = lists.flat_map(|(_, list)| list).collect();
        gone.sort_unstable();
        let mut postings: Vec<(u32, u32, u32)> = Vec::new();
        for &series in &gone {
            let pairs = self.pairs(series).iter();
            postings.extend(pairs.map(|&(name, value)| (name, value, series.0)));
        }
        postings.sort_unstable();
        let same_pair = |left: &(u32, u32, u32), right: &(u32, u32, u32)| {
            (left.0, left.1) == (right.0, right.1)
        };
        let mut symbols = Vec::new();
        for group in postings.chunk_by(same_pair) {
            let (name, value, _) = group[0];
            let ids: Vec<u32> = group.iter().map(|&(_, _, series)| series).collect();
            self.take_out(name, value, &ids);
            symbols.extend([name, value]);
        }
        self.series.remove(&gone);
        self.selected.clear();
        self.label_sets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&gone);
        if self.by_hash.capacity() > 4 * self.by_hash.len() {
            self.by_hash.shrink_to(2 * self.by_hash.len());
        }
        // It is known by the number of values, which may come to be the same again.
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.free(symbols)
    }

    /// Frees the symbols that no series uses; answers which.
    pub(crate) fn sweep_symbols(&mut self) -> Vec<u32> {
        let all = 0..self.symbols.len() as u32;
        self.free(all.collect())
    }

    /// Frees those of some symbols that no series uses; answers which.
    fn free(&mut self, mut symbols: Vec<u32>) -> Vec<u32> {
        symbols.sort_unstable();
        symbols.dedup();
        symbols.retain(|&symbol| {
            let mut labels = self.by_name.values();
            !self.symbols[symbol as usize].is_empty()
                && !self.by_name.contains_key(&symbol)
                && !labels.any(|values| values.postings.contains_key(&symbol))
        });
        for &symbol in &symbols {
            let string = std::mem::take(&mut self.symbols[symbol as usize]);
            self.numbers.remove(&string);
            if self.metric_name == Some(symbol) {
                self.metric_name = None;
            }
        }
        if self.numbers.capacity() > 4 * self.numbers.len() {
            self.numbers.shrink_to(2 * self.numbers.len());
        }
        symbols
    }

    /// Leaves out the numbers of symbols before one: those were freed.
    pub(crate) fn skip_symbols_to(&mut self, number: u32) {
        let count = self.symbols.len().max(number as usize);
        self.symbols.resize(count, Arc::default());
    }

    /// Takes series out of what has a value of a label, and the value if none is left.
    fn take_out(&mut self, name: u32, value: u32, gone: &[u32]) {
        let Some(values) = self.by_name.get_mut(&name) else {
            return;
        };
        let Some(list) = values.postings.get_mut(&value) else {
            return;
        };
        postings::subtract(list, gone);
        if list.is_empty() {
            values.postings.remove(&value);
            values.sorted.remove(&self.symbols[value as usize]);
        }
        if values.postings.is_empty() {
            self.by_name.remove(&name);
        }
    }

    /// The names of all labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = u32> {
        self.by_name.keys().copied()
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

    /// The series from an id on that pass all matchers, rising.
    fn select_from(&self, matchers: &[Matcher], first: u32) -> Vec<SeriesId> {
        /// Beyond this many the postings are the faster way.
        const LOOKED_THROUGH: u32 = 1000;
        if self.next_id().saturating_sub(first) > LOOKED_THROUGH {
            let mut selected = self.select(matchers);
            let start = selected.partition_point(|series| series.0 < first);
            return selected.split_off(start);
        }
        let filters: Vec<Filter> = matchers.iter().map(|one| self.filter(one)).collect();
        let passes = |&series: &SeriesId| {
            self.series.pairs(series).is_some()
                && filters.iter().all(|one| self.passes(series, one))
        };
        (first..self.next_id())
            .map(SeriesId)
            .filter(passes)
            .collect()
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
            None => self.series.ids().collect(),
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
