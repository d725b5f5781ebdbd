//! What scripts are replayed against: the whole API on a socket of loopback, over a store of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cutover::http::serve;
use cutover::model::{Labels, Timestamp};
use cutover::shutdown::Shutdown;
use cutover::store::Options;
use prost::Message;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::script::{Series, When};
use crate::api::Api;
use crate::prometheus::{Pair, Point, TimeSeries, WriteRequest};
use crate::support::percent_encode;

/// Later than everything that scripts load.
const NOW: Timestamp = Timestamp::from_ms(100_000_000_000);

pub(super) struct Subject {
    connection: Connection,
    shutdown: Shutdown,
    runtime: Runtime,
    _api: Api,
}

/// An answer in the terms of scripts.
pub(super) struct Reply {
    pub result: Answered,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

pub(super) enum Answered {
    Scalar(f64),
    Text(String),
    Vector(Vec<(Labels, f64)>),
    Matrix(Vec<(Labels, BTreeMap<i64, f64>)>),
}

pub(super) struct Refusal {
    pub is_parse_error: bool,
    pub message: String,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.shutdown.begin();
        let ended = self
            .runtime
            .block_on(self.shutdown.wait(Duration::from_secs(5)));
        if !std::thread::panicking() {
            ended.expect("connections end after their request");
        }
    }
}

impl Subject {
    pub(super) fn start() -> Self {
        let options = Options {
            retention: None,
            ..Options::default()
        };
        let api = Api::open(options, NOW, &[], |_| {});
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let shutdown = Shutdown::default();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port of loopback is free");
        let address = listener.local_addr().expect("it is bound");
        {
            let _runtime = runtime.enter();
            let serving = serve(listener, None, api.router.clone(), shutdown.clone());
            shutdown.spawn("http", serving);
        }
        Self {
            connection: Connection::open(TcpStream::connect(address).expect("it listens")),
            shutdown,
            runtime,
            _api: api,
        }
    }

    pub(super) fn load(&mut self, series: &[Series]) {
        let timeseries: Vec<TimeSeries> = series
            .iter()
            .filter(|one| !one.samples.is_empty())
            .map(time_series)
            .collect();
        if timeseries.is_empty() {
            return;
        }
        let request = WriteRequest { timeseries }.encode_to_vec();
        let body = snap::raw::Encoder::new()
            .compress_vec(&request)
            .expect("a small request compresses");
        let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
                       X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        let (status, answer) = self.connection.post("/api/v1/write", headers, &body);
        assert_eq!(status, 204, "{answer}");
    }

    /// The one place that asks.
    pub(super) fn query(&mut self, query: &str, when: When) -> Result<Reply, Refusal> {
        let mut form = format!("query={}", percent_encode(query));
        let path = match when {
            When::Instant(at_ms) => {
                form.push_str(&format!("&time={}", seconds(at_ms)));
                "/api/v1/query"
            }
            When::Range {
                start_ms,
                end_ms,
                step_ms,
            } => {
                let [start, end, step] = [start_ms, end_ms, step_ms].map(seconds);
                form.push_str(&format!("&start={start}&end={end}&step={step}"));
                "/api/v1/query_range"
            }
        };
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        let (status, body) = self.connection.post(path, headers, form.as_bytes());
        let answer: Value = serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("{query}: {error} in {body}"));
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        if status != 200 {
            return Err(Refusal {
                is_parse_error: text("errorType") == "bad_data",
                message: text("error"),
            });
        }
        assert_eq!(text("status"), "success", "{body}");
        let list = |name: &str| -> Vec<String> {
            let texts = answer[name].as_array().into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Reply {
            result: answered(&answer["data"]),
            warnings: list("warnings"),
            infos: list("infos"),
        })
    }
}

fn seconds(time_ms: i64) -> String {
    let sign = if time_ms < 0 { "-" } else { "" };
    let magnitude = time_ms.unsigned_abs();
    format!("{sign}{}.{:03}", magnitude / 1000, magnitude % 1000)
}

fn time_series(series: &Series) -> TimeSeries {
    TimeSeries {
        labels: series
            .labels
            .iter()
            .map(|label| Pair {
                name: label.name.to_string(),
                value: label.value.to_string(),
            })
            .collect(),
        samples: series
            .samples
            .iter()
            .map(|&(timestamp_ms, value)| Point {
                value,
                timestamp_ms,
            })
            .collect(),
    }
}

fn answered(data: &Value) -> Answered {
    let result = &data["result"];
    let series = || result.as_array().into_iter().flatten();
    match data["resultType"].as_str() {
        Some("scalar") => Answered::Scalar(point(result).1),
        Some("string") => Answered::Text(result[1].as_str().unwrap_or_default().to_owned()),
        Some("vector") => Answered::Vector(
            series()
                .map(|one| (labels(&one["metric"]), point(&one["value"]).1))
                .collect(),
        ),
        Some("matrix") => Answered::Matrix(
            series()
                .map(|one| {
                    let points = one["values"].as_array().into_iter().flatten();
                    (labels(&one["metric"]), points.map(point).collect())
                })
                .collect(),
        ),
        other => panic!("a result of type {other:?}"),
    }
}

fn labels(metric: &Value) -> Labels {
    let pairs = metric.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    Labels::try_from_pairs(pairs).expect("label names are distinct")
}

fn point(pair: &Value) -> (i64, f64) {
    let seconds = pair[0].as_f64().expect("a time");
    let value = pair[1].as_str().and_then(|text| text.parse().ok());
    ((seconds * 1e3).round() as i64, value.expect("a value"))
}

/// HTTP/1.1 on one connection that is kept open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket has the option");
        Self(BufReader::new(stream))
    }

    /// The status and the body of the answer.
    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let length = body.len();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.0.get_mut().write_all(&request).expect("it listens");
        let status_line = self.line();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok());
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", text)) => {
                    length = text.trim().parse().expect("a length is a number");
                }
                Some(("transfer-encoding", text)) => is_chunked = text.trim() == "chunked",
                Some(_) => {}
            }
        }
        let body = if is_chunked {
            self.chunks()
        } else {
            self.exactly(length)
        };
        let body = String::from_utf8(body).expect("an answer is UTF-8");
        (status.expect("a status line has a status"), body)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer comes");
        line.trim_end().to_owned()
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a body is complete");
        bytes
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line(), 16).expect("a chunk has a size");
            body.extend(self.exactly(size));
            self.line();
            if size == 0 {
                return body;
            }
        }
    }
}
