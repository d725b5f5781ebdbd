//! Verification: whether everything that a directory holds can be read and agrees with itself.
//!
//! Every row and block is read as the format has it, beside what redb checks of its own pages. It goes on
//! after a fault, so that all of them are found, and it changes nothing: the files are opened through a
//! [`Shadow`]. Damage inside redb's pages may make redb panic; that comes out as a fault like any other.

mod blocks;
mod names;
mod rows;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition};

use self::names::Names;
use super::bytes::Malformed;
use super::files::Files;
use super::handle::{Handle, Purpose};
use super::lock::Lock;
use super::medium::{Directory, Medium};
use super::shadow::Shadow;
use super::{Error, data, deletion, files};
use crate::model::Clock;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// The row, or the window, metric and series; empty when it is about the file.
    pub place: String,
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.file.display())?;
        if !self.place.is_empty() {
            write!(formatter, "{}: ", self.place)?;
        }
        formatter.write_str(&self.detail)
    }
}

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    pub faults: Vec<Fault>,
    pub series: u64,
    pub records: u64,
    /// Windows of time, by generation.
    pub windows: u64,
    pub blocks: u64,
    /// Samples in blocks.
    pub samples: u64,
    /// Rows of the write-ahead file.
    pub rows: u64,
}

/// Verifies the store in a directory at rest. `progress` hears of each block: how many were read, and
/// how many there are.
///
/// An error means that nothing could be verified; what is wrong with the store is in the answer.
pub fn verify(
    dir: &Path,
    clock: &dyn Clock,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, Error> {
    let medium: Arc<dyn Medium> = Arc::new(Directory::new(dir));
    if !Files::are_in(&*medium)? {
        let dir = dir.to_owned();
        return Err(Error::NotStore { dir });
    }
    let _lock = Lock::acquire(dir, None, clock.now())?;
    verify_on(medium, &mut progress)
}

pub(super) fn verify_on(
    medium: Arc<dyn Medium>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, Error> {
    let medium: Arc<dyn Medium> = Arc::new(Shadow::new(medium));
    let mut verified = Verified::default();
    let (data_names, has_wal) = Files::names_in(&*medium)?;
    let data_name = verified.newest(&medium, &data_names);
    let mut names = Names::default();
    let mut applied = 0;
    let mut data_id = None;
    if let Some(data) = verified.open(&medium, &data_name, Purpose::Data) {
        data_id = verified.identify(&data);
        applied = verified.data(&data, &mut names, progress);
        verified.pages(&data);
    }
    if has_wal {
        if let Some(wal) = verified.open(&medium, files::WAL_NAME, Purpose::WriteAhead) {
            let wal_id = verified.identify(&wal);
            if data_id.is_some() && wal_id.is_some() && data_id != wal_id {
                let detail = format!("it belongs to another store than {data_name}");
                verified.fault(&wal, "", detail);
            }
            verified.rows(&wal, applied, &mut names);
            verified.pages(&wal);
        }
    } else if applied > 0 {
        verified.missing(&*medium, files::WAL_NAME);
    }
    Ok(verified)
}

impl Verified {
    fn fault(&mut self, handle: &Handle, place: impl Into<String>, detail: impl fmt::Display) {
        self.faults.push(Fault {
            file: handle.path(),
            place: place.into(),
            detail: detail.to_string(),
        });
    }

    /// What the store's own error says, without the file that it names as well.
    fn error(&mut self, handle: &Handle, place: &str, error: &Error) {
        let detail = match error {
            Error::Corrupt { detail, .. } => detail.clone(),
            Error::Io { source, .. } => source.to_string(),
            Error::Engine { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        self.fault(handle, place, detail);
    }

    fn missing(&mut self, medium: &dyn Medium, name: &str) {
        self.faults.push(Fault {
            file: medium.path(name),
            place: String::new(),
            detail: "is missing: without it what was acknowledged is not complete".to_owned(),
        });
    }

    /// Which of several data files is the store's.
    fn newest(&mut self, medium: &Arc<dyn Medium>, names: &[String]) -> String {
        let last = names.last().cloned();
        let last = last.unwrap_or_else(|| files::data_name(1));
        if names.is_empty() {
            self.missing(&**medium, &last);
        }
        match Files::newest_of(medium, names) {
            Ok(name) => name.unwrap_or(last),
            Err(error) => {
                self.faults.push(Fault {
                    file: medium.dir().to_owned(),
                    place: String::new(),
                    detail: format!("which data file is the newest cannot be told: {error}"),
                });
                last
            }
        }
    }

    fn open(&mut self, medium: &Arc<dyn Medium>, name: &str, purpose: Purpose) -> Option<Handle> {
        if !medium.list().ok()?.iter().any(|known| known == name) {
            return None;
        }
        match Handle::open(medium.clone(), name, purpose) {
            Ok(handle) => Some(handle),
            Err(error) => {
                let detail = match error {
                    Error::Corrupt { detail, .. } => detail,
                    other => other.to_string(),
                };
                self.faults.push(Fault {
                    file: medium.path(name),
                    place: String::new(),
                    detail: format!("cannot be opened: {detail}"),
                });
                None
            }
        }
    }

    fn identify(&mut self, handle: &Handle) -> Option<files::StoreId> {
        match files::identify(handle) {
            Ok(id) => Some(id),
            Err(error) => {
                self.error(handle, "table \"meta\"", &error);
                None
            }
        }
    }

    /// What redb itself finds.
    fn pages(&mut self, handle: &Handle) {
        if let Err(error) = handle.check_integrity() {
            self.error(handle, "check of all pages", &error);
        }
    }

    /// Everything in the data file; answers up to which sequence number it is sealed.
    fn data(
        &mut self,
        data: &Handle,
        names: &mut Names,
        progress: &mut dyn FnMut(u64, u64),
    ) -> u64 {
        let transaction = match data.begin_read() {
            Ok(transaction) => transaction,
            Err(error) => {
                self.error(data, "", &error);
                return 0;
            }
        };
        let applied = data.contain(|| data::applied(&transaction));
        let revision = data.contain(|| data::revision(&transaction));
        let errors = applied.as_ref().err().into_iter();
        for error in errors.chain(revision.as_ref().err()) {
            self.error(data, "table \"meta\"", error);
        }
        *names = self.names(data, &transaction);
        self.records(data, &transaction);
        self.windows(data, &transaction, names, progress);
        applied.unwrap_or(0)
    }

    fn records(&mut self, data: &Handle, transaction: &ReadTransaction) {
        let mut faults = Vec::new();
        let count = each_row(data, transaction, data::RECORDS, |(table, key), value| {
            let checked = data::checked_record(table, key, value).map(|value| {
                let known = deletion::check_record(table, value);
                known.or_else(|| super::check_metadata(table, value))
            });
            let place = || format!("record {} of table {table:?}", key.escape_ascii());
            match checked {
                Ok(None) => {}
                Ok(Some(error)) => faults.push((place(), error.to_string())),
                Err(redb::Error::Corrupted(detail)) => faults.push((String::new(), detail)),
                Err(error) => faults.push((place(), error.to_string())),
            }
        });
        for (place, detail) in faults {
            self.fault(data, place, detail);
        }
        self.records = self.counted(data, "records", count);
    }

    /// The number of rows that were read of a table, or a fault.
    fn counted(&mut self, handle: &Handle, table: &str, count: Result<u64, Error>) -> u64 {
        count.unwrap_or_else(|error| {
            self.error(handle, &format!("table {table:?}"), &error);
            0
        })
    }
}

/// Shows each row of a table, and answers how many there are. An error ends it: what comes after damaged
/// pages cannot be found.
fn each_row<K: redb::Key + 'static>(
    handle: &Handle,
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, &'static [u8]>,
    mut each: impl for<'a> FnMut(K::SelfType<'a>, &[u8]),
) -> Result<u64, Error> {
    use redb::ReadableTableMetadata as _;

    let table = handle.contain(|| Ok(transaction.open_table(table)?))?;
    let mut rows = handle.contain(|| Ok(table.iter()?))?;
    let mut count = 0;
    let is_there = |count: u64| {
        let counted = table.len()?;
        if counted == count {
            return Ok(());
        }
        let detail = format!("has {count} rows, not {counted}");
        Err(redb::Error::Corrupted(detail))
    };
    while handle.contain(|| {
        let Some(row) = rows.next() else {
            return Ok(false);
        };
        let (key, value) = row?;
        each(key.value(), value.value());
        Ok(true)
    })? {
        count += 1;
    }
    handle.contain(|| is_there(count))?;
    Ok(count)
}

/// A fault of something that has a place of its own.
fn malformed(error: Malformed) -> String {
    error.to_string()
}
