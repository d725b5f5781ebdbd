//! Files that are damaged, missing, newer or another store's.

use redb::{Builder, ReadableTable as _, TableDefinition};

use xxhash_rust::xxh3::xxh3_64;

use super::super::bytes::put_row_checksum;
use super::super::medium::AnyFile;
use super::super::*;
use super::disk::{Disk, Image};
use crate::model::{Column, ManualClock, TimeRange};

const NOW_MS: i64 = 1_700_000_000_000;
const DATA: &str = "data-00000001.redb";
const WAL: &str = "wal.redb";

fn try_open(disk: &Disk) -> Result<Store, Error> {
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)));
    Store::open_on(
        Arc::new(disk.clone()),
        Options::default(),
        SealRule::default(),
        clock,
    )
}

const COUNT: Table<u64> = Table::new("count", 1);

/// A store of 2,000 samples and their count, sealed.
fn sealed() -> Disk {
    let disk = Disk::default();
    let store = try_open(&disk).unwrap();
    let mut batch = Batch::default();
    for at in 0..2000 {
        let timestamp = Timestamp::from_ms(NOW_MS - at * 500);
        let labels = Labels::of("up", &[("job", &(at % 20).to_string())]);
        batch.push(labels, Sample::new(timestamp, (at as f64).sqrt()));
    }
    batch.mutations.push(COUNT.put("count", &2000));
    store.writer().write_blocking(batch).unwrap();
    store.seal().unwrap();
    store.close().unwrap();
    disk
}

/// A row of a small table, as the store writes it.
fn row(value: &[u8], key: u64) -> Vec<u8> {
    let mut row = value.to_vec();
    put_row_checksum(&mut row, key);
    row
}

/// Changes a file's tables behind the store's back.
fn change(disk: &Disk, name: &str, body: impl FnOnce(&redb::WriteTransaction)) {
    let file = AnyFile(disk.open(name).unwrap());
    let database = Builder::new().create_with_backend(file).unwrap();
    let transaction = database.begin_write().unwrap();
    body(&transaction);
    transaction.commit().unwrap();
}

fn set_meta(disk: &Disk, name: &str, key: &str, value: &[u8]) {
    change(disk, name, |transaction| {
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
        let mut table = transaction.open_table(table).unwrap();
        let row = row(value, xxh3_64(key.as_bytes()));
        table.insert(key, row.as_slice()).unwrap();
    });
}

#[test]
fn a_damaged_block_is_found_and_named() {
    let blocks: TableDefinition<'_, (u8, i64, u64, u32, u32), &[u8]> =
        TableDefinition::new("blocks");
    for at in [0, 20, 100, 2000] {
        let disk = sealed();
        change(&disk, DATA, |transaction| {
            let mut table = transaction.open_table(blocks).unwrap();
            let (key, mut bytes) = {
                let (key, bytes) = table.first().unwrap().unwrap();
                (key.value(), bytes.value().to_vec())
            };
            bytes[at] ^= 1;
            table.insert(key, bytes.as_slice()).unwrap();
        });
        let store = try_open(&disk).unwrap();
        let snapshot = store.reader().snapshot().unwrap();
        let error = snapshot.select(&[], TimeRange::ALL, 5000).unwrap_err();
        assert!(error.to_string().contains(DATA), "{error}");
        assert!(
            error.to_string().contains("does not have its checksum"),
            "{error}"
        );
    }
}

