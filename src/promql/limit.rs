//! What a query may cost, and the guard that holds it to that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::QueryOptions;
use super::error::{Error, Exceeded};
use crate::model::{Clock, SystemClock};

/// What one query may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub query_bytes_max: usize,
    pub depth_max: usize,
    /// Samples read, and points of one intermediate result.
    pub samples_max: usize,
    /// Points of one series in a range query's answer.
    pub points_max: usize,
    pub timeout: Duration,
    pub lookback: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_bytes_max: 1 << 20,
            depth_max: 1000,
            samples_max: 50_000_000,
            points_max: 11_000,
            timeout: Duration::from_secs(120),
            lookback: Duration::from_secs(300),
        }
    }
}

/// Asked again and again while a query runs whether it may go on.
#[derive(Debug)]
pub(super) struct Guard {
    clock: SystemClock,
    timeout: Duration,
    cancel: Option<Arc<AtomicBool>>,
    samples_max: usize,
    samples_read: Option<Arc<AtomicUsize>>,
}

impl Guard {
    /// The query's time starts to run here.
    pub(super) fn new(limits: &Limits, options: &QueryOptions) -> Self {
        Self {
            clock: SystemClock::default(),
            timeout: options
                .timeout
                .map_or(limits.timeout, |asked| asked.min(limits.timeout)),
            cancel: options.cancel.clone(),
            samples_max: limits.samples_max,
            samples_read: options.samples_read.clone(),
        }
    }

    /// Counts samples that were read, where somebody wants to know.
    pub(super) fn count_read(&self, samples: usize) {
        if let Some(samples_read) = &self.samples_read {
            samples_read.fetch_add(samples, Ordering::Relaxed);
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(cancel) = &self.cancel
            && cancel.load(Ordering::Relaxed)
        {
            return Err(Error::Canceled);
        }
        if self.clock.monotonic() >= self.timeout {
            return Err(Error::Timeout(self.timeout));
        }
        Ok(())
    }

    pub(super) fn samples_max(&self) -> usize {
        self.samples_max
    }

    /// Refuses a result of so many series and steps before it is allocated.
    pub(super) fn check_size(&self, series: usize, steps: usize) -> Result<(), Error> {
        self.check()?;
        if series.saturating_mul(steps) > self.samples_max {
            return Err(self.too_many_samples());
        }
        Ok(())
    }

    pub(super) fn too_many_samples(&self) -> Error {
        Exceeded::Samples {
            samples_max: self.samples_max,
        }
        .into()
    }
}
