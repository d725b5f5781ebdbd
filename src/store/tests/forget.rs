//! Series that lost their last sample: they go, and come back as others.

use std::time::Duration;

use redb::ReadableTableMetadata as _;

use super::super::*;
use super::disk::Disk;
use crate::model::{ManualClock, Matcher, SeriesId, TimeRange};

const HOUR: Duration = Duration::from_secs(3600);
const NOW_MS: i64 = 1_700_000_000_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)))
}

fn open(disk: &Disk, clock: &Arc<ManualClock>) -> Store {
    let options = Options {
        retention: Some(12 * HOUR),
        ..Options::default()
    };
    let medium = Arc::new(disk.clone());
    Store::open_on(medium, options, SealRule::default(), clock.clone()).unwrap()
}

fn labels(job: &str) -> Labels {
    Labels::of("up", &[("job", job)])
}

/// Writes a sample of each job, taken now.
fn write(store: &Store, jobs: &[&str]) {
    let mut batch = Batch::default();
    for job in jobs {
        batch.push(labels(job), Sample::new(store.shared.clock.now(), 1.0));
    }
    let written = store.writer().write_blocking(batch).unwrap();
    assert_eq!(written.accepted, jobs.len() as u64);
}

/// Has the upkeep done, and what it decided sealed.
fn settle(store: &Store) {
    store.seal().unwrap();
    store.settle().unwrap();
    store.seal().unwrap();
}

fn delete(store: &Store, job: &str) {
    let selector = vec![vec![Matcher::equal("job", job)]];
    block_on(store.writer().delete(selector, TimeRange::ALL)).unwrap();
}

fn id(store: &Store, job: &str) -> Option<u32> {
    let live = store.shared.live();
    live.index().find(&labels(job)).map(|series| series.0)
}

/// The jobs that the index knows, with samples or without.
fn jobs(store: &Store) -> Vec<String> {
    let live = store.shared.live();
    let index = live.index();
    let series = index.select(&[]).into_iter();
    series
        .map(|series| index.labels(series).value("job").to_owned())
        .collect()
}

fn rows(store: &Store) -> u64 {
    let data = &store.shared.files.data;
    let transaction = data.begin_read().unwrap();
    let series = transaction.open_table(data::SERIES).unwrap();
    series.len().unwrap()
}

fn symbol_rows(store: &Store) -> u64 {
    let data = &store.shared.files.data;
    let transaction = data.begin_read().unwrap();
    let symbols = transaction.open_table(data::SYMBOLS).unwrap();
    symbols.len().unwrap()
}

fn times(snapshot: &Snapshot, job: &str) -> Vec<i64> {
    let matcher = Matcher::equal("job", job);
    let columns = snapshot
        .select(&[matcher], TimeRange::ALL, 100)
        .unwrap()
        .into_iter();
    columns
        .flat_map(|column| column.timestamps.to_vec())
        .map(Timestamp::ms)
        .collect()
}

#[test]
fn series_past_the_retention_are_forgotten_and_come_back_as_others() {
    let (disk, clock) = (Disk::default(), clock());
    let mut store = open(&disk, &clock);
    write(&store, &["a", "b"]);
    store.seal().unwrap();
    clock.advance(11 * HOUR);
    write(&store, &["b"]);
    settle(&store);
    assert_eq!(jobs(&store), ["a", "b"]);
    clock.advance(4 * HOUR);
    settle(&store);
    for _ in 0..2 {
        assert_eq!(jobs(&store), ["b"]);
        assert_eq!((id(&store, "a"), id(&store, "b")), (None, Some(1)));
        assert_eq!(rows(&store), 1);
        assert_eq!(symbol_rows(&store), 4, "__name__, up, job, b");
        let stats = store.reader().stats().unwrap();
        assert_eq!(stats.series, 1);
        let cardinality = store.reader().index_stats(5).cardinality;
        assert_eq!(cardinality.label_pairs, 2, "up and b");
        store.close().unwrap();
        store = open(&disk, &clock);
    }
    write(&store, &["a"]);
    assert_eq!(id(&store, "a"), Some(2));
    let now_ms = clock.now().ms();
    store.close().unwrap();
    store = open(&disk, &clock);
    assert_eq!(id(&store, "a"), Some(2));
    assert_eq!(times(&store.reader().snapshot().unwrap(), "a"), [now_ms]);
    drop(store);
    let verified = verify::verify_on(Arc::new(disk), &mut |_, _| ()).unwrap();
    assert_eq!((verified.faults, verified.series), (vec![], 2));
}