#[test]
fn a_missing_block_is_an_error_and_not_an_absence() {
    let blocks: TableDefinition<'_, (u8, i64, u64, u32, u32), &[u8]> =
        TableDefinition::new("blocks");
    let disk = sealed();
    change(&disk, DATA, |transaction| {
        transaction.open_table(blocks).unwrap().pop_first().unwrap();
    });
    let store = try_open(&disk).unwrap();
    let error = store
        .reader()
        .snapshot()
        .unwrap()
        .select(&[], TimeRange::ALL, 5000)
        .unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn damage_anywhere_never_changes_a_value() {
    let intact = sealed().image();
    let read = |image: Image| -> Result<(Vec<Column>, Option<u64>), Error> {
        let store = try_open(&Disk::of(image))?;
        let snapshot = store.reader().snapshot()?;
        Ok((
            snapshot.select(&[], TimeRange::ALL, 5000)?,
            snapshot.record(&COUNT, b"count")?,
        ))
    };
    let (columns, count) = read(intact.clone()).unwrap();
    assert_eq!((columns.len(), count), (20, Some(2000)));
    let expected = format!("{columns:?}");
    let file = intact.names[DATA];
    let mut found = 0;
    // Pages are 4 KiB; what is not in use shows nothing when it is damaged.
    for start in (0..intact.files[file].len()).step_by(512) {
        let mut image = intact.clone();
        let bytes = &mut image.files[file][start..][..32];
        for byte in bytes.iter_mut() {
            *byte = !*byte;
        }
        match read(image) {
            Ok((columns, found)) => {
                assert_eq!(found, count, "at {start}");
                assert!(format!("{columns:?}") == expected, "at {start}");
            }
            Err(_) => found += 1,
        }
    }
    assert!(found > 10, "only {found} damaged places were found");
}

#[test]
fn a_newer_format_is_refused_naming_both() {
    for name in [DATA, WAL] {
        let disk = sealed();
        set_meta(&disk, name, "format", &9u32.to_le_bytes());
        let error = try_open(&disk).unwrap_err();
        let expected =
            format!("/simulated/{name} has format 9, this program knows formats up to 1");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_damaged_symbol_is_found_and_not_served_as_a_label() {
    let disk = sealed();
    change(&disk, DATA, |transaction| {
        let table: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("symbols");
        let mut table = transaction.open_table(table).unwrap();
        let mut bytes = table.get(1).unwrap().unwrap().value().to_vec();
        bytes[0] ^= 1;
        table.insert(1, bytes.as_slice()).unwrap();
    });
    let error = try_open(&disk).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("/simulated/{DATA} is corrupt: symbol 1: does not have its checksum")
    );
}

#[test]
fn files_of_two_stores_are_refused() {
    let disk = sealed();
    set_meta(&disk, WAL, "store", &[7; 16]);
    let error = try_open(&disk).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("07070707"), "{error}");
}

#[test]
fn a_missing_file_is_refused_and_not_made_anew() {
    for name in [DATA, WAL] {
        let disk = sealed();
        disk.remove(name).unwrap();
        let error = try_open(&disk).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "/simulated/{name} is missing: without it what was acknowledged is not complete"
            )
        );
    }
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let mut image = sealed().image();
    let file = image.names[WAL];
    image.files[file] = b"something else altogether".to_vec();
    let error = try_open(&Disk::of(image)).unwrap_err();
    assert!(error.to_string().contains(WAL), "{error}");
}

#[test]
fn a_damaged_row_of_the_write_ahead_file_is_refused_naming_it() {
    let disk = Disk::default();
    let store = try_open(&disk).unwrap();
    let mut batch = Batch::default();
    batch.push(
        Labels::of("up", &[]),
        Sample::new(Timestamp::from_ms(NOW_MS), 1.0),
    );
    store.writer().write_blocking(batch).unwrap();
    // As a kill leaves it: closing seals.
    let disk = Disk::of(disk.image());
    drop(store);
    change(&disk, WAL, |transaction| {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
        let mut table = transaction.open_table(table).unwrap();
        let mut bytes = table.get(1).unwrap().unwrap().value().to_vec();
        bytes[10] ^= 1;
        table.insert(1, bytes.as_slice()).unwrap();
    });
    let error = try_open(&disk).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("/simulated/{WAL} is corrupt: row 1: does not have its checksum")
    );
}

/// Directories from before series were forgotten lack what says where ids go on.
#[test]
fn a_file_that_does_not_say_which_series_comes_next_is_opened() {
    let disk = sealed();
    change(&disk, DATA, |transaction| {
        let meta = TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = transaction.open_table(meta).unwrap();
        for key in ["next_series", "next_symbol"] {
            assert!(meta.remove(key).unwrap().is_some(), "{key}");
        }
    });
    let store = try_open(&disk).unwrap();
    let index = store.shared.live();
    assert_eq!(index.index().next_id(), 20);
    let mut batch = Batch::default();
    let sample = Sample::new(Timestamp::from_ms(NOW_MS), 1.0);
    batch.push(Labels::of("up", &[("job", "another")]), sample);
    store.writer().write_blocking(batch).unwrap();
    store.close().unwrap();
    let store = try_open(&disk).unwrap();
    assert_eq!(store.shared.live().index().next_id(), 21);
}
