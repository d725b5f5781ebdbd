//! A series as the store numbers it and as a reader receives it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::label::Labels;
use super::time::Timestamp;

/// The store's number for a label set: given in sequence, persisted, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesId(pub u32);

/// The samples of one series that a selection asked for.
///
/// Both columns have the same length; timestamps rise strictly. Stale markers are included: what
/// they mean is the evaluator's business. Series that were sampled together mostly share their
/// timestamps, so that what depends on time alone can be worked out once for all of them.
#[derive(Clone, Debug)]
pub struct Column {
    pub labels: Labels,
    pub timestamps: Arc<[Timestamp]>,
    pub values: Vec<f64>,
}
