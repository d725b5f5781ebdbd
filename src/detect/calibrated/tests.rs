use std::time::Duration;

use super::*;
use crate::detect::noise::Noise;
use crate::detect::scenario::{ALL, Scenario, Tally};

const MINUTE_MS: i64 = 60_000;

fn scores(values: &[f64]) -> Vec<f64> {
    let mut detector = Calibrated::default();
    let times = (0..).map(|minute| Timestamp::from_ms(minute * MINUTE_MS));
    let scored = times
        .zip(values)
        .map(|(at, value)| detector.score(at, *value).score);
    scored.collect()
}

fn normal(count: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    (0..count).map(|_| 100.0 + noise.normal()).collect()
}

fn tally(scenario: Scenario) -> Tally {
    let mut tally = Tally::default();
    for every in [15, 60, 300].map(Duration::from_secs) {
        for seed in 1..=3 {
            let series = scenario.series(every, seed);
            let mut detector = Calibrated::default();
            let scores: Vec<f64> = series
                .samples
                .iter()
                .map(|(at, value)| detector.score(*at, *value).score)
                .collect();
            tally.count(&series, &scores);
        }
    }
    tally
}

#[test]
fn the_scenarios_are_told_from_quiet_series() {
    let mut all = Tally::default();
    for scenario in ALL {
        let tally = tally(scenario);
        let name = scenario.name();
        assert!(tally.false_alarms_a_week() <= 1.5, "{name}: {tally:?}");
        assert!(tally.recall() >= 0.8, "{name}: {tally:?}");
        let is_abrupt = !matches!(scenario, Scenario::CreepingLag);
        if is_abrupt && let Some(delay) = tally.median_delay() {
            assert!(delay <= 3, "{name}: {delay} samples late");
        }
        all.add(&tally);
    }
    assert!(all.recall() >= 0.95, "{all:?}");
    assert!(all.false_alarms_a_week() <= 1.0, "{all:?}");
}

#[test]
fn a_new_anomaly_is_seen_within_three_values_also_soon_after_another() {
    let mut values = normal(2_000, 7);
    for value in &mut values[1_000..1_030] {
        *value += 12.0;
    }
    for value in &mut values[1_080..1_110] {
        *value -= 12.0;
    }
    let scores = scores(&values);
    let alarmed = |from: usize| scores[from..from + 4].iter().any(|score| *score > 1.0);
    assert!(alarmed(1_000), "{:?}", &scores[1_000..1_004]);
    assert!(alarmed(1_080), "{:?}", &scores[1_080..1_084]);
}

#[test]
fn one_outlier_alone_is_no_anomaly_but_surprises() {
    let mut values = normal(1_000, 3);
    values[700] += 50.0;
    let scores = scores(&values);
    assert!(scores.iter().all(|score| *score <= 1.0));
    assert!(scores[700] > 0.6, "{}", scores[700]);
}

#[test]
fn what_is_no_number_is_passed_over() {
    let mut values = normal(500, 5);
    let clean = scores(&values);
    values.insert(300, f64::NAN);
    values.insert(301, f64::INFINITY);
    let with_gaps = scores(&values);
    assert_eq!(with_gaps[300..302], [0.0, 0.0]);
    assert_eq!(with_gaps[..300], clean[..300]);
}

#[test]
fn extreme_values_and_times_keep_the_scores_finite() {
    let mut detector = Calibrated::default();
    let values = [
        0.0,
        -0.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        1e300,
        -1e300,
    ];
    for index in 0..400 {
        let at = match index % 4 {
            0 => Timestamp::from_ms(i64::MAX),
            1 => Timestamp::from_ms(i64::MIN),
            _ => Timestamp::from_ms(index),
        };
        let scored = detector.score(at, values[index as usize % values.len()]);
        assert!((0.0..=100.0).contains(&scored.score), "{index}: {scored:?}");
    }
}

#[test]
fn the_band_holds_what_is_normal() {
    let mut detector = Calibrated::default();
    let mut inside = 0;
    for (minute, value) in normal(3_000, 11).into_iter().enumerate() {
        let at = Timestamp::from_ms(minute as i64 * MINUTE_MS);
        let scored = detector.score(at, value);
        inside += usize::from(scored.lower <= value && value <= scored.upper);
        assert!(scored.lower <= scored.expected && scored.expected <= scored.upper);
    }
    assert!(inside >= 2_990, "{inside}");
}

#[test]
fn the_state_is_under_a_kibibyte_and_comes_back_whole() {
    let mut detector = Calibrated::default();
    for (minute, value) in normal(5_000, 13).into_iter().enumerate() {
        detector.score(Timestamp::from_ms(minute as i64 * MINUTE_MS), value);
    }
    let in_memory = size_of::<Calibrated>() + detector.usual.day_bytes();
    assert!(in_memory < 1_024, "{in_memory} bytes");
    let stored = serde_json::to_string(&detector).unwrap();
    let mut restored: Calibrated = serde_json::from_str(&stored).unwrap();
    let at = Timestamp::from_ms(5_000 * MINUTE_MS);
    assert_eq!(restored.score(at, 104.0), detector.score(at, 104.0));
}
