//! Crashes at any point of a long run with seals, merges, retention, deletions and restarts: what was
//! acknowledged is there, exactly once, and the records agree with the samples that were committed with
//! them.
//!
//! `CUTOVER_CRASH_POINTS` sets how many points are tried, `CUTOVER_SEED` which.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::super::*;
use super::disk::{Disk, Image, Random, Replay};
use crate::model::{ManualClock, Matcher, TimeRange};

const START_MS: i64 = 1_700_000_000_000;
const BATCHES: u64 = 2000;
const POINTS: usize = 2000;
const SERIES: u64 = 7;
const ROUNDS: u64 = 8;
const MINUTE_MS: i64 = 60_000;
/// Shorter than the run, so that its first samples go.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How many batches are stored: what an offset is to Kafka.
const COUNT: Table<u64> = Table::new("count", 1);

/// The clock once so many batches have been written.
fn clock(batches: u64) -> Arc<ManualClock> {
    let now_ms = START_MS + batches as i64 * MINUTE_MS;
    Arc::new(ManualClock::at(Timestamp::from_ms(now_ms)))
}

fn try_open(disk: &Disk, clock: &Arc<ManualClock>) -> Result<Store, Error> {
    let options = Options {
        retention: Some(RETENTION),
        ..Options::default()
    };
    let medium = Arc::new(disk.clone());
    Store::open_on(medium, options, SealRule::default(), clock.clone())
}

/// When the sample of a batch was taken: every tenth comes two hours late.
fn at_ms(batch: u64) -> i64 {
    let late_ms = if batch % 10 == 9 {
        125 * MINUTE_MS + 7
    } else {
        0
    };
    START_MS + batch as i64 * MINUTE_MS - late_ms
}

/// The round that a batch belongs to: its series are its own, and come again after the last one.
fn round(batch: u64) -> u64 {
    batch / 50 % ROUNDS
}

