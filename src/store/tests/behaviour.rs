use std::time::Duration;

use super::super::*;
use super::disk::Disk;
use crate::model::{ManualClock, MatchOp, Matcher, MetricKind, Mutation, SeriesSamples, TimeRange};

const NOW_MS: i64 = 1_700_000_000_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(NOW_MS)))
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Options::default(), clock()).unwrap()
}

fn batch(samples: &[(&str, i64, f64)]) -> Batch {
    let mut batch = Batch::default();
    for &(job, timestamp_ms, value) in samples {
        batch.push(
            Labels::of("up", &[("job", job)]),
            Sample::new(Timestamp::from_ms(timestamp_ms), value),
        );
    }
    batch
}

fn read(store: &Store, job: &str) -> Vec<(i64, f64)> {
    let snapshot = store.reader().snapshot().unwrap();
    read_from(&snapshot, job)
}

fn read_from(snapshot: &Snapshot, job: &str) -> Vec<(i64, f64)> {
    let columns = snapshot
        .select(&[Matcher::equal("job", job)], TimeRange::ALL, 1000)
        .unwrap();
    columns
        .into_iter()
        .flat_map(|column| {
            let times: Vec<i64> = column.timestamps.iter().map(|at| at.ms()).collect();
            times.into_iter().zip(column.values)
        })
        .collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let written = store
        .writer()
        .write_blocking(batch(&[("a", NOW_MS, 1.0), ("b", NOW_MS, 2.0)]))
        .unwrap();
    assert_eq!((written.seq, written.accepted, written.rejected), (1, 2, 0));
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!(read(&store, "a"), [(NOW_MS, 1.0)]);
    let written = store
        .writer()
        .write_blocking(batch(&[("a", NOW_MS + 1, 3.0)]))
        .unwrap();
    assert_eq!(written.seq, 2);
    assert_eq!(read(&store, "a"), [(NOW_MS, 1.0), (NOW_MS + 1, 3.0)]);
}

#[test]
fn a_seal_changes_nothing_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writer = store.writer();
    writer
        .write_blocking(batch(&[("a", NOW_MS, 1.0), ("a", NOW_MS - 9_000_000, 0.5)]))
        .unwrap();
    let before = store.reader().snapshot().unwrap();
    store.seal().unwrap();
    let stats = store.reader().stats().unwrap();
    assert_eq!(
        (stats.head_samples, stats.sealed_samples, stats.series),
        (0, 2, 1)
    );
    writer
        .write_blocking(batch(&[("a", NOW_MS + 5, 2.0)]))
        .unwrap();
    let expected = [(NOW_MS - 9_000_000, 0.5), (NOW_MS, 1.0), (NOW_MS + 5, 2.0)];
    assert_eq!(read_from(&before, "a"), expected[..2]);
    assert_eq!(read(&store, "a"), expected);
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!(read(&store, "a"), expected);
    // The numbers go on where they were, also when nothing is left in the write-ahead file.
    store.seal().unwrap();
    store.close().unwrap();
    let written = open(dir.path())
        .writer()
        .write_blocking(batch(&[("b", NOW_MS, 1.0)]))
        .unwrap();
    assert_eq!(written.seq, 3);
}

#[test]
fn samples_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: Some(Duration::from_secs(3600)),
        series_max: 1,
        ..Options::default()
    };
    let store = Store::open(dir.path(), options, clock()).unwrap();
    let reason = |job: &str, timestamp_ms: i64, value: f64| {
        let written = store
            .writer()
            .write_blocking(batch(&[(job, timestamp_ms, value)]))
            .unwrap();
        assert_eq!(written.accepted + written.rejected, 1);
        written.first_rejection.map(|rejection| rejection.reason)
    };
    assert_eq!(reason("a", NOW_MS, 0.0), None);
    assert_eq!(reason("a", NOW_MS, 0.0), None);
    assert_eq!(
        reason("a", NOW_MS, -0.0),
        Some(RejectReason::DuplicateTimestamp)
    );
    assert_eq!(reason("a", NOW_MS - 3_600_000, 1.0), None);
    assert_eq!(
        reason("a", NOW_MS - 3_600_001, 1.0),
        Some(RejectReason::TooOld)
    );
    assert_eq!(reason("a", NOW_MS + 600_000, 1.0), None);
    assert_eq!(
        reason("a", NOW_MS + 600_001, 1.0),
        Some(RejectReason::TooFarAhead)
    );
    assert_eq!(reason("b", NOW_MS, 1.0), Some(RejectReason::TooManySeries));
    // What is not worth storing is not worth a series either.
    assert_eq!(
        reason("b", NOW_MS - 4_000_000, 1.0),
        Some(RejectReason::TooOld)
    );
}

