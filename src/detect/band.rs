//! What detectors share that hold a number against what is usual: a limit of the textbook, stretched by
//! the series' own history.

use serde::{Deserialize, Serialize};

use super::calibration::Tail;
use super::verdict::{Terms, Usual, Verdict};

/// The band of what is normal around something usual.
///
/// Knows how far normal numbers stray, in multiples of the textbook's limit, but not what is usual:
/// that is the detector's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Band {
    tail: Tail,
    accepted: u64,
    /// The last deviation as a multiple of the textbook's limit, learned when it is accepted.
    multiple: f64,
    has_negative: bool,
    /// Since the last accepted number.
    has_exceeded: bool,
}

impl Band {
    /// Numbers that were accepted as normal.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(super) fn is_nonnegative(&self) -> bool {
        !self.has_negative
    }

    /// Holds a number against what is usual; `textbook` is the limit in usual deviations. No verdict
    /// unless `warmup` numbers were accepted.
    pub(super) fn judge(
        &mut self,
        observed: f64,
        usual: &Usual,
        textbook: f64,
        warmup: u64,
        terms: &Terms,
    ) -> Option<Verdict> {
        self.multiple = terms.relevant(observed - usual.center) / (usual.scale().0 * textbook);
        if self.accepted < warmup {
            return None;
        }
        let reach = terms.reach(usual, textbook, &self.tail);
        let verdict = terms.judge(observed, usual, reach);
        if verdict.score > 1.0 {
            self.tail.reject();
            self.has_exceeded = true;
        }
        Some(verdict)
    }

    /// Learns from the number that was judged normal; `learns` when it was held against something.
    pub(super) fn accept(&mut self, value: f64, learns: bool) {
        if learns {
            self.tail.learn(self.multiple);
        }
        self.accepted += 1;
        self.has_negative |= value < 0.0;
        self.has_exceeded = false;
    }

    /// What exceeded the limit passed before it counted as an anomaly: normal times have it too.
    pub(super) fn concede(&mut self) {
        if self.has_exceeded {
            self.tail.concede();
        }
    }
}
