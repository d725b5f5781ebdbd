//! PromQL over the store: parsing, evaluation, limits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::model::{Column, Labels, Sample, Timestamp};
use crate::store::Reader;

/// What one query may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub query_bytes_max: usize,
    pub depth_max: usize,
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

/// What a caller may change about a single query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Shorter than the limit's, never longer.
    pub timeout: Option<Duration>,
    pub lookback: Option<Duration>,
    /// Set from outside to stop the query.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// The steps of a range query: `start`, `start + step`, ... up to and including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step: Duration,
}

/// Evaluates queries. Cloning is cheap. Calls block: run them off the async runtime.
#[derive(Clone, Debug)]
pub struct Engine {
    #[expect(dead_code, reason = "not built yet")]
    reader: Reader,
}

/// A query's value with what it wants to say about itself.
#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Sample),
    String {
        at: Timestamp,
        text: String,
    },
    /// In the order that the query asked for, else by labels.
    Vector(Vec<VectorSample>),
    Matrix(Vec<Column>),
}

#[derive(Clone, Debug)]
pub struct VectorSample {
    pub labels: Labels,
    pub sample: Sample,
}

/// The kinds are those of the HTTP API's `errorType`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    BadData { message: String },
    #[error("{message}")]
    Execution { message: String },
    #[error("query timed out after {0:?} (query.timeout)")]
    Timeout(Duration),
    #[error("query was canceled")]
    Canceled,
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

impl Engine {
    pub fn new(reader: Reader, limits: Limits) -> Self {
        let _ = limits;
        Self { reader }
    }

    pub fn instant(
        &self,
        query: &str,
        at: Timestamp,
        options: &QueryOptions,
    ) -> Result<Answer, Error> {
        let _ = (query, at, options);
        Err(Error::Execution {
            message: "not built yet".into(),
        })
    }

    pub fn range(
        &self,
        query: &str,
        steps: Steps,
        options: &QueryOptions,
    ) -> Result<Answer, Error> {
        let _ = (query, steps, options);
        Err(Error::Execution {
            message: "not built yet".into(),
        })
    }
}
