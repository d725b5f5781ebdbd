//! Reading: one consistent view over sealed blocks and the head.
//!
//! Sealed samples come before those of the head and older generations before newer ones, so that of two
//! samples for one timestamp the one that was stored first is served. Every block is checked before a
//! value is taken from it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, RwLockReadGuard};

use super::column::visible;
use super::data;
use super::deletion::HiddenSeries;
use super::gather::{Budget, Gathered, Gathering};
use super::handle::Reading;
use super::head;
use super::index::{Index, NO_METRIC};
use super::live::{Slot, View};
use super::manifest::{Manifest, WindowRow};
use super::overlay::Change;
use super::record::Record;
use super::select::{Bits, Found, OpenBlocks, Outliner, Wanted};
use super::{Error, METADATA, Shared, Table, parallel};
use crate::model::{Column, Labels, Matcher, MetricMetadata, SeriesId, TimeRange, Timestamp};

/// The way out. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// A view of everything acknowledged before the call. Short-lived: as long as one is held, the space
    /// of what it sees is not used again.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let shared = &self.shared;
        // The head first: a seal that is done in between is then seen in the data file, and the part
        // that it sealed is left out.
        let mut view = shared.live().view();
        let data = &shared.files.data;
        let transaction = data.begin_read()?;
        let manifest = shared.manifest();
        let (applied, manifest) = data.contain(|| {
            let manifest = if data::revision(&transaction)? == manifest.revision {
                manifest
            } else {
                Arc::new(data::load_manifest(&transaction)?)
            };
            Ok((data::applied(&transaction)?, manifest))
        })?;
        view.parts
            .retain(|slot| slot.last_seq.is_none_or(|last| last > applied));
        Ok(Snapshot {
            cutoff: shared.cutoff(),
            shared: shared.clone(),
            view,
            transaction,
            manifest,
        })
    }
}

