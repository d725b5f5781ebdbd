//! The ways in that keep something between requests, for whoever serves them over HTTP.

use std::sync::Arc;

use super::counters::Counters;
use super::otlp::{self, Receiver};
use super::push::Groups;
use super::scrape::Targets;
use crate::model::Clock;
use crate::store::{self, Reader, Writer};
use crate::telemetry::Metrics;

/// Cloning is cheap; all clones share what is kept.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Samples taken and refused.
    pub counters: Counters,
    /// What was pushed, by its group.
    pub push: Groups,
    pub otlp: Receiver,
    /// What is scraped; filled where scraping is started.
    pub targets: Targets,
}

impl Ways {
    /// Takes up what was kept in the store.
    ///
    /// # Panics
    /// When it is opened twice with one registry of metrics.
    pub fn open(
        reader: &Reader,
        writer: &Writer,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        otlp: otlp::Config,
    ) -> Result<Self, store::Error> {
        Ok(Self {
            counters: Counters::new(metrics),
            otlp: Receiver::new(otlp, reader.clone(), writer.clone()),
            targets: Targets::default(),
            push: Groups::open(reader.clone(), writer.clone(), clock.clone())?,
        })
    }
}
