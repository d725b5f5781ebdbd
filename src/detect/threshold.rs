//! The fixed limit: a rule that was agreed on beforehand, such as the mission's two.

use serde::{Deserialize, Serialize};

use super::anomaly::Direction;
use super::ewma::Baseline;
use super::verdict::{Manner, SCORE_MAX, Terms, Verdict};
use super::watch::Sides;
use crate::model::Timestamp;

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// This value.
    Value(f64),
    /// This part of what is expected: as configured, else as the series' own baseline has it.
    OfExpected(f64),
}

/// Holds one series against a [`Limit`]. Its only state is the baseline for what is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    baseline: Baseline,
}

impl Threshold {
    /// Judges a value; `None` while it is not known what to expect.
    ///
    /// The score is how many times the value is beyond the limit, on the watched side.
    pub fn judge(
        &self,
        value: f64,
        limit: Limit,
        expected: Option<f64>,
        terms: &Terms,
    ) -> Option<Verdict> {
        let learned =
            (self.baseline.count() >= terms.warmup_samples).then(|| self.baseline.usual().center);
        let expected = expected.or(learned);
        let limit = match limit {
            Limit::Value(limit) => limit,
            Limit::OfExpected(part) => part * expected.filter(|expected| *expected > 0.0)?,
        };
        let (above, below) = (ratio(value, limit), ratio(limit, value));
        let (score, direction, lower, upper) = match terms.sides {
            Sides::Low => (below, Direction::Low, limit, f64::INFINITY),
            Sides::High | Sides::Both => (above, Direction::High, f64::NEG_INFINITY, limit),
        };
        let expected = expected.unwrap_or(limit);
        Some(Verdict {
            score,
            direction,
            observed: value,
            expected,
            lower,
            upper,
            deviations: ratio((value - expected).abs(), expected.abs()),
            manner: Manner::Far,
        })
    }

    /// Learns from a value that was judged normal.
    pub fn accept(&mut self, at: Timestamp, value: f64, terms: &Terms) {
        self.baseline.learn(at, value, terms.memory, terms.every);
    }
}

/// `over / under` of two amounts as a score: bounded, 0 for nothing.
fn ratio(over: f64, under: f64) -> f64 {
    if over <= 0.0 {
        0.0
    } else if under <= 0.0 {
        SCORE_MAX
    } else {
        (over / under).min(SCORE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(sides: Sides, value: f64, limit: Limit, expected: Option<f64>) -> Option<f64> {
        Threshold::default()
            .judge(value, limit, expected, &Terms::plain(sides))
            .map(|verdict| verdict.score)
    }

    #[test]
    fn the_limit_itself_is_still_normal() {
        assert_eq!(
            score(Sides::High, 0.01, Limit::Value(0.01), None),
            Some(1.0)
        );
        assert_eq!(
            score(Sides::High, 0.03, Limit::Value(0.01), None),
            Some(3.0)
        );
        assert_eq!(score(Sides::High, 0.0, Limit::Value(0.01), None), Some(0.0));
        let half = Limit::OfExpected(0.5);
        assert_eq!(score(Sides::Low, 500.0, half, Some(1_000.0)), Some(1.0));
        assert_eq!(score(Sides::Low, 100.0, half, Some(1_000.0)), Some(5.0));
        assert_eq!(score(Sides::Low, 0.0, half, Some(1_000.0)), Some(SCORE_MAX));
    }

    #[test]
    fn without_an_expected_value_it_is_learned() {
        let half = Limit::OfExpected(0.5);
        let terms = Terms::plain(Sides::Low);
        let mut threshold = Threshold::default();
        for step in 0..100 {
            assert_eq!(threshold.judge(1.0, half, None, &terms), None);
            threshold.accept(Timestamp::from_ms(step * 15_000), 1_000.0, &terms);
        }
        let verdict = threshold.judge(250.0, half, None, &terms).unwrap();
        assert_eq!(
            (verdict.score, verdict.expected, verdict.lower),
            (2.0, 1_000.0, 500.0)
        );
    }

    #[test]
    fn an_expected_rate_of_zero_expects_nothing() {
        assert_eq!(
            score(Sides::Low, 0.0, Limit::OfExpected(0.5), Some(0.0)),
            None
        );
    }
}