#[test]
fn a_batch_that_says_two_things_of_one_time_keeps_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = |value| Sample::new(Timestamp::from_ms(NOW_MS), value);
    let batch = Batch {
        samples: vec![SeriesSamples {
            labels: Labels::of("up", &[("job", "a")]),
            samples: vec![sample(1.0), sample(2.0), sample(1.0)],
        }],
        ..Batch::default()
    };
    let written = store.writer().write_blocking(batch).unwrap();
    assert_eq!((written.accepted, written.rejected), (2, 1));
    assert_eq!(read(&store, "a"), [(NOW_MS, 1.0)]);
}

const NOTES: Table<String> = Table::new("notes", 1);

fn note(key: &str, text: Option<&str>) -> Batch {
    let mutation: Mutation = match text {
        Some(text) => NOTES.put(key, &text.to_owned()),
        None => NOTES.remove(key),
    };
    Batch {
        mutations: vec![mutation],
        ..Batch::default()
    }
}

fn notes(snapshot: &Snapshot, after: Option<&[u8]>, limit: usize) -> Vec<(String, String)> {
    let records = snapshot.records(&NOTES, after, limit).unwrap();
    records
        .into_iter()
        .map(|(key, text)| (String::from_utf8(key).unwrap(), text))
        .collect()
}

#[test]
fn records_are_merged_from_memory_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writer = store.writer();
    for (key, text) in [("a", "1"), ("b", "1"), ("c", "1")] {
        writer.write_blocking(note(key, Some(text))).unwrap();
    }
    store.seal().unwrap();
    let before = store.reader().snapshot().unwrap();
    writer.write_blocking(note("b", None)).unwrap();
    writer.write_blocking(note("c", Some("2"))).unwrap();
    writer.write_blocking(note("d", Some("1"))).unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, text)| ((*key).into(), (*text).into()))
            .collect()
    };
    let check = |store: &Store| {
        let snapshot = store.reader().snapshot().unwrap();
        assert_eq!(
            notes(&snapshot, None, 9),
            pairs(&[("a", "1"), ("c", "2"), ("d", "1")])
        );
        assert_eq!(notes(&snapshot, Some(b"a"), 1), pairs(&[("c", "2")]));
        assert_eq!(
            notes(&snapshot, Some(b"b"), 9),
            pairs(&[("c", "2"), ("d", "1")])
        );
        assert_eq!(snapshot.record(&NOTES, b"b").unwrap(), None);
        assert_eq!(snapshot.record(&NOTES, b"a").unwrap().as_deref(), Some("1"));
    };
    check(&store);
    assert_eq!(
        notes(&before, None, 9),
        pairs(&[("a", "1"), ("b", "1"), ("c", "1")])
    );
    drop(before);
    store.seal().unwrap();
    check(&store);
    drop(store);
    check(&open(dir.path()));
}

#[test]
fn metadata_is_kept_by_metric() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let metadata = |help: &str| MetricMetadata {
        kind: MetricKind::Gauge,
        help: help.into(),
        unit: String::new(),
    };
    let batch = |help: &str| Batch {
        metadata: vec![("up".into(), metadata(help))],
        ..Batch::default()
    };
    let first = store.writer().write_blocking(batch("old")).unwrap();
    // Said again, it costs no commit.
    let again = store.writer().write_blocking(batch("old")).unwrap();
    assert_eq!(again.seq, first.seq);
    store.writer().write_blocking(batch("new")).unwrap();
    let snapshot = store.reader().snapshot().unwrap();
    assert_eq!(
        snapshot.metadata().unwrap(),
        [("up".to_owned(), metadata("new"))]
    );
}

