//! What is measured of a program, phase by phase, the same way for each.
//!
//! Every phase has a fresh server and a fresh data directory. A phase that does not succeed leaves its
//! figures out and says why; the others are measured all the same.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::client::Connection;
use crate::machine::scratch;
use crate::mix::Mix;
use crate::send::{self, Sent};
use crate::server::{POLL, Program, Server, allocated_bytes, data_dir};
use crate::workload::{GROUPS, Workload};

/// All samples of an ingest, which lie within the four hours before its end.
const TOTAL: &str = "sum(count_over_time({job!=\"\"}[4h]))";
/// A cheap query that has data as soon as any is served, also when the newest hours were lost.
const ANY: &str = "count(last_over_time(connector_tasks_running{source=\"shop-01\"}[4h]))";

/// How long work that an ingest left to the server is counted as its processor time.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Settled is a size that has not changed for so long, or whatever it is after the longest wait.
const SETTLED_FOR: Duration = Duration::from_secs(10);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts after a `kill -9`, of which the median counts.
const RESTARTS: usize = 5;
/// How long a restarted server may take to show all that it has kept.
const RECOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// The figures of one program.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) program: Program,
    pub(crate) single: Option<Single>,
    pub(crate) parallel: Option<Parallel>,
    pub(crate) crash: Option<Crash>,
    pub(crate) mix: Option<Mix>,
    /// What the table cannot say.
    pub(crate) notes: Vec<String>,
}

/// An ingest over one connection, and what it left on the disk.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) sent: Sent,
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes_peak: u64,
    /// Right after the last acknowledgement.
    pub(crate) disk_bytes_running: u64,
    /// When nothing changed any more and the server was stopped.
    pub(crate) disk_bytes_settled: u64,
}

/// An ingest over four connections.
#[derive(Debug)]
pub(crate) struct Parallel {
    pub(crate) sent: Sent,
    pub(crate) memory_bytes_peak: u64,
    /// From the last acknowledgement to the first query that saw everything.
    pub(crate) visible: Duration,
}

/// `kill -9` right after the last acknowledgement.
#[derive(Debug)]
pub(crate) struct Crash {
    /// From the start of the process to the first answer with data; `None` when nothing was kept.
    pub(crate) restart: Option<Duration>,
    pub(crate) samples_missing: u64,
}

impl Figures {
    pub(crate) fn measure(program: Program, workload: &Workload) -> Self {
        let mut notes = Vec::new();
        let name = program.name();
        let mut phase = Phase {
            name,
            notes: &mut notes,
        };
        let single = phase.of("1 connection", || single(program, workload));
        let parallel = phase.of("4 connections", || parallel(program, workload));
        let crash = phase.of("kill -9", || crash(program, workload));
        let mix = phase.of("queries", || Mix::measure(program, workload));
        let retries = [
            single.as_ref().map_or(0, |single| single.sent.retries),
            parallel
                .as_ref()
                .map_or(0, |parallel| parallel.sent.retries),
        ];
        if retries != [0, 0] {
            let [one, four] = retries;
            notes.push(format!(
                "{name} asked for a pause {one} times with 1 connection, {four} times with 4."
            ));
        }
        if let Some(mix) = &mix
            && mix.without_data > 0
        {
            let (without, all) = (mix.without_data, mix.latencies.len());
            notes.push(format!("{without} of {all} answers of {name} had no data."));
        }
        Self {
            program,
            single,
            parallel,
            crash,
            mix,
            notes,
        }
    }
}

/// Runs phases, keeping the reason of one that does not succeed.
struct Phase<'a> {
    name: &'a str,
    notes: &'a mut Vec<String>,
}

impl Phase<'_> {
    fn of<T>(&mut self, phase: &str, measure: impl FnOnce() -> anyhow::Result<T>) -> Option<T> {
        eprintln!("{}: {phase}", self.name);
        measure()
            .map_err(|error| {
                self.notes
                    .push(format!("{}, {phase}: {error:#}.", self.name));
            })
            .ok()
    }
}

