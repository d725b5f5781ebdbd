//! Symbols and series, as far as they can be read: what places are named by.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use redb::ReadTransaction;

use super::super::Error;
use super::super::bytes::checked_row;
use super::super::data;
use super::super::entry::text;
use super::super::handle::Handle;
use super::super::index::NO_METRIC;
use super::{Verified, each_row, malformed};
use crate::model::{Labels, METRIC_NAME, SeriesId};

/// Where one is damaged, there is `None` in its place.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By number, as far as they are not freed.
    symbols: HashMap<u32, Option<Arc<str>>>,
    /// By id, as far as they are not forgotten.
    series: HashMap<u32, Option<Vec<(u32, u32)>>>,
    /// Series that rows of the write-ahead file define.
    defined: HashMap<u32, Labels>,
    next: u32,
}

impl Names {
    /// Whether a series is defined.
    pub(super) fn has(&self, series: SeriesId) -> bool {
        self.series.contains_key(&series.0) || self.defined.contains_key(&series.0)
    }

    /// Takes a definition of the write-ahead file; false when it is out of sequence.
    pub(super) fn define(&mut self, series: SeriesId, labels: &Labels) -> bool {
        if series.0 != self.next {
            return false;
        }
        self.defined.insert(series.0, labels.clone());
        self.next += 1;
        true
    }

    /// Takes out a series that the write-ahead file forgets; false when it is not there.
    pub(super) fn forget(&mut self, series: SeriesId) -> bool {
        self.series.remove(&series.0).is_some() || self.defined.remove(&series.0).is_some()
    }

    pub(super) fn metric(&self, metric: u32) -> String {
        match self.symbols.get(&metric) {
            Some(Some(name)) => format!("metric {name:?}"),
            _ if metric == NO_METRIC => "no metric".to_owned(),
            _ => format!("metric of symbol {metric}"),
        }
    }

    /// The metric that a series belongs to, when it is known.
    pub(super) fn metric_of(&self, series: SeriesId) -> Option<u32> {
        let pairs = self.series.get(&series.0)?.as_ref()?;
        let is_metric = |name: u32| {
            self.symbols
                .get(&name)?
                .as_deref()
                .map(|name| name == METRIC_NAME)
        };
        for &(name, value) in pairs {
            if is_metric(name)? {
                return Some(value);
            }
        }
        Some(NO_METRIC)
    }

    /// A series as people write it, or its number.
    pub(super) fn labels(&self, series: SeriesId) -> String {
        if let Some(labels) = self.defined.get(&series.0) {
            return shown(&pairs_of(labels));
        }
        let symbol = |number: u32| self.symbols.get(&number)?.as_deref();
        let pairs: Option<Vec<(&str, &str)>> = match self.series.get(&series.0) {
            Some(Some(pairs)) => pairs
                .iter()
                .map(|&(name, value)| Some((symbol(name)?, symbol(value)?)))
                .collect(),
            _ => None,
        };
        pairs.map_or_else(|| format!("series {}", series.0), |pairs| shown(&pairs))
    }
}

fn pairs_of(labels: &Labels) -> Vec<(&str, &str)> {
    let pairs = labels.iter();
    pairs.map(|label| (&*label.name, &*label.value)).collect()
}

fn shown(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = String::new();
    for (name, value) in pairs {
        if *name == METRIC_NAME {
            text.push_str(value);
            continue;
        }
        let separator = if rest.is_empty() { "" } else { "," };
        write!(rest, "{separator}{name}={value:?}").expect("a string takes all that is written");
    }
    format!("{text}{{{rest}}}")
}

impl Verified {
    /// The number that comes next; when it cannot be told, none is out of sequence.
    fn next(&mut self, data: &Handle, next: Result<u32, Error>) -> Option<u32> {
        next.inspect_err(|error| self.error(data, "table \"meta\"", error))
            .ok()
    }

    /// Reads symbols and series.
    pub(super) fn names(&mut self, data: &Handle, transaction: &ReadTransaction) -> Names {
        let mut names = Names::default();
        let mut faults = Vec::new();
        let mut known = HashSet::new();
        let next_symbol = self.next(data, data.contain(|| data::next_symbol(transaction)));
        let symbols = &mut names.symbols;
        let count = each_row(data, transaction, data::SYMBOLS, |number: u32, value| {
            let place = format!("symbol {number}");
            let symbol = checked_row(value, number.into()).and_then(text);
            let symbol: Option<Arc<str>> = match symbol {
                Ok(symbol) => Some(symbol.into()),
                Err(error) => {
                    faults.push((place.clone(), malformed(error)));
                    None
                }
            };
            if let Some(next) = next_symbol.filter(|&next| number >= next) {
                let detail = format!("is out of sequence: {next} comes next");
                faults.push((place.clone(), detail));
            }
            if symbol
                .as_ref()
                .is_some_and(|symbol| !known.insert(symbol.clone()))
            {
                faults.push((place, "is there twice".to_owned()));
            }
            symbols.insert(number, symbol);
        });
        self.counted(data, "symbols", count);
        let next = self.next(data, data.contain(|| data::next_series(transaction)));
        names.next = next.unwrap_or(0);
        let symbols = &names.symbols;
        let series = &mut names.series;
        let count = each_row(data, transaction, data::SERIES, |id: u32, value| {
            let place = format!("series {id}");
            let mut pairs = Vec::new();
            let is_there = |number: usize| symbols.contains_key(&(number as u32));
            let decoded = checked_row(value, id.into())
                .and_then(|bytes| data::decode_pairs(bytes, is_there, &mut pairs));
            if let Err(error) = decoded {
                faults.push((place.clone(), malformed(error)));
            }
            if let Some(next) = next.filter(|&next| id >= next) {
                faults.push((place, format!("is out of sequence: {next} comes next")));
            }
            series.insert(id, decoded.is_ok().then_some(pairs));
        });
        self.series = self.counted(data, "series", count);
        for (place, detail) in faults {
            self.fault(data, place, detail);
        }
        names
    }
}
