//! Queries measured beside Prometheus and VictoriaMetrics: what the README's table of queries is made of.
//!
//! `cargo bench --bench query` starts each program on loopback, sends all of them the same 10,000 series
//! of 720 samples by remote write, and asks each of the requests of a dashboard in turn over a kept-alive
//! connection: every round asks one request of all programs before the next, so that what else the
//! machine does meets all alike. Caches of results are off. The answers are compared. Options come after
//! `--`: `--only cutover,prometheus`, `--samples N`, `--rounds N`, `--requests 3,12` for some of them.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::print_stderr, reason = "so is to say what it is doing")]

#[path = "../store/client.rs"]
#[expect(dead_code, reason = "shared with the bench of the store")]
mod client;
#[path = "../store/machine.rs"]
mod machine;
#[path = "../store/send.rs"]
#[expect(dead_code, reason = "shared with the bench of the store")]
mod send;
#[path = "../store/server.rs"]
#[expect(dead_code, reason = "shared with the bench of the store")]
mod server;
#[path = "../store/workload.rs"]
#[expect(dead_code, reason = "shared with the bench of the store")]
mod workload;

mod agree;
mod request;
mod table;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use tempfile::TempDir;

use self::client::Connection;
use self::request::{Agreement, REQUESTS, Request};
use self::server::{Program, Server};
use self::table::Row;
use self::workload::{Shape, Workload};

/// What the programs get to flush and merge before they are asked.
const SETTLE: Duration = Duration::from_secs(5);
const WARM_UP_ROUNDS: usize = 3;
/// Times of all requests are multiples of the longest step.
const GRID_MS: i64 = 60_000;

/// Measures queries beside the programs that they are compared with.
#[derive(Debug, Parser)]
#[command(name = "query")]
struct Options {
    /// Only these programs: cutover, prometheus, victoria-metrics.
    #[arg(long, value_delimiter = ',', value_parser = Program::parse)]
    only: Vec<Program>,
    /// About how many samples are sent.
    #[arg(long, default_value_t = 7_200_000)]
    samples: usize,
    /// How often each request is asked.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Only these requests, by their place in the table.
    #[arg(long, value_delimiter = ',')]
    requests: Vec<usize>,
    /// What `cargo bench` passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement of real processes is in real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// A program that has the data.
struct Asked {
    program: Program,
    server: Server,
    connection: Connection,
    _dir: TempDir,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --benches` runs it too, where minutes of measuring would tell nothing.
        eprintln!("nothing is measured: run `cargo bench --bench query`");
        return Ok(());
    }
    ensure!(options.rounds > 0, "--rounds has to be at least 1");
    println!("{}\n", machine::describe("query")?);
    let shape = Shape::of_migrations(options.samples);
    eprintln!("building the requests");
    let workload = Workload::build(&shape);
    println!("{}\n", workload.describe(&shape));
    let mut asked = Vec::new();
    for program in Program::installed(&options.only) {
        asked.push(Asked::load(program, &workload)?);
    }
    thread::sleep(SETTLE);
    for asked in &mut asked {
        // The first ones have waited for the others to be loaded, longer than servers keep a connection.
        asked.connection = asked.server.connect()?;
    }
    let at_ms = workload.end_ms() / GRID_MS * GRID_MS;
    let mut rows = Vec::new();
    for (number, request) in (1..).zip(&REQUESTS) {
        if options.requests.is_empty() || options.requests.contains(&number) {
            eprintln!("{number}: {}", request.name);
            rows.push(measure(&mut asked, number, request, at_ms, options.rounds)?);
        }
    }
    let programs: Vec<Program> = asked.iter().map(|asked| asked.program).collect();
    println!("{}", table::render(&programs, &rows));
    for asked in &asked {
        let mib = asked.server.memory_bytes()? as f64 / f64::from(1 << 20);
        let (name, version) = (asked.program.name(), asked.program.version());
        println!("{name} {version}: {mib:.0} MiB of memory after the queries.");
    }
    Ok(())
}

impl Asked {
    fn load(program: Program, workload: &Workload) -> anyhow::Result<Self> {
        eprintln!("loading {}", program.name());
        let dir = machine::scratch()?;
        let arguments: &[&str] = match program {
            // Kept-alive connections stay open as long as the others keep theirs.
            Program::VictoriaMetrics => &["-search.disableCache", "-http.connTimeout=1h"],
            Program::Cutover | Program::Prometheus => &[],
        };
        let server = Server::start_with_arguments(program, dir.path(), arguments)?;
        let mut writer = server.connect()?;
        send::send_all(&mut writer, workload.in_order(workload.ingest_rounds()))?;
        let connection = server.connect()?;
        Ok(Self {
            program,
            server,
            connection,
            _dir: dir,
        })
    }

    fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let name = self.program.name();
        let answer = self.connection.get(path).with_context(|| name.to_owned())?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{name}: {} {text}", answer.status);
        Ok(answer.body)
    }
}

/// Asks one request of every program, round by round, and compares what they answer.
fn measure(
    asked: &mut [Asked],
    number: usize,
    request: &Request,
    at_ms: i64,
    rounds: usize,
) -> anyhow::Result<Row> {
    let paths: Vec<String> = asked
        .iter()
        .map(|asked| request.ask.path(asked.program, at_ms).0)
        .collect();
    let mut answers = Vec::new();
    let mut times = vec![Vec::new(); asked.len()];
    for round in 0..WARM_UP_ROUNDS + rounds {
        answers.clear();
        for ((asked, path), times) in asked.iter_mut().zip(&paths).zip(&mut times) {
            let begun = now();
            let answer = asked.get(path)?;
            if round >= WARM_UP_ROUNDS {
                times.push(begun.elapsed());
            }
            answers.push(answer);
        }
    }
    let read: Vec<agree::Series> = answers
        .iter()
        .map(|answer| agree::read(answer))
        .collect::<anyhow::Result<_>>()?;
    let differences = read.iter().zip(&*asked).skip(1);
    let differences = differences.filter_map(|(theirs, asked)| {
        let agreement = match asked.program {
            Program::VictoriaMetrics => request.agreement,
            Program::Cutover | Program::Prometheus => Agreement::Values,
        };
        let difference = agree::difference(&read[0], theirs, agreement)?;
        Some(format!("{}: {difference}", asked.program.name()))
    });
    Ok(Row {
        number,
        name: request.name,
        series: read.first().map_or(0, agree::Series::len),
        medians: times
            .iter()
            .map(|times| send::quantile(times, 0.5))
            .collect(),
        differences: differences.collect(),
    })
}
