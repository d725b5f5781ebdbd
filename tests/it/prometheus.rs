//! The same data and queries given to Debian's Prometheus 2.42, when it is installed.
//!
//! 2.42 still closes windows and lookbacks on the left, so no sample lies on such a bound here:
//! samples come 7 s past multiples of 15 s, queries ask at multiples of 15 s, and the points of a
//! subquery are kept off its bound by an odd range.

#![expect(
    clippy::print_stderr,
    reason = "what is not compared is said on stderr"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cutover::model::{
    Batch, Clock, Labels, ManualClock, STALE_NAN, Sample, SeriesSamples, SystemClock, Timestamp,
};
use cutover::promql::{Engine, Limits, QueryOptions, Steps, Value};
use cutover::store::{Options, Store};
use prost::Message;

use crate::support::free_address;

pub(crate) const BINARY: &str = "/usr/bin/prometheus";
/// Of the sum of the magnitudes.
const TOLERANCE: f64 = 1e-9;
pub(crate) const SCRAPE_MS: i64 = 15_000;
const PAST_SCRAPE_MS: i64 = 7_000;
pub(crate) const SCRAPES: i64 = 160;

const QUERIES: &[&str] = &[
    "events_total",
    "events_total{op=\"create\",table!=\"t1\"}",
    "{__name__=~\"events.*\",op=~\"cr.*|de.*\"}",
    "events_total offset 3m",
    "events_total offset -2m",
    "gauge",
    "ending",
    "count(ending)",
    "sparse",
    "rate(events_total[2m])",
    "rate(events_total[5m])",
    "rate(events_total[5m] offset 4m)",
    "irate(events_total[2m])",
    "increase(events_total[3m])",
    "increase(resetting_total[5m])",
    "rate(resetting_total[4m])",
    "irate(resetting_total[1m])",
    "resets(resetting_total[10m])",
    "changes(gauge[5m])",
    "delta(gauge[5m])",
    "idelta(gauge[5m])",
    "deriv(gauge[6m])",
    "predict_linear(gauge[6m], 600)",
    "sum(rate(events_total[2m]))",
    "sum by (table) (rate(events_total[2m]))",
    "sum without (op) (rate(events_total[2m]))",
    "avg by (op) (events_total)",
    "min by (op) (gauge)",
    "max(gauge)",
    "count(events_total)",
    "group by (table) (events_total)",
    "stddev(gauge)",
    "stdvar by (host) (gauge)",
    "quantile(0.7, gauge)",
    "quantile by (op) (0.3, events_total)",
    "topk(2, gauge)",
    "bottomk(2, gauge)",
    "topk by (op) (1, events_total)",
    "count_values(\"value\", round(gauge, 10))",
    "avg_over_time(gauge[4m])",
    "min_over_time(gauge[4m])",
    "max_over_time(gauge[4m])",
    "sum_over_time(gauge[4m])",
    "count_over_time(sparse[7m])",
    "count_over_time(ending[7m])",
    "quantile_over_time(0.9, gauge[4m])",
    "stddev_over_time(gauge[4m])",
    "stdvar_over_time(gauge[4m])",
    "last_over_time(sparse[4m])",
    "present_over_time(ending[4m])",
    "absent(events_total{op=\"none\"})",
    "absent(ending)",
    "absent_over_time(ending{host=\"h1\"}[2m])",
    "max_over_time(rate(events_total[2m])[302s:30s])",
    "avg_over_time(sum(gauge)[302s:15s])",
    "sum_over_time(gauge[122s:15s] offset 1m)",
    "min_over_time(max_over_time(gauge[62s:15s])[152s:30s])",
    "deriv(sum(gauge)[302s:30s])",
    "events_total + 1",
    "2 * events_total",
    "-gauge",
    "gauge % 7",
    "gauge ^ 2",
    "gauge > 40",
    "40 >= gauge",
    "gauge != bool 40",
    "0 + gauge atan2 gauge",
    "events_total{op=\"create\"} - ignoring(op) events_total{op=\"delete\"}",
    "events_total{op=\"create\"} / on(table) events_total{op=\"delete\"}",
    "events_total * on(table) group_left(team) owner",
    "owner * on(table) group_right(team) events_total",
    "events_total / ignoring(op) group_left sum by (table) (events_total)",
    "sum by (table) (events_total) > on(table) group_right() events_total",
    "gauge and ending",
    "gauge unless on(host) ending",
    "ending or gauge",
    "ending or on(host) gauge",
    "sum(ending) or vector(0)",
    "histogram_quantile(0.9, rate(lag_seconds_bucket[4m]))",
    "histogram_quantile(0.5, sum by (le) (rate(lag_seconds_bucket[4m])))",
    "histogram_quantile(0.99, lag_seconds_bucket)",
    "label_replace(gauge, \"node\", \"n$1\", \"host\", \"h(.*)\")",
    "label_join(events_total, \"key\", \"-\", \"table\", \"op\")",
    "abs(gauge - 50)",
    "ceil(gauge / 3)",
    "floor(gauge / 3)",
    "round(gauge / 3, 0.25)",
    "clamp(gauge, 20, 60)",
    "clamp_min(gauge, 30)",
    "clamp_max(gauge, 30)",
    "exp(gauge / 100)",
    "ln(gauge)",
    "log2(gauge)",
    "log10(gauge)",
    "sqrt(gauge)",
    "sgn(gauge - 50)",
    "sin(gauge)",
    "tanh(gauge / 100)",
    "deg(gauge)",
    "scalar(owner{table=\"t1\"})",
    "vector(scalar(gauge{host=\"h1\"}))",
    "time()",
    "timestamp(gauge)",
    "timestamp(gauge offset 1m)",
    "hour()",
    "minute(timestamp(gauge))",
    "day_of_week()",
    "days_in_month()",
    "year()",
    "day_of_year()",
    "sort_desc(gauge)",
    "gauge @ end()",
    "rate(events_total[2m] @ start())",
    "sum_over_time(gauge[2m] @ end())",
    "1 + 2 ^ 3 % 5",
];

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Point>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Point {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp_ms: i64,
}

