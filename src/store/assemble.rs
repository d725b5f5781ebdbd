//! The blocks of one window and generation, being put together metric by metric, series by series.

use super::block::{Block, BlockBuilder, BlockReader};
use super::bytes::Malformed;
use super::manifest::WindowRow;
use super::window::Window;
use crate::model::{SeriesId, TimeRange, Timestamp};

/// A manifest row with the blocks that it names.
pub(crate) type Assembled = (WindowRow, Vec<Block>);

/// Collects blocks; whoever adds does so in the order of metrics and series.
#[derive(Debug)]
pub(crate) struct Assembly {
    window: Window,
    generation: u64,
    range: Option<TimeRange>,
    current: Option<BlockBuilder>,
    blocks: Vec<Block>,
}

impl Assembly {
    pub(crate) fn new(window: Window, generation: u64) -> Self {
        Self {
            window,
            generation,
            range: None,
            current: None,
            blocks: Vec::new(),
        }
    }

    /// Adds all samples that a series has in the window; there is at least one.
    pub(crate) fn add(
        &mut self,
        metric: u32,
        series: SeriesId,
        timestamps: &[i64],
        values: &[f64],
    ) {
        let (first, last) = (timestamps[0], timestamps[timestamps.len() - 1]);
        self.widen(Timestamp::from_ms(first), Timestamp::from_ms(last));
        self.builder(metric).add(series, timestamps, values);
    }

    /// Adds the series of an open block that come after one of them, as they are encoded there.
    pub(crate) fn add_after(
        &mut self,
        metric: u32,
        reader: &BlockReader,
        bytes: &[u8],
        after: SeriesId,
    ) -> Result<(), Malformed> {
        self.builder(metric).add_after(reader, bytes, after)
    }

    fn widen(&mut self, start: Timestamp, end: Timestamp) {
        let (start, end) = self.range.map_or((start, end), |range| {
            (range.start().min(start), range.end().max(end))
        });
        self.range = TimeRange::new(start, end);
    }

    fn builder(&mut self, metric: u32) -> &mut BlockBuilder {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.metric() != metric)
        {
            self.flush();
        }
        self.current
            .get_or_insert_with(|| BlockBuilder::new(self.window, self.generation, metric))
    }

    fn flush(&mut self) {
        if let Some(builder) = self.current.take() {
            self.blocks.extend(builder.finish());
        }
    }

    /// The blocks with the range of time of what was added with its timestamps.
    pub(crate) fn into_blocks(mut self) -> (Vec<Block>, Option<TimeRange>) {
        self.flush();
        (self.blocks, self.range)
    }

    /// The row and its blocks; `None` when nothing was added.
    pub(crate) fn finish(self) -> Option<Assembled> {
        let (window, generation) = (self.window, self.generation);
        let (blocks, range) = self.into_blocks();
        let row = WindowRow {
            window,
            generation,
            purged: 0,
            range: range?,
            blocks: blocks.iter().map(Block::row).collect(),
        };
        Some((row, blocks))
    }
}
