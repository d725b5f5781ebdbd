//! The embedded time-series store: one directory, one writer, many readers.
//!
//! Acknowledged means durable and visible. A batch is decided upon by the one writer thread, committed
//! to `wal.redb`, published in the head, and only then answered. From time to time the whole head is
//! sealed into compressed blocks in a `data` file by a second thread. A snapshot sees each sample
//! exactly once, whatever the two threads are doing.
//!
//! What the samples mean is not known here; records are opaque outside [`record`].
//!
//! # The format on disk
#![doc = include_str!("store/format.md")]

mod accept;
mod alias;
mod append;
mod assemble;
mod backup;
mod block;
mod bytes;
mod codec;
mod column;
mod compact;
mod data;
mod deletion;
mod entry;
pub mod error;
mod files;
mod forget;
mod gather;
mod growth;
mod handle;
mod head;
mod index;
mod live;
mod lock;
mod manifest;
mod medium;
mod merge;
mod outline;
mod overlay;
pub(crate) mod parallel;
mod queue;
mod reader;
pub mod record;
mod recover;
mod seal;
mod select;
mod shadow;
mod slots;
mod stats;
mod tally;
mod upkeep;
mod verify;
mod wal;
mod walk;
mod window;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::oneshot;

pub use append::{Append, Fill};
pub use backup::{Backup, Head};
pub use compact::{Compacted, compact};
pub use error::Error;
pub use growth::NewSeries;
pub use index::cardinality::{Cardinality, Frequency};
pub use reader::{Reader, Snapshot};
pub use record::Table;
pub use stats::{BlockStats, CodecStats, IndexStats, Stats};
pub use tally::{Counts, Done};
pub use verify::{Fault, Verified, verify};
pub use walk::{Selection, Walk};

use self::files::Files;
use self::growth::Growth;
use self::live::Live;
use self::lock::Lock;
use self::manifest::Manifest;
use self::medium::{Directory, Medium};
use self::outline::Outlines;
use self::queue::{Intake, Queue, Request};
use self::recover::Recovered;
use self::tally::Tally;
use self::writer::WriterThread;
use crate::model::{Batch, Clock, Labels, Matcher, MetricMetadata, Sample, TimeRange, Timestamp};

/// The version of the format on disk that this program writes.
pub const FORMAT: u32 = files::FORMAT;

/// What is known of each metric, kept as records like any other.
const METADATA: Table<MetricMetadata> = Table::new("store.metadata", 1);

/// What is wrong with a record of metadata, if it is one.
fn check_metadata(table: &str, value: &[u8]) -> Option<Error> {
    (table == METADATA.name())
        .then(|| METADATA.decode(value).err())
        .flatten()
}

/// What an operator may set about the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples older than this are refused and dropped; `None` keeps everything.
    pub retention: Option<Duration>,
    /// Bytes of samples held in memory before writers are told to wait.
    pub memory_bytes_max: u64,
    /// Series that may exist at once.
    pub series_max: usize,
    /// The part of the file system that must stay free, in percent.
    pub disk_free_percent_min: u8,
    /// The server's address, written to the lock file so that a second process can name the first.
    pub listen: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_secs(90 * 86_400)),
            memory_bytes_max: 512 << 20,
            series_max: 1_000_000,
            disk_free_percent_min: 5,
            listen: None,
        }
    }
}

/// When the head is sealed; for tests to change.
#[derive(Clone, Copy, Debug)]
struct SealRule {
    /// Once both the rows and the series have grown enough,
    row_bytes: u64,
    samples_per_series: u64,
    /// or after this time.
    age: Duration,
}

impl Default for SealRule {
    fn default() -> Self {
        Self {
            row_bytes: 2 << 20,
            samples_per_series: 30,
            age: Duration::from_secs(30 * 60),
        }
    }
}

/// The open store. Dropping it closes it; [`Store::close`] also reports what went wrong.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    dir: PathBuf,
    /// Held until the files are closed; a simulated disk needs none.
    lock: Option<Lock>,
}

/// What the store's threads and its readers share.
#[derive(Debug)]
struct Shared {
    files: Files,
    medium: Arc<dyn Medium>,
    options: Options,
    seal_rule: SealRule,
    clock: Arc<dyn Clock>,
    queue: Queue,
    live: RwLock<Arc<Live>>,
    manifest: RwLock<Arc<Manifest>>,
    tally: Tally,
    growth: Mutex<Growth>,
    outlines: Outlines,
    /// What the tables beside the blocks took in a revision of the data file.
    small_bytes: Mutex<Option<(u64, u64)>>,
}

impl Shared {
    fn live(&self) -> Arc<Live> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_live(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }

    fn manifest(&self) -> Arc<Manifest> {
        self.manifest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_manifest(&self, manifest: Manifest) {
        *self
            .manifest
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(manifest);
    }

    /// The sequence number up to which everything is sealed.
    fn applied(&self) -> Result<u64, Error> {
        let transaction = self.files.data.begin_read()?;
        self.files.data.contain(|| data::applied(&transaction))
    }

    /// What is older than this is neither accepted nor served.
    fn cutoff(&self) -> Option<Timestamp> {
        let retention = self.options.retention?;
        Some(self.clock.now().before(retention))
    }

    /// Refuses to begin a transaction of so many bytes that the file system might not hold.
    fn check_space(&self, bytes: u64) -> Result<(), Error> {
        self.check_space_of(&*self.medium, bytes)
    }

    /// The same of another place.
    fn check_space_of(&self, medium: &dyn Medium, bytes: u64) -> Result<(), Error> {
        let io = |source| Error::Io {
            path: medium.dir().to_owned(),
            source,
        };
        let space = medium.space().map_err(io)?;
        let reserve = space.total_bytes / 100 * u64::from(self.options.disk_free_percent_min);
        // Twice: redb writes a page anew for every page that it changes.
        let needed_bytes = reserve.saturating_add(bytes.saturating_mul(2));
        if space.free_bytes < needed_bytes {
            return Err(Error::DiskFull {
                path: medium.dir().to_owned(),
                free_bytes: space.free_bytes,
                needed_bytes,
            });
        }
        Ok(())
    }
}

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The write-ahead sequence of the commit that holds the batch.
    pub seq: u64,
    /// Samples now stored, identical duplicates included.
    pub accepted: u64,
    /// Samples left out, with the first offender; the rest of the batch is stored.
    pub rejected: u64,
    /// The same by reason, each reason that occurred once.
    pub rejected_by_reason: Vec<(RejectReason, u64)>,
    pub first_rejection: Option<Rejection>,
}

