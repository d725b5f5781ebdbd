//! The labels of every series by its id, in pages: nothing is left of a page once all of its series are
//! gone. Ids are given in sequence and never again, so the ids in use may be few among many.

use crate::model::SeriesId;

/// Ids of one page.
const PAGE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Table {
    pages: Vec<Option<Box<Page>>>,
    next: u32,
}

#[derive(Debug)]
struct Page {
    /// Name and value of every label, one series after the other, sorted by name.
    pairs: Vec<(u32, u32)>,
    /// Where the pairs of each id end.
    ends: Vec<u32>,
    /// A bit for each id: whether its series is there.
    there: [u64; PAGE / 64],
}

impl Table {
    /// The id that the next series gets.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Leaves out the ids before one.
    pub(super) fn skip_to(&mut self, id: u32) {
        self.next = self.next.max(id);
    }

    pub(super) fn push(&mut self, pairs: &[(u32, u32)]) -> SeriesId {
        let series = SeriesId(self.next);
        let (number, at) = place(series);
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(Box::default);
        page.push(at, pairs);
        self.next += 1;
        series
    }

    pub(super) fn pairs(&self, series: SeriesId) -> Option<&[(u32, u32)]> {
        let (number, at) = place(series);
        let page = self.pages.get(number)?.as_ref()?;
        page.has(at).then(|| page.pairs_at(at))
    }

    /// Every id whose series is there, rising.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(number, page)| {
            let page = page.as_deref().into_iter();
            page.flat_map(move |page| {
                let there = (0..page.ends.len()).filter(|&at| page.has(at));
                there.map(move |at| (number * PAGE + at) as u32)
            })
        })
    }

    /// Takes series out, whose ids rise.
    pub(super) fn remove(&mut self, gone: &[SeriesId]) {
        for ids in gone.chunk_by(|left, right| place(*left).0 == place(*right).0) {
            let Some(slot) = self.pages.get_mut(place(ids[0]).0) else {
                continue;
            };
            let Some(page) = slot else {
                continue;
            };
            for &series in ids {
                let at = place(series).1;
                page.there[at / 64] &= !(1 << (at % 64));
            }
            if page.there == [0; PAGE / 64] {
                *slot = None;
            } else {
                page.compact();
            }
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            pairs: Vec::new(),
            ends: Vec::new(),
            there: [0; PAGE / 64],
        }
    }
}

impl Page {
    fn has(&self, at: usize) -> bool {
        self.there[at / 64] >> (at % 64) & 1 == 1
    }

    fn pairs_at(&self, at: usize) -> &[(u32, u32)] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.pairs[start as usize..self.ends[at] as usize]
    }

    fn push(&mut self, at: usize, pairs: &[(u32, u32)]) {
        // What was left out has no pairs.
        self.ends.resize(at, self.pairs.len() as u32);
        self.pairs.extend_from_slice(pairs);
        self.ends.push(self.pairs.len() as u32);
        self.there[at / 64] |= 1 << (at % 64);
        if at + 1 == PAGE {
            self.pairs.shrink_to_fit();
        }
    }

    /// Drops the pairs of series that are not there.
    fn compact(&mut self) {
        let mut kept = Vec::with_capacity(self.pairs.len());
        let mut start = 0;
        for at in 0..self.ends.len() {
            let end = self.ends[at] as usize;
            if self.has(at) {
                kept.extend_from_slice(&self.pairs[start..end]);
            }
            self.ends[at] = kept.len() as u32;
            start = end;
        }
        kept.shrink_to_fit();
        self.pairs = kept;
    }
}

/// The page that an id lies on, and where.
fn place(series: SeriesId) -> (usize, usize) {
    let id = series.0 as usize;
    (id / PAGE, id % PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_out_is_gone_and_all_else_stays(
            rounds in prop::collection::vec((0u32..1500, 1u32..5, 1u32..700), 1..8),
        ) {
            let mut table = Table::default();
            let mut model: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
            for (skip, every, count) in rounds {
                table.skip_to(table.next() + skip);
                for _ in 0..count {
                    let id = table.next();
                    let pairs: Vec<_> = (0..id % 4).map(|at| (at, id)).collect();
                    prop_assert_eq!(table.push(&pairs), SeriesId(id));
                    model.insert(id, pairs);
                }
                let gone: Vec<u32> =
                    model.keys().copied().filter(|id| id / 7 % every == 0).collect();
                model.retain(|id, _| id / 7 % every != 0);
                table.remove(&gone.into_iter().map(SeriesId).collect::<Vec<_>>());
                prop_assert!(table.ids().eq(model.keys().copied()));
                for id in 0..table.next() + 2000 {
                    let expected = model.get(&id).map(Vec::as_slice);
                    prop_assert_eq!(table.pairs(SeriesId(id)), expected);
                }
            }
        }
    }

    #[test]
    fn a_page_whose_series_are_gone_takes_no_memory() {
        let mut table = Table::default();
        for _ in 0..3 * PAGE {
            table.push(&[(1, 2)]);
        }
        let gone: Vec<_> = (0..2 * PAGE as u32).map(SeriesId).collect();
        table.remove(&gone);
        let pages: Vec<bool> = table.pages.iter().map(Option::is_some).collect();
        assert_eq!(pages, [false, false, true]);
    }
}
