//! Sending the workload: connections, their latencies, and what was refused.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::client::Connection;
use crate::workload::{GROUPS, Request, Workload};

/// How long a sender that was told to wait does so.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Longer than this no server is asked again.
const RETRIES_MAX: usize = 3_000;
/// No program takes nearly as long; the run is to end in any case.
const SEND_TIMEOUT: Duration = Duration::from_secs(600);

/// What came of an ingest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) samples: u64,
    /// From the first request to the last acknowledgement.
    pub(crate) took: Duration,
    /// One for each acknowledged request.
    pub(crate) latencies: Vec<Duration>,
    /// Requests that were refused for a while (429, 503) and sent again.
    pub(crate) retries: usize,
}

impl Sent {
    pub(crate) fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.latencies.extend(other.latencies);
        self.retries += other.retries;
    }
}

/// The smallest value that so large a part of the values does not exceed.
pub(crate) fn quantile(values: &[Duration], part: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Sends the ingest's part of the workload: over one connection all of it in order of time, over four
/// each a quarter of the targets.
pub(crate) fn ingest(
    address: SocketAddr,
    workload: &Workload,
    connections: usize,
) -> anyhow::Result<Sent> {
    assert!(
        connections == 1 || connections == GROUPS,
        "a connection has all targets or the targets of one group"
    );
    let lists: Vec<Vec<&Request>> = if connections == 1 {
        vec![workload.in_order(workload.ingest_rounds())]
    } else {
        (0..GROUPS)
            .map(|group| workload.of_group(group, workload.ingest_rounds()))
            .collect()
    };
    let start = Barrier::new(connections + 1);
    thread::scope(|scope| {
        let senders: Vec<_> = lists
            .into_iter()
            .map(|list| {
                let start = &start;
                scope.spawn(move || {
                    let connection = Connection::open(address);
                    start.wait();
                    send_all(&mut connection?, list)
                })
            })
            .collect();
        start.wait();
        let begun = crate::now();
        let mut whole = Sent::default();
        for sender in senders {
            let sent = sender.join().expect("a sender does not panic");
            whole.add(sent?);
        }
        whole.took = begun.elapsed();
        Ok(whole)
    })
}

/// Sends requests one after the other, each after the acknowledgement of the one before.
pub(crate) fn send_all<'a>(
    connection: &mut Connection,
    requests: impl IntoIterator<Item = &'a Request>,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    let begun = crate::now();
    for request in requests {
        ensure!(begun.elapsed() < SEND_TIMEOUT, "the writes take too long");
        let begun = crate::now();
        sent.retries += send(connection, request)?;
        sent.latencies.push(begun.elapsed());
        sent.samples += request.samples;
    }
    sent.took = begun.elapsed();
    Ok(sent)
}

/// Sends one request until it is acknowledged; answers how often it had to wait.
pub(crate) fn send(connection: &mut Connection, request: &Request) -> anyhow::Result<usize> {
    for retries in 0..RETRIES_MAX {
        let answer = connection
            .exchange(&request.bytes)
            .context("a write was not answered")?;
        match answer.status {
            200..=299 => return Ok(retries),
            429 | 503 => thread::sleep(RETRY_PAUSE),
            status => bail!(
                "a write was answered with {status} {}",
                String::from_utf8_lossy(&answer.body).trim_end()
            ),
        }
    }
    bail!("a write was refused {RETRIES_MAX} times")
}
