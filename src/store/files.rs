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

pub(crate) const WAL_NAME: &str = "wal.redb";
const UNFINISHED: &str = ".new";

/// The name of the data file that was written anew so many times, less one.
pub(crate) fn data_name(number: u32) -> String {
    format!("data-{number:08}.redb")
}

fn data_number(name: &str) -> Option<u32> {
    name.strip_prefix("data-")?
        .strip_suffix(".redb")?
        .parse()
        .ok()
        .filter(|&number| data_name(number) == name)
}

/// Name -> value, checksum.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_STORE: &str = "store";

/// A number that tells one store's files from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreId([u8; 16]);

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
    medium: Arc<dyn Medium>,
    id: StoreId,
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
        let numbers: Vec<u32> = names.iter().filter_map(|name| data_number(name)).collect();
        let newest = newest_data(medium, &numbers)?;
        for &number in numbers.iter().filter(|&&number| Some(number) != newest) {
            medium.remove(&data_name(number)).map_err(io)?;
        }
        let data_name = data_name(newest.unwrap_or(1));
        let has_wal = names.iter().any(|name| name == WAL_NAME);
        match (newest.is_some(), has_wal) {
            (false, true) => {
                return Err(Error::Missing {
                    path: medium.path(&data_name),
                });
            }
            (false, false) => {
                let id = StoreId::random();
                make(medium, &data_name, Purpose::Data, id)?;
                make(medium, WAL_NAME, Purpose::WriteAhead, id)?;
            }
            (true, false) => {
                // Either the store was being made, or its newest samples are gone.
                let data = Handle::open(medium.clone(), &data_name, Purpose::Data)?;
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
        let data = Handle::open(medium.clone(), &data_name, Purpose::Data)?;
        let wal = Handle::open(medium.clone(), WAL_NAME, Purpose::WriteAhead)?;
        let (expected, found) = (identify(&data)?, identify(&wal)?);
        if expected != found {
            return Err(Error::Mismatch {
                path: wal.path(),
                found: found.to_string(),
                other: data.path(),
                expected: expected.to_string(),
            });
        }
        Ok(Self {
            wal,
            data,
            medium: medium.clone(),
            id: expected,
        })
    }

    /// What the files take on the disk.
    pub(crate) fn allocated(&self) -> Result<u64, Error> {
        Ok(self.wal.allocated()? + self.data.allocated()?)
    }

    /// The data files of a place, oldest first, and whether there is a write-ahead file.
    pub(crate) fn names_in(medium: &dyn Medium) -> Result<(Vec<String>, bool), Error> {
        let mut names = medium.list().map_err(|source| Error::Io {
            path: medium.dir().to_owned(),
            source,
        })?;
        let has_wal = names.iter().any(|name| name == WAL_NAME);
        names.retain(|name| data_number(name).is_some());
        names.sort_by_key(|name| data_number(name));
        Ok((names, has_wal))
    }

    /// The one of several data files that holds everything.
    pub(crate) fn newest_of(
        medium: &Arc<dyn Medium>,
        names: &[String],
    ) -> Result<Option<String>, Error> {
        let numbers: Vec<u32> = names.iter().filter_map(|name| data_number(name)).collect();
        Ok(newest_data(medium, &numbers)?.map(data_name))
    }

    /// Whether a place holds a store, or what is left of one.
    pub(crate) fn are_in(medium: &dyn Medium) -> Result<bool, Error> {
        let names = match medium.list() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(false),
            names => names.map_err(|source| Error::Io {
                path: medium.dir().to_owned(),
                source,
            })?,
        };
        Ok(names
            .iter()
            .any(|name| name == WAL_NAME || data_number(name).is_some()))
    }

    /// Copies what is sealed to a place that holds nothing, as a store with the same id; answers up to
    /// which sequence number, and what the files take there.
    ///
    /// The data file gets its name last: without it the write-ahead file alone is refused.
    pub(crate) fn copy_to(&self, medium: &Arc<dyn Medium>) -> Result<(u64, u64), Error> {
        make(medium, WAL_NAME, Purpose::WriteAhead, self.id)?;
        let name = data_name(1);
        let mut seq = 0;
        make_with(medium, &name, Purpose::Data, self.id, |target| {
            data::copy(&self.data, target)?;
            let transaction = target.begin_read()?;
            seq = target.contain(|| data::applied(&transaction))?;
            Ok(())
        })?;
        let mut bytes = 0;
        for name in [WAL_NAME, &name] {
            bytes += medium.allocated(name).map_err(|source| Error::Io {
                path: medium.path(name),
                source,
            })?;
        }
        Ok((seq, bytes))
    }

    /// Replaces the write-ahead file, which holds no row, by a new one: a file never shrinks.
    pub(crate) fn renew_wal(&self) -> Result<(), Error> {
        make(&self.medium, WAL_NAME, Purpose::WriteAhead, self.id)?;
        self.wal
            .reopen()
            .map_err(|source| Error::Recovering { source })
    }

    /// Writes what is live in the data file to a new one, which takes its place. Nothing else may write
    /// to it meanwhile; reading goes on.
    pub(crate) fn rewrite_data(&self) -> Result<(), Error> {
        let old_name = self.data.name();
        let number = data_number(&old_name).unwrap_or(1);
        let name = data_name(number + 1);
        make_with(&self.medium, &name, Purpose::Data, self.id, |target| {
            data::copy(&self.data, target)
        })?;
        self.data
            .switch_to(&name)
            .map_err(|source| Error::Recovering { source })?;
        self.medium.remove(&old_name).map_err(|source| Error::Io {
            path: self.medium.path(&old_name),
            source,
        })
    }
}

