//! What readers and the writer share: the index, the parts of the head, and the sequence number up to
//! which everything may be seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::alias::Aliases;
use super::deletion::{Deletions, HiddenSeries};
use super::head::Part;
use super::index::Index;
use crate::model::{SeriesId, TimeRange};

/// Rebuilt as a whole when the write-ahead file failed; a reader keeps the one that it began with.
#[derive(Debug)]
pub(crate) struct Live {
    index: RwLock<Index>,
    aliases: RwLock<Aliases>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    deletions: Arc<Deletions>,
    /// Oldest first; the last one grows.
    parts: Vec<Slot>,
    published: u64,
    /// How many readers see the state as of a sequence number.
    pins: BTreeMap<u64, usize>,
}

/// A part of the head; frozen once it has a last sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) part: Arc<Part>,
    pub(crate) last_seq: Option<u64>,
    /// The next series' id and how many symbols there were when it was frozen: all that it uses is
    /// among them.
    defined: (u32, usize),
}

/// A part that is complete, and what was defined by then.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) part: Arc<Part>,
    pub(crate) seq: u64,
    /// The next series' id.
    pub(crate) series: u32,
    pub(crate) symbols: usize,
}

impl Live {
    pub(crate) fn new(index: Index, part: Part, deletions: Deletions, published: u64) -> Self {
        let slot = Slot {
            part: Arc::new(part),
            last_seq: None,
            defined: (0, 0),
        };
        Self {
            index: RwLock::new(index),
            aliases: RwLock::default(),
            state: Mutex::new(State {
                deletions: Arc::new(deletions),
                parts: vec![slot],
                published,
                pins: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn aliases(&self) -> RwLockReadGuard<'_, Aliases> {
        self.aliases.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn aliases_mut(&self) -> RwLockWriteGuard<'_, Aliases> {
        self.aliases.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All parts, the growing one last.
    pub(crate) fn parts(&self) -> Vec<Slot> {
        self.state().parts.clone()
    }

    pub(crate) fn active(&self) -> Arc<Part> {
        let state = self.state();
        let last = state.parts.last().expect("there is always a growing part");
        last.part.clone()
    }

    /// The part that waits to be sealed.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        let state = self.state();
        let slot = state.parts.first()?;
        let (series, symbols) = slot.defined;
        Some(Frozen {
            part: slot.part.clone(),
            seq: slot.last_seq?,
            series,
            symbols,
        })
    }

    /// The deletions in force.
    pub(crate) fn deletions(&self) -> Arc<Deletions> {
        self.state().deletions.clone()
    }

    pub(crate) fn change_deletions(&self, change: impl FnOnce(&mut Deletions)) {
        change(Arc::make_mut(&mut self.state().deletions));
    }

    pub(crate) fn published(&self) -> u64 {
        self.state().published
    }

    pub(crate) fn publish(&self, seq: u64) {
        self.state().published = seq;
    }

    /// The oldest state that a reader may still look at.
    pub(crate) fn oldest(&self) -> u64 {
        let state = self.state();
        let pinned = state.pins.keys().next();
        pinned.copied().unwrap_or(state.published)
    }

    /// Freezes the growing part at what is published, and begins another.
    pub(crate) fn freeze(&self) {
        self.aliases_mut().renew();
        let defined = {
            let index = self.index();
            (index.next_id(), index.symbols().len())
        };
        let mut state = self.state();
        let published = state.published;
        let last = state
            .parts
            .last_mut()
            .expect("there is always a growing part");
        last.last_seq = Some(published);
        last.defined = defined;
        state.parts.push(Slot {
            part: Arc::new(Part::new(published + 1)),
            last_seq: None,
            defined: (0, 0),
        });
    }

    /// Those of some series that have, and had, no samples in any part.
    pub(crate) fn without_columns(&self, mut series: Vec<SeriesId>) -> Vec<SeriesId> {
        // Series that are looked at before writers get their turn.
        const PIECE: usize = 4096;
        for slot in self.parts() {
            let mut without = Vec::new();
            for piece in series.chunks(PIECE) {
                let columns = slot.part.columns();
                let piece = piece.iter().copied();
                without.extend(piece.filter(|&series| columns.get(series).is_none()));
            }
            series = without;
        }
        series
    }

    /// Forgets series, whose ids rise, as of the sequence number of their entry.
    pub(crate) fn forget(&self, seq: u64, series: &[SeriesId]) {
        self.active().gone().series.extend_from_slice(series);
        self.index_mut().forget(seq, series);
        // After the index: whoever adds aliases looks there first.
        self.aliases_mut().forget(series);
    }

    /// Drops what only readers that are gone could see of forgotten series.
    pub(crate) fn sweep(&self) {
        let oldest = self.oldest();
        let is_due = self.index().departing().any(|seq| seq <= oldest);
        if is_due {
            let symbols = self.index_mut().sweep(oldest);
            self.active().gone().symbols.extend(symbols);
        }
    }

    /// Lets go of the parts that are sealed.
    pub(crate) fn release(&self, applied: u64) {
        self.state()
            .parts
            .retain(|slot| slot.last_seq.is_none_or(|last| last > applied));
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state()
            .parts
            .iter()
            .map(|slot| slot.part.bytes())
            .sum()
    }

    pub(crate) fn samples(&self) -> u64 {
        self.state()
            .parts
            .iter()
            .map(|slot| slot.part.samples())
            .sum()
    }

    /// Everything published up to now, held until the view is dropped.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        let mut state = self.state();
        let seq = state.published;
        *state.pins.entry(seq).or_default() += 1;
        View {
            live: self.clone(),
            parts: state.parts.clone(),
            deletions: state.deletions.clone(),
            seq,
        }
    }
}

/// The head as of a sequence number.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) live: Arc<Live>,
    pub(crate) parts: Vec<Slot>,
    pub(crate) deletions: Arc<Deletions>,
    pub(crate) seq: u64,
}

impl View {
    /// What is hidden of a part; the growing one was purged when each deletion came.
    pub(crate) fn hidden(&self, slot: &Slot) -> HiddenSeries<'_> {
        match slot.last_seq {
            Some(last) => self.deletions.hiding(last, TimeRange::ALL),
            None => HiddenSeries::default(),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut state = self.live.state();
        if let Some(count) = state.pins.get_mut(&self.seq) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.seq);
            }
        }
    }
}
