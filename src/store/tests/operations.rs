//! Backup, verification, compaction, statistics, walks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{Builder, ReadableTable as _, TableDefinition};

use super::super::compact::compact_on;
use super::super::medium::AnyFile;
use super::super::verify::verify_on;
use super::super::*;
use super::disk::{Disk, Random, Replay};
use crate::model::{Column, ManualClock, MatchOp, Matcher, TimeRange};

const NOW_MS: i64 = 1_700_000_000_000;
const DATA: &str = "data-00000001.redb";
const WAL: &str = "wal.redb";
/// How many batches are stored.
const COUNT: Table<u64> = Table::new("count", 1);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)))
}

fn try_open(disk: &Disk) -> Result<Store, Error> {
    let medium = Arc::new(disk.clone());
    Store::open_on(medium, Options::default(), SealRule::default(), clock())
}

fn open(disk: &Disk) -> Store {
    try_open(disk).unwrap()
}

/// One sample of each of ten series, and the number of batches so far.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    for job in 0..10 {
        let labels = Labels::of(
            ["up", "load"][job % 2],
            &[("job", job.to_string().as_str())],
        );
        let at = Timestamp::from_ms(NOW_MS - 86_400_000 + number as i64 * 15_000);
        batch.push(labels, Sample::new(at, (number as f64).sqrt()));
    }
    batch.mutations.push(COUNT.put("count", &(number + 1)));
    batch
}

fn write(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        store.writer().write_blocking(batch(number)).unwrap();
    }
}

fn read(store: &Store) -> (Vec<Column>, Option<u64>) {
    let snapshot = store.reader().snapshot().unwrap();
    let columns = snapshot.select(&[], TimeRange::ALL, usize::MAX).unwrap();
    (columns, snapshot.record(&COUNT, b"count").unwrap())
}

fn shown(store: &Store) -> String {
    format!("{:?}", read(store))
}

fn verified(disk: &Disk) -> Verified {
    verify_on(Arc::new(disk.clone()), &mut |_, _| ()).unwrap()
}

fn faults(disk: &Disk) -> Vec<String> {
    let faults = verified(disk).faults;
    faults.iter().map(ToString::to_string).collect()
}

/// Sealed batches, and some that are in the write-ahead file only.
fn filled() -> Disk {
    let disk = Disk::default();
    let store = open(&disk);
    write(&store, 0..200);
    store.seal().unwrap();
    write(&store, 200..250);
    // Closing seals where there is room.
    disk.set_free_bytes(Some(1000));
    store.close().unwrap();
    disk.set_free_bytes(None);
    disk
}

#[test]
fn a_backup_beside_writes_and_merges_holds_what_was_acknowledged() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), Options::default(), clock()).unwrap();
    let written = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                write(&store, number..number + 1);
                number += 1;
                written.store(number, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                store.settle().unwrap();
            }
        });
        for copy in 0..4 {
            let before = written.load(Ordering::Acquire);
            let path = copies.path().join(copy.to_string());
            let backup = store.writer().backup(&path, Head::Seal).unwrap();
            assert!(backup.bytes > 0 && backup.seq >= before, "{backup:?}");
            let verified = verify(&path, &*clock(), |_, _| ()).unwrap();
            assert_eq!(verified.faults, []);
            let copied = Store::open(&path, Options::default(), clock()).unwrap();
            let (columns, count) = read(&copied);
            let count = count.unwrap_or(0);
            assert!(count >= before, "{count} of {before} batches");
            assert!(
                columns
                    .iter()
                    .all(|column| column.values.len() as u64 == count)
            );
            // The copy goes on by itself.
            let next = copied.writer().write_blocking(batch(count)).unwrap();
            assert_eq!((next.accepted, next.rejected), (10, 0));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_backup_goes_to_a_new_or_empty_directory_only() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), Options::default(), clock()).unwrap();
    write(&store, 0..3);
    std::fs::write(copies.path().join("notes.txt"), "mine").unwrap();
    for taken in [copies.path(), dir.path()] {
        let error = store.writer().backup(taken, Head::Seal).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }
    let names = std::fs::read_dir(copies.path()).unwrap().count();
    assert_eq!(names, 1, "nothing was made");
    // Without what is not sealed yet.
    let path = copies.path().join("a");
    let backup = store.writer().backup(&path, Head::Skip).unwrap();
    assert_eq!(backup.seq, 0);
}

