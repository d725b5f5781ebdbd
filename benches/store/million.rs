//! One million series in cutover alone: what a series costs, and how fast any of them is found.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use crate::figures::{settle, wait_for_data};
use crate::machine::scratch;
use crate::send::{self, quantile};
use crate::server::{Program, Server, allocated_bytes, data_dir};
use crate::table::plain;
use crate::workload::{Shape, Workload};

/// The workload's series and those that cutover keeps about itself; seals begin while it is sent
/// instead of half an hour later.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("CUTOVER_STORE__SERIES_MAX", "1100000"),
    ("CUTOVER_STORE__MEMORY_MIB_MAX", "256"),
];
const ANY: &str = "count(connector_tasks_running{instance=\"10.20.0.7:9404\"})";
const QUERIES_MAX: usize = 50;
const QUERY_TIME: Duration = Duration::from_secs(5);

const SELECTORS: [(&str, &str); 5] = [
    (
        "name and one label, 40 series",
        "count(connector_events_total{instance=\"10.20.0.7:9404\"})",
    ),
    (
        "name and one label, 40,000 series",
        "count(connector_events_total{table=\"orders\"})",
    ),
    (
        "regex prefix, 10,000 series",
        "count(connector_events_total{instance=~\"10[.]20[.]7[.].*\"})",
    ),
    (
        "regex alternation, 1,200 series",
        "count(connector_events_total{source=~\"shop-07|shop-700|shop-999\"})",
    ),
    (
        "negative, 40,000 series",
        "count(connector_tasks_running{table!=\"orders\"})",
    ),
];

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    let shape = Shape::million();
    eprintln!("building the requests");
    let workload = Workload::build(&shape);
    println!("{}\n", workload.describe(&shape));
    let dir = scratch()?;
    let data = data_dir(dir.path());
    let start = || Server::start_with(Program::Cutover, dir.path(), &ENVIRONMENT);
    let server = start()?;
    let memory_before = server.memory_bytes()?;
    eprintln!("ingesting");
    let sent = send::ingest(server.address, &workload, 1)?;
    settle(&data)?;
    let memory_after = server.memory_bytes()?;
    let disk = allocated_bytes(&data)?;
    let series = shape.series() as f64;

    println!("| one million series | |\n| --- | ---: |");
    line("ingest, samples/s", sent.samples_per_second());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    line("a write, p99, ms", ms(quantile(&sent.latencies, 0.99)));
    line("pauses asked for", sent.retries as f64);
    let memory = memory_after.saturating_sub(memory_before) as f64;
    line("resident memory, bytes/series", memory / series);
    let peak = server.memory_bytes_peak()? as f64 / f64::from(1 << 20);
    line("peak memory, MiB", peak);
    line("disk, bytes/series", disk as f64 / series);
    ask(&server, &workload)?;

    server.kill()?;
    let (server, time) = restart(dir.path(), &workload)?;
    line(
        "start after kill -9, to the first data, s",
        time.as_secs_f64(),
    );
    line("stop, s", server.stop()?.as_secs_f64());
    let (_server, time) = restart(dir.path(), &workload)?;
    line(
        "start after a stop, to the first data, s",
        time.as_secs_f64(),
    );
    Ok(())
}

fn line(name: &str, value: f64) {
    println!("| {name} | {} |", plain(value));
}

/// From the start of the process to the first answer with data.
fn restart(dir: &Path, workload: &Workload) -> anyhow::Result<(Server, Duration)> {
    let begun = crate::now();
    let server = Server::spawn_with(Program::Cutover, dir, &ENVIRONMENT)?;
    let has_data = wait_for_data(&server, ANY, workload.end_ms());
    ensure!(has_data, "the restarted server has no data");
    Ok((server, begun.elapsed()))
}

fn ask(server: &Server, workload: &Workload) -> anyhow::Result<()> {
    let mut connection = server.connect()?;
    for (name, expr) in SELECTORS {
        let mut times = Vec::new();
        let begun = crate::now();
        let mut count = 0;
        while times.len() < QUERIES_MAX && begun.elapsed() < QUERY_TIME {
            let begun = crate::now();
            count = connection.number(expr, workload.end_ms())?;
            times.push(begun.elapsed());
        }
        let (median, high) = (quantile(&times, 0.5), quantile(&times, 0.99));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {name}: {count} found, p50 and p99, ms | {}, {} |",
            plain(ms(median)),
            plain(ms(high))
        );
    }
    Ok(())
}
