//! An append: samples on their way in, series by series, without a label set made for each.
//!
//! A way in that decodes many samples finds its series by their labels where they stand in the bytes
//! that came: by a hash that is verified against the index. Only what the store does not know yet
//! becomes a label set. Ids found here hold for one incarnation of the head; the writer refuses them
//! when it had to be rebuilt in between, or has forgotten one of the series.

use std::sync::{Arc, RwLockReadGuard};

use tokio::sync::oneshot;

use super::alias::Aliases;
use super::entry::Point;
use super::index::Index;
use super::live::Live;
use super::queue::{Intake, Known};
use super::{Error, Shared, Writer, Written, block_on};
use crate::model::{Batch, Labels, MetricMetadata, Sample, SeriesId, SeriesSamples, label};

/// Samples and metadata that are stored in one commit, or not at all.
#[derive(Debug)]
pub struct Append {
    shared: Arc<Shared>,
    live: Arc<Live>,
    /// How often the index had forgotten series when the first of the points was found.
    forgets: Option<u64>,
    points: Vec<Point>,
    /// What is of series that were not known.
    batch: Batch,
    /// Room for the labels of one series.
    text: Vec<u8>,
    found: Found,
}

/// Encoded labels, one after the other, whose series were found.
#[derive(Debug, Default)]
struct Found {
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<(usize, SeriesId)>,
}

/// An append being filled. The index stands still meanwhile: fill from memory, not from a socket.
#[derive(Debug)]
pub struct Fill<'a> {
    index: RwLockReadGuard<'a, Index>,
    aliases: RwLockReadGuard<'a, Aliases>,
    points: &'a mut Vec<Point>,
    batch: &'a mut Batch,
    text: &'a mut Vec<u8>,
    found: &'a mut Found,
    current: Option<SeriesId>,
}

impl Writer {
    /// Begins an append; dropping it stores nothing.
    pub fn append(&self) -> Append {
        Append {
            live: self.shared.live(),
            shared: self.shared.clone(),
            forgets: None,
            points: Vec::new(),
            batch: Batch::default(),
            text: Vec::new(),
            found: Found::default(),
        }
    }
}

impl Append {
    pub fn fill(&mut self) -> Fill<'_> {
        let index = self.live.index();
        self.forgets.get_or_insert(index.forgets());
        Fill {
            index,
            aliases: self.live.aliases(),
            points: &mut self.points,
            batch: &mut self.batch,
            text: &mut self.text,
            found: &mut self.found,
            current: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.batch.is_empty()
    }

    pub fn sample_count(&self) -> usize {
        self.points.len() + self.batch.sample_count()
    }

    /// Queues the append and waits until it is durable and visible.
    ///
    /// Cancelling the future after it is queued does not take it back.
    pub async fn commit(self) -> Result<Written, Error> {
        if !self.found.ends.is_empty() {
            // In this order everywhere: whoever fills has the index, and then wants the aliases.
            let index = self.live.index();
            let mut aliases = self.live.aliases_mut();
            let mut start = 0;
            for &(end, series) in &self.found.ends {
                if index.has(series) {
                    aliases.insert(&self.found.text[start..end], series);
                }
                start = end;
            }
        }
        let intake = Intake {
            known: Some(Known {
                live: self.live,
                forgets: self.forgets.unwrap_or(0),
                points: self.points,
            }),
            batch: self.batch,
        };
        let (reply, answer) = oneshot::channel();
        self.shared.queue.write(intake, reply).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Append::commit`] for threads outside the async runtime.
    pub fn commit_blocking(self) -> Result<Written, Error> {
        block_on(self.commit())
    }
}

impl Fill<'_> {
    /// Goes to the series whose labels were encoded in this way before; answers whether it is known.
    pub fn known(&mut self, encoded: &[u8]) -> bool {
        self.current = self.aliases.find(encoded);
        self.current.is_some()
    }

    /// Remembers that these bytes encode the labels of the series that was last gone to, and nothing
    /// else.
    pub fn remember(&mut self, encoded: &[u8]) {
        if let Some(series) = self.current {
            self.found.text.extend_from_slice(encoded);
            self.found.ends.push((self.found.text.len(), series));
        }
    }

    /// Goes to a series: what is pushed next is its samples. The labels may come in any order.
    pub fn series(&mut self, pairs: &[(&str, &str)]) -> Result<(), label::Error> {
        let is_canonical = pairs.iter().all(|(_, value)| !value.is_empty())
            && pairs.first().is_none_or(|(name, _)| !name.is_empty())
            && pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if is_canonical {
            self.current = self.index.find_pairs(&pairs.iter().copied(), self.text);
            if self.current.is_some() {
                return Ok(());
            }
        }
        let labels = Labels::try_from_pairs(pairs.iter().copied())?;
        self.current = self.index.find(&labels);
        if self.current.is_none() {
            self.batch.samples.push(SeriesSamples {
                labels,
                samples: Vec::new(),
            });
        }
        Ok(())
    }

    /// Adds a sample to the series that was last gone to.
    ///
    /// # Panics
    /// When there was none.
    pub fn push(&mut self, sample: Sample) {
        if let Some(series) = self.current {
            self.points.push(Point::new(series, sample));
        } else {
            let last = self.batch.samples.last_mut();
            let last = last.expect("a series comes before its samples");
            last.samples.push(sample);
        }
    }

    pub fn metadata(&mut self, metric: String, metadata: MetricMetadata) {
        self.batch.metadata.push((metric, metadata));
    }
}
