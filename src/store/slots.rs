//! A number for each series that has one, by its id: quick to find, and memory only near ids in use.

use crate::model::SeriesId;

/// Ids of one page.
const PAGE: usize = 1024;

/// Zero where none was set.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
}

impl Slots {
    pub(crate) fn get(&self, series: SeriesId) -> u32 {
        let id = series.0 as usize;
        match self.pages.get(id / PAGE) {
            Some(Some(page)) => page[id % PAGE],
            _ => 0,
        }
    }

    pub(crate) fn get_mut(&mut self, series: SeriesId) -> &mut u32 {
        let id = series.0 as usize;
        if self.pages.len() <= id / PAGE {
            self.pages.resize_with(id / PAGE + 1, || None);
        }
        let page = self.pages[id / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
        &mut page[id % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_in_use_take_memory() {
        let mut slots = Slots::default();
        *slots.get_mut(SeriesId(3_000_000)) = 7;
        *slots.get_mut(SeriesId(2)) = 5;
        let read = [2, 3, 3_000_000, 3_000_001, 9_000_000].map(|id| slots.get(SeriesId(id)));
        assert_eq!(read, [5, 0, 7, 0, 0]);
        assert_eq!(slots.pages.iter().flatten().count(), 2);
    }
}
