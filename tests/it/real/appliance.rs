//! `cutover serve` as its operator runs it: a process of its own, asked over HTTP.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Counts, difference, eventually, http, say};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running `cutover serve`. Dropping it kills it as `kill -9` would; what it wrote stays.
pub(super) struct Appliance {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

/// Labels and value of one series.
pub(super) type Element = (BTreeMap<String, String>, f64);

/// Writes the configuration that [`Appliance::start`] reads.
pub(super) fn configure(home: &Path, brokers: &str, topics: &str) {
    // Literal strings, in which a regex needs no escapes.
    let text = format!("[kafka]\nbrokers = '{brokers}'\ntopics = ['{topics}']\n");
    fs::write(home.join("cutover.toml"), text).expect("the test's folder is writable");
}

impl Appliance {
    /// Starts on the configuration and the data of `home`; does not wait.
    pub(super) fn start(home: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("loopback has a free port");
        let log = home.join("serve.log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the test's folder is writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        // The appliance takes settings from its environment, and ours is meant for the tests.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CUTOVER_") {
                command.env_remove(name);
            }
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(home.join("cutover.toml"))
            .arg("--data")
            .arg(home.join("data"))
            .arg("--listen")
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the binary under test can be run");
        Self {
            child,
            address,
            log,
        }
    }

    /// Waits until it answers queries.
    pub(super) fn await_ready(&mut self) {
        let address = self.address;
        let child = &mut self.child;
        eventually("cutover serve is ready", START_LIMIT, || {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                panic!("cutover serve ended with {status}");
            }
            match http::request("GET", address, "/-/ready", "") {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(format!("status {}: {}", reply.status, reply.body)),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// `kill -9`, at once.
    pub(super) fn kill(self) {
        drop(self);
    }

    /// An instant query at the server's present.
    pub(super) fn query(&self, expr: &str) -> Result<Vec<Element>, String> {
        let target = format!("/api/v1/query?query={}", http::escape(expr));
        let reply = http::request("GET", self.address, &target, "")
            .map_err(|error| format!("{expr}: {error}"))?;
        let json = reply.json()?;
        let malformed = || format!("{expr}: status {}: {}", reply.status, reply.body);
        json.pointer("/data/result")
            .and_then(Value::as_array)
            .and_then(|elements| elements.iter().map(element).collect())
            .ok_or_else(malformed)
    }

    /// The value of a query that gives one series at most.
    pub(super) fn value(&self, expr: &str) -> Result<Option<f64>, String> {
        match self.query(expr)?.as_slice() {
            [] => Ok(None),
            [(_, value)] => Ok(Some(*value)),
            many => Err(format!("{expr}: {} series, not one", many.len())),
        }
    }

    /// Everything that has been counted.
    pub(super) fn counts(&self) -> Result<Counts, String> {
        let expr = "sum by (source,table,operation)(cdc_events_processed_total)";
        let mut counts = Counts::new();
        for (mut labels, value) in self.query(expr)? {
            if value.fract() != 0.0 {
                return Err(format!("{labels:?} is {value}, not a count"));
            }
            let mut label = |name| labels.remove(name).unwrap_or_default();
            let key = (label("source"), label("table"), label("operation"));
            counts.insert(key, value as u64);
        }
        Ok(counts)
    }

    #[track_caller]
    pub(super) fn await_counts(&self, expected: &Counts, limit: Duration) {
        eventually("the counts are equal", limit, || {
            match difference(expected, &self.counts()?) {
                none if none.is_empty() => Ok(()),
                some => Err(some),
            }
        });
    }
}

/// One element of an instant vector.
fn element(json: &Value) -> Option<Element> {
    let mut labels = BTreeMap::new();
    for (name, value) in json.get("metric")?.as_object()? {
        labels.insert(name.clone(), value.as_str()?.to_owned());
    }
    let value = json.pointer("/value/1")?.as_str()?.parse().ok()?;
    Some((labels, value))
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let stopped = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = stopped {
            say(&format!("cutover serve could not be killed: {error}"));
        }
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or(&[]);
            say(&format!(
                "the end of the log of cutover serve:\n{}",
                tail.join("\n")
            ));
        }
    }
}
