//! Exactly once: the consuming process is killed with -9 again and again while events flow, and in the
//! end its counts equal the topic's truth.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use crate::support::{Server, file, wait_for};

const TOPIC: &str = "shop.public.orders";
const PARTITIONS: i32 = 4;
const EVENTS: usize = 200_000;
const KILLS: usize = 20;
/// The in-process broker keeps about 5 MB a partition: production stays this far ahead at most.
const AHEAD_MAX: usize = 20_000;

/// A small generator of its own, so that a printed seed replays the run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn operation(index: usize) -> (&'static str, &'static str) {
    match index % 10 {
        0 => ("r", "read"),
        1..=5 => ("c", "create"),
        6..=8 => ("u", "update"),
        _ => ("d", "delete"),
    }
}

fn event(index: usize) -> String {
    let (op, _) = operation(index);
    let table = ["orders", "order_items", "payments"][index % 3];
    format!(
        r#"{{"before":null,"after":{{"id":{index}}},"source":{{"version":"3.6.3.Final","connector":"postgresql","name":"shop","ts_ms":1795332286525,"snapshot":"false","db":"shopdb","schema":"public","table":"{table}","lsn":{index}}},"op":"{op}","ts_ms":1795332287076}}"#
    )
}

fn counts(server: &Server) -> Option<BTreeMap<(String, String), u64>> {
    let expr = "sum by (table,operation)(cdc_events_processed_total)";
    let series = server.query(expr, &["table", "operation"])?;
    let entry = |(labels, value): (Vec<String>, f64)| {
        ((labels[0].clone(), labels[1].clone()), value as u64)
    };
    Some(series.into_iter().map(entry).collect())
}

/// Runs a server for up to `life`; answers the count of events it had committed, if it could be asked.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of a real process waits in real time"
)]
fn live_and_die(data: &Path, config: &Path, life: Duration) -> Option<usize> {
    let born = Instant::now();
    let server = Server::start_unready(data, Some(config), &[]);
    let mut seen = None;
    while let Some(rest) = life.checked_sub(born.elapsed()) {
        if let Some(counts) = counts(&server) {
            seen = Some(counts.values().sum::<u64>() as usize).max(seen);
        }
        std::thread::sleep(rest.min(Duration::from_millis(100)));
    }
    server.kill();
    seen
}

/// The seed of a run, which its test prints: from the environment, or the time of day.
#[expect(clippy::disallowed_methods, reason = "the seed is the time of day")]
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("CUTOVER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1
    })
}

#[test]
fn counts_are_exact_after_twenty_kills() {
    let seed = seed();
    println!("CUTOVER_SEED={seed}");
    let mut random = Random(seed);

    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("linger.ms", "5")
        .create()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let brokers = cluster.bootstrap_servers();
    let config = format!("[kafka]\nbrokers = \"{brokers}\"\ntopics = [\"{TOPIC}\"]\n");
    let config = file(dir.path(), "cutover.toml", config);

    let mut truth: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut produced = 0;
    let mut produce_up_to = |target: usize| {
        while produced < target.min(EVENTS) {
            let table = ["public.orders", "public.order_items", "public.payments"][produced % 3];
            let operation = operation(produced).1;
            *truth
                .entry((table.to_owned(), operation.to_owned()))
                .or_default() += 1;
            let payload = event(produced);
            let partition = (produced % 7 % PARTITIONS as usize) as i32;
            let record = BaseRecord::<(), str>::to(TOPIC)
                .payload(&payload)
                .partition(partition);
            if let Err((error, _)) = producer.send(record) {
                panic!("event {produced} is not produced: {error}");
            }
            produced += 1;
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        truth.clone()
    };

    let mut consumed = 0;
    for _ in 0..KILLS {
        produce_up_to(consumed + AHEAD_MAX);
        let life = Duration::from_millis(300 + random.below(2_700));
        consumed = live_and_die(&data, &config, life)
            .unwrap_or(consumed)
            .max(consumed);
    }
    let server = Server::start(&data, Some(&config), &[]);
    let truth = wait_for("all events are produced", Duration::from_secs(120), || {
        let consumed: u64 = counts(&server)?.values().sum();
        let truth = produce_up_to(consumed as usize + AHEAD_MAX);
        (truth.values().sum::<u64>() == EVENTS as u64).then_some(truth)
    });
    wait_for("all events are counted", Duration::from_secs(60), || {
        (counts(&server)?.values().sum::<u64>() >= EVENTS as u64).then_some(())
    });
    // Another turn of the grid: a count that goes on rising past the truth would show.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(counts(&server).unwrap(), truth);
    let gaps = server
        .query("sum(cutover_kafka_gap_messages_total) > 0", &[])
        .unwrap();
    assert!(gaps.is_empty(), "messages were lost: {gaps:?}");
    assert_eq!(server.stop(), Some(0));
}
