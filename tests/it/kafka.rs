//! The consumer against the in-process broker: real protocol, real store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cutover::cdc::{Key, Operation, Reason};
use cutover::demo::broker::{Broker, Event, read_events};
use cutover::ingest::dead_letter;
use cutover::ingest::kafka::{Config, Consumer, Handle, Start};
use cutover::model::{Clock, MatchOp, Matcher, SystemClock, TimeRange, Timestamp};
use cutover::shutdown::{GRACE, Shutdown};
use cutover::store::{Options, Store};
use cutover::telemetry::Metrics;
use cutover::telemetry::health::{Health, State};

use crate::cdc::by_table_and_code;
use crate::corpus;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A consumer over a store that outlives it.
struct Running {
    handle: Handle,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
}

fn open(folder: &Path) -> Store {
    let clock = Arc::new(SystemClock::default());
    Store::open(folder, Options::default(), clock).expect("an empty folder opens")
}

fn config(brokers: String, topics: &[&str]) -> Config {
    Config {
        brokers,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        metadata_interval: Duration::from_millis(200),
        // The in-process broker holds a fetch for all of this time, whatever arrives meanwhile.
        properties: [("fetch.wait.max.ms".to_owned(), "20".to_owned())].into(),
        ..Config::default()
    }
}

impl Running {
    fn start(store: &Store, config: Config) -> Self {
        Self::start_at(store, config, Arc::new(SystemClock::default()))
    }

    fn start_at(store: &Store, config: Config, clock: Arc<dyn Clock>) -> Self {
        let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
        let health = Health::new(clock.clone());
        let handle = Consumer::start(
            config,
            store.writer(),
            store.reader(),
            clock,
            &metrics,
            health.clone(),
            &shutdown,
        )
        .expect("the consumer starts");
        Self {
            handle,
            metrics,
            health,
            shutdown,
        }
    }

    /// Waits until everything that the broker has acknowledged is counted and committed.
    async fn catch_up(&self, broker: &Broker) {
        let next_offset = |topic: &str, partition| self.handle.next_offset(topic, partition);
        wait("everything is read", || broker.is_read(next_offset)).await;
    }

    fn message(&self) -> String {
        let parts = self.health.parts();
        parts
            .get("kafka")
            .map_or_else(String::new, |part| part.message.clone())
    }

    fn total(&self) -> u64 {
        self.handle.counts().values().sum()
    }

    async fn stop(self) {
        self.shutdown.begin();
        assert_eq!(self.shutdown.wait(GRACE).await, Ok(()));
    }
}

async fn wait(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_elapsed| panic!("waited in vain: {what}"));
}

/// The latest value of every series of a metric, by its labels.
fn latest(store: &Store, metric: &str) -> BTreeMap<String, f64> {
    let reader = store.reader();
    let snapshot = reader.snapshot().expect("the store is open");
    let matcher = Matcher::new("__name__", MatchOp::Equal, metric).expect("a metric's name");
    let columns = snapshot
        .select(&[matcher], TimeRange::ALL, usize::MAX)
        .expect("the store is readable");
    columns
        .into_iter()
        .map(|column| {
            let last = *column.values.last().expect("no column is empty");
            (column.labels.to_string(), last)
        })
        .collect()
}

fn change(table: &str, code: &str) -> Vec<u8> {
    let value = format!(
        r#"{{"op":"{code}","ts_ms":1700000000000,"source":{{"connector":"postgresql","name":"srv",
            "ts_ms":1700000000000,"schema":"s","table":"{table}"}}}}"#
    );
    value.into_bytes()
}

fn event(topic: &str, value: impl Into<Vec<u8>>) -> Event {
    Event {
        topic: topic.to_owned(),
        value: Some(value.into()),
        ..Event::default()
    }
}

fn produce(broker: &Broker, events: &[Event]) {
    for event in events {
        broker.produce(event, 0).expect("the broker takes it");
    }
    broker.flush().expect("the broker acknowledges");
}

