//! What can go wrong in the store, with what is needed to act on it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("more than {samples_max} samples selected (query.samples_max)")]
    TooManySamples { samples_max: usize },
    #[error("record of table {table:?} does not decode")]
    Record {
        table: &'static str,
        #[source]
        source: bincode::error::DecodeError,
    },
    #[error("record of table {table:?} has schema {found}, this program knows {known}")]
    RecordSchema {
        table: &'static str,
        found: u8,
        known: u8,
    },
    #[error("the store is closed")]
    Closed,
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}
