//! The public anomaly benchmark: `cargo bench --bench nab`.
//!
//! Scores the `anomaly_score` of the default detector on the series of the Numenta Anomaly Benchmark
//! that lie in `../shared/nab` (or `$CUTOVER_CORPUS/nab`), by the rules in its README: in sample, with
//! the one threshold that is best for all files; and with the threshold of one half of the files applied
//! to the other, over ten random halves. Says so when the series are not there.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cutover::detect::calibrated::Calibrated;
use cutover::model::Timestamp;

/// What a missed window and a false alarm cost.
#[derive(Clone, Copy)]
struct Profile {
    name: &'static str,
    missed: f64,
    false_alarm: f64,
}

const PROFILES: [Profile; 3] = [
    Profile {
        name: "standard",
        missed: 1.0,
        false_alarm: 0.11,
    },
    Profile {
        name: "low false positives",
        missed: 1.0,
        false_alarm: 0.22,
    },
    Profile {
        name: "low false negatives",
        missed: 2.0,
        false_alarm: 0.11,
    },
];

/// A row's part in the score.
#[derive(Clone, Copy)]
enum Worth {
    /// At the beginning of the file: not scored.
    Probation,
    /// In a window: what an alarm here earns.
    Hit { window: usize, worth: f64 },
    /// Outside: what part of the full cost an alarm here has.
    Miss { part: f64 },
}

struct File {
    name: String,
    windows: usize,
    rows: Vec<Worth>,
    scores: Vec<f64>,
}

struct Row {
    at_seconds: f64,
    value: f64,
}

fn main() {
    let corpus = std::env::var_os("CUTOVER_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = corpus.join("nab");
    if !folder.join("windows.json").is_file() {
        println!(
            "skipped: no series of the benchmark at {}",
            folder.display()
        );
        return;
    }
    let files = load(&folder);
    let rows: usize = files.iter().map(|file| file.rows.len()).sum();
    println!("{} files, {rows} rows", files.len());
    let all: Vec<&File> = files.iter().collect();
    let standard = PROFILES[0];
    let (best, threshold) = best_threshold(&all, standard);
    println!(
        "\n{:<62} {:>14} {:>13}",
        "file", "windows found", "false alarms"
    );
    for file in &files {
        let (found, false_alarms) = alarms(file, threshold);
        println!(
            "{:<62} {:>14} {:>13}",
            file.name,
            format!("{found} of {}", file.windows),
            false_alarms
        );
    }
    println!(
        "\n{:<22} {:>9} {:>9} {:>12}",
        "profile", "score", "threshold", "other half's"
    );
    for profile in PROFILES {
        let (score, threshold) = best_threshold(&all, profile);
        let halves = halves(&all, profile);
        println!(
            "{:<22} {score:>9.2} {threshold:>9.3} {halves:>12.2}",
            profile.name
        );
    }
    println!(
        "\nstandard profile: {best:.2}; at a score of 1: {:.2}",
        score(&all, standard, 1.0)
    );
}

fn load(folder: &Path) -> Vec<File> {
    let text =
        std::fs::read_to_string(folder.join("windows.json")).expect("windows.json is readable");
    let windows: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).expect("windows.json maps files to lists of pairs");
    let files = windows.into_iter().filter_map(|(name, windows)| {
        let text = std::fs::read_to_string(folder.join("data").join(&name)).ok()?;
        let rows: Vec<Row> = text.lines().skip(1).map(row).collect();
        let mut detector = Calibrated::default();
        let scores = rows
            .iter()
            .map(|row| {
                let at = Timestamp::from_ms((row.at_seconds * 1e3) as i64);
                detector.score(at, row.value).score
            })
            .collect();
        let windows: Vec<(usize, usize)> = windows
            .iter()
            .map(|(first, last)| {
                let (first, last) = (seconds(first), seconds(last));
                let left = rows.partition_point(|row| row.at_seconds < first);
                let right = rows.partition_point(|row| row.at_seconds <= last) - 1;
                (left, right)
            })
            .collect();
        Some(File {
            name,
            windows: windows.len(),
            rows: worths(rows.len(), &windows),
            scores,
        })
    });
    files.collect()
}

fn row(line: &str) -> Row {
    let (at, value) = line.split_once(',').expect("a row is timestamp,value");
    Row {
        at_seconds: seconds(at),
        value: value.trim().parse().expect("a value is a number"),
    }
}

fn seconds(text: &str) -> f64 {
    let text = text.split('.').next().expect("a split has a first part");
    let at: jiff::civil::DateTime = text.parse().expect("a time is YYYY-MM-DD hh:mm:ss");
    let zoned = at
        .to_zoned(jiff::tz::TimeZone::UTC)
        .expect("UTC has every time");
    zoned.timestamp().as_second() as f64
}

