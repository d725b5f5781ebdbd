//! A migration played through the built-in watches, with the real evaluator behind them.

use super::tests::{START, parts};
use super::*;
use crate::detect::anomaly::ANOMALIES;
use crate::detect::noise::Noise;
use crate::model::{Batch, Labels, ManualClock, Matcher, Sample, TimeRange};

/// Seconds between samples; a step is taken every second.
const EVERY_S: u64 = 5;
const HISTORY_S: u64 = 7_200;

/// The series of one migration, all of them written at every step.
struct Migration {
    noise: Noise,
    rows: f64,
    events: f64,
    errors: f64,
    lag: f64,
}

/// What goes wrong, if anything.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// The stream stands still: no rows, no events, and the lag grows with the clock.
    Stalled,
    Errors,
}

impl Migration {
    fn batch(&mut self, at: Timestamp, trouble: Trouble) -> Batch {
        let seconds = EVERY_S as f64;
        if trouble == Trouble::Stalled {
            self.lag += seconds;
        } else {
            self.rows += (seconds * (1_000.0 + 60.0 * self.noise.normal())).max(0.0);
            self.events += (seconds * (200.0 + 15.0 * self.noise.normal())).max(0.0);
            self.lag = 0.4 + self.noise.uniform();
        }
        if trouble == Trouble::Errors {
            self.errors += seconds * 150.0;
        }
        let id = ("migration_id", "orders");
        let table = ("source_table", "public.orders");
        let mut batch = Batch::default();
        for (metric, labels, value) in [
            (
                "migration_rows_total",
                vec![id, ("table_name", "public.orders")],
                self.rows,
            ),
            (
                "migration_errors_total",
                vec![id, ("error_type", "constraint")],
                self.errors,
            ),
            ("migration_data_lag_seconds", vec![id], self.lag),
            ("cutover_migration_running", vec![id], 1.0),
            ("cutover_migration_expected_rate", vec![id], 1_000.0),
            (
                "cutover_migration_phase",
                vec![id, ("phase", "snapshot")],
                0.0,
            ),
            (
                "cutover_migration_phase",
                vec![id, ("phase", "streaming")],
                1.0,
            ),
            (
                "cdc_replication_lag_seconds",
                vec![table, ("target_table", "public.orders")],
                self.lag,
            ),
            (
                "cdc_events_processed_total",
                vec![
                    ("source", "shop"),
                    ("table", "public.orders"),
                    ("operation", "update"),
                ],
                self.events,
            ),
            (
                "cdc_consumer_lag_messages",
                vec![("topic", "shop.orders"), ("partition", "0")],
                3.0,
            ),
        ] {
            batch.push(Labels::of(metric, &labels), Sample::new(at, value));
        }
        batch
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_and_a_burst_of_errors_are_found_on_replayed_history_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let (store, parts) = parts(dir.path(), &clock);
    let mut migration = Migration {
        noise: Noise::new(1),
        rows: 0.0,
        events: 0.0,
        errors: 0.0,
        lag: 0.0,
    };
    let mut history = Batch::default();
    for ago in (1..=HISTORY_S / EVERY_S).rev() {
        let at = START.before(Duration::from_secs(ago * EVERY_S));
        history
            .samples
            .extend(migration.batch(at, Trouble::None).samples);
    }
    parts.writer.write_blocking(history).unwrap();
    let config = Config {
        every: Duration::from_secs(1),
        ..Config::default()
    };
    let mut detection = Detection::new(&config, config.watches().unwrap(), parts.clone());
    let mut engine = None;
    let mut play = async |trouble, seconds| {
        for second in 0..seconds {
            if second % EVERY_S == 0 {
                let batch = migration.batch(clock.now(), trouble);
                parts.writer.write_blocking(batch).unwrap();
            }
            engine = detection.cycle(engine.take()).await;
            assert!(engine.is_some());
            clock.advance(Duration::from_secs(1));
        }
        let snapshot = parts.reader.snapshot().unwrap();
        let open = snapshot.records(&ANOMALIES, None, 100).unwrap().into_iter();
        let mut open: Vec<_> = open
            .filter(|(_, anomaly)| anomaly.closed_at.is_none())
            .map(|(_, anomaly)| anomaly.watch)
            .collect();
        open.sort();
        open
    };
    assert_eq!(play(Trouble::None, 150).await, [""; 0]);
    assert_eq!(
        play(Trouble::Stalled, 60).await,
        ["data_lag", "event_rate", "replication_lag", "throughput"]
    );
    assert_eq!(play(Trouble::None, 150).await, [""; 0]);
    assert_eq!(
        play(Trouble::Errors, 60).await,
        ["error_ratio", "high_error_rate"]
    );
    assert_eq!(play(Trouble::None, 420).await, [""; 0]);
    assert_eq!(
        parts.health.parts()[PART].state,
        State::Ok,
        "{:?}",
        parts.health.parts()
    );
    let scores = parts
        .reader
        .snapshot()
        .unwrap()
        .series(
            &[Matcher::equal("__name__", "cutover_anomaly_score")],
            TimeRange::ALL,
        )
        .unwrap();
    let mut watches: Vec<_> = scores.iter().map(|labels| labels.value("watch")).collect();
    watches.dedup();
    let all = detection.watches.iter().map(|watch| watch.name.as_str());
    let mut all: Vec<_> = all.filter(|name| *name != "stall").collect();
    all.sort_unstable();
    watches.sort_unstable();
    assert_eq!(watches, all);
    store.close().unwrap();
}