#[test]
fn a_backup_that_broke_off_is_no_store() {
    let (disk, target) = (filled(), Disk::default());
    let store = open(&disk);
    let medium: Arc<dyn Medium> = Arc::new(target.clone());
    let backup = store.writer().backup_on(&medium, Head::Seal).unwrap();
    assert_eq!(backup.seq, 250);
    let expected = shown(&store);
    let (mut replay, mut random) = (Replay::default(), Random(11));
    let (mut refused, mut complete) = (0, 0);
    for operation in target.take_log() {
        replay.advance(operation);
        let image = replay.crash(&mut random);
        if !image.names.contains_key(DATA) && !image.names.contains_key(WAL) {
            continue;
        }
        match try_open(&Disk::of(image)) {
            Ok(copied) => {
                assert_eq!(shown(&copied), expected);
                complete += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Missing { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && complete > 0, "{refused}, {complete}");
}

#[test]
fn a_backup_without_room_leaves_nothing() {
    let (disk, target) = (filled(), Disk::default());
    let store = open(&disk);
    target.set_free_bytes(Some(1000));
    let medium: Arc<dyn Medium> = Arc::new(target.clone());
    let error = store.writer().backup_on(&medium, Head::Seal).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(target.image().names.is_empty());
}

#[test]
fn a_whole_store_verifies_and_is_not_changed_by_it() {
    let disk = filled();
    let before = disk.image();
    let verified = verified(&disk);
    assert_eq!(verified.faults, []);
    assert_eq!((verified.series, verified.samples), (10, 2000));
    assert_eq!((verified.rows, verified.records), (50, 1));
    assert!(verified.blocks >= 2 && verified.windows >= 1);
    assert!(disk.image().files == before.files);
    // Also one that was not closed.
    let store = open(&disk);
    write(&store, 250..260);
    assert_eq!(faults(&Disk::of(disk.image())), Vec::<String>::new());
}

#[test]
fn damage_that_is_read_is_damage_that_is_found() {
    let intact = filled().image();
    let expected = shown(&open(&Disk::of(intact.clone())));
    let mut found = 0;
    for name in [DATA, WAL] {
        let file = intact.names[name];
        for start in (0..intact.files[file].len()).step_by(1536) {
            let mut image = intact.clone();
            for byte in &mut image.files[file][start..][..16] {
                *byte = !*byte;
            }
            let is_found = !faults(&Disk::of(image.clone())).is_empty();
            found += u32::from(is_found);
            let is_same = try_open(&Disk::of(image)).is_ok_and(|store| {
                let snapshot = store.reader().snapshot();
                let columns = snapshot.and_then(|snapshot| {
                    let columns = snapshot.select(&[], TimeRange::ALL, usize::MAX)?;
                    Ok((columns, snapshot.record(&COUNT, b"count")?))
                });
                columns.is_ok_and(|read| format!("{read:?}") == expected)
            });
            assert!(is_found || is_same, "{name} at {start}");
        }
    }
    assert!(found > 10, "only {found} damaged places were found");
}

/// Changes a row of a table keyed by numbers behind the store's back.
fn change(disk: &Disk, name: &str, table: &str, key: u32) {
    let file = AnyFile(disk.open(name).unwrap());
    let database = Builder::new().create_with_backend(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let table: TableDefinition<'_, u32, &[u8]> = TableDefinition::new(table);
        let mut table = transaction.open_table(table).unwrap();
        let mut bytes = table.get(key).unwrap().unwrap().value().to_vec();
        bytes[0] ^= 1;
        table.insert(key, bytes.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn every_fault_is_listed_with_its_place() {
    let disk = filled();
    change(&disk, DATA, "symbols", 3);
    change(&disk, DATA, "series", 5);
    let blocks: TableDefinition<'_, (u8, i64, u64, u32, u32), &[u8]> =
        TableDefinition::new("blocks");
    let file = AnyFile(disk.open(DATA).unwrap());
    let database = Builder::new().create_with_backend(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(blocks).unwrap();
        let (key, _) = table.pop_first().unwrap().unwrap();
        drop(key);
        let (key, mut bytes) = {
            let (key, value) = table.last().unwrap().unwrap();
            (key.value(), value.value().to_vec())
        };
        bytes[60] ^= 4;
        table.insert(key, bytes.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let rows: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
    let file = AnyFile(disk.open(WAL).unwrap());
    let database = Builder::new().create_with_backend(file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(rows).unwrap().remove(220).unwrap();
    transaction.commit().unwrap();
    drop(database);

    let said = faults(&disk);
    let is_said = |parts: &[&str]| {
        let all = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert!(said.iter().any(|line| all(&line)), "{parts:?} in {said:#?}");
    };
    is_said(&["/simulated/data-00000001.redb: symbol 3: does not have its checksum"]);
    is_said(&["series 5: does not have its checksum"]);
    is_said(&["window 2023-11-13T", "generation 200", "is missing"]);
    is_said(&["metric ", "{job=", " to ", "does not have its checksum"]);
    is_said(&["holds", "blocks, the manifest names"]);
    is_said(&["/simulated/wal.redb: row 221: row 220 before it is missing"]);
}

#[test]
fn missing_and_foreign_files_are_faults() {
    for name in [DATA, WAL] {
        let disk = filled();
        disk.remove(name).unwrap();
        let said = faults(&disk).join("\n");
        assert!(said.contains(&format!("{name}: is missing")), "{said}");
    }
    let disk = filled();
    let other = filled().image();
    let mut image = disk.image();
    let file = image.names[WAL];
    image.files[file] = other.files[other.names[WAL]].clone();
    let said = faults(&Disk::of(image)).join("\n");
    assert!(said.contains("belongs to another store"), "{said}");
}

#[test]
fn compaction_gives_back_what_is_dead_and_keeps_the_rest() {
    // On a real file system, whose blocks are what counts: a new file of redb's is longer than what it takes.
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), Options::default(), clock()).unwrap();
    let compact = || compact(dir.path(), Options::default(), clock()).unwrap();
    let store = open();
    let mut noise = Random(5);
    for seal in 0..4 {
        let mut batch = Batch::default();
        for job in 0..500 {
            // Values that do not compress.
            let samples = (0..100).map(|step| {
                let at = NOW_MS - 36_000_000 + (seal * 100 + step) * 15_000;
                let value = f64::from_bits(noise.below(1 << 62));
                Sample::new(Timestamp::from_ms(at), value)
            });
            batch.samples.push(crate::model::SeriesSamples {
                labels: Labels::of("noise", &[("job", &job.to_string())]),
                samples: samples.collect(),
            });
        }
        store.writer().write_blocking(batch).unwrap();
        store.seal().unwrap();
    }
    let selector = Matcher::new("job".to_owned(), MatchOp::NotRegex, ".".to_owned()).unwrap();
    block_on(store.writer().delete(vec![vec![selector]], TimeRange::ALL)).unwrap();
    write(&store, 0..10);
    let expected = shown(&store);
    store.close().unwrap();
    let compacted = compact();
    // Ten series of noise are left, and ten others.
    assert_eq!(compacted.samples, 4000 + 100);
    let (before, after) = (compacted.before_bytes, compacted.after_bytes);
    assert!(after < before / 2, "{compacted:?}");
    let verified = verify(dir.path(), &*clock(), |_, _| ()).unwrap();
    assert_eq!(verified.faults, []);
    let store = open();
    assert_eq!(shown(&store), expected);
    let stats = store.reader().stats().unwrap();
    assert_eq!((stats.head_samples, stats.sealed_samples), (0, 4100));
    assert_eq!(stats.deletions, 0);
    store.close().unwrap();
    // Again there is nothing to gain, and nothing goes wrong.
    let again = compact();
    assert!(again.after_bytes <= after + after / 4, "{again:?}");
}

#[test]
fn compaction_without_room_changes_nothing() {
    let disk = filled();
    let expected = shown(&open(&disk));
    disk.set_free_bytes(Some(1000));
    let medium: Arc<dyn Medium> = Arc::new(disk.clone());
    let error = compact_on(&medium, Options::default(), clock()).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(shown(&open(&disk)), expected);
}

#[test]
fn statistics_count_what_there_is_and_what_was_done() {
    let disk = Disk::default();
    let store = open(&disk);
    write(&store, 0..100);
    let mut conflicting = batch(5);
    for series in &mut conflicting.samples {
        series.samples[0].value = -1.0;
    }
    conflicting.mutations.clear();
    store.writer().write_blocking(conflicting).unwrap();
    let stats = store.reader().stats().unwrap();
    assert_eq!((stats.series, stats.head_samples), (10, 1000));
    assert_eq!((stats.new_series.last_hour, stats.generations), (10, 0));
    assert_eq!(stats.bytes_per_sample(), None);
    assert_eq!(
        (stats.counts.commits.count, stats.counts.conflicts()),
        (100, 10)
    );
    store.seal().unwrap();
    store.settle().unwrap();
    let stats = store.reader().stats().unwrap();
    assert_eq!((stats.head_samples, stats.sealed_samples), (0, 1000));
    assert!(stats.counts.seals.count == 1 && stats.counts.failures == 0);
    assert!(stats.blocks >= 2 && stats.windows >= 1);
    assert!((0.0..1.0).contains(&stats.dead_ratio()));
    let scanned = store.reader().block_stats().unwrap();
    assert_eq!(scanned.blocks, stats.blocks);
    let samples: u64 = scanned.values.iter().map(|codec| codec.samples).sum();
    assert_eq!(samples, 1000);
    // Square roots are no short decimals, but for a few.
    assert_eq!(scanned.values[0].codec, "xor");
    assert_eq!(scanned.timestamps[0].codec, "grid");
    let index = store.reader().index_stats(1);
    assert_eq!(index.cardinality.series_by_metric.len(), 1);
    assert_eq!(index.cardinality.label_pairs, 12);
    let span = index.span.unwrap();
    assert_eq!(span.start().ms(), NOW_MS - 86_400_000);
}

#[test]
fn a_walk_in_small_pieces_meets_every_sample_once_and_in_order() {
    let disk = Disk::default();
    let store = open(&disk);
    write(&store, 0..150);
    store.seal().unwrap();
    write(&store, 150..300);
    let (expected, _) = read(&store);
    let selection = store.reader().selection(&[vec![], vec![]]).unwrap();
    assert_eq!(selection.metrics().collect::<Vec<_>>(), ["load", "up"]);
    let mut met: Vec<Column> = Vec::new();
    for metric in selection.metrics() {
        let mut walk = selection.walk_in(metric, TimeRange::ALL, 70);
        while let Some(columns) = walk.next().unwrap() {
            for column in columns {
                match met.last_mut() {
                    Some(last) if last.labels == column.labels => {
                        last.timestamps = [&*last.timestamps, &*column.timestamps].concat().into();
                        last.values.extend(column.values);
                    }
                    _ => met.push(column),
                }
            }
        }
    }
    met.sort_by(|left, right| left.labels.cmp(&right.labels));
    assert_eq!(format!("{met:?}"), format!("{expected:?}"));
}