#[test]
fn a_series_that_is_deleted_is_forgotten_once_that_is_done() {
    let (disk, clock) = (Disk::default(), clock());
    let mut store = open(&disk, &clock);
    write(&store, &["a", "b", "c"]);
    store.seal().unwrap();
    clock.advance(HOUR);
    // Of a there is something in a block and in memory, of c there is nothing new.
    write(&store, &["a", "b"]);
    delete(&store, "a");
    delete(&store, "c");
    store.settle().unwrap();
    assert_eq!(id(&store, "a"), Some(0), "the head is not sealed");
    settle(&store);
    assert_eq!((jobs(&store), rows(&store)), (vec!["b".to_owned()], 1));
    // The highest id is not given again, also when nothing is left that has it.
    store.close().unwrap();
    store = open(&disk, &clock);
    write(&store, &["c"]);
    assert_eq!(id(&store, "c"), Some(3));
    let now_ms = clock.now().ms();
    assert_eq!(times(&store.reader().snapshot().unwrap(), "c"), [now_ms]);
}

#[test]
fn what_is_forgotten_is_so_after_a_crash_too() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock);
    write(&store, &["a", "b"]);
    store.seal().unwrap();
    delete(&store, "a");
    store.seal().unwrap();
    store.settle().unwrap();
    // The entry is in the write-ahead file, the row still there.
    write(&store, &["a"]);
    assert_eq!((rows(&store), id(&store, "a")), (2, Some(2)));
    let crashed = Disk::of(disk.image());
    let again = open(&crashed, &clock);
    assert_eq!((id(&again, "a"), id(&again, "b")), (Some(2), Some(1)));
    assert_eq!(jobs(&again), ["b", "a"]);
    drop(again);
    let verified = verify::verify_on(Arc::new(crashed), &mut |_, _| ()).unwrap();
    assert_eq!((verified.faults, verified.series), (vec![], 2));
}

#[test]
fn who_reads_from_before_reads_on() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock);
    write(&store, &["a", "b"]);
    store.seal().unwrap();
    let before = store.reader().snapshot().unwrap();
    clock.advance(4 * HOUR);
    delete(&store, "a");
    settle(&store);
    assert_eq!(id(&store, "a"), None);
    assert_eq!(times(&before, "a"), [NOW_MS]);
    let all = before.series(&[], TimeRange::ALL).unwrap();
    assert_eq!(all, [labels("a"), labels("b")]);
    let now = store.reader().snapshot().unwrap();
    assert_eq!(now.series(&[], TimeRange::ALL).unwrap(), [labels("b")]);
    drop((before, now));
    // The writer drops the rest when it next looks around.
    write(&store, &["b"]);
    while jobs(&store).len() > 1 {
        std::thread::yield_now();
    }
}

/// Appends a sample, taken now, by the labels as they are encoded; answers whether those were known.
fn fill(store: &Store, append: &mut Append, job: &str) -> bool {
    let mut fill = append.fill();
    let is_known = fill.known(job.as_bytes());
    if !is_known {
        fill.series(&[("__name__", "up"), ("job", job)]).unwrap();
        fill.remember(job.as_bytes());
    }
    fill.push(Sample::new(store.shared.clock.now(), 2.0));
    is_known
}

