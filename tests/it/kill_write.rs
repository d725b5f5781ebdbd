//! Exactly once under remote write: the process is killed with -9 again and again while samples are
//! written, and what it acknowledged is there, each sample once.
//!
//! `CUTOVER_KILLS` sets how often, `CUTOVER_SEED` when.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;

use crate::kill::{Random, seed};
use crate::prometheus::{Pair, Point, TimeSeries, WriteRequest};
use crate::support::{Server, percent_encode};

const KILLS: u64 = 20;
const SERIES: u64 = 50;
/// Samples of each series in a request.
const SAMPLES: u64 = 2;
const STEP_MS: i64 = 100;

/// A request that says its number in every value.
fn body(number: u64, start_ms: i64) -> Vec<u8> {
    let point = |sample| Point {
        value: number as f64,
        timestamp_ms: start_ms + (number * SAMPLES + sample) as i64 * STEP_MS,
    };
    let pair = |name: &str, value: String| Pair {
        name: name.to_owned(),
        value,
    };
    let series = |series: u64| TimeSeries {
        labels: vec![
            pair("__name__", "killed".to_owned()),
            // New series come up all the time.
            pair("generation", (number / 500).to_string()),
            pair("series", series.to_string()),
        ],
        samples: (0..SAMPLES).map(point).collect(),
    };
    let request = WriteRequest {
        timeseries: (0..SERIES).map(series).collect(),
    };
    let encoded = request.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&encoded).unwrap()
}

/// Sends one request; `None` when no answer came.
fn send(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    let length = body.len();
    write!(
        stream,
        "POST /api/v1/write HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
         X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {length}\r\n\r\n"
    )
    .ok()?;
    stream.write_all(body).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// The samples there are, and the sum of their values.
fn stored(server: &Server, at_ms: i64) -> (f64, f64) {
    let ask = |function: &str| {
        let expr = format!("sum({function}(killed[1d] @ {}))", at_ms as f64 / 1000.0);
        let path = format!("/api/v1/query?query={}", percent_encode(&expr));
        let (status, body) = server.get(&path).unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let value = &answer["data"]["result"][0]["value"][1];
        value.as_str().unwrap_or("0").parse().unwrap()
    };
    (ask("count_over_time"), ask("sum_over_time"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a real process keeps real time")]
fn acknowledged_samples_survive_twenty_kills() {
    let kills = std::env::var("CUTOVER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = seed();
    println!("CUTOVER_SEED={seed}");
    let mut random = Random(seed);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let start_ms = now_ms - 12 * 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = AtomicU64::new(0);
    for _ in 0..kills {
        let server = Server::start(dir.path(), None, &[]);
        let address = server.address;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let next = acknowledged.load(Ordering::Relaxed);
                    match send(address, &body(next, start_ms)) {
                        // What was under way is sent again, as a client would.
                        None => return,
                        Some(status) => assert_eq!(status, 204),
                    }
                    acknowledged.store(next + 1, Ordering::Relaxed);
                }
            });
            std::thread::sleep(Duration::from_millis(50 + random.below(600)));
            server.kill();
            is_over.store(true, Ordering::Relaxed);
        });
        let server = Server::start(dir.path(), None, &[]);
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let of = |requests: u64| {
            let samples = (requests * SERIES * SAMPLES) as f64;
            (samples, samples * (requests.saturating_sub(1)) as f64 / 2.0)
        };
        let found = stored(&server, now_ms);
        assert!(
            found == of(acknowledged) || found == of(acknowledged + 1),
            "{acknowledged} requests acknowledged, {found:?} stored"
        );
        server.kill();
    }
    let acknowledged = acknowledged.into_inner();
    assert!(
        acknowledged > kills,
        "only {acknowledged} requests got through"
    );
    println!("{acknowledged} requests were acknowledged over {kills} kills");
}