/// One sample that was refused.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub labels: Labels,
    pub sample: Sample,
    pub reason: RejectReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    #[error("another value is stored for this timestamp")]
    DuplicateTimestamp,
    #[error("older than the retention")]
    TooOld,
    #[error("more than 10 minutes ahead of the clock")]
    TooFarAhead,
    #[error("too many series (store.series_max)")]
    TooManySeries,
}

/// The way in. Cloning is cheap; all clones feed the one writer.
#[derive(Clone, Debug)]
pub struct Writer {
    shared: Arc<Shared>,
}

impl Store {
    /// Opens the store in a directory, making both where they are not there yet. Everything that was
    /// ever acknowledged is there when it returns.
    pub fn open(dir: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let lock = Lock::acquire(dir, options.listen.as_deref(), clock.now())?;
        let medium = Arc::new(Directory::new(dir));
        let mut store = Self::open_on(medium, options, SealRule::default(), clock)?;
        store.lock = Some(lock);
        Ok(store)
    }

    fn open_on(
        medium: Arc<dyn Medium>,
        options: Options,
        seal_rule: SealRule,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let files = Files::open(&medium)?;
        let Recovered {
            live,
            applied,
            row_bytes,
        } = Recovered::load(&files)?;
        if wal::has_sealed_rows(&files.wal, applied)? {
            wal::cut(&files.wal, applied)?;
        }
        let transaction = files.data.begin_read()?;
        let manifest = files.data.contain(|| data::load_manifest(&transaction))?;
        drop(transaction);
        let series = live.index().next_id().into();
        let shared = Arc::new(Shared {
            tally: Tally::default(),
            growth: Mutex::new(Growth::new(clock.monotonic(), series)),
            outlines: Outlines::default(),
            small_bytes: Mutex::default(),
            files,
            medium,
            options,
            seal_rule,
            clock,
            queue: Queue::new(),
            live: RwLock::new(Arc::new(live)),
            manifest: RwLock::new(Arc::new(manifest)),
        });
        let (jobs, job_list) = sync_channel(1);
        let writer = WriterThread::new(shared.clone(), jobs, applied, row_bytes);
        let mut store = Self {
            dir: shared.medium.dir().to_owned(),
            shared: shared.clone(),
            threads: Vec::new(),
            lock: None,
        };
        store.spawn("store-upkeep", move || upkeep::run(&shared, &job_list))?;
        store.spawn("store-writer", move || writer.run())?;
        Ok(store)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body);
        self.threads.push(thread.map_err(|source| Error::Io {
            path: self.dir.clone(),
            source,
        })?);
        Ok(())
    }

    pub fn writer(&self) -> Writer {
        Writer {
            shared: self.shared.clone(),
        }
    }

    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Seals everything acknowledged before the call, so that a backup of the data file holds it.
    pub fn seal(&self) -> Result<(), Error> {
        block_on(self.writer().seal())
    }

    /// Merges what there is to merge and gives dead space back, instead of waiting until it is due.
    pub fn settle(&self) -> Result<(), Error> {
        block_on(self.writer().settle())
    }

    /// Stops the writer after what is queued, and closes the files.
    pub fn close(mut self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        self.shared.queue.close();
        let mut result = Ok(());
        // The writer hangs up on the sealing thread when it ends.
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                result = Err(Error::Closed);
            }
        }
        let files = &self.shared.files;
        let closed = files.data.close().and(files.wal.close());
        drop(self.lock.take());
        result.and(closed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "store not closed cleanly"
            );
        }
    }
}

impl Writer {
    /// Queues a batch and waits until it is durable and visible.
    ///
    /// Cancelling the future after the batch is queued does not take it back.
    pub async fn write(&self, batch: Batch) -> Result<Written, Error> {
        let (reply, answer) = oneshot::channel();
        let intake = Intake { known: None, batch };
        self.shared.queue.write(intake, reply).await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Deletes the samples in a range of every series that passes all matchers of any selector, and
    /// answers how many series that concerns. It is durable and visible when it returns; the space comes
    /// back later.
    pub async fn delete(
        &self,
        selectors: Vec<Vec<Matcher>>,
        range: TimeRange,
    ) -> Result<u64, Error> {
        let (reply, answer) = oneshot::channel();
        let request = deletion::Request { selectors, range };
        self.shared.queue.post(Request::Delete(request, reply))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Store::seal`] without blocking the thread.
    pub async fn seal(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.post(Request::Seal(reply))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Store::settle`] without blocking the thread.
    pub async fn settle(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.post(Request::Settle(reply))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Writer::write`] for threads outside the async runtime.
    pub fn write_blocking(&self, batch: Batch) -> Result<Written, Error> {
        block_on(self.write(batch))
    }
}

/// Drives a future on this thread. Needs no runtime, and works within one as well.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    // Outside Tokio's budget: within a task it would run out and never be given back.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
