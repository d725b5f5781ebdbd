//! The quality of detection on labelled synthetic series: what has to be found, how soon, and how
//! seldom it may cry wolf. Everything runs through the engine as it does in the appliance.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use cutover::detect::Config;
use cutover::detect::anomaly::Anomaly;
use cutover::detect::engine::{Engine, Evaluation, Inputs};
use cutover::detect::monitor::Change;
use cutover::detect::watch::{self, Sides};
use cutover::model::{Labels, Sample, Timestamp};
use cutover::promql::VectorSample;

use crate::support::cutover;

#[path = "../../src/detect/noise.rs"]
mod noise;
use noise::Noise;

const EVERY_S: i64 = 15;
const WEEK: usize = 7 * 86_400 / EVERY_S as usize;
/// Where the labelled events begin: an hour and a half of normal samples come before.
const ONSET: usize = 360;

/// The detectors of the textbook; the default is another one.
const TEXTBOOK: &str = "detectors = [\"zscore\", \"ewma\"]\n";
const BOTH: [&str; 2] = [TEXTBOOK, ""];

/// The anomalies that a watch with these settings finds in a series, `None` being a missing sample.
fn anomalies(settings: &str, values: impl IntoIterator<Item = Option<f64>>) -> Vec<Found> {
    let watch: watch::Config =
        toml::from_str(&format!("name = \"test\"\nexpr = \"x\"\n{settings}"))
            .expect("settings are TOML");
    let config = Config {
        disable: watch::built_in()
            .into_iter()
            .map(|watch| watch.name)
            .collect(),
        watch: vec![watch],
        ..Config::default()
    };
    let mut engine = Engine::new(config.watches().expect("settings are right"));
    let labels = Labels::of("x", &[("series", "a")]);
    let mut found: Vec<Found> = Vec::new();
    for (step, value) in values.into_iter().enumerate() {
        let at = Timestamp::from_ms(step as i64 * EVERY_S * 1_000);
        let samples = value.map(|value| VectorSample {
            labels: labels.clone(),
            sample: Sample::new(at, value),
        });
        let inputs = Inputs {
            evaluations: vec![Evaluation {
                watch: "test".into(),
                samples: samples.into_iter().collect(),
                expected: Vec::new(),
            }],
            phases: Vec::new(),
        };
        for change in engine.step(at, &inputs).changes {
            match change {
                Change::Opened(anomaly) => found.push(Found {
                    opened: step,
                    closed: None,
                    anomaly,
                }),
                Change::Closed(anomaly) => {
                    let open = found.last_mut().expect("an anomaly opens before it closes");
                    (open.closed, open.anomaly) = (Some(step), anomaly);
                }
                Change::Updated(_) => {}
            }
        }
    }
    found
}

#[derive(Debug)]
struct Found {
    /// The steps at which it was opened and closed.
    opened: usize,
    closed: Option<usize>,
    anomaly: Anomaly,
}

/// Recall, precision and median delay over seeds, of events that begin at [`ONSET`] and are to be
/// found within `patience` steps.
struct Quality {
    recall: f64,
    precision: f64,
    delay: usize,
}

fn quality(settings: &str, patience: usize, series: impl Fn(u64) -> Vec<Option<f64>>) -> Quality {
    let (mut hits, mut alarms, mut delays) = (0, 0, Vec::new());
    const SEEDS: u64 = 40;
    for seed in 1..=SEEDS {
        let found = anomalies(settings, series(seed));
        alarms += found.len();
        if let Some(hit) = found
            .iter()
            .find(|found| (ONSET..ONSET + patience).contains(&found.opened))
        {
            hits += 1;
            delays.push(hit.opened - ONSET + 1);
        }
    }
    delays.sort_unstable();
    Quality {
        recall: f64::from(hits) / SEEDS as f64,
        precision: f64::from(hits) / alarms.max(1) as f64,
        delay: delays.get(delays.len() / 2).copied().unwrap_or(usize::MAX),
    }
}

/// Normal noise around 100 with deviation 2, changed by `event` from [`ONSET`] on.
fn noisy(seed: u64, event: impl Fn(usize) -> f64) -> Vec<Option<f64>> {
    let mut noise = Noise::new(seed);
    (0..ONSET + 240)
        .map(|step| {
            let event = step.checked_sub(ONSET).map_or(0.0, &event);
            Some(100.0 + 2.0 * noise.normal() + event)
        })
        .collect()
}

