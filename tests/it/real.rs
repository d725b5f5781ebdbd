//! Tests against Apache Kafka, Kafka Connect with Debezium, PostgreSQL, Prometheus, and Alertmanager.
//!
//! `tests/real/run` starts the servers and says in the environment where they are; without it each
//! test says on standard error that it is skipped. The tests of a run share the servers, so each
//! keeps to topics, tables and connector names of its own, and expects servers that are new.

mod appliance;
mod channels;
mod clients;
mod debezium;
mod differential;
mod http;
mod kafka;
mod rules;
mod topic;
mod workload;

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use cutover::model::{Clock, SystemClock};

/// Changes by logical name, table and operation, as `cdc_events_processed_total` counts them.
type Counts = BTreeMap<(String, String, String), u64>;

/// Where `tests/real/run` started the servers.
struct Servers {
    /// Host and port of the broker.
    kafka: String,
    connect: SocketAddr,
    /// A `postgresql://` URL whose user may do everything.
    postgres: String,
    form: Form,
}

/// How much a test does: the counts that we claim, or what CI has the time for.
#[derive(Clone, Copy)]
enum Form {
    Short,
    Full,
}

impl Servers {
    /// `None`, after one line on standard error, when nobody has started them.
    fn find() -> Option<Self> {
        if env::var_os("CUTOVER_REAL").is_none_or(|value| value != "1") {
            say("skipped: CUTOVER_REAL is not set (tests/real/run sets it)");
            return None;
        }
        let address = |name: &str| {
            env::var(name).unwrap_or_else(|error| panic!("{name}, beside CUTOVER_REAL: {error}"))
        };
        let connect = address("CUTOVER_REAL_CONNECT");
        Some(Self {
            kafka: address("CUTOVER_REAL_KAFKA"),
            connect: connect
                .strip_prefix("http://")
                .and_then(|address| address.parse().ok())
                .unwrap_or_else(|| panic!("CUTOVER_REAL_CONNECT is no http://ADDRESS: {connect}")),
            postgres: address("CUTOVER_REAL_POSTGRES"),
            form: match address("CUTOVER_REAL_FULL").as_str() {
                "1" => Form::Full,
                _ => Form::Short,
            },
        })
    }
}

/// One line on standard error, past the capture of the test harness.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error is open");
}

/// Tries until it succeeds, and fails with the last reason when that takes too long.
#[track_caller]
fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let clock = SystemClock::default();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) => assert!(
                clock.monotonic() < limit,
                "{what}: not within {limit:?}: {reason}"
            ),
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The lines in which two tables of counts differ; empty when they are equal.
fn difference(expected: &Counts, found: &Counts) -> String {
    let mut lines = String::new();
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found {
            lines.push_str(&format!(
                "\n  {key:?}: expected {expected:?}, found {found:?}"
            ));
        }
    }
    lines
}
