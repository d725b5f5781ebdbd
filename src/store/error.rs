//! What can go wrong in the store, with what is needed to act on it.

use std::path::PathBuf;
use std::sync::Arc;

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
    #[error("the record of a deletion is none")]
    Deletion,
    #[error("the store is closed")]
    Closed,
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },

    #[error("data directory {dir} is in use by {holder}")]
    Locked { dir: PathBuf, holder: String },
    #[error("{dir} is not empty: name a directory that is new or holds nothing")]
    NotEmpty { dir: PathBuf },
    #[error("{dir} is not a data directory of cutover")]
    NotStore { dir: PathBuf },
    #[error("data directory {dir} is not a directory")]
    NotDirectory { dir: PathBuf },
    #[error("data directory {dir} is not writable: {source}")]
    NotWritable {
        dir: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is missing: without it what was acknowledged is not complete")]
    Missing { path: PathBuf },
    #[error("{path} has format {found}, this program knows formats up to {known}")]
    NewerFormat {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("{path} belongs to store {found}, {other} belongs to store {expected}")]
    Mismatch {
        path: PathBuf,
        found: String,
        other: PathBuf,
        expected: String,
    },
    #[error("{path} is corrupt: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    #[error("{path}: {source}")]
    Engine {
        path: PathBuf,
        source: Box<redb::Error>,
    },

    #[error("{path}: {free_bytes} bytes free, {needed_bytes} needed (store.disk_free_percent_min)")]
    DiskFull {
        path: PathBuf,
        free_bytes: u64,
        needed_bytes: u64,
    },
    #[error("{held_bytes} bytes wait to be sealed, {max_bytes} may (store.memory_bytes_max)")]
    Busy { held_bytes: u64, max_bytes: u64 },
    /// The commit's outcome is unknown: sending the batch again is safe.
    #[error("whether the batch was stored is unknown")]
    Uncertain {
        #[source]
        source: Arc<Error>,
    },
    /// The store reopens its files after an error; nothing of the batch was stored.
    #[error("the store is recovering")]
    Recovering {
        #[source]
        source: Arc<Error>,
    },
    /// The series that the batch was prepared for are not the same any more; nothing of it was stored.
    #[error("the store's series changed in between: send it again")]
    Restarted,
    /// A seal that was asked for did not come about; what is in memory stays covered by the
    /// write-ahead file.
    #[error("not sealed")]
    NotSealed {
        #[source]
        source: Arc<Error>,
    },
}
