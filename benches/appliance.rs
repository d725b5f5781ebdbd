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
use cutover::ingest::admission::Admission;
use cutover::ingest::remote_write::{self, Version};
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

/// A field of bytes in protobuf, below 16 KiB.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    if content.len() < 0x80 {
        field.push(content.len() as u8);
    } else {
        field.extend([content.len() as u8 | 0x80, (content.len() >> 7) as u8]);
    }
    field.extend(content);
    field
}

/// A request of remote write 1.0 with one sample of each of 5,000 series of 10 labels.
fn write_request() -> Vec<u8> {
    let series = (0..SERIES).map(|series| {
        let (path, pod) = (
            format!("/api/{series}"),
            format!("api-6c7d8f9b5-{series:05}"),
        );
        let labels = [
            ("__name__", "http_request_duration_seconds_bucket"),
            ("code", "200"),
            ("env", "production"),
            ("handler", &*path),
            ("instance", "10.0.0.1:9100"),
            ("job", "api-server"),
            ("le", "0.25"),
            ("method", "GET"),
            ("namespace", "default"),
            ("pod", &*pod),
        ];
        let label = |(name, value): &(&str, &str)| {
            let pair = [field(1, name.as_bytes()), field(2, value.as_bytes())];
            field(1, &pair.concat())
        };
        let mut message: Vec<u8> = labels.iter().flat_map(label).collect();
        let mut sample = vec![1 << 3 | 1];
        sample.extend((series as f64).to_le_bytes());
        // 1,799,999,000,000 ms, shortly before now.
        sample.extend([2 << 3, 0xc0, 0x9b, 0xb4, 0xc2, 0xb1, 0x34]);
        message.extend(field(2, &sample));
        field(1, &message)
    });
    series.flatten().collect()
}

/// The same 5,000 series again and again, as a Prometheus sends them, up to the commit.
fn remote_write_decode(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory is made");
    let store = open(&dir);
    let body = write_request();
    let decode = || {
        let mut append = store.writer().append();
        let mut fill = append.fill();
        let mut admission = Admission::new(&mut fill);
        remote_write::decode(Version::V1, &body, &mut admission).expect("the request is right");
        assert_eq!(admission.finish().samples, 0);
        drop(fill);
        append
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers is made");
    let written = runtime.block_on(decode().commit());
    assert_eq!(written.expect("the disk has room").rejected, 0);
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("decode 5,000 samples of remote write", |bencher| {
        bencher.iter(|| black_box(decode()));
    });
    group.finish();
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
    remote_write_decode,
    promql_range,
    cdc_classify,
    detect_step,
    tui_frame
);
criterion_main!(benches);
