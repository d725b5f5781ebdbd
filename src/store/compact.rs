//! Compaction of a directory at rest: everything is sealed and merged, and both files are written anew
//! without what is dead in them.

use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::lock::Lock;
use super::medium::{Directory, Medium};
use super::{Error, Options, SealRule, Store, wal};
use crate::model::Clock;

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// What the files took on the disk.
    pub before_bytes: u64,
    pub after_bytes: u64,
    /// Samples that are stored.
    pub samples: u64,
}

/// Compacts the store in a directory; refused when another process has it open, or when the file system
/// has no room for a second copy of what is live.
pub fn compact(dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Compacted, Error> {
    let medium: Arc<dyn Medium> = Arc::new(Directory::new(dir));
    if !Files::are_in(&*medium)? {
        let dir = dir.to_owned();
        return Err(Error::NotStore { dir });
    }
    let _lock = Lock::acquire(dir, options.listen.as_deref(), clock.now())?;
    compact_on(&medium, options, clock)
}

pub(super) fn compact_on(
    medium: &Arc<dyn Medium>,
    options: Options,
    clock: Arc<dyn Clock>,
) -> Result<Compacted, Error> {
    let store = Store::open_on(medium.clone(), options, SealRule::default(), clock)?;
    let shared = store.shared.clone();
    let before_bytes = shared.files.allocated()?;
    // What is in memory becomes blocks first: it takes no more there than in the write-ahead file.
    let wal_bytes = shared.files.wal.allocated()?;
    shared.check_space(shared.live_bytes()?.saturating_add(wal_bytes))?;
    let name = shared.files.data.name();
    store.seal()?;
    store.settle()?;
    // Merging ends deletions, and that is committed like anything else.
    store.seal()?;
    let is_rewritten = shared.files.data.name() != name;
    let samples = shared.manifest().samples();
    drop(shared);
    store.close()?;

    let files = Files::open(medium)?;
    if !is_rewritten {
        files.rewrite_data()?;
    }
    if !wal::has_sealed_rows(&files.wal, u64::MAX)? {
        files.renew_wal()?;
    }
    files.data.close()?;
    files.wal.close()?;
    // redb cuts what is free at the end of a file when it closes it.
    let after_bytes = files.allocated()?;
    Ok(Compacted {
        before_bytes,
        after_bytes,
        samples,
    })
}