#[test]
fn series_and_labels_are_those_with_data_in_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writer = store.writer();
    writer
        .write_blocking(batch(&[
            ("old", NOW_MS - 50_000_000, 1.0),
            ("both", NOW_MS - 50_000_000, 1.0),
        ]))
        .unwrap();
    store.seal().unwrap();
    writer
        .write_blocking(batch(&[("new", NOW_MS, 1.0), ("both", NOW_MS, 1.0)]))
        .unwrap();
    let snapshot = store.reader().snapshot().unwrap();
    let jobs = |start_ms: i64, end_ms: i64| {
        let range =
            TimeRange::new(Timestamp::from_ms(start_ms), Timestamp::from_ms(end_ms)).unwrap();
        snapshot.label_values("job", &[], range).unwrap()
    };
    assert_eq!(jobs(0, NOW_MS), ["both", "new", "old"]);
    assert_eq!(jobs(0, NOW_MS - 1), ["both", "old"]);
    assert_eq!(jobs(NOW_MS, NOW_MS), ["both", "new"]);
    assert_eq!(jobs(0, 5), Vec::<String>::new());
    assert_eq!(
        snapshot.label_names(&[], TimeRange::ALL).unwrap(),
        ["__name__", "job"]
    );
    let matcher = Matcher::new("job", MatchOp::Regex, "n.*").unwrap();
    let series = snapshot.series(&[matcher], TimeRange::ALL).unwrap();
    assert_eq!(series, [Labels::of("up", &[("job", "new")])]);
}

#[test]
fn names_are_those_of_series_with_samples_in_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sample = |at_ms| Sample::new(Timestamp::from_ms(at_ms), 1.0);
    let labels = |name: &str, value: usize| Labels::of("up", &[(name, &value.to_string())]);
    // The label `mixed` has 200 series of the past, and one of now.
    let mut past = Batch::default();
    for value in 0..200 {
        past.push(labels("mixed", value), sample(NOW_MS - 3_600_000));
    }
    past.push(labels("old", 0), sample(NOW_MS - 3_600_000));
    store.writer().write_blocking(past).unwrap();
    store.seal().unwrap();
    let mut now = Batch::default();
    now.push(labels("mixed", 200), sample(NOW_MS));
    now.push(labels("new", 0), sample(NOW_MS));
    store.writer().write_blocking(now).unwrap();
    let names = |start_ms, end_ms| {
        let (start, end) = (Timestamp::from_ms(start_ms), Timestamp::from_ms(end_ms));
        let range = TimeRange::new(start, end).unwrap();
        let snapshot = store.reader().snapshot().unwrap();
        snapshot.label_names(&[], range).unwrap()
    };
    let (past, now) = (NOW_MS - 3_600_000, NOW_MS);
    assert_eq!(names(past, now), ["__name__", "mixed", "new", "old"]);
    assert_eq!(names(now, now), ["__name__", "mixed", "new"]);
    assert_eq!(names(past, past + 1), ["__name__", "mixed", "old"]);
    store.seal().unwrap();
    assert_eq!(names(now, now), ["__name__", "mixed", "new"]);
    assert_eq!(names(past + 1, now - 1), Vec::<String>::new());
}

#[test]
fn too_many_samples_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .writer()
        .write_blocking(batch(&[("a", 1, 1.0), ("b", 1, 1.0)]))
        .unwrap();
    // Not a test of the retention: 1970 is past it.
    drop(store);
    let options = Options {
        retention: None,
        ..Options::default()
    };
    let store = Store::open(dir.path(), options, clock()).unwrap();
    store
        .writer()
        .write_blocking(batch(&[("a", 1, 1.0), ("b", -1, 1.0)]))
        .unwrap();
    let snapshot = store.reader().snapshot().unwrap();
    let error = snapshot.select(&[], TimeRange::ALL, 1).unwrap_err();
    assert!(matches!(error, Error::TooManySamples { samples_max: 1 }));
    assert_eq!(snapshot.select(&[], TimeRange::ALL, 2).unwrap().len(), 2);
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), Options::default(), clock()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn writers_on_a_runtime_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writer = store.writer();
    let jobs: Vec<String> = (0..50).map(|at| format!("job-{at}")).collect();
    let mut writes = tokio::task::JoinSet::new();
    for job in &jobs {
        let (writer, batch) = (writer.clone(), batch(&[(job, NOW_MS, 1.0)]));
        writes.spawn(async move { writer.write(batch).await.unwrap().seq });
    }
    let last = writes.join_all().await.into_iter().max().unwrap();
    assert!(last <= 50);
    let snapshot = store.reader().snapshot().unwrap();
    assert_eq!(snapshot.select(&[], TimeRange::ALL, 100).unwrap().len(), 50);
    // Also from within the runtime.
    writer
        .write_blocking(batch(&[("blocking", NOW_MS, 1.0)]))
        .unwrap();
    store.close().unwrap();
    let error = writer
        .write(batch(&[("late", NOW_MS, 1.0)]))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Closed));
}

