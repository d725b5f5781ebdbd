//! The files of a store: how they are made, told apart and opened together.
//!
//! Both carry the store's id and the format's version; a set that does not match is refused. A file is
//! made under a temporary name and gets its own when it is complete, so that what has its name is
//! never half made.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use xxhash_rust::xxh3::xxh3_64;

use super::Error;
use super::bytes::{checked_row, put_row_checksum};
use super::handle::{Handle, Purpose, malformed};
use super::medium::Medium;
use super::{data, wal};

/// The version of the whole format: the tables, the keys, and what is in them.
pub(crate) const FORMAT: u32 = 1;

const WAL_NAME: &str = "wal.redb";
const DATA_NAME: &str = "data-00000001.redb";
const UNFINISHED: &str = ".new";

/// Name -> value, checksum.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_STORE: &str = "store";

/// A number that tells one store's files from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoreId([u8; 16]);

impl StoreId {
    /// From the process's source of randomness for hash maps, which is the system's.
    fn random() -> Self {
        let word = || {
            RandomState::new()
                .hash_one(std::process::id())
                .to_le_bytes()
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&word());
        id[8..].copy_from_slice(&word());
        Self(id)
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The open files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) wal: Handle,
    pub(crate) data: Handle,
}

impl Files {
    /// Opens the store's files, making them where there is no store yet.
    pub(crate) fn open(medium: &Arc<dyn Medium>) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: medium.dir().to_owned(),
            source,
        };
        let names = medium.list().map_err(io)?;
        for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
            medium.remove(name).map_err(io)?;
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        match (has(DATA_NAME), has(WAL_NAME)) {
            (false, true) => {
                return Err(Error::Missing {
                    path: medium.path(DATA_NAME),
                });
            }
            (false, false) => {
                let id = StoreId::random();
                make(medium, DATA_NAME, Purpose::Data, id)?;
                make(medium, WAL_NAME, Purpose::WriteAhead, id)?;
            }
            (true, false) => {
                // Either the store was being made, or its newest samples are gone.
                let data = Handle::open(medium.clone(), DATA_NAME, Purpose::Data)?;
                let id = identify(&data)?;
                let transaction = data.begin_read()?;
                if data.contain(|| data::applied(&transaction))? > 0 {
                    return Err(Error::Missing {
                        path: medium.path(WAL_NAME),
                    });
                }
                drop(transaction);
                data.close()?;
                make(medium, WAL_NAME, Purpose::WriteAhead, id)?;
            }
            (true, true) => {}
        }
        let files = Self {
            data: Handle::open(medium.clone(), DATA_NAME, Purpose::Data)?,
            wal: Handle::open(medium.clone(), WAL_NAME, Purpose::WriteAhead)?,
        };
        let (expected, found) = (identify(&files.data)?, identify(&files.wal)?);
        if expected != found {
            return Err(Error::Mismatch {
                path: files.wal.path(),
                found: found.to_string(),
                other: files.data.path(),
                expected: expected.to_string(),
            });
        }
        Ok(files)
    }

    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        Ok(self.wal.len()? + self.data.len()?)
    }
}

/// Makes an empty file of the store.
fn make(medium: &Arc<dyn Medium>, name: &str, purpose: Purpose, id: StoreId) -> Result<(), Error> {
    let unfinished = format!("{name}{UNFINISHED}");
    let handle = Handle::open(medium.clone(), &unfinished, purpose)?;
    handle.write(|transaction| {
        put_meta(transaction, META_FORMAT, &FORMAT.to_le_bytes())?;
        put_meta(transaction, META_STORE, &id.0)?;
        match purpose {
            Purpose::Data => data::create_tables(transaction),
            Purpose::WriteAhead => wal::create_tables(transaction),
        }
    })?;
    handle.close()?;
    medium
        .rename(&unfinished, name)
        .map_err(|source| Error::Io {
            path: medium.path(name),
            source,
        })
}

/// The id of the store that a file belongs to; refuses a format that this program does not know.
fn identify(handle: &Handle) -> Result<StoreId, Error> {
    let transaction = handle.begin_read()?;
    let (format, id) = handle.contain(|| {
        let format = meta_value(&transaction, META_FORMAT)?;
        let id = meta_value(&transaction, META_STORE)?;
        Ok((u32::from_le_bytes(format), id))
    })?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            path: handle.path(),
            found: format,
            known: FORMAT,
        });
    }
    Ok(StoreId(id))
}

/// A value of the table that every file has; of a fixed width.
pub(crate) fn meta_value<const N: usize>(
    transaction: &ReadTransaction,
    key: &str,
) -> Result<[u8; N], redb::Error> {
    let wrong = || redb::Error::Corrupted(format!("{key:?} in table \"meta\" is missing or wrong"));
    let meta = transaction.open_table(META).map_err(|error| match error {
        redb::TableError::TableDoesNotExist(_) => {
            redb::Error::Corrupted("no file of a cutover store".to_owned())
        }
        other => other.into(),
    })?;
    let value = meta.get(key)?.ok_or_else(wrong)?;
    let value = checked_row(value.value(), meta_seed(key)).map_err(malformed(key))?;
    value
        .try_into()
        .map_err(|_cause: std::array::TryFromSliceError| wrong())
}

pub(crate) fn put_meta(
    transaction: &WriteTransaction,
    key: &str,
    value: &[u8],
) -> Result<(), redb::Error> {
    let mut row = value.to_vec();
    put_row_checksum(&mut row, meta_seed(key));
    transaction.open_table(META)?.insert(key, row.as_slice())?;
    Ok(())
}

fn meta_seed(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}
