//! Merging, deletion, retention and giving space back.

use std::time::Duration;

use super::super::*;
use super::disk::Disk;
use crate::model::{ManualClock, Matcher, TimeRange};

const HOUR_MS: i64 = 3_600_000;
/// Noon of a day.
const NOW_MS: i64 = 19_700 * 24 * HOUR_MS + 12 * HOUR_MS;

fn open(disk: &Disk, clock: &Arc<ManualClock>, retention_days: Option<u64>) -> Store {
    let options = Options {
        retention: retention_days.map(|days| Duration::from_secs(days * 86_400)),
        ..Options::default()
    };
    let medium = Arc::new(disk.clone());
    Store::open_on(medium, options, SealRule::default(), clock.clone()).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)))
}

fn labels(job: u64) -> Labels {
    Labels::of(["a", "b"][job as usize % 2], &[("job", &job.to_string())])
}

/// A sample of each of so many series at a time.
fn batch(series: u64, at_ms: i64) -> Batch {
    let mut batch = Batch::default();
    for job in 0..series {
        let value = (at_ms / 1000 % 977) as f64 + job as f64;
        batch.push(labels(job), Sample::new(Timestamp::from_ms(at_ms), value));
    }
    batch
}

/// Writes and seals one generation after the other.
fn fill(store: &Store, series: u64, start_ms: i64, generations: i64, step_ms: i64, steps: i64) {
    for generation in 0..generations {
        for step in 0..steps {
            let at_ms = start_ms + (generation * steps + step) * step_ms;
            store.writer().write_blocking(batch(series, at_ms)).unwrap();
        }
        store.seal().unwrap();
    }
}

fn all(store: &Store) -> Vec<(String, Vec<(i64, u64)>)> {
    let snapshot = store.reader().snapshot().unwrap();
    let columns = snapshot.select(&[], TimeRange::ALL, usize::MAX).unwrap();
    columns
        .into_iter()
        .map(|column| {
            let samples = column.timestamps.iter().zip(&column.values);
            let samples = samples.map(|(at, value)| (at.ms(), value.to_bits()));
            (column.labels.to_string(), samples.collect())
        })
        .collect()
}

fn rows(store: &Store) -> usize {
    store.shared.manifest().rows.len()
}

#[test]
fn generations_of_a_day_become_one_and_nothing_changes_that_is_read() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock, None);
    // Yesterday from midnight on: five generations over ten hours.
    let start_ms = NOW_MS - 36 * HOUR_MS;
    fill(&store, 6, start_ms, 5, 60_000, 120);
    let before = all(&store);
    assert!(rows(&store) >= 5);
    store.settle().unwrap();
    assert_eq!(rows(&store), 1);
    assert_eq!(all(&store), before);
    store.close().unwrap();
    let store = open(&disk, &clock, None);
    assert_eq!((rows(&store), all(&store)), (1, before));
}

#[test]
fn of_two_values_for_a_time_the_first_stays_and_the_other_is_counted() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock, None);
    let at_ms = NOW_MS - 36 * HOUR_MS;
    let write = |job: u64, value: f64| {
        let mut batch = Batch::default();
        batch.push(labels(job), Sample::new(Timestamp::from_ms(at_ms), value));
        let written = store.writer().write_blocking(batch).unwrap();
        // What is sealed is not looked at when a sample comes.
        assert_eq!(written.accepted, 1);
    };
    let conflicts = || store.reader().stats().unwrap().counts.conflicts();
    write(0, 1.0);
    write(1, 1.0);
    store.seal().unwrap();
    write(0, 2.0);
    write(1, 1.0);
    store.seal().unwrap();
    assert_eq!(conflicts(), 0);
    store.settle().unwrap();
    assert_eq!((rows(&store), conflicts()), (1, 1));
    let sample = |value: f64| vec![(at_ms, value.to_bits())];
    let expected = [labels(0), labels(1)].map(|labels| (labels.to_string(), sample(1.0)));
    assert_eq!(all(&store), expected);
}

#[test]
fn windows_stay_apart_when_samples_are_kept_for_days_only() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock, Some(2));
    fill(&store, 3, NOW_MS - 36 * HOUR_MS, 4, 60_000, 60);
    let before = all(&store);
    store.settle().unwrap();
    assert_eq!(rows(&store), 2, "two windows of two hours");
    assert_eq!(all(&store), before);
}