fn key(table: &str, operation: Operation) -> Key {
    Key {
        source: "srv".to_owned(),
        table: table.to_owned(),
        operation,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recording_gives_exact_counts_through_a_broker() {
    let Some(corpus) = corpus::folder("debezium") else {
        return;
    };
    for truth in corpus::debezium_truths(&corpus) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let broker = Arc::new(Broker::start().unwrap());
        for topic in truth.topics.keys() {
            broker.create_topic(topic, 1).unwrap();
        }
        let running = Running::start(&store, config(broker.brokers(), &["^."]));
        let player = {
            let (broker, handle) = (broker.clone(), running.handle.clone());
            let shutdown = running.shutdown.clone();
            let path = corpus.join(&truth.file);
            tokio::task::spawn_blocking(move || {
                let next_offset = |topic: &str, partition| handle.next_offset(topic, partition);
                broker.play(read_events(&path).unwrap(), next_offset, &shutdown)
            })
        };
        player.await.unwrap().unwrap();
        running.catch_up(&broker).await;
        let counts = by_table_and_code(truth.source(), running.handle.counts());
        assert_eq!(counts, truth.changes, "{}", truth.file);
        running.stop().await;

        let shown: f64 = latest(&store, "cdc_events_processed_total").values().sum();
        let expected: u64 = truth.changes.values().sum();
        assert_eq!(shown, expected as f64, "{}", truth.file);
        let records = latest(&store, "cutover_cdc_records_total");
        let tombstones: f64 = records
            .iter()
            .filter(|(labels, _)| labels.contains("kind=\"tombstone\""))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(tombstones, truth.tombstones as f64, "{}", truth.file);
        assert_eq!(latest(&store, "cutover_cdc_dead_letters_total").len(), 0);
        assert!(
            latest(&store, "cdc_consumer_lag_messages")
                .values()
                .all(|lag| *lag >= 0.0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_become_dead_letters_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    let topic = |reason: Reason| format!("srv.s.{}", reason.name());
    for reason in Reason::ALL {
        broker.create_topic(&topic(reason), 1).unwrap();
    }
    broker.create_topic("srv.s.good", 1).unwrap();
    let running = Running::start(&store, config(broker.brokers(), &[r"^srv\.s\."]));
    let good = change("t", "c");
    let bad: [(&[u8], Reason); 8] = [
        (&good[..40], Reason::TruncatedJson),
        (b"{]", Reason::InvalidJson),
        (b"[1]", Reason::WrongType),
        (b"{\"op\":\"c\"}", Reason::MissingField),
        (b"{\"op\":\"x\",\"source\":{}}", Reason::UnknownOp),
        (b"{\"x\":\"\xff\"}", Reason::InvalidUtf8),
        (b"{\"id\":1}", Reason::UnknownEnvelope),
        (&vec![b' '; 17 << 20], Reason::TooLarge),
    ];
    for (value, reason) in &bad {
        for event in [event(&topic(*reason), *value), event("srv.s.good", &*good)] {
            produce(&broker, &[event]);
            running.catch_up(&broker).await;
        }
    }
    assert_eq!(running.total(), bad.len() as u64);
    running.stop().await;

    let letters = dead_letter::newest(&store.reader(), 100).unwrap();
    let reasons: Vec<_> = letters.iter().rev().map(|letter| letter.reason).collect();
    assert_eq!(reasons, bad.each_ref().map(|(_, reason)| *reason));
    for letter in &letters {
        assert_eq!(letter.topic, topic(letter.reason));
        assert_eq!((letter.partition, letter.offset), (0, 0));
        assert!(letter.excerpt.len() <= 4096 && !letter.detail.is_empty());
    }
    assert_eq!(letters[0].value_bytes, 17 << 20);
    let counted = latest(&store, "cutover_cdc_dead_letters_total");
    assert_eq!(counted.len(), Reason::ALL.len());
    assert!(counted.values().all(|count| *count == 1.0), "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_where_it_was_left_and_recounts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    let events = [
        event("srv.s.t", change("t", "c")),
        event("srv.s.t", change("t", "u")),
    ];
    produce(&broker, &events);
    for round in 1..=3_u32 {
        let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
        // Restored before anything is asked of the broker.
        let restored: f64 = latest(&store, "cdc_events_processed_total").values().sum();
        assert_eq!(restored, 2.0 * f64::from(round - 1));
        running.catch_up(&broker).await;
        let expected = u64::from(round);
        let counts = running.handle.counts();
        assert_eq!(counts[&key("s.t", Operation::Create)], expected);
        assert_eq!(counts[&key("s.t", Operation::Update)], expected);
        running.stop().await;
        produce(&broker, &events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_topics_and_control_topics_that_appear_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("unrelated", 1).unwrap();
    let mut config = config(broker.brokers(), &[r"^srv\.s\.", r"^other\."]);
    // Only for what is there at first: later topics are read from their beginning.
    config.start = Start::End;
    broker.create_topic("srv.s.first", 1).unwrap();
    produce(&broker, &[event("srv.s.first", change("first", "c"))]);
    let running = Running::start(&store, config);
    wait("the first topic is read", || {
        running.handle.next_offset("srv.s.first", 0) == Some(1)
    })
    .await;
    assert_eq!(running.total(), 0);
    wait("the other pattern is told", || {
        running.message() == r"no topic matches ^other\."
    })
    .await;

    let later = [
        event("srv.s.second", change("second", "c")),
        event("__debezium-heartbeat.srv", r#"{"ts_ms":1700000000000}"#),
        event(
            "srv.transaction",
            r#"{"status":"BEGIN","id":"1","ts_ms":1700000000000}"#,
        ),
        event("unrelated", change("unrelated", "c")),
    ];
    for event in &later[..3] {
        broker.create_topic(&event.topic, 1).unwrap();
    }
    produce(&broker, &later);
    wait("the later topics are read", || {
        later[..3]
            .iter()
            .all(|event| running.handle.next_offset(&event.topic, 0) == Some(1))
    })
    .await;
    assert_eq!(
        running.handle.counts(),
        [(key("s.second", Operation::Create), 1)].into()
    );
    assert_eq!(running.handle.next_offset("unrelated", 0), None);
    running.stop().await;
    let records = latest(&store, "cutover_cdc_records_total");
    assert_eq!(records.len(), 2, "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_the_end_holds_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    produce(&broker, &[event("srv.s.t", change("t", "c"))]);
    let mut config = config(broker.brokers(), &["srv.s.t"]);
    config.start = Start::End;
    for _ in 0..2 {
        let running = Running::start(&store, config.clone());
        running.catch_up(&broker).await;
        assert_eq!(running.total(), 0);
        running.stop().await;
    }
    produce(&broker, &[event("srv.s.t", change("t", "d"))]);
    let running = Running::start(&store, config);
    running.catch_up(&broker).await;
    assert_eq!(
        running.handle.counts(),
        [(key("s.t", Operation::Delete), 1)].into()
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_read_from_its_beginning_and_counts_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let event = event("srv.s.t", change("t", "c"));
    for (messages, total, recreated) in [(5, 5, false), (2, 7, true)] {
        // Another broker under the same store: its log is shorter than our position.
        let broker = Broker::start().unwrap();
        broker.create_topic("srv.s.t", 1).unwrap();
        produce(&broker, &vec![event.clone(); messages]);
        let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
        running.catch_up(&broker).await;
        assert_eq!(running.total(), total);
        let counted = running
            .metrics
            .render()
            .contains("cutover_kafka_recreated_total{");
        assert_eq!(counted, recreated);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_deleted_before_they_were_read_are_a_reported_gap() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    let event = event("srv.s.t", change("t", "c"));
    produce(&broker, std::slice::from_ref(&event));
    let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
    running.catch_up(&broker).await;
    running.stop().await;

    // The broker keeps 5 MB of a partition: this pushes out what comes before it.
    let filler = Event {
        value: Some(vec![b' '; 1 << 20]),
        ..event.clone()
    };
    for _ in 0..8 {
        produce(&broker, std::slice::from_ref(&filler));
    }
    produce(&broker, &[event]);
    let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
    running.catch_up(&broker).await;
    let counts = running.handle.counts();
    assert_eq!(counts[&key("s.t", Operation::Create)], 2);
    wait("the gap is told", || {
        running.message().contains("srv.s.t[0]: offsets 1 to ")
    })
    .await;
    assert_eq!(running.health.parts()["kafka"].state, State::Degraded);
    assert!(
        running
            .metrics
            .render()
            .contains("cutover_kafka_gap_messages_total{")
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_named_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    let event = event("srv.s.t", change("t", "c"));
    produce(&broker, std::slice::from_ref(&event));
    let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
    running.catch_up(&broker).await;
    broker.set_reachable(false).unwrap();
    let silence = format!("no answer from {}", broker.brokers());
    wait("the silence is told", || {
        running.message().contains(&silence)
    })
    .await;
    broker.set_reachable(true).unwrap();
    produce(&broker, &[event]);
    running.catch_up(&broker).await;
    assert_eq!(running.total(), 2);
    wait("the answer is told", || running.message().is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_the_middle_of_a_stream_lose_and_repeat_nothing() {
    const PARTITIONS: i32 = 4;
    const EVENTS: i32 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Arc::new(Broker::start().unwrap());
    broker.create_topic("srv.s.t", PARTITIONS).unwrap();
    let producer = {
        let broker = broker.clone();
        tokio::task::spawn_blocking(move || {
            let event = event("srv.s.t", change("t", "c"));
            for at in 0..EVENTS {
                broker.produce(&event, at % PARTITIONS).unwrap();
            }
            broker.flush().unwrap();
        })
    };
    let config = config(broker.brokers(), &["srv.s.t"]);
    let mut total = 0;
    for _ in 0..5 {
        let running = Running::start(&store, config.clone());
        assert_eq!(running.total(), total);
        wait("some events are read", || {
            running.total() > total || running.total() == EVENTS as u64
        })
        .await;
        let handle = running.handle.clone();
        running.stop().await;
        total = handle.counts().values().sum();
    }
    producer.await.unwrap();
    let running = Running::start(&store, config);
    running.catch_up(&broker).await;
    assert_eq!(running.total(), EVENTS as u64);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_written_and_a_stop_is_heeded_while_no_broker_answers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    produce(&broker, &[event("srv.s.t", change("t", "c"))]);
    let running = Running::start(&store, config(broker.brokers(), &["srv.s.t"]));
    running.catch_up(&broker).await;
    running.stop().await;
    // Port 1 is reserved: nobody listens there.
    let running = Running::start(&store, config("127.0.0.1:1".to_owned(), &["srv.s.t"]));
    assert_eq!(running.total(), 1);
    wait("the silence is told", || {
        running.message().contains("no answer from 127.0.0.1:1")
    })
    .await;
    wait("a late lag is written", || {
        latest(&store, "cutover_lag_state")
            .iter()
            .any(|(labels, holds)| labels.contains("state=\"stale\"") && *holds == 1.0)
    })
    .await;
    running.stop().await;
}

/// The machine's clock, and what was added to it.
#[derive(Debug, Default)]
struct ShiftedClock {
    system: SystemClock,
    shift_ms: AtomicI64,
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let shift_ms = self.shift_ms.load(Ordering::Relaxed);
        self.system.now().offset_ms(shift_ms)
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_stops_shows_as_growing_lag_and_as_stalled() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 1).unwrap();
    broker.create_topic("__debezium-heartbeat.srv", 1).unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let now_ms = clock.now().ms();
    let value = String::from_utf8(change("t", "c")).unwrap();
    let value = value.replace("1700000000000", &now_ms.to_string());
    let heartbeat = format!(r#"{{"ts_ms":{now_ms}}}"#);
    let heartbeat = event("__debezium-heartbeat.srv", heartbeat);
    produce(&broker, &[event("srv.s.t", value), heartbeat]);
    let config = config(broker.brokers(), &["srv.s.t"]);
    let running = Running::start_at(&store, config, clock.clone());
    let state = |name: &str| {
        let states = latest(&store, "cutover_lag_state");
        let name = format!("state=\"{name}\"");
        states
            .iter()
            .any(|(labels, holds)| labels.contains(&name) && *holds == 1.0)
    };
    let lag = || {
        latest(&store, "cdc_replication_lag_seconds")
            .into_values()
            .next()
    };
    wait("the table is fresh", || state("fresh")).await;
    clock.shift_ms.store(60_000, Ordering::Relaxed);
    wait("the table is stalled", || state("stalled")).await;
    assert!(!state("fresh") && !state("idle"));
    let stalled = lag().unwrap();
    assert!(stalled >= 60.0, "{stalled}");
    clock.shift_ms.store(120_000, Ordering::Relaxed);
    wait("the lag grows", || lag().unwrap() >= 120.0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_split_by_number_and_heartbeats_are_read_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broker = Broker::start().unwrap();
    broker.create_topic("srv.s.t", 3).unwrap();
    broker.create_topic("__debezium-heartbeat.srv", 1).unwrap();
    let event = event("srv.s.t", change("t", "c"));
    for partition in 0..3 {
        broker.produce(&event, partition).unwrap();
    }
    broker.flush().unwrap();
    let mut config = config(broker.brokers(), &["srv.s.t"]);
    config.partitions = Some(vec![1]);
    let running = Running::start(&store, config);
    wait("our partition is read", || running.total() == 1).await;
    let read: Vec<_> = running.handle.positions().into_keys().collect();
    let expected = [
        ("__debezium-heartbeat.srv".to_owned(), 0),
        ("srv.s.t".to_owned(), 1),
    ];
    assert_eq!(read, expected);
    running.stop().await;
}
