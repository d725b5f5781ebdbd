//! The workload: generated from a seed, encoded once, the same bytes for every program of a run.
//!
//! Targets are scraped every 15 s, each at a phase of its own with a jitter of 5 ms; all series of a
//! target share the timestamp of its scrape. The last scrape lies just before the start of the run. A request is remote write 1.0, a snappy block of one
//! time series for each sample, as agents send them: two scrapes of a group of 25 targets. Targets
//! belong to one of four groups, and a round is one request of each group, so that the same
//! requests are one stream in order of time or four independent ones.

use std::ops::Range;
use std::thread::{self, ScopedJoinHandle};

use cutover::model::{Clock, SystemClock};

// The query bench takes this file in by its path, where modules are looked for beside it.
#[path = "workload/migrations.rs"]
mod migrations;
#[path = "workload/series.rs"]
mod series;

use self::series::Target;

/// As many as the most connections that send.
pub(crate) const GROUPS: usize = 4;
pub(crate) const STEP_MS: i64 = 15_000;
const TARGET_SERIES: usize = 100;
const TARGETS: usize = 100;
/// Targets whose scrapes one request holds.
const REQUEST_TARGETS: usize = 25;
const ROUND_STEPS: usize = 2;
const REQUEST_SAMPLES: usize = REQUEST_TARGETS * TARGET_SERIES * ROUND_STEPS;
const JITTER_MS: u64 = 5;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Which series the targets have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names {
    /// Those of connectors, which no built-in watch of cutover looks at.
    Connectors,
    /// Those of migrations, which dashboards ask for.
    Migrations,
}

/// How much is generated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) names: Names,
    pub(crate) targets: usize,
    /// Steps that an ingest sends; the last ones.
    pub(crate) ingest_steps: usize,
    /// Steps of the query mix before its writer begins, and those the writer has.
    pub(crate) history_steps: usize,
    pub(crate) writer_steps: usize,
}

impl Shape {
    /// The comparison's shape, for about so many samples an ingest. The mix begins with 65 min, enough
    /// for the range of each of its queries.
    pub(crate) fn of_samples(samples: usize) -> Self {
        let steps = samples / (TARGETS * TARGET_SERIES);
        let ingest_steps = steps.next_multiple_of(ROUND_STEPS).max(ROUND_STEPS);
        Self {
            names: Names::Connectors,
            targets: TARGETS,
            ingest_steps,
            history_steps: 260.min(ingest_steps),
            writer_steps: ingest_steps * 2,
        }
    }

    /// As many samples of what dashboards ask for, and nothing beyond an ingest.
    pub(crate) fn of_migrations(samples: usize) -> Self {
        Self {
            names: Names::Migrations,
            history_steps: 0,
            writer_steps: 0,
            ..Self::of_samples(samples)
        }
    }

    /// Two samples of each of one million series.
    pub(crate) fn million() -> Self {
        Self {
            names: Names::Connectors,
            targets: 1_000_000 / TARGET_SERIES,
            ingest_steps: ROUND_STEPS,
            history_steps: 0,
            writer_steps: 0,
        }
    }

    fn steps(&self) -> usize {
        self.ingest_steps
            .max(self.history_steps + self.writer_steps)
    }

    pub(crate) fn series(&self) -> usize {
        self.targets * TARGET_SERIES
    }
}

/// A whole HTTP request of remote write.
#[derive(Debug)]
pub(crate) struct Request {
    /// Head and body.
    pub(crate) bytes: Vec<u8>,
    pub(crate) samples: u64,
    pub(crate) newest_ms: i64,
}

/// All requests, by group in order of time.
#[derive(Debug)]
pub(crate) struct Workload {
    groups: Vec<Vec<Request>>,
    requests_per_round: usize,
    ingest_rounds: usize,
    history_rounds: usize,
}

