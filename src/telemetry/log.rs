//! Where log lines go: standard error, or a file while a dashboard owns the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The size at which a log file is put aside.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// How many log files there are, the current one included.
const FILES_MAX: usize = 3;

#[derive(Clone, Debug)]
pub struct Options {
    pub filter: Filter,
    pub format: Format,
}

/// What is logged, in tracing's syntax: `info`, `info,cutover::store=debug`.
#[derive(Clone, Debug)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder()
            .parse(text)
            .map(|_| Self(text.to_owned()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug)]
pub enum Target {
    Stderr,
    /// A rotated file, for while a dashboard is on the screen.
    File(PathBuf),
}

/// Starts logging for the life of the process; a second call changes nothing.
pub fn start(options: &Options, target: Target) -> io::Result<()> {
    let filter = EnvFilter::new(&options.filter.0);
    match target {
        Target::Stderr => install(options.format, filter, io::stderr),
        Target::File(path) => install(options.format, filter, RotatedFile::open(&path)?),
    }
    Ok(())
}

fn install<W>(format: Format, filter: EnvFilter, writer: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let installed = match format {
        Format::Text => builder.with_ansi(false).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(installed);
}

/// A log file that is put aside as `.1`, `.2` when it is full.
#[derive(Clone, Debug)]
struct RotatedFile {
    path: PathBuf,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
}

impl RotatedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let current = Current::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            current: Arc::new(Mutex::new(current)),
        })
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

fn aside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    PathBuf::from(name)
}

impl Write for &RotatedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.bytes > 0 && current.bytes + line.len() as u64 > FILE_BYTES_MAX {
            for number in (1..FILES_MAX).rev() {
                match std::fs::rename(aside(&self.path, number - 1), aside(&self.path, number)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            *current = Current::open(&self.path)?;
        }
        current.file.write_all(line)?;
        current.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .file
            .flush()
    }
}

impl<'writer> MakeWriter<'writer> for RotatedFile {
    type Writer = &'writer RotatedFile;

    fn make_writer(&'writer self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cutover.log");
        let file = RotatedFile::open(&path).unwrap();
        let line = vec![b'x'; (FILE_BYTES_MAX / 2 + 1) as usize];
        for _ in 0..5 {
            (&file).write_all(&line).unwrap();
        }
        let names: Vec<_> = (0..4).map(|number| aside(&path, number).exists()).collect();
        assert_eq!(names, [true, true, true, false]);
    }

    #[test]
    fn a_malformed_filter_is_refused() {
        assert!("info,cutover=loud".parse::<Filter>().is_err());
        assert!("info,cutover::store=debug".parse::<Filter>().is_ok());
    }
}