/// Seals three generations of values that do not compress, each more than two slices.
fn fill_with_noise(store: &Store, start_ms: i64) {
    let mut noise = super::disk::Random(3);
    for generation in 0..3 {
        let mut batch = Batch::default();
        for job in 0..1200 {
            let samples = (0..400).map(|step| {
                let at = start_ms + (generation * 400 + step) * 7000;
                let value = f64::from_bits(noise.below(1 << 62));
                Sample::new(Timestamp::from_ms(at), value)
            });
            batch.samples.push(crate::model::SeriesSamples {
                labels: labels(job),
                samples: samples.collect(),
            });
        }
        store.writer().write_blocking(batch).unwrap();
        store.seal().unwrap();
    }
}

#[test]
fn a_merge_of_many_slices_is_whole_after_each() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock, None);
    fill_with_noise(&store, NOW_MS - 36 * HOUR_MS);
    let before = all(&store);
    let bytes: u64 = store.shared.manifest().bytes();
    assert!(bytes > 8 << 20, "{bytes} bytes are two slices at most");
    store.settle().unwrap();
    assert_eq!(rows(&store), 1);
    assert!(all(&store) == before);
    let dead = store.shared.files.data.allocated().unwrap() - store.shared.live_bytes().unwrap();
    assert!(dead < bytes / 2, "{dead} dead bytes beside {bytes}");
}

#[test]
fn what_is_deleted_is_gone_from_head_and_blocks_and_may_come_again() {
    let (disk, clock) = (Disk::default(), clock());
    let mut store = open(&disk, &clock, None);
    let start_ms = NOW_MS - 36 * HOUR_MS;
    fill(&store, 4, start_ms, 2, 60_000, 100);
    fill(&store, 4, start_ms + 300 * 60_000, 0, 60_000, 0);
    for step in 0..50 {
        let at_ms = start_ms + (200 + step) * 60_000;
        store.writer().write_blocking(batch(4, at_ms)).unwrap();
    }
    let range = TimeRange::new(
        Timestamp::from_ms(start_ms + 150 * 60_000),
        Timestamp::from_ms(start_ms + 220 * 60_000),
    )
    .unwrap();
    let delete = |store: &Store| {
        let selectors = vec![
            vec![Matcher::equal("job", "1")],
            vec![Matcher::equal("job", "2")],
        ];
        block_on(store.writer().delete(selectors, range)).unwrap()
    };
    let counts = |store: &Store| -> Vec<usize> {
        let all = all(store);
        all.iter().map(|(_, samples)| samples.len()).collect()
    };
    assert_eq!(delete(&store), 2);
    // Sorted by labels: a{0}, a{2}, b{1}, b{3}.
    let expected = [250, 179, 179, 250];
    assert_eq!(counts(&store), expected);
    let written = store
        .writer()
        .write_blocking(batch(4, start_ms + 160 * 60_000))
        .unwrap();
    assert_eq!((written.accepted, written.rejected), (4, 0));
    let again = [250, 180, 180, 250];
    assert_eq!(counts(&store), again);
    for _ in 0..2 {
        store.close().unwrap();
        store = open(&disk, &clock, None);
        assert_eq!(counts(&store), again, "after a restart");
        store.seal().unwrap();
        assert_eq!(counts(&store), again, "after a seal");
        store.settle().unwrap();
        assert_eq!(counts(&store), again, "after merging");
    }
    assert_eq!(
        store.shared.live().deletions().iter().count(),
        0,
        "it has ended"
    );
    assert_eq!(store.reader().stats().unwrap().sealed_samples, 860);
}

/// Does the first slice of the first purge there is, and no more.
fn purge_slice(disk: &Disk) {
    let medium: Arc<dyn Medium> = Arc::new(disk.clone());
    let files = Files::open(&medium).unwrap();
    let recovered = Recovered::load(&files).unwrap();
    let deletions = recovered.live.deletions();
    let transaction = files.data.begin_read().unwrap();
    let manifest = data::load_manifest(&transaction).unwrap();
    let merger = merge::Merger::new(&files.data, &transaction, &deletions).unwrap();
    let row = &manifest.rows[0];
    let purge = merge::Purge::of(row, None, recovered.applied);
    let (change, under_way) = merger.purge(row, purge).unwrap();
    assert!(under_way.is_some() && !change.insert.is_empty());
    assert!(change.insert_bytes() < 3 << 20, "{}", change.insert_bytes());
    drop(transaction);
    let revision = manifest.revision + 1;
    let written = files
        .data
        .write(|transaction| data::write_change(transaction, &change, revision));
    written.unwrap();
    files.data.close().unwrap();
    files.wal.close().unwrap();
}