impl Workload {
    /// Generates requests that end at about now, a thread for each group.
    pub(crate) fn build(shape: &Shape) -> Self {
        let now_ms = SystemClock::default().now().ms();
        let steps = shape.steps();
        // The last scrape's phase and jitter end before now.
        let first_ms = now_ms / STEP_MS * STEP_MS - STEP_MS * (steps as i64 + 1);
        let requests_per_round = (shape.targets / GROUPS).div_ceil(REQUEST_TARGETS);
        let groups = thread::scope(|scope| {
            let build = |group| scope.spawn(move || build_group(shape, group, first_ms));
            let threads: Vec<_> = (0..GROUPS).map(build).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| thread.join();
            let groups: Result<Vec<_>, _> = threads.into_iter().map(join).collect();
            groups.expect("a generator does not panic")
        });
        Self {
            groups,
            requests_per_round,
            ingest_rounds: shape.ingest_steps / ROUND_STEPS,
            history_rounds: shape.history_steps / ROUND_STEPS,
        }
    }

    /// One line on what it is.
    pub(crate) fn describe(&self, shape: &Shape) -> String {
        let list = self.in_order(self.ingest_rounds());
        let samples: u64 = list.iter().map(|request| request.samples).sum();
        let bytes: usize = list.iter().map(|request| request.bytes.len()).sum();
        format!(
            "{} series, {samples} samples at 15 s in {} requests of {REQUEST_SAMPLES} samples, {:.1} bytes \
             a sample on the wire.",
            shape.series(),
            list.len(),
            bytes as f64 / samples as f64
        )
    }

    fn rounds(&self) -> usize {
        self.groups[0].len() / self.requests_per_round
    }

    /// What an ingest sends.
    pub(crate) fn ingest_rounds(&self) -> Range<usize> {
        self.rounds() - self.ingest_rounds..self.rounds()
    }

    /// What is there before the query mix begins.
    pub(crate) fn history_rounds(&self) -> Range<usize> {
        0..self.history_rounds
    }

    /// What is written during the query mix.
    pub(crate) fn writer_rounds(&self) -> Range<usize> {
        self.history_rounds..self.rounds()
    }

    /// The requests of all groups, round by round.
    pub(crate) fn in_order(&self, rounds: Range<usize>) -> Vec<&Request> {
        rounds
            .flat_map(|round| {
                (0..GROUPS).flat_map(move |group| self.of_group(group, round..round + 1))
            })
            .collect()
    }

    pub(crate) fn of_group(&self, group: usize, rounds: Range<usize>) -> Vec<&Request> {
        let (start, end) = (
            rounds.start * self.requests_per_round,
            rounds.end * self.requests_per_round,
        );
        self.groups[group][start..end].iter().collect()
    }

    /// A time at which the newest samples are a current value and the oldest of an ingest still lie
    /// within four hours.
    pub(crate) fn end_ms(&self) -> i64 {
        let newest = self.groups.iter().filter_map(|group| group.last());
        let newest_ms = newest.map(|request| request.newest_ms).max().unwrap_or(0);
        newest_ms + 1
    }
}

/// The requests of one group in order of time.
fn build_group(shape: &Shape, group: usize, first_ms: i64) -> Vec<Request> {
    let per_group = shape.targets / GROUPS;
    let mut targets: Vec<Target> = (group * per_group..(group + 1) * per_group)
        .map(|index| Target::new(shape.names, index, SEED))
        .collect();
    let mut encoder = snap::raw::Encoder::new();
    let mut body = Vec::new();
    let mut requests = Vec::new();
    for round in 0..shape.steps() / ROUND_STEPS {
        for some in targets.chunks_mut(REQUEST_TARGETS) {
            body.clear();
            let (mut samples, mut newest_ms) = (0, i64::MIN);
            for step in 0..ROUND_STEPS {
                let scrape_ms = first_ms + STEP_MS * (round * ROUND_STEPS + step) as i64;
                for target in &mut *some {
                    let timestamp_ms = target.scrape(scrape_ms, &mut body);
                    newest_ms = newest_ms.max(timestamp_ms);
                    samples += TARGET_SERIES as u64;
                }
            }
            let block = encoder
                .compress_vec(&body)
                .expect("a request is far below snappy's 4 GiB");
            requests.push(Request {
                bytes: with_head(&block),
                samples,
                newest_ms,
            });
        }
    }
    requests
}

/// A body with the head of a remote write 1.0 request before it.
fn with_head(block: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: snappy\r\n\
         Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n\
         User-Agent: cutover-bench\r\nContent-Length: {}\r\n\r\n",
        block.len()
    )
    .into_bytes();
    bytes.extend_from_slice(block);
    bytes
}
