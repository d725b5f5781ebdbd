//! Commands on a directory at rest: they open the store themselves instead of asking a server.

mod replay;
mod store;

use std::path::Path;
use std::sync::Arc;

pub use self::replay::{Page, Replayed, replay};
pub use self::store::{Deletion, Import, Imported, backup, compact, export, status, verify};

use crate::http::wire;
use crate::ingest::dead_letter;
use crate::model::{Clock, SystemClock};
use crate::store::{Error, Options, Reader, Store};

/// The newest dead letters of a directory.
pub fn dead_letters(dir: &Path, limit: usize) -> anyhow::Result<Vec<wire::DeadLetter>> {
    let store = open(dir)?;
    let letters = newest_dead_letters(&store.reader(), limit)?;
    store.close()?;
    Ok(letters)
}

/// Opens the store of a directory, which has to be there.
fn open(dir: &Path) -> Result<Store, Error> {
    if !dir.join("wal.redb").is_file() {
        let dir = dir.to_owned();
        return Err(Error::NotStore { dir });
    }
    Store::open(dir, options(), clock())
}

/// Everything is looked at and kept, whatever the server's retention is.
fn options() -> Options {
    Options {
        retention: None,
        ..Options::default()
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

/// The newest dead letters in the shape of the API.
pub(super) fn newest_dead_letters(
    reader: &Reader,
    limit: usize,
) -> Result<Vec<wire::DeadLetter>, Error> {
    let letters = dead_letter::newest(reader, limit)?;
    Ok(letters
        .into_iter()
        .map(|letter| wire::DeadLetter {
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            reason: letter.reason.name().to_owned(),
            detail: letter.detail,
            at_ms: letter.at.ms(),
            excerpt: String::from_utf8_lossy(&letter.excerpt).into_owned(),
            value_bytes: letter.value_bytes,
        })
        .collect())
}
