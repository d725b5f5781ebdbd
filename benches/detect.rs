//! What detection costs and what it finds: `cargo bench --bench detect`.
//!
//! Prints two tables. Of every detector the time of one sample on one core and the bytes of its state,
//! as stored; of the default detector, on the made-up series of [`cutover::detect::scenario`], what it
//! found, what it cried wolf about, and how soon. The second is the README's table.

#![expect(clippy::print_stdout, reason = "the tables are what it is for")]

use std::hint::black_box;
use std::time::Duration;

use cutover::detect::Config;
use cutover::detect::calibrated::Calibrated;
use cutover::detect::ewma::Ewma;
use cutover::detect::robust::RobustZ;
use cutover::detect::scenario::{ALL, Scenario, Series, Tally};
use cutover::detect::seasonal::Seasonal;
use cutover::detect::stall::Stall;
use cutover::detect::trend::Trend;
use cutover::detect::zscore::ZScore;
use cutover::model::{Clock, SystemClock, Timestamp};
use cutover::store::Table;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every series of a scenario: the intervals, and the seeds.
const INTERVALS: [u64; 3] = [15, 60, 300];
const SEEDS: std::ops::RangeInclusive<u64> = 101..=108;

fn main() {
    costs();
    scenarios();
}

fn costs() {
    let watches = Config::default().watches().expect("the defaults are right");
    let terms = &watches[0].terms;
    let samples = Scenario::QuietSeason
        .series(Duration::from_secs(15), 1)
        .samples;
    println!(
        "{:<12} {:>11} {:>12}",
        "detector", "ns a sample", "stored bytes"
    );
    cost(
        "calibrated",
        &samples,
        |state: &mut Calibrated, at, value| {
            black_box(state.score(at, value));
        },
    );
    cost("ewma", &samples, |state: &mut Ewma, at, value| {
        black_box(state.judge(value, terms));
        state.accept(at, value, terms);
    });
    cost("zscore", &samples, |state: &mut ZScore, at, value| {
        black_box(state.judge(value, terms));
        state.accept(at, value, terms);
    });
    cost("robust", &samples, |state: &mut RobustZ, _at, value| {
        black_box(state.judge(value, terms));
        state.accept(value, terms);
    });
    cost("trend", &samples, |state: &mut Trend, at, value| {
        black_box(state.judge(at, value, terms));
        state.accept(at, terms);
    });
    cost("seasonal", &samples, |state: &mut Seasonal, at, value| {
        black_box(state.judge(at, value, terms));
        state.accept(at, value, terms);
    });
    let mut counter = 0.0;
    let counted: Vec<(Timestamp, f64)> = samples
        .iter()
        .map(|(at, value)| {
            counter += value;
            (*at, counter)
        })
        .collect();
    cost("stall", &counted, |state: &mut Stall, at, value| {
        black_box(state.judge(at, value, terms));
    });
}

/// The time of one step, the best of some rounds, and the size of the state at the end.
fn cost<State: Default + Serialize + DeserializeOwned>(
    name: &str,
    samples: &[(Timestamp, f64)],
    mut step: impl FnMut(&mut State, Timestamp, f64),
) {
    const ROUNDS: usize = 10;
    let clock = SystemClock::default();
    let mut best = Duration::MAX;
    let mut state = State::default();
    for _ in 0..ROUNDS {
        state = State::default();
        let started = clock.monotonic();
        for (at, value) in samples {
            step(&mut state, *at, *value);
        }
        best = best.min(clock.monotonic().saturating_sub(started));
    }
    let stored = Table::new("states", 1).put("", &state);
    let bytes = stored.value.map_or(0, |value| value.len());
    let nanoseconds = best.as_nanos() as f64 / samples.len() as f64;
    println!("{name:<12} {nanoseconds:>11.0} {bytes:>12}");
}

fn scenarios() {
    println!();
    println!("| scenario | anomalies | precision | recall | false alarms a week | median delay |");
    println!("| --- | --: | --: | --: | --: | --: |");
    let (mut all, mut plain) = (Tally::default(), Tally::default());
    for scenario in ALL {
        let mut tally = Tally::default();
        for every in INTERVALS.map(Duration::from_secs) {
            for seed in SEEDS {
                let series = scenario.series(every, seed);
                tally.count(&series, &series.scores());
                plain.count(&series, &plain_scores(&series));
            }
        }
        row(scenario.name(), &tally);
        all.add(&tally);
    }
    row("all", &all);
    row("all, by a plain z-score at 6 deviations", &plain);
}

/// What is to be beaten: an exponentially weighted z-score that calls 6 deviations an anomaly.
fn plain_scores(series: &Series) -> Vec<f64> {
    const WEIGHT: f64 = 0.01;
    let (mut mean, mut variance, mut count) = (0.0, 0.0_f64, 0.0);
    let scores = series.samples.iter().map(|(_, value)| {
        let deviation = value - mean;
        let score = if count < 100.0 || variance == 0.0 {
            0.0
        } else {
            deviation.abs() / (6.0 * variance.sqrt())
        };
        count += 1.0;
        let weight = WEIGHT.max(1.0 / count);
        mean += weight * deviation;
        variance = (1.0 - weight) * (variance + weight * deviation * deviation);
        score
    });
    scores.collect()
}

fn row(name: &str, tally: &Tally) {
    let (precision, recall, delay) = if tally.anomalies == 0 {
        (String::new(), String::new(), String::new())
    } else {
        (
            format!("{:.2}", tally.precision()),
            format!("{:.2}", tally.recall()),
            tally
                .median_delay()
                .map_or_else(String::new, |samples| samples.to_string()),
        )
    };
    println!(
        "| {name} | {} | {precision} | {recall} | {:.2} | {delay} |",
        tally.anomalies,
        tally.false_alarms_a_week()
    );
}