#[test]
fn a_purge_of_many_slices_is_whole_after_each_and_goes_on_after_a_restart() {
    let (disk, clock) = (Disk::default(), clock());
    let mut store = open(&disk, &clock, Some(2));
    let start_ms = NOW_MS - 36 * HOUR_MS;
    fill_with_noise(&store, start_ms);
    store.settle().unwrap();
    let range = TimeRange::new(
        Timestamp::from_ms(start_ms + 100 * 7000),
        Timestamp::from_ms(start_ms + 199 * 7000),
    );
    let selector = vec![vec![Matcher::equal("__name__", "a")]];
    block_on(store.writer().delete(selector, range.unwrap())).unwrap();
    // Half of the series lack a hundred samples of 1,200.
    let expected = 600 * 1100 + 600 * 1200;
    let samples = |store: &Store| -> usize {
        let all = all(store);
        all.iter().map(|(_, samples)| samples.len()).sum()
    };
    assert_eq!(samples(&store), expected);
    store.close().unwrap();
    purge_slice(&disk);
    store = open(&disk, &clock, Some(2));
    let sealed = |store: &Store| store.reader().stats().unwrap().sealed_samples as usize;
    assert_eq!(samples(&store), expected);
    store.settle().unwrap();
    assert_eq!((sealed(&store), samples(&store)), (expected, expected));
    store.seal().unwrap();
    assert!(store.shared.live().deletions().is_empty());
    drop(store);
    let verified = verify::verify_on(Arc::new(disk), &mut |_, _| ()).unwrap();
    assert_eq!(verified.faults, []);
}

#[test]
fn a_deletion_reaches_the_part_that_is_being_sealed() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock, None);
    store.writer().write_blocking(batch(2, NOW_MS)).unwrap();
    // No room for blocks: the part is frozen and stays in memory.
    disk.set_free_bytes(Some(1000));
    store.seal().unwrap_err();
    disk.set_free_bytes(None);
    let selector = vec![vec![Matcher::equal("job", "0")]];
    block_on(store.writer().delete(selector, TimeRange::ALL)).unwrap();
    assert_eq!(all(&store).len(), 1);
    clock.advance(Duration::from_secs(60));
    store.seal().unwrap();
    assert_eq!(all(&store).len(), 1);
    store.close().unwrap();
    assert_eq!(all(&open(&disk, &clock, None)).len(), 1);
}

/// Three days of operation with a retention of one: the directory and the memory stay in proportion to
/// what is live.
#[test]
fn days_of_operation_keep_the_directory_in_proportion() {
    const SERIES: u64 = 300;
    // On a real file system, whose blocks are what counts: a file of redb's is longer than what it takes.
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let options = Options {
        retention: Some(Duration::from_secs(86_400)),
        ..Options::default()
    };
    let medium = Arc::new(Directory::new(dir.path()));
    let store = Store::open_on(medium, options, SealRule::default(), clock.clone()).unwrap();
    let mut head_bytes = 0;
    let mut worst = 0.0f64;
    let mut checks = 0;
    let mut noise = super::disk::Random(5);
    for step in 0..3 * 24 * 60 * 2 {
        clock.advance(Duration::from_secs(30));
        let now_ms = clock.now().ms();
        // Values that do not compress: few series are as much as many.
        let mut batch = batch(SERIES, now_ms);
        for series in &mut batch.samples {
            series.samples[0].value = f64::from_bits(noise.below(1 << 62));
        }
        store.writer().write_blocking(batch).unwrap();
        if step % (60 * 6) == 60 {
            let hour = TimeRange::new(
                Timestamp::from_ms(now_ms - 3 * HOUR_MS),
                Timestamp::from_ms(now_ms - 2 * HOUR_MS),
            );
            let selector = vec![vec![Matcher::equal("job", (step % SERIES).to_string())]];
            block_on(store.writer().delete(selector, hour.unwrap())).unwrap();
        }
        if step % 120 == 119 {
            // What the upkeep has to do is done before the clock goes on.
            store.seal().unwrap();
            store.settle().unwrap();
            head_bytes = head_bytes.max(store.shared.live().bytes());
            if step > 2 * 24 * 60 * 2 {
                let allocated = store.shared.files.allocated().unwrap();
                let live = store.shared.live_bytes().unwrap();
                worst = worst.max(allocated as f64 / live as f64);
                checks += 1;
            }
        }
    }
    let stats = store.reader().stats().unwrap();
    let samples = SERIES * 24 * 60 * 2;
    assert!(
        stats.sealed_samples < samples * 12 / 10,
        "{} samples of {samples} that are live",
        stats.sealed_samples
    );
    assert!(checks > 20);
    assert!(
        worst < 1.5,
        "the directory took {worst:.2} times what was live"
    );
    assert!(head_bytes < 16 << 20, "{head_bytes} bytes of head");
}
