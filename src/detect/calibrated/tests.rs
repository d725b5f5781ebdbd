use std::time::Duration;

use super::*;
use crate::detect::noise::Noise;
use crate::detect::scenario::{ALL, Scenario, Tally};
use crate::store::Table;

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
            tally.count(&series, &series.scores());
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
fn what_comes_every_day_is_told_once_and_again_when_it_lasts_longer() {
    const DAY: usize = 24 * 60;
    let mut values = normal(6 * DAY, 31);
    for day in 0..6 {
        let noon = day * DAY + DAY / 2;
        let minutes = if day < 5 { 10 } else { 60 };
        for value in &mut values[noon..noon + minutes] {
            *value += 40.0;
        }
    }
    let scores = scores(&values);
    let told: Vec<usize> = (0..scores.len()).filter(|at| scores[*at] > 1.0).collect();
    let noon = DAY / 2;
    assert_eq!(told[0], noon + 1);
    let longer = 5 * DAY + noon;
    assert!(
        told[1..]
            .iter()
            .all(|at| (longer + 10..longer + 60).contains(at)),
        "{told:?}"
    );
    assert!(told.len() > 1, "{told:?}");
}

#[test]
fn a_watch_that_accepts_a_change_keeps_the_course_of_a_day() {
    let mut detector = Calibrated::default();
    for (minute, value) in (0..).zip(normal(5 * 24 * 60, 37)) {
        detector.score(Timestamp::from_ms(minute * MINUTE_MS), value);
    }
    let noon = Timestamp::from_ms((5 * 24 + 12) * 60 * MINUTE_MS);
    detector.relearn();
    assert!(detector.usual.expected(noon).is_by_time);
    assert_eq!(detector.usual.count(), 0);
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
        assert!(
            (0.0..=SCORE_MAX).contains(&scored.score),
            "{index}: {scored:?}"
        );
    }
}

#[test]
fn an_absurd_value_scores_a_number_and_leaves_what_is_usual() {
    for wild in [1e92, -1e149, 1e150] {
        let mut values = normal(500, 29);
        values[400] = wild;
        let scores = scores(&values);
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        assert!(scores[400] > 0.9, "{}", scores[400]);
    }
}

#[test]
fn the_band_holds_what_is_normal() {
    let mut detector = Calibrated::default();
    let mut inside = 0;
    for (minute, value) in normal(3_000, 11).into_iter().enumerate() {
        let at = Timestamp::from_ms(minute as i64 * MINUTE_MS);
        let scored = detector.score(at, value);
        let Expectation {
            expected,
            lower,
            upper,
            ..
        } = scored.expectation;
        inside += usize::from(lower <= value && value <= upper);
        assert!(minute == 0 || lower <= expected && expected <= upper);
    }
    assert!(inside >= 2_990, "{inside}");
}

#[test]
fn the_state_is_under_a_kibibyte_in_memory_and_in_the_store() {
    let mut detector = Calibrated::default();
    for (minute, value) in normal(5_000, 13).into_iter().enumerate() {
        detector.score(Timestamp::from_ms(minute as i64 * MINUTE_MS), value);
    }
    let in_memory = size_of::<Calibrated>() + detector.usual.day_bytes();
    assert!(in_memory < 1_024, "{in_memory} bytes");
    let stored = Table::new("states", 1).put("", &detector).value.unwrap();
    assert!(stored.len() < 1_024, "{} bytes", stored.len());
}

/// The verdicts on a noisy series that is at 100 and from value 1,000 on elsewhere.
fn verdicts(terms: &Terms, shift: f64, count: usize) -> Vec<Option<Verdict>> {
    let mut detector = Calibrated::default();
    let values = normal(count, 17).into_iter().enumerate();
    let verdicts = values.map(|(minute, value)| {
        let value = if minute < 1_000 { value } else { value + shift };
        detector.judge(Timestamp::from_ms(minute as i64 * MINUTE_MS), value, terms)
    });
    verdicts.collect()
}

#[test]
fn a_watch_gets_a_verdict_that_holds_as_long_as_the_anomaly_does() {
    let verdicts = verdicts(&Terms::plain(Sides::Both), 30.0, 3_000);
    assert!(verdicts[..100].iter().all(Option::is_none));
    let verdict = verdicts[2_999].unwrap();
    assert!(verdict.score > 1.0, "{verdict:?}");
    assert!((verdict.expected - 100.0).abs() < 0.5, "{verdict:?}");
    assert!(verdict.upper < verdict.observed, "{verdict:?}");
    let within = |range: std::ops::Range<usize>| {
        verdicts[range]
            .iter()
            .all(|verdict| verdict.is_some_and(|verdict| verdict.score <= 1.0))
    };
    assert!(within(100..1_000) && !within(1_002..1_003));
}

#[test]
fn what_does_not_matter_to_a_watch_is_none_to_it_and_becomes_usual() {
    let high = Terms {
        sides: Sides::High,
        ..Terms::plain(Sides::High)
    };
    let large = Terms {
        deviation_min: 50.0,
        ..Terms::plain(Sides::Both)
    };
    for (terms, shift) in [(high, -30.0), (large, 30.0)] {
        let verdicts = verdicts(&terms, shift, 4_000);
        assert!(
            verdicts
                .iter()
                .flatten()
                .all(|verdict| verdict.score <= 1.0)
        );
        let last = verdicts[3_999].unwrap();
        assert!((last.expected - 100.0 - shift).abs() < 10.0, "{last:?}");
    }
}

#[test]
fn a_counter_is_expected_to_go_on_and_its_stall_is_an_anomaly() {
    let mut detector = Calibrated::default();
    let mut noise = Noise::new(19);
    let mut counter = 0.0;
    let terms = Terms::plain(Sides::Both);
    let mut last = None;
    for minute in 0..1_010 {
        if minute < 1_000 {
            counter += 50.0 + noise.normal();
        }
        // A restart of whatever counts.
        if minute == 700 {
            counter = 10.0;
        }
        let verdict = detector.judge(Timestamp::from_ms(minute * MINUTE_MS), counter, &terms);
        if minute < 1_001 {
            assert!(
                verdict.is_none_or(|verdict| verdict.score <= 1.0),
                "{minute}"
            );
        }
        last = verdict;
    }
    let verdict = last.unwrap();
    assert!(verdict.score > 1.0, "{verdict:?}");
    assert!(
        (verdict.expected - counter - 50.0).abs() < 1.0,
        "{verdict:?}"
    );
}

#[test]
fn a_series_that_always_moved_and_stands_still_is_an_anomaly_though_its_value_is_normal() {
    let mut detector = Calibrated::default();
    let terms = Terms::plain(Sides::Both);
    let mut values = normal(1_000, 23);
    values.extend([100.0; 8]);
    let verdicts: Vec<_> = (0..)
        .zip(values)
        .map(|(minute, value)| {
            detector.judge(Timestamp::from_ms(minute * MINUTE_MS), value, &terms)
        })
        .collect();
    let found = verdicts
        .iter()
        .position(|verdict| verdict.is_some_and(|verdict| verdict.score > 1.0));
    // The fourth of the equal values.
    assert_eq!(found, Some(1_003));
    assert_eq!(verdicts[1_003].unwrap().manner, Manner::Still);
}
