//! The scorer of the anomaly benchmark against an example worked by hand.

#[path = "../../benches/nab/scorer.rs"]
#[expect(
    dead_code,
    reason = "shared with the bench, which names profiles and files"
)]
mod scorer;

use scorer::{File, PROFILES, STANDARD, best_threshold, other_half, score};

/// 100 rows, of which the first 15 are not scored, and a window of ten, rows 40 to 49.
fn file(alarms: &[(usize, f64)]) -> File {
    let mut scores = vec![0.0; 100];
    for (row, score) in alarms {
        scores[*row] = *score;
    }
    File::new("a".to_owned(), scores, &[(40, 49)])
}

fn standard(alarms: &[(usize, f64)]) -> f64 {
    score(&[&file(alarms)], STANDARD, 0.5)
}

fn assert_near(score: f64, expected: f64) {
    assert!((score - expected).abs() < 1e-3, "{score}, not {expected}");
}

#[test]
fn the_scorer_gives_what_the_rules_give_by_hand() {
    // Nothing is the null: 0. The first row of the window is worth 1, the most: 100.
    assert_near(standard(&[]), 0.0);
    assert_near(standard(&[(40, 1.0)]), 100.0);
    // Row 45: p = -(49 - 45 + 1) / 10 = -0.5; (2 / (1 + e^-2.5) - 1) / 0.986614 = 0.848284 / 0.986614
    // = 0.859793. Of a span from -1 to 1 that is (0.859793 + 1) / 2.
    assert_near(standard(&[(45, 1.0)]), 92.990);
    // Only the best alarm of a window counts.
    assert_near(standard(&[(45, 1.0), (40, 1.0), (49, 1.0)]), 100.0);
    // Before any window an alarm costs all of 0.11, and in the beginning nothing.
    assert_near(standard(&[(14, 1.0)]), 0.0);
    assert_near(standard(&[(15, 1.0)]), -5.5);
    // Row 58 is 9 rows behind a window of width 10: d = 9 / 9 = 1, costs 0.11 * 0.986614.
    assert_near(standard(&[(58, 1.0)]), -100.0 * 0.11 * 0.986_614 / 2.0);
    // Row 77 is farther than three widths: full cost again.
    assert_near(standard(&[(77, 1.0)]), -5.5);
    // A score under the threshold is none.
    assert_near(standard(&[(40, 0.4)]), 0.0);
}

#[test]
fn other_profiles_weigh_false_alarms_and_missed_windows_otherwise() {
    let one = file(&[(15, 1.0)]);
    // 0.22 of a span of 2; then 0.11 of a span from -2 to 1.
    assert_near(score(&[&one], PROFILES[1], 0.5), -11.0);
    assert_near(score(&[&one], PROFILES[2], 0.5), -100.0 * 0.11 / 3.0);
}

#[test]
fn the_best_threshold_takes_the_window_and_leaves_the_false_alarms() {
    let one = file(&[(20, 0.3), (40, 0.9)]);
    let two = file(&[(20, 0.4), (41, 0.8)]);
    let (best, threshold) = best_threshold(&[&one, &two], STANDARD);
    assert_eq!(threshold, 0.8);
    // The second window is found a row late: p = -0.9, 0.978026 / 0.986614 = 0.991296.
    assert_near(best, 100.0 * (1.0 + 0.991_296 + 2.0) / 4.0);
    assert_near(score(&[&one, &two], STANDARD, threshold), best);
    assert_eq!(one.alarms(0.3), (1, 1));
    // With the other half's threshold a score can only be lower.
    assert!(other_half(&[&one, &two], STANDARD) <= best);
}
