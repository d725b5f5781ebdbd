//! Where the store's files lie: a directory of the file system, and the seam at which tests put a
//! simulated disk.
//!
//! Owns names, renames and what the directory itself must be told to keep. Knows nothing of what is
//! in the files.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

/// A flat set of files.
pub(crate) trait Medium: fmt::Debug + Send + Sync {
    fn dir(&self) -> &Path;

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing, creating it when it is not there.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// What a file takes on the disk, which is less than its length where it has holes.
    fn allocated(&self, name: &str) -> io::Result<u64>;

    /// Replaces the name durably.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the name durably.
    fn remove(&self, name: &str) -> io::Result<()>;

    fn space(&self) -> io::Result<Space>;
}

/// What is left of the file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Makes the name of a directory itself durable.
    pub(crate) fn sync_parent(dir: &Path) -> io::Result<()> {
        let parent = dir.canonicalize()?;
        parent
            .parent()
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

impl Medium for Directory {
    fn dir(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path.join(name);
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if is_new {
            self.sync()?;
        }
        Ok(Box::new(DiskFile(file)))
    }

    fn allocated(&self, name: &str) -> io::Result<u64> {
        // Blocks of 512 bytes, whatever the file system's own are.
        Ok(std::fs::metadata(self.path.join(name))?.blocks() * 512)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.sync()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

/// A file as redb wants it. Not locked: whoever opens it holds the directory's lock.
#[derive(Debug)]
struct DiskFile(File);

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// Any backend as one type, which redb's builder needs.
#[derive(Debug)]
pub(crate) struct AnyFile(pub(crate) Box<dyn StorageBackend>);

impl StorageBackend for AnyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
