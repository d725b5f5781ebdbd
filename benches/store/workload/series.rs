//! The series of one target, how their values move, and how a sample is encoded.
//!
//! Of a hundred series 40 are counters of whole numbers, 25 gauges that hardly ever change, 20 the
//! buckets of two histograms, and 15 lags in seconds with three decimals. The names are those of no
//! built-in watch of cutover, so that what is compared is storing, not detecting.

use super::{JITTER_MS, Names, STEP_MS, TARGET_SERIES, migrations};

pub(super) const TABLES: [&str; 10] = [
    "orders",
    "order_items",
    "customers",
    "addresses",
    "payments",
    "refunds",
    "products",
    "stock_levels",
    "shipments",
    "audit_log",
];
pub(super) const OPERATIONS: [&str; 4] = ["create", "update", "delete", "read"];
/// Gauges with the component that each is of: labels are distinct also without the name, which
/// functions over time drop.
const GAUGES: [(&str, &str); 5] = [
    ("connector_queue_capacity", "queue"),
    ("connector_tasks_running", "worker"),
    ("connector_snapshot_running", "snapshot"),
    ("connector_writers_open", "sink"),
    ("connector_rows_expected", "plan"),
];
const BUCKETS: [&str; 10] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "5", "+Inf",
];

/// The remote write field numbers with their wire types.
const TIME_SERIES: u8 = 0x0a;
const LABEL: u8 = 0x0a;
const SAMPLE: u8 = 0x12;
const NAME: u8 = 0x0a;
const TEXT: u8 = 0x12;
const VALUE: u8 = 0x09;
const TIMESTAMP: u8 = 0x10;

/// A small generator of its own, so that the seed fixes the bytes.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How a value moves from scrape to scrape.
#[derive(Debug)]
pub(super) enum Motion {
    /// Never changes.
    Constant,
    /// Grows by up to so much.
    Counter { growth_max: u64 },
    /// Stays, but once in some 200 scrapes.
    Gauge,
    /// The first bucket of a histogram, at whose scrape all its buckets are drawn.
    Buckets,
    /// Takes what the first bucket's scrape drew for it.
    Bucket { index: usize },
    /// Wanders, in milliseconds.
    Lag,
}

#[derive(Debug)]
pub(super) struct Series {
    /// The encoded label fields.
    pub(super) labels: Vec<u8>,
    pub(super) motion: Motion,
    /// The value, of a lag in thousandths.
    pub(super) state: u64,
}

/// A target that is scraped: its series and when it is due.
#[derive(Debug)]
pub(super) struct Target {
    phase_ms: i64,
    random: Random,
    series: Vec<Series>,
}