/// A store on a simulated disk that seals by itself only for the given reasons.
fn open_simulated(options: Options, seal_rule: SealRule, clock: &Arc<ManualClock>) -> Store {
    Store::open_on(Arc::new(Disk::default()), options, seal_rule, clock.clone()).unwrap()
}

/// Waits until the sealing thread is done with what it does.
fn settle(store: &Store) -> Stats {
    store.seal().unwrap();
    store.reader().stats().unwrap()
}

#[test]
fn the_head_is_sealed_when_it_is_large_enough() {
    let seal_rule = SealRule {
        row_bytes: 200,
        samples_per_series: 10,
        ..SealRule::default()
    };
    let store = open_simulated(Options::default(), seal_rule, &clock());
    let mut sealed_after = None;
    for at in 0..1000 {
        store
            .writer()
            .write_blocking(batch(&[("a", NOW_MS + at, 1.0)]))
            .unwrap();
        if store.reader().stats().unwrap().sealed_samples > 0 {
            sealed_after = Some(at);
            break;
        }
    }
    // Not before both rules are met; the sealing thread takes its time after that.
    assert!(sealed_after.unwrap() >= 8, "{sealed_after:?}");
}

#[test]
fn the_head_is_sealed_when_it_is_old_enough() {
    let clock = clock();
    let store = open_simulated(Options::default(), SealRule::default(), &clock);
    store
        .writer()
        .write_blocking(batch(&[("a", NOW_MS, 1.0)]))
        .unwrap();
    assert_eq!(store.reader().stats().unwrap().head_samples, 1);
    clock.advance(Duration::from_secs(30 * 60));
    while store.reader().stats().unwrap().sealed_samples == 0 {
        // The writer looks at the clock when something comes.
        store
            .writer()
            .write_blocking(batch(&[("a", NOW_MS, 1.0)]))
            .unwrap();
    }
}

#[test]
fn a_head_that_cannot_be_sealed_fills_up_and_refuses() {
    let options = Options {
        memory_bytes_max: 20_000,
        ..Options::default()
    };
    let disk = Disk::default();
    let store = Store::open_on(
        Arc::new(disk.clone()),
        options,
        SealRule::default(),
        clock(),
    )
    .unwrap();
    let writer = store.writer();
    // Frozen before it was full, and what failed is tried again only when the clock has moved.
    disk.set_free_bytes(Some(0));
    assert!(store.seal().is_ok(), "nothing to seal yet");
    disk.set_free_bytes(None);
    let refused = (0..10_000).find_map(|at| {
        let written = writer.write_blocking(batch(&[("a", NOW_MS - at, 1.0)]));
        if at == 10 {
            disk.set_free_bytes(Some(0));
            assert!(store.seal().is_err());
            disk.set_free_bytes(None);
        }
        written.err().map(|error| (at, error))
    });
    let (at, error) = refused.unwrap();
    assert!(
        matches!(
            error,
            Error::Busy {
                max_bytes: 20_000,
                ..
            }
        ),
        "{error}"
    );
    // It holds what it acknowledged, and goes on once it could seal.
    assert_eq!(read(&store, "a").len() as i64, at);
}

#[test]
fn windows_past_the_retention_are_dropped() {
    let clock = clock();
    let hour = Duration::from_secs(3600);
    let options = Options {
        retention: Some(12 * hour),
        ..Options::default()
    };
    let store = open_simulated(options, SealRule::default(), &clock);
    let writer = store.writer();
    writer
        .write_blocking(batch(&[
            ("a", NOW_MS - 30_000_000, 1.0),
            ("a", NOW_MS, 2.0),
        ]))
        .unwrap();
    assert_eq!(settle(&store).sealed_samples, 2);
    let before = store.reader().snapshot().unwrap();
    clock.advance(11 * hour);
    // What is too old is not served from then on, and soon not there any more.
    assert_eq!(read(&store, "a"), [(NOW_MS, 2.0)]);
    writer.write_blocking(batch(&[("b", NOW_MS, 1.0)])).unwrap();
    while store.reader().stats().unwrap().sealed_samples != 1 {
        writer.write_blocking(batch(&[("b", NOW_MS, 1.0)])).unwrap();
    }
    assert_eq!(read(&store, "a"), [(NOW_MS, 2.0)]);
    // Who was reading goes on reading what there was.
    assert_eq!(
        read_from(&before, "a"),
        [(NOW_MS - 30_000_000, 1.0), (NOW_MS, 2.0)]
    );
}