#[test]
fn encoded_labels_never_mean_a_series_that_is_forgotten() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock);
    let append = |job: &str| {
        let mut append = store.writer().append();
        let is_known = fill(&store, &mut append, job);
        (
            is_known,
            block_on(append.commit()).map(|done| done.accepted),
        )
    };
    let is = |(is_known, accepted): (bool, Result<u64, Error>), expected| {
        assert_eq!((is_known, accepted.unwrap()), expected);
    };
    // Known once they were found again.
    is(append("a"), (false, 1));
    clock.advance(HOUR);
    is(append("a"), (false, 1));
    is(append("a"), (true, 1));
    store.seal().unwrap();
    // Found now, and remembered or sent only when the series is forgotten.
    let (mut early, mut late) = (store.writer().append(), store.writer().append());
    assert!(fill(&store, &mut early, "a"));
    {
        let mut fill = late.fill();
        fill.series(&[("__name__", "up"), ("job", "a")]).unwrap();
        fill.remember(b"other");
    }
    delete(&store, "a");
    settle(&store);
    assert_eq!(id(&store, "a"), None);
    let error = block_on(early.commit()).unwrap_err();
    assert!(matches!(error, Error::Restarted), "{error}");
    block_on(late.commit()).unwrap();
    assert!(!store.writer().append().fill().known(b"other"));
    is(append("a"), (false, 1));
    assert_eq!(id(&store, "a"), Some(1));
    let now_ms = clock.now().ms();
    assert_eq!(times(&store.reader().snapshot().unwrap(), "a"), [now_ms]);
}

#[test]
fn a_series_that_has_samples_again_is_not_forgotten() {
    let (disk, clock) = (Disk::default(), clock());
    let store = open(&disk, &clock);
    write(&store, &["a", "b"]);
    store.seal().unwrap();
    write(&store, &["c"]);
    delete(&store, "a");
    settle(&store);
    write(&store, &["a", "b"]);
    let ids = ["a", "b", "c"].map(|job| id(&store, job));
    assert_eq!(ids, [Some(3), Some(1), Some(2)]);
    // As if they had been found unused just before: what is not in memory goes, here by force.
    let proposal = [0, 1, 3, 900].map(SeriesId).to_vec();
    store.shared.queue.post(Request::Forget(proposal)).unwrap();
    write(&store, &["a", "b"]);
    assert_eq!(["a", "b", "c"].map(|job| id(&store, job)), ids);
}

#[test]
fn the_room_of_forgotten_series_is_given_to_others() {
    let (disk, clock) = (Disk::default(), clock());
    let options = Options {
        series_max: 2,
        ..Options::default()
    };
    let medium = Arc::new(disk);
    let store = Store::open_on(medium, options, SealRule::default(), clock).unwrap();
    write(&store, &["a", "b"]);
    store.seal().unwrap();
    let refused = || {
        let mut batch = Batch::default();
        batch.push(labels("c"), Sample::new(Timestamp::from_ms(NOW_MS), 1.0));
        store.writer().write_blocking(batch).unwrap().rejected
    };
    assert_eq!(refused(), 1);
    delete(&store, "a");
    settle(&store);
    assert_eq!(refused(), 0);
}

/// A workload whose series live for a short time only: what is kept of those that are gone does not grow.
#[test]
fn churn_leaves_nothing_behind() {
    let (disk, clock) = (Disk::default(), clock());
    let mut store = open(&disk, &clock);
    let mut most = 0;
    for round in 0..40 {
        let jobs: Vec<String> = (0..100).map(|job| format!("{round}-{job}")).collect();
        write(&store, &jobs.iter().map(String::as_str).collect::<Vec<_>>());
        clock.advance(2 * HOUR);
        settle(&store);
        most = most.max(rows(&store));
        assert!(symbol_rows(&store) <= 3 + most);
    }
    // Twelve hours and the window that is only partly past them, by two hours each.
    assert!(most <= 900, "{most} rows");
    assert_eq!(store.shared.live().index().next_id(), 4000);
    store.close().unwrap();
    store = open(&disk, &clock);
    let live = store.shared.live();
    assert!(live.index().count() <= 900);
    assert_eq!(live.index().next_id(), 4000);
}
