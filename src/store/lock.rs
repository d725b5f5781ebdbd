//! The lock on a data directory: one process at a time, and a second one is told who the first is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use super::Error;
use crate::model::Timestamp;

pub(crate) const NAME: &str = "cutover.lock";

/// Held as long as the value lives; the file stays behind, unlocked.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory where it is not there, and locks it.
    pub(crate) fn acquire(dir: &Path, listen: Option<&str>, now: Timestamp) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let refuse = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::NotWritable {
                    dir: dir.to_owned(),
                    source,
                }
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Error::NotDirectory {
                dir: dir.to_owned(),
            },
            _ => Error::Io {
                path: path.clone(),
                source,
            },
        };
        std::fs::create_dir_all(dir).map_err(refuse)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refuse)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(refuse)?;
                return Err(Error::Locked {
                    dir: dir.to_owned(),
                    holder: text.trim().replace('\n', ", "),
                });
            }
            Err(TryLockError::Error(source)) => return Err(refuse(source)),
        }
        let holder = format!(
            "pid {}\nlistening on {}\nsince {now}\n",
            std::process::id(),
            listen.unwrap_or("no address"),
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(refuse)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_about_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire(dir.path(), Some("127.0.0.1:9090"), Timestamp::EPOCH).unwrap();
        let error = Lock::acquire(dir.path(), None, Timestamp::EPOCH).unwrap_err();
        let expected = format!(
            "data directory {} is in use by pid {}, listening on 127.0.0.1:9090, since 1970-01-01T00:00:00.000Z",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        Lock::acquire(dir.path(), None, Timestamp::EPOCH).unwrap();
    }

    #[test]
    fn a_file_is_not_a_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Lock::acquire(file.path(), None, Timestamp::EPOCH).unwrap_err();
        assert!(matches!(error, Error::NotDirectory { .. }), "{error}");
    }
}