/// A running Prometheus, ended when dropped.
pub(crate) struct Prometheus {
    process: Child,
    pub(crate) port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("{BINARY} did not end: {error}");
        }
    }
}

impl Prometheus {
    pub(crate) fn start() -> Self {
        Self::start_at(free_address().port(), "global: {}\n")
    }

    pub(crate) fn start_at(port: u16, yaml: &str) -> Self {
        Self::start_with(port, yaml, &[])
    }

    pub(crate) fn start_with(port: u16, yaml: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, yaml).expect("the directory is writable");
        let process = Command::new(BINARY)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-remote-write-receiver")
            .arg("--log.level=error")
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let started = Self {
            process,
            port,
            _dir: dir,
        };
        let is_ready = (0..300).any(|_| {
            let is_ready = matches!(started.request("GET", "/-/ready", "", b""), Ok((200, _)));
            if !is_ready {
                std::thread::sleep(Duration::from_millis(100));
            }
            is_ready
        });
        assert!(is_ready, "{BINARY} is not ready after 30 s");
        started
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> std::io::Result<(u16, String)> {
        request(self.port, method, path, headers, body)
    }

    fn write(&self, series: &[SeriesSamples]) {
        remote_write(self.port, series);
    }

    fn query(&self, path: &str, parameters: &[(&str, String)]) -> serde_json::Value {
        let (status, mut answer) = query(self.port, path, parameters);
        assert_eq!(status, 200, "{parameters:?}: {answer}");
        answer["data"].take()
    }
}

/// Speaks HTTP/1.0, so that the body ends with the connection.
fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response).into_owned();
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = response
        .split_once("\r\n\r\n")
        .map_or(String::new(), |(_, body)| body.to_owned());
    Ok((status, body))
}

/// Writes to whoever listens on a port.
pub(crate) fn remote_write(port: u16, series: &[SeriesSamples]) {
    let message = WriteRequest {
        timeseries: series
            .iter()
            .map(|one| TimeSeries {
                labels: one
                    .labels
                    .iter()
                    .map(|label| Pair {
                        name: label.name.to_string(),
                        value: label.value.to_string(),
                    })
                    .collect(),
                samples: one
                    .samples
                    .iter()
                    .map(|sample| Point {
                        value: sample.value,
                        timestamp_ms: sample.timestamp.ms(),
                    })
                    .collect(),
            })
            .collect(),
    };
    let body = snap::raw::Encoder::new()
        .compress_vec(&message.encode_to_vec())
        .expect("a small request compresses");
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
                   X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    let (status, answer) =
        request(port, "POST", "/api/v1/write", headers, &body).expect("it listens");
    assert_eq!(status, 204, "{answer}");
}

