//! A backup: a copy of everything sealed, which is a store of its own.
//!
//! It is made beside writes, seals and merges, from one snapshot of the data file. The copy's data file
//! gets its name last, so that a directory in which a backup broke off is refused and never taken for
//! a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{self, Lock};
use super::medium::{Directory, Medium};
use super::{Error, Writer, block_on};

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub dir: PathBuf,
    /// What its files take on the disk.
    pub bytes: u64,
    /// Everything committed up to this sequence number is in it.
    pub seq: u64,
}

/// Whether what is not in blocks yet is put there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The backup holds everything acknowledged before the call.
    Seal,
    /// It holds what was sealed last.
    Skip,
}

impl Writer {
    /// Makes a backup in a directory that is new or empty, and waits until it is on the disk.
    pub fn backup(&self, dir: &Path, head: Head) -> Result<Backup, Error> {
        refuse_contents(dir)?;
        // Nobody may open the directory before the backup is complete.
        let _lock = Lock::acquire(dir, None, self.shared.clock.now())?;
        refuse_contents(dir)?;
        let medium: Arc<dyn Medium> = Arc::new(Directory::new(dir));
        let made = self.backup_on(&medium, head).and_then(|backup| {
            Directory::sync_parent(dir).map_err(|source| io(dir, source))?;
            Ok(backup)
        });
        if made.is_err() {
            remove_remains(&*medium);
        }
        made
    }

    /// The same on any medium that holds nothing.
    pub(super) fn backup_on(&self, medium: &Arc<dyn Medium>, head: Head) -> Result<Backup, Error> {
        if head == Head::Seal {
            block_on(self.seal())?;
        }
        let shared = &self.shared;
        shared.check_space_of(&**medium, shared.live_bytes()?)?;
        let (seq, bytes) = shared.files.copy_to(medium)?;
        let dir = medium.dir().to_owned();
        Ok(Backup { dir, bytes, seq })
    }
}

/// Refuses a directory that holds anything; one that is not there is made later.
fn refuse_contents(dir: &Path) -> Result<(), Error> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let dir = dir.to_owned();
            return Err(Error::NotDirectory { dir });
        }
        entries => entries.map_err(|source| io(dir, source))?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| io(dir, source))?;
        if entry.file_name() != lock::NAME {
            let dir = dir.to_owned();
            return Err(Error::NotEmpty { dir });
        }
    }
    Ok(())
}

/// Takes away what a backup that failed has left: the directory held nothing before.
fn remove_remains(medium: &dyn Medium) {
    let names = medium.list().unwrap_or_default();
    for name in names.iter().filter(|name| *name != lock::NAME) {
        if let Err(error) = medium.remove(name) {
            tracing::warn!(%error, file = name, "what is left of a backup cannot be removed");
        }
    }
}

fn io(dir: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: dir.to_owned(),
        source,
    }
}