/// What each row is worth, by the benchmark's rules.
fn worths(count: usize, windows: &[(usize, usize)]) -> Vec<Worth> {
    let sigmoid = |x: f64| {
        if x > 3.0 {
            -1.0
        } else {
            2.0 / (1.0 + (5.0 * x).exp()) - 1.0
        }
    };
    let probation = (0.15 * count as f64).floor().min(750.0) as usize;
    let worth = |index: usize| {
        if index < probation {
            return Worth::Probation;
        }
        let next = windows.partition_point(|window| window.1 < index);
        match windows.get(next) {
            Some((left, right)) if index >= *left => {
                let width = (right - left + 1) as f64;
                let position = -((right - index + 1) as f64) / width;
                let worth = sigmoid(position) / sigmoid(-1.0);
                Worth::Hit {
                    window: next,
                    worth,
                }
            }
            _ => {
                let part = next.checked_sub(1).map_or(-1.0, |previous| {
                    let (left, right) = windows[previous];
                    sigmoid((index - right) as f64 / (right - left) as f64)
                });
                Worth::Miss { part }
            }
        }
    };
    (0..count).map(worth).collect()
}

/// The score of files with an alarm wherever the score reaches the threshold.
fn score(files: &[&File], profile: Profile, threshold: f64) -> f64 {
    let mut total = 0.0;
    for file in files {
        let mut best = vec![-profile.missed; file.windows];
        for (row, score) in file.rows.iter().zip(&file.scores) {
            match row {
                _ if *score < threshold => {}
                Worth::Probation => {}
                Worth::Hit { window, worth } => best[*window] = best[*window].max(*worth),
                Worth::Miss { part } => total += profile.false_alarm * part,
            }
        }
        total += best.iter().sum::<f64>();
    }
    normalized(files, profile, total)
}

/// 100 for every window found at its beginning, 0 for no alarm at all.
fn normalized(files: &[&File], profile: Profile, total: f64) -> f64 {
    let windows = files.iter().map(|file| file.windows).sum::<usize>() as f64;
    let null = -profile.missed * windows;
    100.0 * (total - null) / (windows - null)
}

/// The threshold, of all scores that there are, with the highest score.
fn best_threshold(files: &[&File], profile: Profile) -> (f64, f64) {
    let mut alarms: Vec<(f64, usize, Worth)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, content)| {
            let rows = content.scores.iter().zip(&content.rows);
            rows.map(move |(score, row)| (*score, file, *row))
        })
        .filter(|(score, ..)| *score > 0.0)
        .collect();
    alarms.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut best: Vec<Vec<f64>> = files
        .iter()
        .map(|file| vec![-profile.missed; file.windows])
        .collect();
    let mut total: f64 = best.iter().flatten().sum();
    let mut top = (total, f64::INFINITY);
    for (index, (threshold, file, row)) in alarms.iter().enumerate() {
        match row {
            Worth::Probation => {}
            Worth::Hit { window, worth } => {
                let kept = &mut best[*file][*window];
                total += (worth - *kept).max(0.0);
                *kept = kept.max(*worth);
            }
            Worth::Miss { part } => total += profile.false_alarm * part,
        }
        let is_last = alarms.get(index + 1).is_none_or(|next| next.0 < *threshold);
        if is_last && total > top.0 {
            top = (total, *threshold);
        }
    }
    (normalized(files, profile, top.0), top.1)
}

/// Windows found and rows that alarm outside.
fn alarms(file: &File, threshold: f64) -> (usize, usize) {
    let mut found = vec![false; file.windows];
    let mut false_alarms = 0;
    for (row, score) in file.rows.iter().zip(&file.scores) {
        match row {
            _ if *score < threshold => {}
            Worth::Probation => {}
            Worth::Hit { window, .. } => found[*window] = true,
            Worth::Miss { .. } => false_alarms += 1,
        }
    }
    (found.iter().filter(|found| **found).count(), false_alarms)
}

/// The mean score of a half under the threshold that is best for the other, over ten random halves.
fn halves(files: &[&File], profile: Profile) -> f64 {
    let mut state = 1_u64;
    let mut coin = || {
        // Knuth's linear congruential generator; its high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 0
    };
    const SPLITS: u32 = 10;
    let mut total = 0.0;
    for _ in 0..SPLITS {
        let (one, other): (Vec<&File>, Vec<&File>) = files.iter().partition(|_| coin());
        let threshold = |half: &[&File]| best_threshold(half, profile).1;
        total += score(&one, profile, threshold(&other));
        total += score(&other, profile, threshold(&one));
    }
    total / f64::from(2 * SPLITS)
}
