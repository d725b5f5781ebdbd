//! The machine that figures belong to: cores, memory, kernel, and what a sync costs on its disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

const SYNCS: usize = 200;

/// A directory for one measurement, on the disk of the build; removed when dropped.
pub(crate) fn scratch() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("store-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .context("a temporary directory cannot be made")
}

/// One line: the machine and the command of a bench.
pub(crate) fn describe(bench: &str) -> anyhow::Result<String> {
    let cores = available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory_kib: u64 = first_number(&memory, "MemTotal:").context("/proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let sync = sync_time(scratch()?.path())?;
    let options: Vec<String> = std::env::args()
        .skip(1)
        .filter(|option| option != "--bench")
        .collect();
    let options = match options.join(" ") {
        none if none.is_empty() => none,
        some => format!(" -- {some}"),
    };
    Ok(format!(
        "{cores} cores, {:.0} GiB of memory, Linux {}, {:.2} ms for an fdatasync of 4 KiB (median of \
         {SYNCS}), a load of {load} by others; `cargo bench --bench {bench}{options}`",
        memory_kib as f64 / f64::from(1 << 20),
        kernel.trim(),
        sync.as_secs_f64() * 1e3,
    ))
}

/// The number that follows a name at the start of a line, as the files of `/proc` have it.
pub(crate) fn first_number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The median time to append a page to a file and sync it.
fn sync_time(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = File::create(dir.join("sync"))?;
    let page = [7_u8; 4096];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = crate::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