/// The status and the whole answer of whoever listens on a port.
pub(crate) fn query(
    port: u16,
    path: &str,
    parameters: &[(&str, String)],
) -> (u16, serde_json::Value) {
    let form: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
        .collect();
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (status, body) =
        request(port, "POST", path, headers, form.join("&").as_bytes()).expect("it listens");
    let answer = serde_json::from_str(&body)
        .unwrap_or_else(|error| panic!("{parameters:?}: {error} in {body}"));
    (status, answer)
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Points by labels and milliseconds.
pub(crate) type Points = BTreeMap<Labels, BTreeMap<i64, f64>>;

pub(crate) fn theirs(data: &serde_json::Value) -> Points {
    let point = |pair: &serde_json::Value| {
        let seconds = pair[0].as_f64().expect("a time");
        let value = pair[1].as_str().and_then(|text| text.parse().ok());
        ((seconds * 1e3).round() as i64, value.expect("a value"))
    };
    let result = &data["result"];
    if data["resultType"] == "scalar" {
        return BTreeMap::from([(Labels::empty(), BTreeMap::from([point(result)]))]);
    }
    result
        .as_array()
        .expect("a list of series")
        .iter()
        .map(|series| {
            let labels = series["metric"].as_object().expect("labels");
            let pairs = labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
            let points = match series.get("values") {
                Some(values) => values
                    .as_array()
                    .expect("points")
                    .iter()
                    .map(point)
                    .collect(),
                None => BTreeMap::from([point(&series["value"])]),
            };
            let labels = Labels::try_from_pairs(pairs).expect("label names are distinct");
            (labels, points)
        })
        .collect()
}

fn ours(value: Value) -> Points {
    match value {
        Value::Scalar(sample) => BTreeMap::from([(
            Labels::empty(),
            BTreeMap::from([(sample.timestamp.ms(), sample.value)]),
        )]),
        Value::String { text, .. } => panic!("a string: {text}"),
        Value::Vector(samples) => samples
            .into_iter()
            .map(|one| {
                let point = (one.sample.timestamp.ms(), one.sample.value);
                (one.labels, BTreeMap::from([point]))
            })
            .collect(),
        Value::Matrix(columns) => columns
            .into_iter()
            .map(|column| {
                let times = column.timestamps.iter().map(|time| time.ms());
                (column.labels, times.zip(column.values).collect())
            })
            .collect(),
    }
}

pub(crate) fn difference(ours: &Points, theirs: &Points) -> Option<String> {
    let (our_series, their_series) = (ours.keys(), theirs.keys());
    if !our_series.clone().eq(their_series.clone()) {
        return Some(format!(
            "series {:?} here, {:?} there",
            our_series.collect::<Vec<_>>(),
            their_series.collect::<Vec<_>>()
        ));
    }
    for ((labels, our_points), their_points) in ours.iter().zip(theirs.values()) {
        if !our_points.keys().eq(their_points.keys()) {
            return Some(format!("{labels}: other steps"));
        }
        for ((at_ms, here), there) in our_points.iter().zip(their_points.values()) {
            let size = here.abs() + there.abs();
            let agree = here == there
                || (here.is_nan() && there.is_nan())
                || (here - there).abs() <= TOLERANCE * size;
            if !agree {
                return Some(format!(
                    "{labels} at {at_ms} ms: {here} here, {there} there"
                ));
            }
        }
    }
    None
}

/// Series of every kind that migrations bring: counters with and without resets, gauges, series
/// that end, come late or are sparse, and a histogram.
pub(crate) fn data(start_ms: i64) -> Vec<SeriesSamples> {
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as f64
    };
    let mut all = Vec::new();
    let mut series = |labels: Labels, values: &mut dyn FnMut(i64) -> Option<f64>| {
        let samples = (0..SCRAPES)
            .filter_map(|scrape| {
                let at_ms = start_ms + scrape * SCRAPE_MS + PAST_SCRAPE_MS;
                Some(Sample::new(Timestamp::from_ms(at_ms), values(scrape)?))
            })
            .collect();
        all.push(SeriesSamples { labels, samples });
    };
    for table in ["t1", "t2", "t3"] {
        for op in ["create", "delete"] {
            let mut total = 1e6;
            let labels = Labels::of("events_total", &[("table", table), ("op", op)]);
            series(labels, &mut |_| {
                total += random(50);
                Some(total)
            });
        }
        let owner = Labels::of(
            "owner",
            &[("table", table), ("team", &format!("of-{table}"))],
        );
        series(owner, &mut |_| Some(2.0));
    }
    for host in ["h1", "h2", "h3"] {
        let gauge = Labels::of("gauge", &[("host", host)]);
        series(gauge, &mut |_| Some(10.0 + random(80_000) / 1e3));
        let mut total = 5e5;
        let resetting = Labels::of("resetting_total", &[("host", host)]);
        series(resetting, &mut |scrape| {
            total = if scrape % 37 == 36 {
                0.5
            } else {
                total + 3.0 + random(9)
            };
            Some(total)
        });
    }
    series(
        Labels::of("ending", &[("host", "h1")]),
        &mut |scrape| match scrape {
            0..70 => Some(scrape as f64),
            70 => Some(STALE_NAN),
            110.. => Some(7.0),
            _ => None,
        },
    );
    series(Labels::of("sparse", &[]), &mut |scrape| {
        (scrape % 29 < 3).then_some(scrape as f64)
    });
    for (bucket, le) in ["0.1", "0.5", "1", "5", "+Inf"].iter().enumerate() {
        let labels = Labels::of("lag_seconds_bucket", &[("le", le)]);
        series(labels, &mut |scrape| {
            Some((1000.0 + scrape as f64 * 3.0) * (bucket + 1) as f64)
        });
    }
    all
}

