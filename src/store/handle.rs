//! One redb file that can be closed and opened again.
//!
//! Every call into redb goes through here: its errors and its panics (it may panic on pages that were
//! damaged from outside) come out as the store's [`Error`], naming the file.

use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::Error;
use super::bytes::Malformed;
use super::medium::{AnyFile, Medium};

/// What a file is used for, which decides what a commit costs and what opening after a crash does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Small and hot: cheap commits, repaired by reading it all.
    WriteAhead,
    /// Large: each commit also saves the allocator's state, so that opening never reads it all.
    Data,
}

impl Purpose {
    const fn cache_bytes(self) -> usize {
        match self {
            Self::WriteAhead => 8 << 20,
            Self::Data => 32 << 20,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Handle {
    medium: Arc<dyn Medium>,
    name: RwLock<String>,
    purpose: Purpose,
    state: RwLock<State>,
    /// What another file took the place of while it was being read.
    retired: Mutex<Vec<Open>>,
    /// An error after which redb refuses further work.
    has_failed: AtomicBool,
}

#[derive(Debug)]
enum State {
    Open(Open),
    /// It could not be opened again after an error.
    Broken(Arc<Error>),
    Closed,
}

#[derive(Debug)]
struct Open {
    database: Database,
    /// Held by everybody who reads it.
    readers: Arc<()>,
}

/// A read transaction. The file that it reads stays open until it is dropped, also when another has
/// taken its place.
pub(crate) struct Reading {
    transaction: ReadTransaction,
    _reader: Arc<()>,
}

impl Deref for Reading {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.transaction
    }
}

impl State {
    fn open(&self) -> Result<&Open, Error> {
        match self {
            Self::Open(open) => Ok(open),
            Self::Broken(source) => Err(Error::Recovering {
                source: source.clone(),
            }),
            Self::Closed => Err(Error::Closed),
        }
    }
}

impl Handle {
    /// Opens the file, creating it when it is not there.
    pub(crate) fn open(
        medium: Arc<dyn Medium>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let handle = Self {
            medium,
            name: RwLock::new(name.to_owned()),
            purpose,
            state: RwLock::new(State::Closed),
            retired: Mutex::default(),
            has_failed: AtomicBool::new(false),
        };
        let open = handle.create()?;
        *handle.write_state() = State::Open(open);
        Ok(handle)
    }

    fn create(&self) -> Result<Open, Error> {
        let file = self.medium.open(&self.name()).map_err(|source| Error::Io {
            path: self.path(),
            source,
        })?;
        self.contain(|| {
            let database = Builder::new()
                .set_cache_size(self.purpose.cache_bytes())
                .create_with_backend(AnyFile(file))?;
            Ok(Open {
                database,
                readers: Arc::default(),
            })
        })
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> String {
        self.name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.medium.path(&self.name())
    }

    /// What the file takes on the disk.
    pub(crate) fn allocated(&self) -> Result<u64, Error> {
        let allocated = self.medium.allocated(&self.name());
        allocated.map_err(|source| Error::Io {
            path: self.path(),
            source,
        })
    }

    /// Goes over to another file, which holds the same. Who reads the old one goes on with that.
    pub(crate) fn switch_to(&self, name: &str) -> Result<(), Arc<Error>> {
        let mut state = self.write_state();
        name.clone_into(&mut self.name.write().unwrap_or_else(PoisonError::into_inner));
        match self.create() {
            Ok(open) => {
                if let State::Open(old) = std::mem::replace(&mut *state, State::Open(open)) {
                    self.retired().push(old);
                }
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                *state = State::Broken(error.clone());
                Err(error)
            }
        }
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Open>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of files that nobody reads any more.
    fn release_retired(&self) {
        let mut retired = self.retired();
        retired.retain(|open| Arc::strong_count(&open.readers) > 1);
    }

    /// Closes the file and opens it again, which is the only way on after an error of a commit.
    /// Read transactions that are still open fail from then on.
    pub(crate) fn reopen(&self) -> Result<(), Arc<Error>> {
        let mut state = self.write_state();
        let broken = std::mem::replace(&mut *state, State::Closed);
        // Whatever a broken file says at its end, it is opened anew.
        drop(self.contain(move || {
            drop(broken);
            Ok(())
        }));
        match self.create() {
            Ok(open) => {
                self.has_failed.store(false, Ordering::Relaxed);
                *state = State::Open(open);
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                *state = State::Broken(error.clone());
                Err(error)
            }
        }
    }

    /// Whether nothing more will come of it until it is opened again: redb refuses all work after any
    /// error of input or output, one of reading included.
    pub(crate) fn needs_reopening(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) -> Result<(), Error> {
        let state = std::mem::replace(&mut *self.write_state(), State::Closed);
        self.retired().clear();
        match state {
            State::Open(open) => self.contain(|| Ok(open.database.close()?)),
            State::Broken(_) | State::Closed => Ok(()),
        }
    }

    pub(crate) fn begin_read(&self) -> Result<Reading, Error> {
        let state = self.read_state();
        let open = state.open()?;
        self.contain(|| {
            Ok(Reading {
                transaction: open.database.begin_read()?,
                _reader: open.readers.clone(),
            })
        })
    }

    /// Has redb check every page of the file; nobody may be reading it. What is wrong and could be
    /// repaired is an error as well.
    pub(crate) fn check_integrity(&self) -> Result<(), Error> {
        let mut state = self.write_state();
        let State::Open(open) = &mut *state else {
            return Err(Error::Closed);
        };
        let is_clean = self.contain(|| Ok(open.database.check_integrity()?))?;
        if is_clean {
            return Ok(());
        }
        Err(self.corrupt("its pages do not agree with each other"))
    }

    /// Runs one transaction and commits it durably.
    ///
    /// After an error the outcome is unknown and the file has to be reopened.
    pub(crate) fn write<T>(
        &self,
        body: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        self.release_retired();
        let state = self.read_state();
        let database = &state.open()?.database;
        self.contain(|| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(self.purpose == Purpose::Data);
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Runs calls into redb, turning its errors and panics into errors that name the file.
    pub(crate) fn contain<T>(
        &self,
        body: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        // What a panic leaves behind is dropped here; locks that it poisoned say so later.
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(redb::Error::Corrupted(detail))) => Err(self.corrupt(detail)),
            Ok(Err(redb::Error::Io(source))) => {
                self.has_failed.store(true, Ordering::Relaxed);
                Err(Error::Io {
                    path: self.path(),
                    source,
                })
            }
            Ok(Err(source)) => {
                // Not what a reader hears that began before the file was last opened.
                if matches!(
                    source,
                    redb::Error::PreviousIo | redb::Error::LockPoisoned(_)
                ) {
                    self.has_failed.store(true, Ordering::Relaxed);
                }
                Err(Error::Engine {
                    path: self.path(),
                    source: Box::new(source),
                })
            }
            Err(panic) => Err(self.corrupt(panic_text(&*panic))),
        }
    }

    pub(crate) fn corrupt(&self, detail: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path(),
            detail: detail.into(),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Bytes inside redb's values that do not parse, as the error that [`Handle::contain`] understands.
pub(crate) fn malformed(place: impl std::fmt::Display) -> impl FnOnce(Malformed) -> redb::Error {
    move |error| redb::Error::Corrupted(format!("{place}: {error}"))
}