impl Target {
    pub(super) fn new(names: Names, index: usize, seed: u64) -> Self {
        let mut random = Random(seed ^ (index as u64 + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        // Away from the grid's ends, so that jitter does not cross them.
        let phase_ms = (JITTER_MS + random.below(STEP_MS as u64 - 2 * JITTER_MS)) as i64;
        let series = match names {
            Names::Connectors => all_series(index, &mut random),
            Names::Migrations => migrations::series(index, &mut random),
        };
        assert_eq!(series.len(), TARGET_SERIES);
        Self {
            phase_ms,
            random,
            series,
        }
    }

    /// Moves every value and appends the samples; answers their timestamp.
    pub(super) fn scrape(&mut self, grid_ms: i64, body: &mut Vec<u8>) -> i64 {
        let jitter_ms = self.random.below(2 * JITTER_MS + 1) as i64 - JITTER_MS as i64;
        let timestamp_ms = grid_ms + self.phase_ms + jitter_ms;
        let mut observed = [0; BUCKETS.len()];
        for series in &mut self.series {
            let value = series.step(&mut self.random, &mut observed);
            encode(&series.labels, value, timestamp_ms, body);
        }
        timestamp_ms
    }
}

impl Series {
    fn step(&mut self, random: &mut Random, observed: &mut [u64; BUCKETS.len()]) -> f64 {
        match self.motion {
            Motion::Constant => {}
            // Half of the scrapes of a table see no change, as in a real migration.
            Motion::Counter { growth_max } => {
                if random.below(2) == 0 {
                    self.state += random.below(growth_max + 1);
                }
            }
            Motion::Gauge => {
                if random.below(200) == 0 {
                    self.state = (self.state + random.below(3)).saturating_sub(1);
                }
            }
            Motion::Buckets => {
                *observed = observe(random);
                self.state += observed[0];
            }
            Motion::Bucket { index } => self.state += observed[index],
            Motion::Lag => {
                let drift = random.below(241) as i64 - 120;
                let pull = (800 - self.state as i64) / 20;
                self.state = (self.state as i64 + drift + pull).max(1) as u64;
                return self.state as f64 / 1e3;
            }
        }
        self.state as f64
    }
}

/// Observations of one scrape by bucket, cumulated as histograms have them.
fn observe(random: &mut Random) -> [u64; BUCKETS.len()] {
    let mut counts = [0; BUCKETS.len()];
    for _ in 0..random.below(30) {
        // Two dice make the middle buckets the fullest.
        let bucket = random.below(5) + random.below(6);
        counts[bucket as usize] += 1;
    }
    for index in 1..BUCKETS.len() {
        counts[index] += counts[index - 1];
    }
    counts
}

fn all_series(target: usize, random: &mut Random) -> Vec<Series> {
    let mut all = Vec::with_capacity(TARGET_SERIES);
    for (partition, table) in TABLES.iter().enumerate() {
        for (rank, operation) in OPERATIONS.iter().enumerate() {
            let more = [("table", *table), ("operation", *operation)];
            let labels = labels("connector_events_total", target, partition, &more);
            let growth_max = [40, 150, 6, 900][rank];
            let state = random.below(1_000_000);
            all.push(Series {
                labels,
                motion: Motion::Counter { growth_max },
                state,
            });
        }
    }
    for (name, component) in GAUGES {
        for (partition, table) in TABLES.iter().take(5).enumerate() {
            let more = [("table", *table), ("component", component)];
            let labels = labels(name, target, partition, &more);
            let state = random.below(1 << 14);
            all.push(Series {
                labels,
                motion: Motion::Gauge,
                state,
            });
        }
    }
    for (partition, table) in TABLES.iter().take(2).enumerate() {
        for (index, le) in BUCKETS.iter().enumerate() {
            let more = [("table", *table), ("le", *le)];
            let labels = labels("connector_apply_seconds_bucket", target, partition, &more);
            let motion = match index {
                0 => Motion::Buckets,
                index => Motion::Bucket { index },
            };
            all.push(Series {
                labels,
                motion,
                state: 0,
            });
        }
    }
    for lag in 0..15 {
        let (name, component, table) = match lag {
            0..10 => ("connector_replication_lag_seconds", "stream", TABLES[lag]),
            _ => ("connector_snapshot_lag_seconds", "copy", TABLES[lag - 10]),
        };
        let more = [("table", table), ("component", component)];
        let labels = labels(name, target, lag % 10, &more);
        let state = 1 + random.below(3_000);
        all.push(Series {
            labels,
            motion: Motion::Lag,
            state,
        });
    }
    all
}

/// The encoded fields of ten labels, sorted by name.
fn labels(name: &str, target: usize, partition: usize, more: &[(&str, &str); 2]) -> Vec<u8> {
    let source = target / 10;
    let table = more[0].1;
    let mut pairs = vec![
        ("__name__", name.to_owned()),
        ("job", "kafka-connect".to_owned()),
        (
            "instance",
            format!("10.20.{}.{}:9404", target / 250, target % 250),
        ),
        ("env", "production".to_owned()),
        ("region", "eu-central-1".to_owned()),
        ("source", format!("shop-{source:02}")),
        ("topic", format!("shop-{source:02}.public.{table}")),
        ("partition", partition.to_string()),
    ];
    pairs.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    encoded_labels(pairs)
}

/// The encoded fields of labels, sorted by name.
pub(super) fn encoded_labels(mut pairs: Vec<(&str, String)>) -> Vec<u8> {
    pairs.sort_unstable();
    let mut encoded = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        push_field(NAME, name.as_bytes(), &mut label);
        push_field(TEXT, value.as_bytes(), &mut label);
        push_field(LABEL, &label, &mut encoded);
    }
    encoded
}

/// One time series of one sample.
fn encode(labels: &[u8], value: f64, timestamp_ms: i64, body: &mut Vec<u8>) {
    let timestamp = timestamp_ms as u64;
    let sample_bytes = 1 + size_of::<f64>() + 1 + varint_bytes(timestamp);
    let series_bytes = labels.len() + 1 + varint_bytes(sample_bytes as u64) + sample_bytes;
    body.push(TIME_SERIES);
    push_varint(series_bytes as u64, body);
    body.extend_from_slice(labels);
    body.push(SAMPLE);
    push_varint(sample_bytes as u64, body);
    body.push(VALUE);
    body.extend_from_slice(&value.to_le_bytes());
    body.push(TIMESTAMP);
    push_varint(timestamp, body);
}

fn push_field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    push_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}
