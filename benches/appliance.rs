//! The hot paths, one figure each: what the README's table is made from.
//!
//! `cargo bench --bench appliance` runs all of them; figures depend on the machine and its disk.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cutover::cdc::Classifier;
use cutover::demo::broker::Event;
use cutover::detect;
use cutover::detect::engine::{Evaluation, Inputs};
use cutover::model::{Batch, Labels, ManualClock, Sample, SeriesSamples, Timestamp};
use cutover::promql::{Engine, Limits, QueryOptions, Steps, VectorSample};
use cutover::store::{Options, Store};
use cutover::tui::state::State;
use cutover::tui::theme::{ColorLevel, Theme};
use cutover::tui::view;
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
const STEP: Duration = Duration::from_secs(15);
const SERIES: usize = 5_000;

fn labels(series: usize) -> Labels {
    let (table, instance) = (format!("public.table_{}", series % 100), series.to_string());
    let pairs = [
        ("source", "shop"),
        ("table", &*table),
        (
            "operation",
            ["create", "update", "delete", "read"][series % 4],
        ),
        ("instance", &*instance),
    ];
    Labels::of("cdc_events_processed_total", &pairs)
}

fn open(dir: &tempfile::TempDir) -> Store {
    let clock = Arc::new(ManualClock::at(NOW));
    Store::open(dir.path(), Options::default(), clock).expect("a temporary directory opens")
}

/// One sample of each of 5,000 series in one commit, durable when it returns.
fn store_write(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory is made");
    let store = open(&dir);
    let writer = store.writer();
    let labels: Vec<Labels> = (0..SERIES).map(labels).collect();
    let mut step = 0_u32;
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("write 5,000 samples, durable", |bencher| {
        bencher.iter_batched(
            || {
                step += 1;
                let at = NOW
                    .before(Duration::from_secs(80 * 86_400))
                    .after(STEP * step);
                let mut batch = Batch::default();
                for (series, labels) in labels.iter().enumerate() {
                    let value = f64::from(step) * (series % 7) as f64;
                    batch.push(labels.clone(), Sample::new(at, value));
                }
                batch
            },
            |batch| writer.write_blocking(batch).expect("the disk has room"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    drop(writer);
    store.close().expect("the store closes");
}

/// Three hours at 15 s of 1,000 counters, summed by table.
fn promql_range(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory is made");
    let store = open(&dir);
    let (steps, span) = (720, STEP * 720);
    let series = (0..1_000).map(|series| SeriesSamples {
        labels: labels(series),
        samples: (0..steps)
            .map(|step| {
                let at = NOW.before(span).after(STEP * step);
                Sample::new(at, f64::from(step) * (series % 7) as f64)
            })
            .collect(),
    });
    let batch = Batch {
        samples: series.collect(),
        ..Batch::default()
    };
    store
        .writer()
        .write_blocking(batch)
        .expect("the disk has room");
    let engine = Engine::new(store.reader(), Limits::default());
    let steps = Steps {
        start: NOW.before(span),
        end: NOW,
        step: STEP,
    };
    let query = "sum by (table) (rate(cdc_events_processed_total[5m]))";
    criterion.bench_function("promql: rate of 1,000 series over 3 h at 15 s", |bencher| {
        bencher.iter(|| {
            let answer = engine.range(black_box(query), steps, &QueryOptions::default());
            answer.expect("the query is right")
        });
    });
}

/// The recorded events of the demo, of real connectors.
fn cdc_classify(criterion: &mut Criterion) {
    let recording = include_str!("../assets/demo/events.ndjson");
    let events: Vec<Event> = recording
        .lines()
        .map(|line| Event::parse(line).expect("the recording is right"))
        .collect();
    let classifier = Classifier::new("__debezium-heartbeat");
    let mut group = criterion.benchmark_group("cdc");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("classify recorded events", |bencher| {
        bencher.iter(|| {
            for event in &events {
                let record = classifier.classify(&event.topic, event.value.as_deref());
                black_box(record.expect("the recording is understood"));
            }
        });
    });
    group.finish();
}

/// One step of the replication lag's watch over 100 tables.
fn detect_step(criterion: &mut Criterion) {
    let watches = detect::Config::default()
        .watches()
        .expect("the defaults are right");
    let mut engine = detect::engine::Engine::new(watches);
    let mut at = NOW;
    let mut group = criterion.benchmark_group("detect");
    group.throughput(Throughput::Elements(100));
    group.bench_function("step of 100 series", |bencher| {
        bencher.iter(|| {
            at = at.after(STEP);
            let sample = |table: usize| VectorSample {
                labels: labels(table),
                sample: Sample::new(at, 0.5 + (at.ms() / 15_000 % 7) as f64 / 10.0),
            };
            let evaluation = Evaluation {
                watch: "replication_lag".to_owned(),
                samples: (0..100).map(sample).collect(),
                ..Evaluation::default()
            };
            engine.step(
                at,
                &Inputs {
                    evaluations: vec![evaluation],
                    ..Inputs::default()
                },
            )
        });
    });
    group.finish();
}

/// A whole frame at 200 x 60, without the terminal.
fn tui_frame(criterion: &mut Criterion) {
    let state = State::new("http://127.0.0.1:9490", TimeZone::UTC, NOW);
    let theme = Theme::new(ColorLevel::None);
    let mut terminal = Terminal::new(TestBackend::new(200, 60)).expect("a test terminal is made");
    criterion.bench_function("tui: one frame at 200x60", |bencher| {
        bencher.iter(|| {
            let drawn = terminal.draw(|frame| view::render(frame, &state, theme));
            drawn.expect("a test terminal draws").area
        });
    });
}

criterion_group!(
    benches,
    store_write,
    promql_range,
    cdc_classify,
    detect_step,
    tui_frame
);
criterion_main!(benches);
