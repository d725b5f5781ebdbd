//! Why a query has no answer.

use std::time::Duration;

/// Why a query has no answer; [`Error::kind`] is what the HTTP API calls it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The query is not PromQL, or asks for something that is not supported.
    #[error("{message}")]
    BadData { message: String },
    /// The query is well formed, the data does not fit it.
    #[error("{message}")]
    Execution { message: String },
    #[error(transparent)]
    Limit(#[from] Exceeded),
    #[error("query timed out after {0:?} (query.timeout)")]
    Timeout(Duration),
    #[error("query was canceled")]
    Canceled,
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// A limit that a query went beyond, with its setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("query text of {bytes} bytes, at most {bytes_max} are allowed (query.query_bytes_max)")]
    QueryBytes { bytes: usize, bytes_max: usize },
    #[error("query nested {depth} levels deep, at most {depth_max} are allowed (query.depth_max)")]
    Depth { depth: usize, depth_max: usize },
    #[error(
        "exceeded maximum resolution of {points_max} points per timeseries: {points} asked for, \
         increase the step (query.points_max)"
    )]
    Points { points: usize, points_max: usize },
    #[error("query needs more than {samples_max} samples at once (query.samples_max)")]
    Samples { samples_max: usize },
}

/// The kinds of error of the HTTP API, its `errorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    BadData,
    Execution,
    Timeout,
    Canceled,
    Internal,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadData { .. }
            | Self::Limit(
                Exceeded::QueryBytes { .. } | Exceeded::Depth { .. } | Exceeded::Points { .. },
            ) => ErrorKind::BadData,
            Self::Execution { .. } | Self::Limit(Exceeded::Samples { .. }) => ErrorKind::Execution,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Canceled => ErrorKind::Canceled,
            Self::Store(_) => ErrorKind::Internal,
        }
    }

    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self::BadData {
            message: message.into(),
        }
    }

    pub(super) fn execution(message: impl Into<String>) -> Self {
        Self::Execution {
            message: message.into(),
        }
    }
}
