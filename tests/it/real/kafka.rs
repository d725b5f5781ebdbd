//! Exactly once: whatever moment the appliance is killed at, each record is counted once.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::BuildHasher;
use std::thread;
use std::time::Duration;

use cutover::model::{Clock, SystemClock};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::appliance::{self, Appliance};
use super::{Counts, Form, Servers, say, topic};

const TOPIC: &str = "ledger.public.accounts";
const PARTITIONS: i32 = 4;
const KILLS: u64 = 20;

#[test]
fn counts_are_exact_after_twenty_kills() {
    let Some(servers) = Servers::find() else {
        return;
    };
    let changes = match servers.form {
        Form::Short => 20_000,
        Form::Full => 200_000,
    };
    let mut random = Random::seeded();
    let home = tempfile::tempdir().expect("the temporary folder is writable");
    appliance::configure(home.path(), &servers.kafka, r"^ledger\..*");
    topic::create(&servers.kafka, TOPIC, PARTITIONS);
    let mut ledger = Ledger::new(&servers.kafka);

    let mut counted = 0;
    let mut advances = 0;
    for kill in 1..=KILLS {
        let mut appliance = Appliance::start(home.path());
        // Every other kill may hit the start; before the rest, what survived the last one is read.
        if kill % 2 == 0 {
            appliance.await_ready();
            let now: u64 = appliance.counts().expect("a query").values().sum();
            assert!(
                now >= counted,
                "kill {kill}: {now} counted, {counted} before"
            );
            assert!(
                now <= ledger.changes,
                "kill {kill}: {now} counted of {}",
                ledger.changes
            );
            advances += u64::from(now > counted);
            counted = now;
        }
        let span = Duration::from_millis(random.below(2_000));
        ledger.write_over(span, changes / (KILLS + 1), &mut random);
        appliance.kill();
    }
    say(&format!(
        "after {KILLS} kills {counted} of {changes} changes were counted"
    ));
    // Else the kills hit nothing but start-up.
    assert!(
        advances >= KILLS / 4,
        "the counts rose in {advances} lives only"
    );

    let mut appliance = Appliance::start(home.path());
    appliance.await_ready();
    ledger.write(changes - ledger.changes, &mut random);
    ledger.flush();
    assert_eq!(topic::count(&servers.kafka, TOPIC), ledger.counts);
    appliance.await_counts(&ledger.counts, Duration::from_secs(120));
    appliance.kill();

    let mut appliance = Appliance::start(home.path());
    appliance.await_ready();
    let first = appliance.counts().expect("a query");
    assert_eq!(first, ledger.counts, "the first query after the last start");
}

/// Writes change events as Debezium would, and keeps count of them.
struct Ledger {
    producer: BaseProducer,
    clock: SystemClock,
    counts: Counts,
    /// The sum of `counts`.
    changes: u64,
}

impl Ledger {
    fn new(brokers: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // A send that is tried again is written once.
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer needs only brokers");
        Self {
            producer,
            clock: SystemClock::default(),
            counts: Counts::new(),
            changes: 0,
        }
    }

    /// Spreads the changes over a span of time.
    fn write_over(&mut self, span: Duration, changes: u64, random: &mut Random) {
        const STEPS: u64 = 20;
        for step in 1..=STEPS {
            self.write(
                changes * step / STEPS - changes * (step - 1) / STEPS,
                random,
            );
            thread::sleep(span / STEPS as u32);
        }
    }

    fn write(&mut self, changes: u64, random: &mut Random) {
        for _ in 0..changes {
            let partition = random.below(PARTITIONS as u64) as i32;
            let (op, operation) = match random.below(10) {
                0..=5 => ("c", "create"),
                6..=8 => ("u", "update"),
                _ => ("d", "delete"),
            };
            let key = json!({ "id": self.changes }).to_string();
            let value = self.event(op).to_string();
            self.send(partition, &key, Some(&value));
            if op == "d" {
                // A tombstone takes an offset and is not a change.
                self.send(partition, &key, None);
            }
            let series = ("ledger", "public.accounts", operation);
            let series = (
                series.0.to_owned(),
                series.1.to_owned(),
                series.2.to_owned(),
            );
            *self.counts.entry(series).or_default() += 1;
            self.changes += 1;
        }
        self.producer.poll(Duration::ZERO);
    }

    fn event(&self, op: &str) -> serde_json::Value {
        let row = json!({ "id": self.changes, "balance": self.changes % 1_000 });
        let timestamp_ms = self.clock.now().ms();
        json!({
            "before": if op == "c" { None } else { Some(&row) },
            "after": if op == "d" { None } else { Some(&row) },
            "source": {
                "version": "3.7.0.Final",
                "connector": "postgresql",
                "name": "ledger",
                "ts_ms": timestamp_ms,
                "snapshot": "false",
                "db": "bank",
                "schema": "public",
                "table": "accounts",
                "txId": self.changes,
                "lsn": self.changes * 64,
            },
            "op": op,
            "ts_ms": timestamp_ms,
        })
    }

    fn send(&self, partition: i32, key: &str, value: Option<&str>) {
        let mut record = BaseRecord::<str, str>::to(TOPIC)
            .partition(partition)
            .key(key);
        record.payload = value;
        while let Err((error, refused)) = self.producer.send(record) {
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else {
                panic!("a record was refused: {error}");
            };
            self.producer.poll(Duration::from_millis(100));
            record = refused;
        }
    }

    fn flush(&self) {
        self.producer
            .flush(Duration::from_secs(60))
            .expect("the broker takes what is written");
    }
}

/// Numbers that can be had again by their seed (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = match env::var("CUTOVER_SEED") {
            Ok(seed) => seed.parse().expect("CUTOVER_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        };
        say(&format!("CUTOVER_SEED={seed}"));
        Self(seed)
    }

    /// Below `bound`, which is small: the bias of the remainder does not matter.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