/// One consistent view of everything acknowledged before it was taken.
pub struct Snapshot {
    shared: Arc<Shared>,
    pub(super) view: View,
    pub(super) transaction: Reading,
    pub(super) manifest: Arc<Manifest>,
    /// What is older is not served.
    cutoff: Option<Timestamp>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Snapshot")
            .field("seq", &self.view.seq)
            .field("revision", &self.manifest.revision)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The samples in `range` of every series that passes all matchers, sorted by labels; series
    /// without a sample there are left out.
    ///
    /// Refused with [`Error::TooManySamples`] when more than `samples_max` would be read.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        samples_max: usize,
    ) -> Result<Vec<Column>, Error> {
        let selected = self.view.live.index().selected(matchers);
        let mut gathered = self.gather(&selected.wanted, range, samples_max)?;
        let column = |&position: &u32| {
            let position = position as usize;
            let gathered = gathered.get_mut(position)?.take()?;
            Some(Column {
                labels: selected.labels[position].clone(),
                timestamps: gathered.timestamps,
                values: gathered.values,
            })
        };
        Ok(selected.by_labels.iter().filter_map(column).collect())
    }

    /// The samples of series that were selected before, in their order.
    pub(super) fn read(
        &self,
        wanted: &[Wanted],
        range: TimeRange,
        samples_max: usize,
    ) -> Result<Vec<Column>, Error> {
        let gathered = self.gather(wanted, range, samples_max)?;
        let read = wanted.iter().zip(gathered);
        let read: Vec<_> = read
            .filter_map(|(wanted, gathered)| Some((wanted.series, gathered?)))
            .collect();
        let index = self.view.live.index();
        let labels = index.labels_of(read.iter().map(|(series, _)| *series));
        let labels: Vec<Labels> = labels.collect();
        drop(index);
        let columns = labels.into_iter().zip(read);
        Ok(columns
            .map(|(labels, (_, gathered))| Column {
                labels,
                timestamps: gathered.timestamps,
                values: gathered.values,
            })
            .collect())
    }

    /// The samples of the wanted series, by position.
    fn gather(
        &self,
        wanted: &[Wanted],
        range: TimeRange,
        samples_max: usize,
    ) -> Result<Vec<Option<Gathered>>, Error> {
        /// What is read in about the time that starting a thread takes, several times over.
        const SAMPLES_PER_THREAD: usize = 100_000;
        /// Room made for a series before it is known how many samples it has.
        const RESERVED_MAX: usize = 4096;
        let Some(range) = self.clamp(range) else {
            return Ok(Vec::new());
        };
        let budget = Budget::new(samples_max);
        let series = self.view.live.index().count().max(1);
        let sealed: f64 = self.rows(range).map(|row| row.samples_in(range)).sum();
        // The head has some, and what lies around a range's ends is decoded with it.
        let expected = (sealed / series as f64 * 1.1) as usize + 64;
        let threads = expected * wanted.len() / SAMPLES_PER_THREAD + 1;
        let parts = parallel::split(wanted, threads, |part| {
            self.gather_part(part, range, expected.min(RESERVED_MAX), &budget)
        });
        let mut gathered = Vec::with_capacity(wanted.len());
        for part in parts {
            gathered.extend(part?);
        }
        Ok(gathered)
    }

    fn gather_part(
        &self,
        wanted: &[Wanted],
        range: TimeRange,
        expected: usize,
        budget: &Budget,
    ) -> Result<Vec<Option<Gathered>>, Error> {
        let mut gathering = Gathering::new(wanted.len(), range, expected, budget);
        let mut blocks = OpenBlocks::new(&self.shared.files.data, &self.transaction)?;
        for row in self.rows(range) {
            let hidden = self.view.deletions.hiding(row.hidden_from(), row.range);
            blocks.each_chunk(row, wanted, |position, block| {
                let hidden = hidden.ranges(wanted[position].series);
                gathering.append_chunk(position, block, &hidden)
            })?;
        }
        for slot in &self.view.parts {
            gathering.append_head(slot, self.view.seq, wanted, &self.view.hidden(slot))?;
        }
        Ok(gathering.finish())
    }

    /// The series with data in `range` that pass all matchers, sorted.
    pub fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, Error> {
        let present = self.present(self.wanted(matchers, |_, series| Some(series.0)), range)?;
        let index = self.view.live.index();
        let labels = index.labels_of(present.iter().map(|wanted| wanted.series));
        let mut series: Vec<Labels> = labels.collect();
        drop(index);
        series.sort_unstable();
        Ok(series)
    }

    /// The label names of those series, sorted.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let mut names = Names::default();
        if matchers.is_empty() {
            self.all_names(range, &mut names)?;
        } else {
            let wanted = self.wanted(matchers, |_, series| Some(series.0));
            names.add(&self.present(wanted, range)?, &self.view.live.index());
        }
        Ok(sorted_symbols(names.list, self.view.live.index().symbols()))
    }

    /// The names of all labels. One series with samples is enough for a name, and has others: so few
    /// series are looked at, those of all names together.
    fn all_names(&self, range: TimeRange, names: &mut Names) -> Result<(), Error> {
        /// Series of a name that are tried together before all of them are; one is mostly enough. Each
        /// time from the first on: the index may change in between, and their order with it.
        const TRIED: [usize; 3] = [1, 64, usize::MAX];
        let Some(range) = self.clamp(range) else {
            return Ok(());
        };
        let sealed = self.sealed_metrics(range);
        for most in TRIED {
            let wanted = self.with_unseen_names(names, most, range, &sealed);
            let present = self.present(wanted, range)?;
            names.add(&present, &self.view.live.index());
        }
        Ok(())
    }

    /// At most so many of the series of each name that was not seen, without those of which neither the
    /// manifest nor the span of a column lets expect a sample. A series that has several such names is
    /// there for each.
    fn with_unseen_names(
        &self,
        names: &Names,
        most: usize,
        range: TimeRange,
        sealed: &Metrics,
    ) -> Vec<Wanted> {
        let parts = self.view.parts.iter();
        let parts: Vec<_> = parts.filter_map(|slot| self.look(slot, range)).collect();
        let index = self.view.live.index();
        let mut wanted = Vec::new();
        for name in index.names().filter(|name| !names.seen.has(*name)) {
            let series = index.values_of(name).flat_map(|(_, list)| list);
            for &series in series.take(most) {
                let series = SeriesId(series);
                let metric = index.metric(series);
                if sealed.has(metric) || parts.iter().any(|part| part.may_have(series)) {
                    wanted.push(Wanted {
                        metric,
                        series,
                        group: name,
                    });
                }
            }
        }
        sort(&mut wanted);
        wanted
    }

    /// The metrics that have a block in a window with samples in a range.
    fn sealed_metrics(&self, range: TimeRange) -> Metrics {
        let mut metrics = Metrics::default();
        for block in self.rows(range).flat_map(|row| &row.blocks) {
            metrics.insert(block.metric);
        }
        metrics
    }

    /// The values that a label has among those series, sorted.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, Error> {
        let Some(label) = self.view.live.index().number(name) else {
            return Ok(Vec::new());
        };
        let (mut values, wanted) = if matchers.is_empty() {
            self.recent_values(label, range)
        } else {
            let value_of = |index: &Index, series| index.value_of(series, label);
            (Vec::new(), self.wanted(matchers, value_of))
        };
        let present = self.present(wanted, range)?;
        values.extend(present.into_iter().map(|wanted| wanted.group));
        Ok(sorted_symbols(values, self.view.live.index().symbols()))
    }

    /// What is known of each metric, by name.
    pub fn metadata(&self) -> Result<Vec<(String, MetricMetadata)>, Error> {
        let records = self.records(&METADATA, None, usize::MAX)?;
        Ok(records
            .into_iter()
            .map(|(metric, metadata)| (String::from_utf8_lossy(&metric).into_owned(), metadata))
            .collect())
    }

    /// One record of a table.
    pub fn record<V: Record>(&self, table: &Table<V>, key: &[u8]) -> Result<Option<V>, Error> {
        for slot in self.view.parts.iter().rev() {
            if let Some(value) = slot.part.records().get(table.name(), key, self.view.seq) {
                return value.as_ref().map(|value| table.decode(value)).transpose();
            }
        }
        let data = &self.shared.files.data;
        let value = data.contain(|| data::record(&self.transaction, table.name(), key))?;
        value.map(|value| table.decode(&value)).transpose()
    }

    /// At most `limit` records whose keys come after `after`, in key order.
    pub fn records<V: Record>(
        &self,
        table: &Table<V>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, V)>, Error> {
        // What the head says of a record is newer than what is sealed.
        let mut changed: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for slot in &self.view.parts {
            let records = slot.part.records();
            for (key, value) in records.after(table.name(), after, self.view.seq) {
                changed.insert(key.to_vec(), value.clone());
            }
        }
        let mut merged: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut changed = changed.into_iter().peekable();
        self.shared.files.data.contain(|| {
            data::each_record(&self.transaction, table.name(), after, |key, value| {
                while let Some((key, value)) = changed.next_if(|(head, _)| head.as_slice() < key) {
                    merged.extend(value.map(|value| (key, value)));
                }
                match changed.next_if(|(head, _)| head == key) {
                    Some((key, value)) => merged.extend(value.map(|value| (key, value))),
                    None => merged.push((key.to_vec(), value.to_vec())),
                }
                if merged.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
        })?;
        merged.extend(changed.filter_map(|(key, value)| Some((key, value?))));
        // A break leaves changes behind that come after all that was merged.
        merged
            .into_iter()
            .take(limit)
            .map(|(key, value)| Ok((key, table.decode(&value)?)))
            .collect()
    }

    /// The part of a range that may be served.
    fn clamp(&self, range: TimeRange) -> Option<TimeRange> {
        let start = self
            .cutoff
            .map_or(range.start(), |cutoff| cutoff.max(range.start()));
        TimeRange::new(start, range.end())
    }

    /// The series that pass all matchers, in the order of blocks.
    pub(super) fn selected(&self, matchers: &[Matcher]) -> Vec<Wanted> {
        self.wanted(matchers, |_, series| Some(series.0))
    }

    /// The series that pass all matchers and have a group, in the order of blocks.
    fn wanted(
        &self,
        matchers: &[Matcher],
        group_of: impl Fn(&Index, SeriesId) -> Option<u32>,
    ) -> Vec<Wanted> {
        let index = self.view.live.index();
        let mut wanted: Vec<Wanted> = index
            .select(matchers)
            .into_iter()
            .filter_map(|series| {
                Some(Wanted {
                    metric: index.metric(series),
                    series,
                    group: group_of(&index, series)?,
                })
            })
            .collect();
        sort(&mut wanted);
        wanted
    }

    /// The values of a label that a series has which is in the head, and all series with other values:
    /// mostly the first series of a value is there.
    fn recent_values(&self, label: u32, range: TimeRange) -> (Vec<u32>, Vec<Wanted>) {
        let (mut values, mut wanted) = (Vec::new(), Vec::new());
        let Some(range) = self.clamp(range) else {
            return (values, wanted);
        };
        let parts = self.view.parts.iter();
        let parts: Vec<_> = parts.filter_map(|slot| self.look(slot, range)).collect();
        let index = self.view.live.index();
        for (value, list) in index.values_of(label) {
            let in_head = |&series: &u32| parts.iter().any(|part| part.has(SeriesId(series)));
            if list.iter().any(in_head) {
                values.push(value);
            } else {
                wanted.extend(list.iter().map(|&series| Wanted {
                    metric: index.metric(SeriesId(series)),
                    series: SeriesId(series),
                    group: value,
                }));
            }
        }
        sort(&mut wanted);
        (values, wanted)
    }

    /// Opens a part for a range of time; `None` when it has nothing there.
    fn look<'a>(&'a self, slot: &'a Slot, range: TimeRange) -> Option<PartLook<'a>> {
        let columns = slot.part.columns();
        columns.may_overlap(range).then(|| PartLook {
            range,
            relative: slot.part.relative(self.view.seq),
            columns,
            hidden: self.view.hidden(slot),
        })
    }

    /// The windows with samples in a range, in the order of merging.
    fn rows(&self, range: TimeRange) -> impl DoubleEndedIterator<Item = &WindowRow> {
        self.manifest
            .rows
            .iter()
            .map(|row| &**row)
            .filter(move |row| row.range.overlaps(range))
    }

    /// One of the wanted series of each group that has a sample in a range; the newest data is looked at
    /// first, and no more than it takes.
    fn present(&self, wanted: Vec<Wanted>, range: TimeRange) -> Result<Vec<Wanted>, Error> {
        let Some(range) = self.clamp(range) else {
            return Ok(Vec::new());
        };
        let mut missing = wanted;
        let mut present = Found::default();
        for slot in self.view.parts.iter().rev() {
            let Some(part) = self.look(slot, range) else {
                continue;
            };
            for wanted in &missing {
                if !present.has(wanted) && part.has(wanted.series) {
                    present.add(wanted);
                }
            }
            missing.retain(|wanted| !present.has(wanted));
        }
        if missing.is_empty() {
            return Ok(present.into_list());
        }
        let mut blocks = OpenBlocks::new(&self.shared.files.data, &self.transaction)?;
        let outliner = Outliner {
            outlines: &self.shared.outlines,
            live: &self.view.live,
        };
        for row in self.rows(range).rev() {
            if missing.is_empty() {
                break;
            }
            let hidden = self.view.deletions.hiding(row.hidden_from(), row.range);
            blocks.each_present(row, &missing, (range, &hidden), &outliner, &mut present)?;
            missing.retain(|wanted| !present.has(wanted));
        }
        Ok(present.into_list())
    }
}

/// Names of labels that were found, each once.
#[derive(Default)]
struct Names {
    list: Vec<u32>,
    seen: Bits,
}

impl Names {
    fn add(&mut self, series: &[Wanted], index: &Index) {
        for wanted in series {
            for &(name, _) in index.pairs(wanted.series) {
                if self.seen.insert(name) {
                    self.list.push(name);
                }
            }
        }
    }
}

/// A set of metrics, that of the series without a name among them.
#[derive(Default)]
struct Metrics(Bits);

impl Metrics {
    fn insert(&mut self, metric: u32) {
        self.0.insert(Self::number(metric));
    }

    fn has(&self, metric: u32) -> bool {
        self.0.has(Self::number(metric))
    }

    /// Small for a metric without a name too, whose symbol is the largest number.
    fn number(metric: u32) -> u32 {
        const { assert!(NO_METRIC == u32::MAX) };
        metric.wrapping_add(1)
    }
}

/// A part of the head while it is looked at in a range of time; its writer waits.
struct PartLook<'a> {
    range: TimeRange,
    relative: u32,
    columns: RwLockReadGuard<'a, head::Columns>,
    hidden: HiddenSeries<'a>,
}

