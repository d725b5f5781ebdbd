//! A simulated disk: keeps all files in memory, logs every operation in one global order, and fails or
//! runs out of space when told to.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::super::medium::{Medium, Space};

/// The unit in which a write is torn.
const SECTOR: usize = 512;

/// One operation, as the disk was told.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create(String),
    Write {
        file: usize,
        offset: usize,
        data: Vec<u8>,
    },
    SetLen {
        file: usize,
        len: usize,
    },
    Sync {
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    /// Not the disk's: so many batches were acknowledged before what follows.
    Acknowledged(u64),
}

/// What a disk holds: names, and the contents of every file there ever was.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<String, usize>,
    pub(super) files: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    log: Vec<Operation>,
    /// Operations, reads included, until one fails.
    fails_in: Option<usize>,
    free_bytes: Option<u64>,
}

/// Cloning shares the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    pub(super) fn of(image: Image) -> Self {
        let disk = Self::default();
        disk.state().image = image;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn acknowledge(&self, batches: u64) {
        self.state().log.push(Operation::Acknowledged(batches));
    }

    pub(super) fn take_log(&self) -> Vec<Operation> {
        std::mem::take(&mut self.state().log)
    }

    pub(super) fn image(&self) -> Image {
        self.state().image.clone()
    }

    /// The operation after so many more fails, once.
    pub(super) fn fail_in(&self, operations: usize) {
        self.state().fails_in = Some(operations);
    }

    /// Whether the failure that was asked for came about.
    pub(super) fn has_failed(&self) -> bool {
        self.state().fails_in.is_none()
    }

    pub(super) fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.state().free_bytes = free_bytes;
    }

    /// Locks the disk for one operation, unless that is the one that fails.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.fails_in {
            Some(0) => {
                state.fails_in = None;
                Err(io::Error::other("simulated failure"))
            }
            Some(left) => {
                state.fails_in = Some(left - 1);
                Ok(state)
            }
            None => Ok(state),
        }
    }
}

impl Medium for Disk {
    fn dir(&self) -> &Path {
        Path::new("/simulated")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.operate()?.image.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.operate()?;
        let known = state.image.names.get(name).copied();
        let file = known.unwrap_or_else(|| state.apply(Operation::Create(name.to_owned())));
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            file,
        }))
    }

    fn allocated(&self, name: &str) -> io::Result<u64> {
        let state = self.operate()?;
        let file = *state.image.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.image.files[file].len() as u64)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.operate()?.apply(Operation::Rename { from, to });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate()?.apply(Operation::Remove(name.to_owned()));
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let total_bytes = 1 << 40;
        Ok(Space {
            free_bytes: self.operate()?.free_bytes.unwrap_or(total_bytes),
            total_bytes,
        })
    }
}

impl State {
    /// Logs and does; answers the number of a file that was created.
    fn apply(&mut self, operation: Operation) -> usize {
        self.image.apply(&operation);
        self.log.push(operation);
        self.image.files.len().saturating_sub(1)
    }
}

impl Image {
    fn is_named(&self, file: usize) -> bool {
        self.names.values().any(|&named| named == file)
    }

    pub(super) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(name) => {
                self.names.insert(name.clone(), self.files.len());
                self.files.push(Vec::new());
            }
            Operation::Write { file, offset, data } => {
                let contents = &mut self.files[*file];
                let end = offset + data.len();
                contents.resize(contents.len().max(end), 0);
                contents[*offset..end].copy_from_slice(data);
            }
            Operation::SetLen { file, len } => self.files[*file].resize(*len, 0),
            Operation::Rename { from, to } => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
            }
            Operation::Remove(name) => {
                self.names.remove(name).unwrap();
            }
            Operation::Sync { .. } | Operation::Acknowledged(_) => {}
        }
    }
}

/// Replays a log and gives the images that a crash may leave behind.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// What is on the disk for certain.
    durable: Image,
    /// What the disk was told of each file since it was last synced.
    pending: Vec<Operation>,
    pub(super) acknowledged: u64,
}

impl Replay {
    pub(super) fn advance(&mut self, operation: Operation) {
        match operation {
            Operation::Acknowledged(batches) => self.acknowledged = batches,
            Operation::Sync { file: synced } => {
                let durable = &mut self.durable;
                self.pending.retain(|pending| match pending {
                    Operation::Write { file, .. } | Operation::SetLen { file, .. }
                        if *file == synced =>
                    {
                        durable.apply(pending);
                        false
                    }
                    _ => true,
                });
            }
            Operation::Write { file, .. } | Operation::SetLen { file, .. } => {
                if self.durable.is_named(file) {
                    self.pending.push(operation);
                }
            }
            // Names are durable when the call returns: the directory is synced within.
            Operation::Create(_) => self.durable.apply(&operation),
            Operation::Rename { .. } | Operation::Remove(_) => {
                self.durable.apply(&operation);
                self.forget_unnamed();
            }
        }
    }

    /// Drops what no crash can bring back.
    fn forget_unnamed(&mut self) {
        for file in 0..self.durable.files.len() {
            if !self.durable.is_named(file) {
                self.durable.files[file] = Vec::new();
            }
        }
        let durable = &self.durable;
        self.pending.retain(|pending| match pending {
            Operation::Write { file, .. } | Operation::SetLen { file, .. } => {
                durable.is_named(*file)
            }
            _ => true,
        });
    }

    /// One of the images that a crash now may leave: of what was not synced, each write is there, or
    /// is not, or some of its sectors are.
    pub(super) fn crash(&self, random: &mut Random) -> Image {
        let mut image = self.durable.clone();
        for operation in &self.pending {
            match (random.below(3), operation) {
                (0, _) => {}
                (1, Operation::Write { file, offset, data }) => {
                    for (sector, part) in data.chunks(SECTOR).enumerate() {
                        if random.below(2) == 0 {
                            image.apply(&Operation::Write {
                                file: *file,
                                offset: offset + sector * SECTOR,
                                data: part.to_vec(),
                            });
                        }
                    }
                }
                (_, operation) => image.apply(operation),
            }
        }
        image
    }
}

/// A small generator of numbers that are the same every time.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: usize,
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.operate()?.image.files[self.file].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.operate()?;
        let start = offset as usize;
        let bytes = state.image.files[self.file]
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (file, len) = (self.file, len as usize);
        self.disk.operate()?.apply(Operation::SetLen { file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.file;
        self.disk.operate()?.apply(Operation::Sync { file });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.operate()?.apply(Operation::Write {
            file: self.file,
            offset: offset as usize,
            data: data.to_vec(),
        });
        Ok(())
    }
}