fn engine(series: &[SeriesSamples], now: Timestamp, dir: &Path) -> (Engine, Store) {
    let clock = Arc::new(ManualClock::at(now));
    let store = Store::open(dir, Options::default(), clock).expect("an empty store opens");
    let batch = Batch {
        samples: series.to_vec(),
        ..Batch::default()
    };
    let written = store.writer().write_blocking(batch).expect("it is stored");
    assert_eq!(written.rejected, 0, "{:?}", written.first_rejection);
    (Engine::new(store.reader(), Limits::default()), store)
}

#[test]
fn answers_agree_with_prometheus() {
    if !Path::new(BINARY).exists() {
        eprintln!("no {BINARY}, nothing compared");
        return;
    }
    let now = SystemClock::default().now();
    let end_ms = now.ms().div_euclid(60_000) * 60_000;
    let start_ms = end_ms - SCRAPES * SCRAPE_MS;
    let series = data(start_ms);
    let prometheus = Prometheus::start();
    prometheus.write(&series);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (engine, _store) = engine(&series, now, dir.path());

    let seconds = |at_ms: i64| (at_ms / 1000).to_string();
    let options = QueryOptions::default();
    let mut differences = Vec::new();
    for query in QUERIES {
        for at_ms in [start_ms + 120_000, start_ms + 1_200_000, end_ms - 300_000] {
            let here = engine.instant(query, Timestamp::from_ms(at_ms), &options);
            let there = prometheus.query(
                "/api/v1/query",
                &[("query", (*query).to_owned()), ("time", seconds(at_ms))],
            );
            let here = ours(here.expect("it is answered there").value);
            if let Some(difference) = difference(&here, &theirs(&there)) {
                differences.push(format!("{query} at {at_ms}: {difference}"));
            }
        }
        let steps = Steps {
            start: Timestamp::from_ms(start_ms),
            end: Timestamp::from_ms(end_ms),
            step: Duration::from_secs(45),
        };
        let here = engine.range(query, steps, &options);
        let there = prometheus.query(
            "/api/v1/query_range",
            &[
                ("query", (*query).to_owned()),
                ("start", seconds(start_ms)),
                ("end", seconds(end_ms)),
                ("step", "45".to_owned()),
            ],
        );
        let here = ours(here.expect("it is answered there").value);
        if let Some(difference) = difference(&here, &theirs(&there)) {
            differences.push(format!("{query} over the range: {difference}"));
        }
    }
    eprintln!(
        "{} queries asked of {BINARY}, {} answers differ",
        QUERIES.len() * 4,
        differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
