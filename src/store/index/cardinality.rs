//! What makes the index large: the most frequent metrics, labels and pairs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Index;
use crate::model::METRIC_NAME;

/// A name and its count.
pub type Frequency = (String, u64);

/// The most frequent of each kind, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Cardinality {
    /// Names with one of their values, in all.
    pub label_pairs: u64,
    pub series_by_metric: Vec<Frequency>,
    pub values_by_label: Vec<Frequency>,
    /// What the values of a label would take, written out for each series.
    pub bytes_by_label: Vec<Frequency>,
    /// Pairs are written `name=value`.
    pub series_by_pair: Vec<Frequency>,
}

impl Index {
    pub(crate) fn cardinality(&self, limit: usize) -> Cardinality {
        let mut metrics = Top::new(limit);
        let mut labels = Top::new(limit);
        let mut bytes = Top::new(limit);
        let mut pairs = Top::new(limit);
        let mut label_pairs = 0;
        for (&name, values) in &self.by_name {
            let text = &*self.symbols[name as usize];
            let mut written_bytes = 0;
            for (&value, postings) in &values.postings {
                let series = postings.len() as u64;
                let value_text = &*self.symbols[value as usize];
                written_bytes += value_text.len() as u64 * series;
                pairs.offer(series, (text, value_text));
                if text == METRIC_NAME {
                    metrics.offer(series, (value_text, ""));
                }
            }
            label_pairs += values.postings.len() as u64;
            labels.offer(values.postings.len() as u64, (text, ""));
            bytes.offer(written_bytes, (text, ""));
        }
        let name = |(name, _): (&str, &str)| name.to_owned();
        Cardinality {
            label_pairs,
            series_by_metric: metrics.into_list(name),
            values_by_label: labels.into_list(name),
            bytes_by_label: bytes.into_list(name),
            series_by_pair: pairs.into_list(|(name, value)| format!("{name}={value}")),
        }
    }
}

/// A count and what it is of, a name alone or with a value: the one that comes first is the largest.
type Ranked<'a> = (u64, Reverse<(&'a str, &'a str)>);

/// The largest counts that were offered; of equal ones those whose names come first.
struct Top<'a> {
    limit: usize,
    /// The smallest on top.
    heap: BinaryHeap<Reverse<Ranked<'a>>>,
}

impl<'a> Top<'a> {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            heap: BinaryHeap::new(),
        }
    }

    fn offer(&mut self, count: u64, name: (&'a str, &'a str)) {
        self.heap.push(Reverse((count, Reverse(name))));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn into_list(self, write: impl Fn((&str, &str)) -> String) -> Vec<Frequency> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted
            .map(|Reverse((count, Reverse(name)))| (write(name), count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn the_most_frequent_come_first() {
        let mut index = Index::default();
        for job in ["a", "b", "c"] {
            index.define(&Labels::of("up", &[("job", job)]));
        }
        index.define(&Labels::of("load", &[("job", "a")]));
        let cardinality = index.cardinality(2);
        let list = |list: &[(&str, u64)]| -> Vec<Frequency> {
            list.iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        assert_eq!(cardinality.label_pairs, 5);
        assert_eq!(
            cardinality.series_by_metric,
            list(&[("up", 3), ("load", 1)])
        );
        assert_eq!(
            cardinality.values_by_label,
            list(&[("job", 3), ("__name__", 2)])
        );
        // "up" three times and "load" once; four letters.
        assert_eq!(
            cardinality.bytes_by_label,
            list(&[("__name__", 10), ("job", 4)])
        );
        assert_eq!(
            cardinality.series_by_pair,
            list(&[("__name__=up", 3), ("job=a", 2)])
        );
    }
}
