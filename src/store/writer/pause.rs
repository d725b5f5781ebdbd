//! The pauses after failures.

use std::time::Duration;

/// Doubled each time from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A growing pause after failures.
#[derive(Debug, Default)]
pub(super) struct Pause {
    pub(super) length: Duration,
    until: Duration,
}

impl Pause {
    pub(super) fn extend(&mut self, now: Duration) {
        self.length = (self.length * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.until = now + self.length;
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }
}
