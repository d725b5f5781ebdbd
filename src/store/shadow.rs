//! A medium that is only looked at: what is written to its files stays in memory.
//!
//! redb repairs a file while it opens or checks it. What is to be examined must not change meanwhile,
//! so it gets this instead of the files themselves.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::medium::{Medium, Space};

const PAGE: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Shadow {
    medium: Arc<dyn Medium>,
}

impl Shadow {
    pub(crate) fn new(medium: Arc<dyn Medium>) -> Self {
        Self { medium }
    }
}

impl Medium for Shadow {
    fn dir(&self) -> &Path {
        self.medium.dir()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.medium.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        if !self.medium.list()?.iter().any(|known| known == name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.medium.open(name)?;
        let len = file.len()?;
        let contents = Contents {
            len,
            kept: len,
            pages: BTreeMap::new(),
        };
        Ok(Box::new(ShadowFile {
            file,
            contents: Mutex::new(contents),
        }))
    }

    fn allocated(&self, name: &str) -> io::Result<u64> {
        self.medium.allocated(name)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn space(&self) -> io::Result<Space> {
        self.medium.space()
    }
}

/// A file with what was written over it.
#[derive(Debug)]
struct ShadowFile {
    file: Box<dyn StorageBackend>,
    contents: Mutex<Contents>,
}

#[derive(Debug)]
struct Contents {
    len: u64,
    /// How much from the start on is still the file's own, where no page says otherwise.
    kept: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl ShadowFile {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the file itself has, and zeros where it ends.
    fn read_file(&self, kept: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = kept.saturating_sub(offset).min(out.len() as u64) as usize;
        let (own, zeros) = out.split_at_mut(there);
        zeros.fill(0);
        if own.is_empty() {
            return Ok(());
        }
        self.file.read(offset, own)
    }
}

/// The pages that so many bytes from an offset on touch: number, offset in the page, piece of the bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let count = (PAGE as usize - within).min(len - done);
        let piece = done..done + count;
        done += count;
        Some((at / PAGE, within, piece))
    })
}

impl StorageBackend for ShadowFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.contents().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let contents = self.contents();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > contents.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(contents.kept, offset, out)?;
        for (page, within, piece) in pieces(offset, out.len()) {
            if let Some(written) = contents.pages.get(&page) {
                let count = piece.len();
                out[piece].copy_from_slice(&written[within..within + count]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut contents = self.contents();
        contents.len = len;
        contents.kept = contents.kept.min(len);
        // What is past the end reads as zeros should the file grow again.
        drop(contents.pages.split_off(&len.div_ceil(PAGE)));
        if let Some(last) = contents.pages.get_mut(&(len / PAGE)) {
            last[(len % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut contents = self.contents();
        let kept = contents.kept;
        for (page, within, piece) in pieces(offset, data.len()) {
            let bytes = match contents.pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => {
                    let mut bytes = vec![0; PAGE as usize];
                    self.read_file(kept, page * PAGE, &mut bytes)?;
                    place.insert(bytes)
                }
            };
            bytes[within..within + piece.len()].copy_from_slice(&data[piece]);
        }
        contents.len = contents.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::Directory;
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let shadow = Shadow::new(Arc::new(Directory::new(dir.path())));
        let file = shadow.open("a").unwrap();
        file.write(4090, &[1; 10]).unwrap();
        let mut out = [0; 14];
        file.read(4088, &mut out).unwrap();
        assert_eq!(out, [7, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7]);
        file.set_len(4093).unwrap();
        file.set_len(20_000).unwrap();
        file.read(4088, &mut out).unwrap();
        assert_eq!(out, [7, 7, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.write(19_990, &[2; 20]).unwrap();
        assert_eq!(file.len().unwrap(), 20_010);
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; 10_000]);
        assert!(shadow.open("b").is_err() && !dir.path().join("b").exists());
    }
}
