//! How far a long command is: one line on standard error, while that is a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::model::{Clock as _, SystemClock};

/// The distance of two drawings.
const INTERVAL: Duration = Duration::from_millis(200);

/// Draws over its own line; wiped when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    clock: SystemClock,
    is_shown: bool,
    drawn_at: Option<Duration>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            clock: SystemClock::default(),
            is_shown: std::io::stderr().is_terminal(),
            drawn_at: None,
        }
    }

    /// Shows a text, unless another was shown a moment ago.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = self.clock.monotonic();
        if !self.is_shown || self.drawn_at.is_some_and(|at| now < at + INTERVAL) {
            return;
        }
        self.drawn_at = Some(now);
        self.draw(&text());
    }

    fn draw(&mut self, text: &str) {
        let line = format!("\r\x1b[K{text}");
        // Who closes standard error does not want to know.
        self.is_shown = std::io::stderr().write_all(line.as_bytes()).is_ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown && self.drawn_at.is_some() {
            self.draw("");
        }
    }
}
