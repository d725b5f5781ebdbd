//! The public anomaly benchmark: `cargo bench --bench nab`.
//!
//! Scores the `anomaly_score` of the default detector on the series of the Numenta Anomaly Benchmark
//! that lie in `../shared/nab` (or `$CUTOVER_CORPUS/nab`), by the rules in its README: in sample, with
//! the one threshold that is best for all files; and with the threshold of one half of the files applied
//! to the other, over twenty random halves. Says so when the series are not there.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod scorer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cutover::detect::calibrated::Calibrated;
use cutover::model::Timestamp;
use scorer::{File, PROFILES, STANDARD};

fn main() -> anyhow::Result<()> {
    let corpus = std::env::var_os("CUTOVER_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = corpus.join("nab");
    if !folder.join("windows.json").is_file() {
        println!("skipped: the benchmark is not at {}", folder.display());
        return Ok(());
    }
    let files = load(&folder)?;
    let all: Vec<&File> = files.iter().collect();
    let (best, threshold) = scorer::best_threshold(&all, STANDARD);
    println!("{:<62} {:>8} {:>13}", "file", "windows", "false alarms");
    for file in &files {
        let (found, outside) = file.alarms(threshold);
        let found = format!("{found} of {}", file.windows);
        println!("{:<62} {found:>8} {outside:>13}", file.name);
    }
    println!(
        "\n{:<20} {:>8} {:>10} {:>35}",
        "profile", "score", "threshold", "score with the other half's threshold"
    );
    for profile in PROFILES {
        let (score, threshold) = scorer::best_threshold(&all, profile);
        let other_half = scorer::other_half(&all, profile);
        println!(
            "{:<20} {score:>8.2} {threshold:>10.3} {other_half:>35.2}",
            profile.name
        );
    }
    println!(
        "\nstandard profile: {best:.2}; with a threshold of 1: {:.2}",
        scorer::score(&all, STANDARD, 1.0)
    );
    Ok(())
}

/// Every file of the benchmark, scored by a detector of its own.
fn load(folder: &Path) -> anyhow::Result<Vec<File>> {
    let path = folder.join("windows.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let windows: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    windows
        .into_iter()
        .map(|(name, windows)| {
            let path = folder.join("data").join(&name);
            score(&path, name, &windows).with_context(|| path.display().to_string())
        })
        .collect()
}

fn score(path: &Path, name: String, windows: &[(String, String)]) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)?;
    let rows: Vec<(Timestamp, f64)> = text.lines().skip(1).map(row).collect::<Result<_, _>>()?;
    let mut detector = Calibrated::default();
    let scores = rows
        .iter()
        .map(|(at, value)| detector.score(*at, *value).score)
        .collect();
    let windows: Vec<(usize, usize)> = windows
        .iter()
        .map(|(first, last)| {
            let (first, last) = (time(first)?, time(last)?);
            let left = rows.partition_point(|(at, _)| *at < first);
            let right = rows.partition_point(|(at, _)| *at <= last);
            anyhow::Ok((left, right.saturating_sub(1)))
        })
        .collect::<Result<_, _>>()?;
    Ok(File::new(name, scores, &windows))
}

fn row(line: &str) -> anyhow::Result<(Timestamp, f64)> {
    let (at, value) = line
        .split_once(',')
        .ok_or_else(|| anyhow!("{line:?} is not timestamp,value"))?;
    Ok((time(at)?, value.trim().parse()?))
}

fn time(text: &str) -> anyhow::Result<Timestamp> {
    let civil: jiff::civil::DateTime = text.parse()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
    Ok(Timestamp::from_ms(at.as_millisecond()))
}
