//! Values and their invariants: labels, matchers, samples, time, batches.
//!
//! Everything here is a plain value: no I/O, no async, no knowledge of who stores or serves it. Every
//! other module may use this one; it uses none of them.

pub mod batch;
pub mod label;
pub mod matcher;
pub mod sample;
pub mod series;
pub mod time;
pub mod unit;

pub use batch::{Batch, MetricKind, MetricMetadata, Mutation, SeriesSamples};
pub use label::{Label, Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use sample::{STALE_NAN, Sample, is_stale};
pub use series::{Column, SeriesId};
pub use time::{Clock, ManualClock, SystemClock, TimeRange, Timestamp};