impl PartLook<'_> {
    /// Whether a series may have a sample there, as far as its column's span tells.
    fn may_have(&self, series: SeriesId) -> bool {
        let column = self.columns.get(series);
        column.is_some_and(|column| column.may_overlap(self.range))
    }

    /// Whether a series has a sample there that is published and not hidden.
    fn has(&self, series: SeriesId) -> bool {
        let range = self.range;
        let column = self.columns.get(series);
        let Some(column) = column.filter(|column| column.may_overlap(range)) else {
            return false;
        };
        let hidden = self.hidden.ranges(series);
        let is_hidden = |at: i64| {
            let at = Timestamp::from_ms(at);
            hidden.iter().any(|range| range.contains(at))
        };
        let (timestamps, _, late) = column.visible(range, self.relative);
        !visible(timestamps, range, &hidden).is_empty()
            || late.into_iter().any(|(at, _)| !is_hidden(at))
    }
}

/// Puts series in the order of blocks.
fn sort(wanted: &mut [Wanted]) {
    wanted
        .sort_unstable_by_key(|wanted| u64::from(wanted.metric) << 32 | u64::from(wanted.series.0));
}

fn sorted_symbols(numbers: Vec<u32>, symbols: &[Arc<str>]) -> Vec<String> {
    let mut strings: Vec<String> = numbers
        .into_iter()
        .map(|number| symbols[number as usize].to_string())
        .collect();
    strings.sort_unstable();
    strings
}
