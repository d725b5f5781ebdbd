//! Failing and full disks: what was acknowledged is there, exactly once, and records agree with the
//! samples that were committed with them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::super::*;
use super::disk::Disk;
use crate::model::{ManualClock, TimeRange};

const NOW_MS: i64 = 1_700_000_000_000;
const SERIES: u64 = 5;

/// How many batches are stored.
const COUNT: Table<u64> = Table::new("count", 1);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)))
}

fn try_open(disk: &Disk, clock: &Arc<ManualClock>) -> Result<Store, Error> {
    let options = Options {
        retention: None,
        ..Options::default()
    };
    Store::open_on(
        Arc::new(disk.clone()),
        options,
        SealRule::default(),
        clock.clone(),
    )
}

fn sample(batch: u64) -> (Labels, Sample) {
    let labels = Labels::of("batches", &[("series", &(batch % SERIES).to_string())]);
    // Every tenth sample is of a day long past, out of order.
    let back_ms = if batch % 10 == 9 { 300_000_000 } else { 0 };
    let at = NOW_MS - 1_000_000 - back_ms + batch as i64 * 1000;
    (
        labels,
        Sample::new(Timestamp::from_ms(at), batch as f64 / 8.0),
    )
}

/// The batch that comes after so many: a sample, and the count that includes it.
fn batch(stored: u64) -> Batch {
    let mut batch = Batch::default();
    let (labels, sample) = sample(stored);
    batch.push(labels, sample);
    batch.mutations.push(COUNT.put("count", &(stored + 1)));
    batch
}

/// Checks that the samples are those of the first so many batches, each once, and answers how many.
fn check(store: &Store) -> u64 {
    let snapshot = store.reader().snapshot().unwrap();
    let stored = snapshot.record(&COUNT, b"count").unwrap().unwrap_or(0);
    let mut expected: Vec<_> = (0..stored).map(sample).collect();
    expected.sort_by(|left, right| (&left.0, left.1.timestamp).cmp(&(&right.0, right.1.timestamp)));
    let columns = snapshot.select(&[], TimeRange::ALL, usize::MAX).unwrap();
    let found: Vec<_> = columns
        .iter()
        .flat_map(|column| {
            let samples = column.timestamps.iter().zip(&column.values);
            samples.map(|(&at, &value)| (column.labels.clone(), Sample::new(at, value)))
        })
        .collect();
    assert_eq!(found, expected);
    stored
}

fn begin_seal(store: &Store) -> oneshot::Receiver<Result<(), Error>> {
    let (reply, answer) = oneshot::channel();
    store.shared.queue.post(Request::Seal(reply)).unwrap();
    answer
}

#[test]
fn readers_see_every_sample_once_while_seals_run() {
    let disk = Disk::default();
    let store = try_open(&disk, &clock()).unwrap();
    let (snapshots, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = check(&store);
                assert!(now >= seen);
                seen = now;
                snapshots.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut stored = 0;
        while stored < 200 || snapshots.load(Ordering::Relaxed) < 50 {
            store.writer().write_blocking(batch(stored)).unwrap();
            if stored % 7 == 3 {
                drop(begin_seal(&store));
            }
            stored += 1;
            assert!(stored < 100_000, "the reader has stopped");
        }
        is_over.store(true, Ordering::Relaxed);
        store.seal().unwrap();
        assert_eq!(store.reader().stats().unwrap().sealed_samples, stored);
    });
}

#[test]
fn after_a_failure_of_any_operation_the_store_recovers() {
    const BATCHES: u64 = 14;
    let mut failed = 0;
    for operation in 0.. {
        let disk = Disk::default();
        let clock = clock();
        drop(try_open(&disk, &clock).unwrap());
        disk.fail_in(operation);
        // Whoever starts a server on a failing disk tries again.
        let store = (0..3).find_map(|_| try_open(&disk, &clock).ok()).unwrap();
        // Whatever fails is tried again later; what is sent again is stored once.
        let insist = |body: &mut dyn FnMut() -> Result<(), Error>| {
            let mut tries = 0;
            while let Err(error) = body() {
                tries += 1;
                assert!(tries < 20, "operation {operation}: {error}");
                clock.advance(Duration::from_secs(11));
            }
        };
        let write = |stored: u64| store.writer().write_blocking(batch(stored)).map(|_| ());
        for stored in 0..BATCHES {
            insist(&mut || write(stored));
            if stored % 6 == 5 {
                insist(&mut || store.seal());
            }
        }
        insist(&mut || {
            // A write wakes the writer, which sees to what a reader ran into.
            write(BATCHES - 1)?;
            let snapshot = store.reader().snapshot()?;
            snapshot.select(&[], TimeRange::ALL, 1000).map(|_| ())
        });
        if !disk.has_failed() {
            break;
        }
        failed += 1;
        assert_eq!(check(&store), BATCHES);
        drop(store);
        assert_eq!(check(&try_open(&disk, &clock).unwrap()), BATCHES);
    }
    assert!(failed > 100, "only {failed} operations failed");
}

#[test]
fn a_full_disk_refuses_writes_and_lets_reads_go_on() {
    let disk = Disk::default();
    let store = try_open(&disk, &clock()).unwrap();
    store.writer().write_blocking(batch(0)).unwrap();
    disk.set_free_bytes(Some(1000));
    let error = store.writer().write_blocking(batch(1)).unwrap_err();
    assert!(
        matches!(&error, Error::DiskFull { free_bytes: 1000, needed_bytes, .. } if *needed_bytes > 1000),
        "{error}"
    );
    assert!(matches!(store.seal().unwrap_err(), Error::NotSealed { .. }));
    assert_eq!(check(&store), 1);
    disk.set_free_bytes(None);
    store.writer().write_blocking(batch(1)).unwrap();
    assert_eq!(check(&store), 2);
}