/// Which of several data files is the one that holds everything. When the file was being written anew
/// there may be two, each complete; the one that went on being written to has the higher numbers.
fn newest_data(medium: &Arc<dyn Medium>, numbers: &[u32]) -> Result<Option<u32>, Error> {
    if let [] | [_] = numbers {
        return Ok(numbers.first().copied());
    }
    let mut newest = None;
    for &number in numbers {
        let data = Handle::open(medium.clone(), &data_name(number), Purpose::Data)?;
        let transaction = data.begin_read()?;
        let age =
            data.contain(|| Ok((data::applied(&transaction)?, data::revision(&transaction)?)))?;
        drop(transaction);
        data.close()?;
        newest = newest.max(Some((age, number)));
    }
    Ok(newest.map(|(_, number)| number))
}

/// Makes an empty file of the store.
fn make(medium: &Arc<dyn Medium>, name: &str, purpose: Purpose, id: StoreId) -> Result<(), Error> {
    make_with(medium, name, purpose, id, |_| Ok(()))
}

/// Makes a file of the store and fills it before it gets its name.
fn make_with(
    medium: &Arc<dyn Medium>,
    name: &str,
    purpose: Purpose,
    id: StoreId,
    fill: impl FnOnce(&Handle) -> Result<(), Error>,
) -> Result<(), Error> {
    let unfinished = format!("{name}{UNFINISHED}");
    let io = |source| Error::Io {
        path: medium.path(name),
        source,
    };
    if medium.list().map_err(io)?.contains(&unfinished) {
        // Left over from a try that failed.
        medium.remove(&unfinished).map_err(io)?;
    }
    let handle = Handle::open(medium.clone(), &unfinished, purpose)?;
    handle.write(|transaction| {
        put_meta(transaction, META_FORMAT, &FORMAT.to_le_bytes())?;
        put_meta(transaction, META_STORE, &id.0)?;
        match purpose {
            Purpose::Data => data::create_tables(transaction),
            Purpose::WriteAhead => wal::create_tables(transaction),
        }
    })?;
    fill(&handle)?;
    handle.close()?;
    medium.rename(&unfinished, name).map_err(io)
}

/// The id of the store that a file belongs to; refuses a format that this program does not know.
pub(crate) fn identify(handle: &Handle) -> Result<StoreId, Error> {
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
    meta_value_if_any(transaction, key)?.ok_or_else(|| wrong_meta(key))
}

fn wrong_meta(key: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{key:?} in table \"meta\" is missing or wrong"))
}

/// The same for what older files do not have.
pub(crate) fn meta_value_if_any<const N: usize>(
    transaction: &ReadTransaction,
    key: &str,
) -> Result<Option<[u8; N]>, redb::Error> {
    let meta = transaction.open_table(META).map_err(|error| match error {
        redb::TableError::TableDoesNotExist(_) => {
            redb::Error::Corrupted("no file of a cutover store".to_owned())
        }
        other => other.into(),
    })?;
    let Some(value) = meta.get(key)? else {
        return Ok(None);
    };
    let value = checked_row(value.value(), meta_seed(key)).map_err(malformed(key))?;
    let value = value
        .try_into()
        .map_err(|_cause: std::array::TryFromSliceError| wrong_meta(key))?;
    Ok(Some(value))
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
