//! The store measured beside Prometheus and VictoriaMetrics: what the README's comparison is made of.
//!
//! `cargo bench --bench store` starts each program after the other on loopback, with a data directory
//! of its own on the disk of the build, sends it the same request bodies, and prints one Markdown
//! table. A program that is not installed is left out with a line that says so. Options come after
//! `--`: `--only cutover,prometheus`, `--samples N` for a shorter run, `--million` for one million
//! series in cutover alone.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::print_stderr, reason = "so is to say what it is doing")]

mod client;
mod figures;
mod machine;
mod million;
mod mix;
mod send;
#[expect(dead_code, reason = "shared with the bench of queries")]
mod server;
mod sink;
mod table;
#[expect(dead_code, reason = "shared with the bench of queries")]
mod workload;

use std::time::Instant;

use clap::Parser;

use self::figures::Figures;
use self::server::Program;
use self::workload::{Shape, Workload};

/// Measures the store beside the programs that it is compared with.
#[derive(Debug, Parser)]
#[command(name = "store")]
struct Options {
    /// Only these programs: cutover, prometheus, victoria-metrics.
    #[arg(long, value_delimiter = ',', value_parser = Program::parse)]
    only: Vec<Program>,
    /// About how many samples one ingest sends.
    #[arg(long, default_value_t = 7_200_000)]
    samples: usize,
    /// Measures cutover alone with one million series.
    #[arg(long)]
    million: bool,
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

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --benches` runs it too, where minutes of measuring would tell nothing.
        eprintln!("nothing is measured: run `cargo bench --bench store`");
        return Ok(());
    }
    println!("{}\n", machine::describe("store")?);
    if options.million {
        return million::run();
    }
    let shape = Shape::of_samples(options.samples);
    eprintln!("building the requests");
    let begun = now();
    let workload = Workload::build(&shape);
    println!("{}", workload.describe(&shape));
    eprintln!("built in {:.1?}", begun.elapsed());
    println!("{}\n", sink::describe(&workload)?);
    let mut all = Vec::new();
    for program in Program::installed(&options.only) {
        all.push(Figures::measure(program, &workload));
    }
    println!("\n{}", table::render(&all));
    Ok(())
}