fn single(program: Program, workload: &Workload) -> anyhow::Result<Single> {
    let dir = scratch()?;
    let data = data_dir(dir.path());
    let server = Server::start(program, dir.path())?;
    let cpu_before = server.cpu()?;
    let sent = send::ingest(server.address, workload, 1)?;
    let disk_bytes_running = allocated_bytes(&data)?;
    thread::sleep(AFTERMATH);
    let cpu = server.cpu()?.saturating_sub(cpu_before);
    let memory_bytes_peak = server.memory_bytes_peak()?;
    settle(&data)?;
    server.stop()?;
    Ok(Single {
        sent,
        cpu,
        memory_bytes_peak,
        disk_bytes_running,
        disk_bytes_settled: allocated_bytes(&data)?,
    })
}

fn parallel(program: Program, workload: &Workload) -> anyhow::Result<Parallel> {
    let dir = scratch()?;
    let server = Server::start(program, dir.path())?;
    let sent = send::ingest(server.address, workload, GROUPS)?;
    let acknowledged = crate::now();
    let memory_bytes_peak = server.memory_bytes_peak()?;
    let mut connection = server.connect()?;
    let visible = loop {
        // A query that sees everything did so when it began, however long it takes.
        let asked = acknowledged.elapsed();
        let seen = connection.number(TOTAL, workload.end_ms())?;
        if seen >= sent.samples {
            break asked;
        }
        if asked > VISIBLE_TIMEOUT {
            bail!(
                "{seen} of {} samples are visible after {asked:.0?}",
                sent.samples
            );
        }
    };
    Ok(Parallel {
        sent,
        memory_bytes_peak,
        visible,
    })
}

fn crash(program: Program, workload: &Workload) -> anyhow::Result<Crash> {
    let dir = scratch()?;
    let server = Server::start(program, dir.path())?;
    let sent = send::ingest(server.address, workload, 1)?;
    server.kill()?;
    let mut restarts = Vec::new();
    for _ in 1..RESTARTS {
        // A start changes what it finds, so each finds a copy.
        let copy = scratch()?;
        copy_files(dir.path(), copy.path())?;
        let (server, restart) = restart(program, copy.path(), workload)?;
        server.kill()?;
        restarts.extend(restart);
    }
    let (server, last) = restart(program, dir.path(), workload)?;
    restarts.extend(last);
    let mut connection = server.connect()?;
    let begun = crate::now();
    let mut kept = 0;
    while kept < sent.samples && begun.elapsed() < RECOUNT_TIMEOUT {
        kept = kept.max(connection.number(TOTAL, workload.end_ms())?);
    }
    restarts.sort_unstable();
    Ok(Crash {
        restart: restarts.get(restarts.len() / 2).copied(),
        samples_missing: sent.samples.saturating_sub(kept),
    })
}

/// Starts a program on what it left behind; answers how long it took to the first data, if it came.
fn restart(
    program: Program,
    dir: &Path,
    workload: &Workload,
) -> anyhow::Result<(Server, Option<Duration>)> {
    let begun = crate::now();
    let server = Server::spawn(program, dir)?;
    let has_data = wait_for_data(&server, ANY, workload.end_ms());
    Ok((server, has_data.then(|| begun.elapsed())))
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_files(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Asks with a fresh connection each time until a query has an answer with data; answers whether it
/// had one in time.
pub(crate) fn wait_for_data(server: &Server, expr: &str, at_ms: i64) -> bool {
    let begun = crate::now();
    while begun.elapsed() < RESTART_TIMEOUT {
        let asked = Connection::open(server.address)
            .context("not listening yet")
            .and_then(|mut connection| connection.query(expr, at_ms));
        if asked.is_ok_and(|series| !series.is_empty()) {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

/// Waits until the size of a directory has not changed for a while.
pub(crate) fn settle(dir: &Path) -> anyhow::Result<()> {
    let begun = crate::now();
    let (mut size, mut since) = (allocated_bytes(dir)?, begun);
    while since.elapsed() < SETTLED_FOR && begun.elapsed() < SETTLE_TIMEOUT {
        thread::sleep(Duration::from_millis(500));
        let newer = allocated_bytes(dir)?;
        if newer != size {
            (size, since) = (newer, crate::now());
        }
    }
    Ok(())
}
