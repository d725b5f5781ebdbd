//! The scoring rules of the Numenta Anomaly Benchmark, on scores and windows that are given.
//!
//! Follows the benchmark's README: what a row is worth depends on where it lies; a file's rows alarm
//! where their score reaches a threshold; one threshold serves all files. Knows no files and no detector.

/// What a missed window and an alarm outside all windows cost.
#[derive(Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) missed: f64,
    pub(crate) false_alarm: f64,
}

pub(crate) const STANDARD: Profile = Profile {
    name: "standard",
    missed: 1.0,
    false_alarm: 0.11,
};

pub(crate) const PROFILES: [Profile; 3] = [
    STANDARD,
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

/// One series: its rows' part in the score, and what the detector gave each.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) windows: usize,
    rows: Vec<Worth>,
    scores: Vec<f64>,
}

/// A row's part in the score.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Worth {
    /// At the beginning of the file: not scored.
    Probation,
    /// In a window: what an alarm here earns.
    Hit { window: usize, worth: f64 },
    /// Outside: what part of the full cost an alarm here has, negative.
    Miss { part: f64 },
}

impl File {
    /// A file of as many rows as there are scores; windows are first and last rows, both included, in
    /// rising order.
    pub(crate) fn new(name: String, scores: Vec<f64>, windows: &[(usize, usize)]) -> Self {
        let probation = (0.15 * scores.len() as f64).floor().min(750.0) as usize;
        let rows = (0..scores.len()).map(|row| {
            if row < probation {
                Worth::Probation
            } else {
                worth(row, windows)
            }
        });
        Self {
            name,
            windows: windows.len(),
            rows: rows.collect(),
            scores,
        }
    }

    /// Windows in which some row alarms, and rows that alarm outside.
    pub(crate) fn alarms(&self, threshold: f64) -> (usize, usize) {
        let mut found = vec![false; self.windows];
        let mut outside = 0;
        for (row, score) in self.rows.iter().zip(&self.scores) {
            match row {
                _ if *score < threshold => {}
                Worth::Probation => {}
                Worth::Hit { window, .. } => found[*window] = true,
                Worth::Miss { .. } => outside += 1,
            }
        }
        (found.iter().filter(|found| **found).count(), outside)
    }
}

fn worth(row: usize, windows: &[(usize, usize)]) -> Worth {
    let window = windows.partition_point(|(_, right)| *right < row);
    match windows.get(window) {
        Some((left, right)) if row >= *left => {
            let width = (right - left + 1) as f64;
            let position = -((right - row + 1) as f64) / width;
            Worth::Hit {
                window,
                worth: sigmoid(position) / sigmoid(-1.0),
            }
        }
        _ => {
            let part = window.checked_sub(1).map_or(-1.0, |previous| {
                let (left, right) = windows[previous];
                sigmoid((row - right) as f64 / (right - left) as f64)
            });
            Worth::Miss { part }
        }
    }
}

/// 0.987 one width before the end of a window, 0 at its end, -1 far behind it.
fn sigmoid(x: f64) -> f64 {
    if x > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * x).exp()) - 1.0
    }
}

/// The score of files under one threshold.
pub(crate) fn score(files: &[&File], profile: Profile, threshold: f64) -> f64 {
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

/// 100 for every window found at its beginning and nothing else, 0 for no alarm at all.
fn normalized(files: &[&File], profile: Profile, total: f64) -> f64 {
    let windows = files.iter().map(|file| file.windows).sum::<usize>() as f64;
    let null = -profile.missed * windows;
    100.0 * (total - null) / (windows - null)
}

/// The best score that one threshold gives, and the threshold; all scores that occur are tried.
pub(crate) fn best_threshold(files: &[&File], profile: Profile) -> (f64, f64) {
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

/// The mean score of a half under the threshold that is best for the other, over random halves.
pub(crate) fn other_half(files: &[&File], profile: Profile) -> f64 {
    const SPLITS: u32 = 20;
    let mut state = 1_u64;
    let mut coin = || {
        // Knuth's linear congruential generator; its high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 0
    };
    let (mut total, mut halves) = (0.0, 0.0);
    for _ in 0..SPLITS {
        let (one, other): (Vec<&File>, Vec<&File>) = files.iter().partition(|_| coin());
        if one.is_empty() || other.is_empty() {
            continue;
        }
        let threshold = |half: &[&File]| best_threshold(half, profile).1;
        total += score(&one, profile, threshold(&other));
        total += score(&other, profile, threshold(&one));
        halves += 2.0;
    }
    total / halves
}
