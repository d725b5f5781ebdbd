//! Commands on a directory at rest: they open the store themselves instead of asking a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use crate::http::wire;
use crate::ingest::dead_letter;
use crate::model::SystemClock;
use crate::store::{self, Options, Reader, Store};

/// The newest dead letters of a directory.
pub fn dead_letters(dir: &Path, limit: usize) -> anyhow::Result<Vec<wire::DeadLetter>> {
    if !dir.join("wal.redb").is_file() {
        bail!("{} is not a data directory of cutover", dir.display());
    }
    let options = Options {
        retention: None,
        ..Options::default()
    };
    let store = Store::open(dir, options, Arc::new(SystemClock::default()))?;
    let letters = newest_dead_letters(&store.reader(), limit)?;
    store.close()?;
    Ok(letters)
}

/// The newest dead letters in the shape of the API.
pub(super) fn newest_dead_letters(
    reader: &Reader,
    limit: usize,
) -> Result<Vec<wire::DeadLetter>, store::Error> {
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