fn sample(batch: u64) -> (Labels, Sample) {
    let metric = ["even", "odd"][(batch % SERIES % 2) as usize];
    let pairs = [
        ("round", &*round(batch).to_string()),
        ("series", &*(batch % SERIES).to_string()),
    ];
    let labels = Labels::of(metric, &pairs);
    (
        labels,
        Sample::new(Timestamp::from_ms(at_ms(batch)), batch as f64 / 8.0),
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

/// The deletion that follows a batch, if one does: of a series, some way back, or of all that there is
/// of a round, whose series are forgotten then.
fn deletion(batch: u64) -> Option<(Matcher, TimeRange)> {
    if batch % 60 != 40 {
        return None;
    }
    if batch % 120 == 40 {
        let half = (round(batch) + ROUNDS / 2) % ROUNDS;
        return Some((Matcher::equal("round", half.to_string()), TimeRange::ALL));
    }
    let series = (batch / 60 % SERIES).to_string();
    let start = Timestamp::from_ms(START_MS + (batch as i64 - 35) * MINUTE_MS);
    let end = Timestamp::from_ms(START_MS + (batch as i64 - 10) * MINUTE_MS);
    Some((
        Matcher::equal("series", series),
        TimeRange::new(start, end)?,
    ))
}

/// What is in a store after so many batches, and the deletions up to that after batch `deleted`.
fn expected(stored: u64, deleted: u64, cutoff: Timestamp) -> BTreeSet<(String, i64, u64)> {
    static DELETIONS: LazyLock<Vec<(u64, Matcher, TimeRange)>> = LazyLock::new(|| {
        let all = (0..BATCHES).filter_map(|after| Some((after, deletion(after)?)));
        all.map(|(after, (matcher, range))| (after, matcher, range))
            .collect()
    });
    let is_deleted = |index: u64, labels: &Labels, at: Timestamp| {
        let done = index..deleted.min(stored);
        DELETIONS.iter().any(|(after, matcher, range)| {
            done.contains(after)
                && range.contains(at)
                && matcher.matches(labels.value(&matcher.name))
        })
    };
    (0..stored)
        .map(|index| (index, sample(index)))
        .filter(|(index, (labels, sample))| {
            sample.timestamp >= cutoff && !is_deleted(*index, labels, sample.timestamp)
        })
        .map(|(_, (labels, sample))| {
            (
                labels.to_string(),
                sample.timestamp.ms(),
                sample.value.to_bits(),
            )
        })
        .collect()
}

/// Checks that the samples are those of the first so many batches, each once, and answers how many.
/// A deletion that was not acknowledged may have come about or not.
fn check(store: &Store, acknowledged: u64) -> u64 {
    let snapshot = store.reader().snapshot().unwrap();
    let stored = snapshot.record(&COUNT, b"count").unwrap().unwrap_or(0);
    let columns = snapshot.select(&[], TimeRange::ALL, usize::MAX).unwrap();
    let mut found = Vec::new();
    for column in &columns {
        for (at, value) in column.timestamps.iter().zip(&column.values) {
            found.push((column.labels.to_string(), at.ms(), value.to_bits()));
        }
    }
    let cutoff = store.shared.cutoff().unwrap();
    let count = found.len();
    let found: BTreeSet<_> = found.into_iter().collect();
    assert_eq!(found.len(), count, "each once");
    // `acknowledged` counts a batch once its deletion is acknowledged too.
    if found != expected(stored, acknowledged, cutoff) {
        assert_eq!(found, expected(stored, acknowledged + 1, cutoff));
    }
    stored
}

/// Runs a store through all batches.
fn workload(disk: &Disk) {
    let clock = clock(0);
    let mut store = try_open(disk, &clock).unwrap();
    let mut sealing = None;
    for index in 0..BATCHES {
        clock.advance(Duration::from_millis(MINUTE_MS as u64));
        store.writer().write_blocking(batch(index)).unwrap();
        if let Some((matcher, range)) = deletion(index) {
            block_on(store.writer().delete(vec![vec![matcher]], range)).unwrap();
        }
        disk.acknowledge(index + 1);
        match index % 48 {
            7 => store.seal().unwrap(),
            // Batches go on while this one is under way.
            25 => {
                let (reply, answer) = oneshot::channel();
                store.shared.queue.post(Request::Seal(reply)).unwrap();
                sealing = Some(answer);
            }
            39 => {
                block_on(sealing.take().unwrap()).unwrap().unwrap();
                store.close().unwrap();
                store = try_open(disk, &clock).unwrap();
            }
            _ => {}
        }
        if index % 150 == 149 {
            store.settle().unwrap();
        }
    }
    let defined = u64::from(store.shared.live().index().next_id());
    assert!(
        defined > 2 * SERIES * ROUNDS,
        "{defined} series: they were not forgotten and defined again"
    );
}

/// What is on the disk at a point, and what was acknowledged by then.
struct Crash {
    at: usize,
    image: Image,
    acknowledged: u64,
}

impl Crash {
    fn survive(self) {
        let Self {
            at,
            image,
            acknowledged,
        } = self;
        let disk = Disk::of(image);
        let is_verified = at.is_multiple_of(10) && acknowledged > 0;
        if is_verified {
            assert_whole(&disk, at);
        }
        // A batch that was under way came with the clock one further.
        let clock = clock(acknowledged + 1);
        let store = try_open(&disk, &clock).unwrap_or_else(|error| panic!("at {at}: {error}"));
        let stored = check(&store, acknowledged);
        assert!(
            stored == acknowledged || stored == acknowledged + 1,
            "at {at}: {stored} batches, {acknowledged} acknowledged"
        );
        // It goes on as if nothing had happened.
        store.writer().write_blocking(batch(stored)).unwrap();
        if at.is_multiple_of(2) {
            store.seal().unwrap();
        }
        if at.is_multiple_of(5) {
            store.settle().unwrap();
        }
        assert_eq!(check(&store, acknowledged), stored + 1);
        store.close().unwrap();
        if is_verified {
            assert_whole(&disk, at);
        }
        let store = try_open(&disk, &clock).unwrap();
        assert_eq!(check(&store, acknowledged), stored + 1);
    }
}

/// Checks that nothing is wrong with what lies on a disk.
fn assert_whole(disk: &Disk, at: usize) {
    let verified = verify::verify_on(Arc::new(disk.clone()), &mut |_, _| ()).unwrap();
    assert_eq!(verified.faults, [], "at {at}");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn after_a_crash_at_any_point_the_acknowledged_is_there() {
    let points = setting("CUTOVER_CRASH_POINTS").map_or(POINTS, |points| points as usize);
    let seed = setting("CUTOVER_SEED").unwrap_or(7);
    println!("CUTOVER_SEED={seed}");
    let disk = Disk::default();
    workload(&disk);
    let log = disk.take_log();
    let every = log.len() as f64 / points as f64;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (crashes, queue) = sync_channel::<Crash>(workers);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Ok(crash) = {
                    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.recv()
                } {
                    crash.survive();
                }
            });
        }
        let mut random = Random(seed);
        let mut replay = Replay::default();
        let mut next = 0.0;
        for (at, operation) in log.into_iter().enumerate() {
            replay.advance(operation);
            if at as f64 >= next {
                // Not always the same place between two syncs.
                next += every * (0.5 + random.below(1000) as f64 / 1000.0);
                let image = replay.crash(&mut random);
                let acknowledged = replay.acknowledged;
                // A worker that failed is reported when it is joined.
                drop(crashes.send(Crash {
                    at,
                    image,
                    acknowledged,
                }));
            }
        }
        drop(crashes);
    });
}
