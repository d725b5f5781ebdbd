//! What a detector says of one value, and the terms on which it judges.
//!
//! All detectors speak the same language: a score, above 1 anomalous, and the band that was expected.

use std::time::Duration;

use super::anomaly::Direction;
use super::calibration::Tail;
use super::ewma::Chart;
use super::watch::Sides;

/// Scores end here: a deviation from a constant has no natural measure.
pub const SCORE_MAX: f64 = 1_000.0;

/// The usual deviation is taken as at least this part of the expected value...
const SCALE_MIN_RATIO: f64 = 0.01;
/// ...and at least this much, so that a constant series has one at all.
const SCALE_MIN: f64 = 1e-9;

/// Larger values are no measurements, and their squares would leave the range of numbers.
const VALUE_MAX: f64 = 1e150;

/// Whether a value is one that can be judged: a finite number of reasonable size.
pub(super) fn is_measurement(value: f64) -> bool {
    value.abs() <= VALUE_MAX
}

/// On what terms the detectors of one watch judge: the same for all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub sides: Sides,
    /// Deviations up to this much, or this part of what is expected, are never anomalous.
    pub deviation_min: f64,
    pub deviation_min_ratio: f64,
    /// How far back "usual" reaches.
    pub memory: Duration,
    /// Accepted samples before the first verdict.
    pub warmup_samples: u64,
    /// The watch's interval.
    pub every: Duration,
    pub chart: Chart,
    /// The z-score that the textbook calls unusual.
    pub zscore_width: f64,
}

/// What a detector says of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Above 1 is anomalous; 0 to [`SCORE_MAX`].
    pub score: f64,
    pub direction: Direction,
    /// What was judged: the value, its moving average, or the length of a pause in seconds.
    pub observed: f64,
    pub expected: f64,
    /// The band of what is normal, both ends included.
    pub lower: f64,
    pub upper: f64,
    /// How many usual deviations lie between observed and expected.
    pub deviations: f64,
    pub manner: Manner,
}

/// In what way a value is unusual, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It lies far from what is expected.
    Far,
    /// Its moving average does, which is what was observed.
    Average,
    /// The series has never moved: any change is beyond all experience, also a trifling one.
    Novel,
    /// The series always moved, and does not.
    Still,
}

/// What is usual: where values lie and how far they stray.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    pub center: f64,
    pub deviation: f64,
    /// No negative value was ever accepted, so the band does not reach below 0.
    pub is_nonnegative: bool,
}

impl Usual {
    /// The deviation with its floors, and whether they took effect.
    pub fn scale(&self) -> (f64, bool) {
        let floor = (SCALE_MIN_RATIO * self.center.abs()).max(SCALE_MIN);
        (self.deviation.max(floor), self.deviation < floor)
    }
}

impl Terms {
    /// The part of a deviation that counts as such: 0 on the side that is not watched.
    pub fn relevant(&self, deviation: f64) -> f64 {
        match self.sides {
            Sides::Low => (-deviation).max(0.0),
            Sides::High => deviation.max(0.0),
            Sides::Both => deviation.abs(),
        }
    }

    /// Whether a deviation is one of those that are of interest at all.
    pub fn matters(&self, deviation: f64, expected: f64) -> bool {
        let least = self
            .deviation_min
            .max(self.deviation_min_ratio * expected.abs());
        self.relevant(deviation) > least
    }

    /// How far from the expected value normal reaches: the textbook's width stretched by the series'
    /// own history, and never less than the least deviation that matters.
    pub fn reach(&self, usual: &Usual, textbook: f64, tail: &Tail) -> f64 {
        (usual.scale().0 * textbook * tail.limit())
            .max(self.deviation_min)
            .max(self.deviation_min_ratio * usual.center.abs())
    }

    /// Judges a statistic that normally stays within `reach` of what is usual.
    pub fn judge(&self, observed: f64, usual: &Usual, reach: f64) -> Verdict {
        let deviation = observed - usual.center;
        let (scale, is_novel) = usual.scale();
        let floor = if usual.is_nonnegative {
            0.0
        } else {
            f64::NEG_INFINITY
        };
        Verdict {
            score: (self.relevant(deviation) / reach).min(SCORE_MAX),
            direction: Direction::of(deviation),
            observed,
            expected: usual.center,
            lower: (usual.center - reach).max(floor),
            upper: usual.center + reach,
            deviations: deviation.abs() / scale,
            manner: if is_novel { Manner::Novel } else { Manner::Far },
        }
    }
}

#[cfg(test)]
impl Terms {
    /// What the detectors' own tests judge by.
    pub(super) fn plain(sides: Sides) -> Self {
        Self {
            sides,
            deviation_min: 0.0,
            deviation_min_ratio: 0.0,
            memory: Duration::from_secs(3_600),
            warmup_samples: 100,
            every: Duration::from_secs(15),
            chart: Chart::new(0.2, 2.962),
            zscore_width: 3.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Usual = Usual {
        center: 10.0,
        deviation: 2.0,
        is_nonnegative: true,
    };

    #[test]
    fn only_the_watched_side_scores() {
        let score = |sides, observed| Terms::plain(sides).judge(observed, &USUAL, 8.0).score;
        assert_eq!(score(Sides::High, 26.0), 2.0);
        assert_eq!(score(Sides::High, -6.0), 0.0);
        assert_eq!(score(Sides::Low, -6.0), 2.0);
        assert_eq!(score(Sides::Both, -6.0), 2.0);
    }

    #[test]
    fn the_least_deviation_widens_the_band() {
        let terms = Terms {
            deviation_min: 50.0,
            ..Terms::plain(Sides::High)
        };
        let reach = terms.reach(&USUAL, 3.0, &Tail::default());
        assert_eq!(reach, 50.0);
        let verdict = terms.judge(110.0, &USUAL, reach);
        assert_eq!((verdict.score, verdict.deviations), (2.0, 50.0));
        // Never below zero where no negative value was ever normal.
        assert_eq!((verdict.lower, verdict.upper), (0.0, 60.0));
    }

    #[test]
    fn a_constant_has_a_scale_and_its_scores_are_bounded() {
        let usual = Usual {
            center: 0.0,
            deviation: 0.0,
            is_nonnegative: true,
        };
        let terms = Terms::plain(Sides::Both);
        let reach = terms.reach(&usual, 3.0, &Tail::default());
        let verdict = terms.judge(1.0, &usual, reach);
        assert!(reach > 0.0 && verdict.manner == Manner::Novel);
        assert_eq!(verdict.score, SCORE_MAX);
        assert_eq!(terms.judge(0.0, &usual, reach).score, 0.0);
    }
}