#[test]
fn a_step_of_five_deviations_is_found_within_three_samples() {
    let found = quality(TEXTBOOK, 6, |seed| noisy(seed, |_| 10.0));
    assert!(found.recall >= 0.95, "recall {}", found.recall);
    assert!(found.precision >= 0.95, "precision {}", found.precision);
    assert!(found.delay <= 3, "delay {}", found.delay);
}

#[test]
fn the_default_finds_a_step_of_ten_deviations_and_a_drift() {
    let found = quality("", 3, |seed| noisy(seed, |_| 20.0));
    assert!(found.recall >= 0.95, "recall {}", found.recall);
    assert!(found.precision >= 0.95, "precision {}", found.precision);
    assert!(found.delay <= 3, "delay {}", found.delay);
    let found = quality("", 120, |seed| noisy(seed, |after| 0.4 * after as f64));
    assert!(found.recall >= 0.9, "recall {}", found.recall);
    assert!(found.precision >= 0.9, "precision {}", found.precision);
}

#[test]
fn the_default_takes_one_spike_for_none() {
    let spike = |after: usize| if after == 0 { 60.0 } else { 0.0 };
    for seed in 1..=40 {
        let found = anomalies("", noisy(seed, spike));
        assert!(found.is_empty(), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_lasting_shift_of_three_deviations_is_found_in_the_average() {
    let found = quality(TEXTBOOK, 20, |seed| noisy(seed, |_| 6.0));
    assert!(found.recall >= 0.95, "recall {}", found.recall);
    assert!(found.precision >= 0.95, "precision {}", found.precision);
    assert!(found.delay <= 6, "delay {}", found.delay);
}

#[test]
fn a_single_glaring_spike_is_found_and_over_at_once() {
    let spike = |after: usize| if after == 0 { 60.0 } else { 0.0 };
    let found = quality(TEXTBOOK, 1, |seed| noisy(seed, spike));
    assert!(found.recall >= 0.95, "recall {}", found.recall);
    assert!(found.precision >= 0.95, "precision {}", found.precision);
    for seed in 1..=40 {
        for found in anomalies(TEXTBOOK, noisy(seed, spike)) {
            let closed = found.closed.unwrap();
            assert!(closed - found.opened <= 6, "seed {seed}: {found:?}");
        }
    }
}

#[test]
fn a_drift_is_found() {
    let found = quality(TEXTBOOK, 120, |seed| {
        noisy(seed, |after| 0.2 * after as f64)
    });
    assert!(found.recall >= 0.9, "recall {}", found.recall);
    assert!(found.precision >= 0.9, "precision {}", found.precision);
}

#[test]
fn a_drop_to_nothing_is_found_when_low_is_watched_and_only_then() {
    let drop = |after: usize| if after < 60 { -100.0 } else { 0.0 };
    let found = quality(&format!("{TEXTBOOK}direction = \"low\""), 3, |seed| {
        noisy(seed, drop)
    });
    assert!(found.recall >= 0.95 && found.precision >= 0.95 && found.delay == 1);
    let found = quality("direction = \"high\"", usize::MAX / 2, |seed| {
        noisy(seed, drop)
    });
    assert!(found.recall <= 0.05, "recall {}", found.recall);
}

#[test]
fn an_anomaly_is_over_a_few_steps_after_the_values_are_back() {
    for (seed, detectors) in (1..=40).zip(BOTH.into_iter().cycle()) {
        let found = anomalies(
            detectors,
            noisy(seed, |after| if after < 120 { 1_000.0 } else { 0.0 }),
        );
        let back = ONSET + 120;
        assert_eq!(found.len(), 1, "seed {seed}: {found:?}");
        let closed = found[0].closed.unwrap();
        assert!((back..back + 8).contains(&closed), "seed {seed}: {closed}");
    }
}

#[test]
fn what_was_an_anomaly_is_still_one_the_second_time() {
    let twice = |after: usize| {
        if after < 60 || (120..180).contains(&after) {
            20.0
        } else {
            0.0
        }
    };
    for (seed, detectors) in (1..=40).zip(BOTH.into_iter().cycle()) {
        let found = anomalies(detectors, noisy(seed, twice));
        let second = found.iter().find(|found| found.opened >= ONSET + 120);
        assert!(
            second.is_some_and(|second| second.opened < ONSET + 124),
            "seed {seed}: {found:?}"
        );
    }
}

#[test]
fn a_lasting_change_becomes_the_new_normal_where_that_is_allowed() {
    let settings = ["relearn_after = \"30m\"", "relearn_after = \"0\""];
    let values = || noisy(1, |_| 20.0);
    let [relearned, kept] = settings.map(|settings| anomalies(settings, values()));
    assert!(relearned[0].closed.is_some() && kept[0].closed.is_none());
}

/// A lag between 0.2 and 3 s as they are: skewed and sticky.
fn steady_lag(seed: u64, samples: usize) -> impl Iterator<Item = f64> {
    let mut noise = Noise::new(seed);
    let mut level = 0.0;
    (0..samples).map(move |_| {
        level = 0.6 * level + 0.8 * noise.normal();
        (0.7 * (0.45 * level).exp()).clamp(0.2, 3.0)
    })
}

#[test]
fn a_noisy_but_steady_lag_alarms_at_most_once_a_week() {
    // The built-in watch, and one that knows no least deviation.
    for (settings, allowed) in [("direction = \"high\"\nmin_deviation = 10.0", 0), ("", 1)] {
        for (seed, detectors) in (1..=6).zip(BOTH.into_iter().cycle()) {
            let settings = &format!("{detectors}{settings}");
            let found = anomalies(settings, steady_lag(seed, WEEK).map(Some));
            assert!(found.len() <= allowed, "seed {seed}: {found:#?}");
        }
    }
}

#[test]
fn a_stalled_stream_is_found_soon_after_its_lag_matters() {
    let settings = "direction = \"high\"\nmin_deviation = 10.0\nrelearn_after = \"0\"";
    for (seed, detectors) in (1..=20).zip(BOTH.into_iter().cycle()) {
        let settings = &format!("{detectors}{settings}");
        let growing = (1..=240).map(|step| 1.0 + f64::from(step) * EVERY_S as f64);
        let values = steady_lag(seed, ONSET)
            .chain(growing)
            .chain(steady_lag(seed + 100, 60));
        let found = anomalies(settings, values.map(Some));
        assert_eq!(found.len(), 1, "seed {seed}: {found:#?}");
        assert!(
            (ONSET..=ONSET + 3).contains(&found[0].opened),
            "seed {seed}: {found:#?}"
        );
        let closed = found[0].closed.unwrap();
        assert!(
            (ONSET + 240..ONSET + 248).contains(&closed),
            "seed {seed}: {found:#?}"
        );
    }
}

#[test]
fn quiet_series_stay_quiet() {
    let mut noise = Noise::new(11);
    let day = 86_400.0 / EVERY_S as f64;
    let season = |step: usize| 100.0 + 50.0 * (std::f64::consts::TAU * step as f64 / day).sin();
    let series: Vec<(&str, Vec<f64>)> = vec![
        ("zero", vec![0.0; WEEK]),
        ("constant", vec![42.0; WEEK]),
        (
            "almost constant",
            (0..WEEK).map(|step| 1e6 + (step % 7) as f64).collect(),
        ),
        (
            "rare ticks",
            (0..WEEK)
                .map(|step| if step % 5_000 == 4_321 { 1.0 } else { 0.0 })
                .collect(),
        ),
        ("normal", (0..WEEK).map(|_| noise.normal()).collect()),
        ("season", (0..WEEK).map(season).collect()),
        (
            "noisy season",
            (0..WEEK)
                .map(|step| season(step) + 5.0 * noise.normal())
                .collect(),
        ),
        (
            "slow drift",
            (0..WEEK)
                .map(|step| 100.0 + 0.01 * step as f64 + noise.normal())
                .collect(),
        ),
        (
            "heavy tail",
            (0..WEEK).map(|_| noise.normal().exp()).collect(),
        ),
    ];
    for (name, values) in series {
        for detectors in BOTH {
            let found = anomalies(detectors, values.iter().copied().map(Some));
            assert!(found.len() <= 1, "{name}, {detectors:?}: {found:#?}");
        }
    }
}

#[test]
fn a_gap_is_not_a_drop_and_keeps_what_is_usual() {
    for (seed, detectors) in (1..=20).zip(BOTH.into_iter().cycle()) {
        let mut noise = Noise::new(seed);
        let values: Vec<Option<f64>> = (0..ONSET + 2_000)
            .map(|step| {
                let is_gap = (ONSET..ONSET + 1_000).contains(&step);
                let shift = if step >= ONSET + 1_500 { 20.0 } else { 0.0 };
                (!is_gap).then(|| 100.0 + 2.0 * noise.normal() + shift)
            })
            .collect();
        let found = anomalies(detectors, values);
        assert_eq!(found.len(), 1, "seed {seed}: {found:#?}");
        assert!(
            (ONSET + 1_500..ONSET + 1_503).contains(&found[0].opened),
            "seed {seed}"
        );
    }
}

#[test]
fn a_counter_reset_is_not_a_drop() {
    // A rate as PromQL makes it of a counter that restarts at zero every hour: the increase over a
    // minute with the resets taken out.
    for seed in 1..=20 {
        let mut noise = Noise::new(seed);
        let mut counter = 0.0;
        let counters: Vec<f64> = (0..WEEK / 7)
            .map(|step| {
                let rows = (1_500.0 + 100.0 * noise.normal()).max(0.0);
                counter = if step % 240 == 239 {
                    rows
                } else {
                    counter + rows
                };
                counter
            })
            .collect();
        let rates = counters.windows(5).map(|window| {
            let increase: f64 = window
                .windows(2)
                .map(|pair| {
                    if pair[1] < pair[0] {
                        pair[1]
                    } else {
                        pair[1] - pair[0]
                    }
                })
                .sum();
            Some(increase / Duration::from_secs(60).as_secs_f64())
        });
        let found = anomalies("direction = \"low\"", rates);
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

#[test]
fn a_watched_counter_that_resets_is_not_stalled() {
    let settings = "direction = \"low\"\ndetectors = [\"stall\"]";
    assert_eq!(
        watch::built_in()
            .iter()
            .filter(|watch| watch.direction == Sides::Low)
            .count(),
        4
    );
    let moving = (0..4_000).map(|step| Some(f64::from(step % 500) * 10.0));
    assert!(anomalies(settings, moving.clone()).is_empty());
    let stopped = std::iter::repeat_n(Some(4_990.0), 20);
    let found = anomalies(settings, moving.chain(stopped));
    assert_eq!(found.len(), 1);
    assert!((4_000..4_006).contains(&found[0].opened), "{found:#?}");
}

/// `cutover detect` on standard input: exit code, standard output, standard error.
fn detect(input: &str) -> (Option<i32>, String, String) {
    let mut child = cutover()
        .args(["detect", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feed = std::thread::spawn(move || {
        // A program that stops at a wrong row closes the pipe.
        drop(stdin.write_all(input.as_bytes()));
    });
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A noisy series at one value a minute, 12 deviations higher from row 1,000 to row 1,040.
fn recorded() -> String {
    let mut noise = Noise::new(31);
    let rows = (0..2_000).map(|row| {
        let shift = if (1_000..1_040).contains(&row) {
            24.0
        } else {
            0.0
        };
        format!(
            "{},{:.3}\n",
            1_700_000_000 + 60 * row,
            100.0 + 2.0 * noise.normal() + shift
        )
    });
    format!("timestamp,value\n{}", rows.collect::<String>())
}

#[test]
fn the_command_scores_every_row_and_tells_an_anomaly_once() {
    let input = recorded();
    let (code, output, error) = detect(&input);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let mut rows = output.lines();
    assert_eq!(
        rows.next(),
        Some("timestamp,value,anomaly_score,expected,lower,upper")
    );
    let rows: Vec<&str> = rows.collect();
    assert_eq!(rows.len(), 2_000);
    let mut alarms = Vec::new();
    for (index, (row, given)) in rows.iter().zip(input.lines().skip(1)).enumerate() {
        assert!(row.starts_with(given), "{row} is not of {given}");
        let score: f64 = row.split(',').nth(2).unwrap().parse().unwrap();
        if score > 1.0 {
            alarms.push(index);
        }
    }
    assert_eq!(alarms, [1_001]);
}

#[test]
fn the_command_names_file_and_line_of_what_it_cannot_read() {
    let (code, output, error) = detect("timestamp,value\n60,1\n120,x\n");
    assert_eq!(code, Some(1));
    assert_eq!(output.lines().count(), 2, "{output}");
    assert_eq!(error, "cutover: standard input:3: \"x\" is not a number\n");
    let missing = cutover().args(["detect", "/nonexistent.csv"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(
        error.starts_with("cutover: /nonexistent.csv cannot be read"),
        "{error}"
    );
}

#[test]
fn a_pipe_closed_behind_the_command_is_no_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), recorded()).unwrap();
    let mut child = cutover()
        .arg("detect")
        .arg(file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
