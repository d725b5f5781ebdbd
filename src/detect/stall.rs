//! The stall: a counter that is expected to move and does not.
//!
//! What is usual is learned as the length of the pauses that a counter makes while it works. Rates
//! cannot tell a slow counter from a stopped one; pauses can.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::anomaly::Direction;
use super::verdict::{Manner, SCORE_MAX, Terms, Verdict};
use crate::model::Timestamp;

/// Follows one counter. A reset is a movement, and the time of a gap counts as neither pause nor
/// movement: nobody saw what happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    last: Option<Reading>,
    /// When the counter last moved, put off by the gaps since.
    moved_at: Timestamp,
    moves: u64,
    /// The longest of the usual pauses in seconds; longer ones are forgotten slowly.
    pause_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    at: Timestamp,
    value: f64,
}

/// Movements before a counter counts as one that moves.
const MOVES_MIN: u64 = 10;
/// No pause shorter than this is a stall.
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// How many times the longest usual pause a stall lasts.
const PAUSES_MAX: f64 = 3.0;
/// What the longest pause loses with every movement.
const FORGET: f64 = 0.001;
/// Intervals without a sample that make a gap.
const GAP_INTERVALS: u32 = 4;

impl Stall {
    /// Judges a counter's value by the time since it moved; `None` until it has moved some times.
    pub fn judge(&mut self, at: Timestamp, value: f64, terms: &Terms) -> Option<Verdict> {
        match self.last {
            None => self.moved_at = at,
            Some(last) if last.value != value => {
                let pause = last.at.since(self.moved_at).as_secs_f64();
                // A pause that was an anomaly is not usual.
                if self.moves < MOVES_MIN || pause <= self.pause_max() {
                    self.pause_seconds = (self.pause_seconds * (1.0 - FORGET)).max(pause);
                }
                self.moves += 1;
                self.moved_at = at;
            }
            Some(last) if at.since(last.at) > terms.every * GAP_INTERVALS => {
                self.moved_at = self.moved_at.after(at.since(last.at));
            }
            Some(_) => {}
        }
        self.last = Some(Reading { at, value });
        (self.moves >= MOVES_MIN).then(|| self.verdict(at))
    }

    fn pause_max(&self) -> f64 {
        (PAUSES_MAX * self.pause_seconds).max(PAUSE_MIN.as_secs_f64())
    }

    fn verdict(&self, at: Timestamp) -> Verdict {
        let pause = at.since(self.moved_at).as_secs_f64();
        Verdict {
            score: (pause / self.pause_max()).min(SCORE_MAX),
            direction: Direction::Low,
            observed: pause,
            expected: self.pause_seconds,
            lower: 0.0,
            upper: self.pause_max(),
            deviations: pause / self.pause_seconds.max(1.0),
            manner: Manner::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::watch::Sides;

    /// Scores of a counter read every 15 s, `None` where there is no sample.
    fn scores(values: impl IntoIterator<Item = Option<f64>>) -> Vec<Option<f64>> {
        let terms = Terms::plain(Sides::Low);
        let mut stall = Stall::default();
        values
            .into_iter()
            .enumerate()
            .filter_map(|(step, value)| {
                let at = Timestamp::from_ms(step as i64 * 15_000);
                value.map(|value| stall.judge(at, value, &terms).map(|verdict| verdict.score))
            })
            .collect()
    }

    fn moving(steps: usize) -> impl Iterator<Item = Option<f64>> {
        (0..steps).map(|step| Some(step as f64 * 100.0))
    }

    #[test]
    fn a_counter_that_stops_is_found_after_a_minute() {
        let stopped = std::iter::repeat_n(Some(1_900.0), 6);
        let scores = scores(moving(20).chain(stopped));
        // The last movement was at 1900, one sample before `stopped` begins: 15 s, 30 s, ... later.
        assert_eq!(
            scores[20..]
                .iter()
                .map(|score| score.unwrap())
                .collect::<Vec<_>>(),
            [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
        );
    }

    #[test]
    fn a_counter_that_never_moved_is_not_expected_to() {
        assert!(
            scores(std::iter::repeat_n(Some(5.0), 1_000))
                .iter()
                .all(Option::is_none)
        );
    }

    #[test]
    fn usual_pauses_are_allowed_for() {
        // Moves once in 4 samples: pauses of 45 s, so that 135 s are still normal.
        let bursts = (0..200).map(|step| Some(f64::from(step / 4)));
        let stopped = std::iter::repeat_n(Some(49.0), 20);
        let scores = scores(bursts.chain(stopped));
        let found = scores
            .iter()
            .position(|score| score.is_some_and(|score| score > 1.0));
        // Last moved at sample 196, 135 s are 9 samples.
        assert_eq!(found, Some(206));
    }

    #[test]
    fn a_reset_is_a_movement() {
        let reset = (0..20).map(|step| Some(f64::from(step)));
        let scores = scores(moving(20).chain(reset));
        assert!(scores[20..].iter().all(|score| score.unwrap() == 0.0));
    }

    #[test]
    fn a_gap_is_neither_pause_nor_movement() {
        let gap = std::iter::repeat_n(None, 1_000);
        let after = std::iter::repeat_n(Some(1_900.0), 3);
        let scores = scores(moving(20).chain(gap).chain(after));
        assert_eq!(
            scores[20..]
                .iter()
                .map(|score| score.unwrap())
                .collect::<Vec<_>>(),
            [0.0, 0.25, 0.5]
        );
    }
}
