//! A dashboard's queries while a writer writes as fast as it can.
//!
//! One connection asks the queries in turn, another sends the steps that follow the history. It ends
//! after 20 s, or when the writer has nothing more to send. Minutes of samples are written in a second
//! here, so that a program that shows them a second late would have none in the last five minutes;
//! therefore the queries are about what was the newest sample 5 s ago. Answers without data are
//! counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::client::{Connection, Path, seconds};
use crate::machine::scratch;
use crate::send::{self, quantile};
use crate::server::{Program, Server};
use crate::workload::{STEP_MS, Workload};

const LENGTH: Duration = Duration::from_secs(20);
/// How long ago a sample was acknowledged that the queries take for the newest.
const BEHIND: Duration = Duration::from_secs(5);
const HOUR_MS: i64 = 3_600_000;

/// A query of the mix.
#[derive(Clone, Copy)]
enum Query {
    Instant(&'static str),
    /// Over an hour at the step of the scrapes.
    Range(&'static str),
    LabelValues(&'static str),
    Series(&'static str),
}

const QUERIES: [(&str, Query); 8] = [
    (
        "instant, rate by table, 4,000 series",
        Query::Instant("sum by (table) (rate(connector_events_total[5m]))"),
    ),
    (
        "instant, quantile of a histogram, 2,000 series",
        Query::Instant(
            "histogram_quantile(0.99, sum by (le) (rate(connector_apply_seconds_bucket[5m])))",
        ),
    ),
    (
        "instant, largest lag by table, 1,000 series",
        Query::Instant("max by (source, table) (connector_replication_lag_seconds)"),
    ),
    (
        "instant, top 10 of 1,000 series",
        Query::Instant("topk(10, connector_replication_lag_seconds)"),
    ),
    (
        "1 h at 15 s, 10 series",
        Query::Range("connector_replication_lag_seconds{instance=\"10.20.0.7:9404\"}"),
    ),
    (
        "1 h at 15 s, rate by operation, 400 series",
        Query::Range("sum by (operation) (rate(connector_events_total{source=\"shop-03\"}[5m]))"),
    ),
    ("label values", Query::LabelValues("table")),
    (
        "50 series with their labels",
        Query::Series("connector_tasks_running{source=\"shop-01\"}"),
    ),
];

/// What the mix took.
#[derive(Debug)]
pub(crate) struct Mix {
    pub(crate) latencies: Vec<Duration>,
    /// The median of each query.
    pub(crate) by_query: Vec<(&'static str, Duration)>,
    pub(crate) samples_per_second: f64,
    pub(crate) without_data: usize,
}

/// When which timestamp was the newest acknowledged, in order, and what was so before.
#[derive(Debug)]
struct Acknowledged {
    before_ms: i64,
    later: VecDeque<(Instant, i64)>,
}

impl Acknowledged {
    /// The newest timestamp of some time ago.
    fn behind_ms(&mut self) -> i64 {
        while let Some(&(at, newest_ms)) = self.later.front() {
            if at.elapsed() < BEHIND {
                break;
            }
            self.before_ms = self.before_ms.max(newest_ms);
            self.later.pop_front();
        }
        self.before_ms
    }
}

/// What the reader measured.
#[derive(Debug)]
struct Asked {
    /// The times of each query.
    times: Vec<Vec<Duration>>,
    without_data: usize,
}

impl Mix {
    pub(crate) fn measure(program: Program, workload: &Workload) -> anyhow::Result<Self> {
        let dir = scratch()?;
        let server = Server::start(program, dir.path())?;
        let mut writer = server.connect()?;
        let history = workload.in_order(workload.history_rounds());
        let newest_ms = history.iter().map(|request| request.newest_ms).max();
        send::send_all(&mut writer, history)?;
        thread::sleep(BEHIND);
        let acknowledged = Mutex::new(Acknowledged {
            before_ms: newest_ms.context("the mix has a history")?,
            later: VecDeque::new(),
        });
        let is_over = AtomicBool::new(false);
        let mut reader = server.connect()?;
        thread::scope(|scope| {
            let writing = scope.spawn(|| write(&mut writer, workload, &acknowledged, &is_over));
            let asked = ask(&mut reader, &acknowledged, &is_over);
            is_over.store(true, Ordering::Relaxed);
            let samples_per_second = writing.join().expect("the writer does not panic")?;
            Ok(Self::of(&asked?, samples_per_second))
        })
    }

    fn of(asked: &Asked, samples_per_second: f64) -> Self {
        let names = QUERIES.iter().map(|(name, _)| *name);
        let medians = asked.times.iter().map(|times| quantile(times, 0.5));
        Self {
            latencies: asked.times.concat(),
            by_query: names.zip(medians).collect(),
            samples_per_second,
            without_data: asked.without_data,
        }
    }
}

/// Writes until the time is over or all is written; answers the rate.
fn write(
    connection: &mut Connection,
    workload: &Workload,
    acknowledged: &Mutex<Acknowledged>,
    is_over: &AtomicBool,
) -> anyhow::Result<f64> {
    // Also when a write fails: the queries are not to wait out their time.
    let _over = SetOnDrop(is_over);
    let begun = crate::now();
    let mut samples = 0;
    for request in workload.in_order(workload.writer_rounds()) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        send::send(connection, request)?;
        samples += request.samples;
        let newest = (crate::now(), request.newest_ms);
        locked(acknowledged).later.push_back(newest);
    }
    Ok(samples as f64 / begun.elapsed().as_secs_f64())
}

fn locked(acknowledged: &Mutex<Acknowledged>) -> MutexGuard<'_, Acknowledged> {
    acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks the queries in turn.
fn ask(
    connection: &mut Connection,
    acknowledged: &Mutex<Acknowledged>,
    is_over: &AtomicBool,
) -> anyhow::Result<Asked> {
    let mut asked = Asked {
        times: vec![Vec::new(); QUERIES.len()],
        without_data: 0,
    };
    let begun = crate::now();
    while begun.elapsed() < LENGTH && !is_over.load(Ordering::Relaxed) {
        for ((name, query), times) in QUERIES.iter().zip(&mut asked.times) {
            let path = query.path(locked(acknowledged).behind_ms());
            let begun = crate::now();
            let answer = connection
                .get(&path.0)
                .with_context(|| (*name).to_owned())?;
            times.push(begun.elapsed());
            let text = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status == 200, "{name}: {} {text}", answer.status);
            asked.without_data += usize::from(text.contains("[]"));
        }
    }
    Ok(asked)
}

impl Query {
    fn path(self, now_ms: i64) -> Path {
        let end_ms = now_ms / STEP_MS * STEP_MS;
        let (start, end) = (seconds(end_ms - HOUR_MS), seconds(end_ms));
        let over_the_hour = |path: Path| path.with("start", &start).with("end", &end);
        match self {
            Self::Instant(expr) => Path::new("/api/v1/query")
                .with("query", expr)
                .with("time", &seconds(now_ms)),
            Self::Range(expr) => over_the_hour(Path::new("/api/v1/query_range"))
                .with("query", expr)
                .with("step", "15"),
            Self::LabelValues(name) => {
                over_the_hour(Path::new(&format!("/api/v1/label/{name}/values")))
            }
            Self::Series(selector) => {
                over_the_hour(Path::new("/api/v1/series")).with("match[]", selector)
            }
        }
    }
}
