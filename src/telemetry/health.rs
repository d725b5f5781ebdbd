//! Each part's state and since when: what `/api/v1/health` and `/-/ready` answer from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Clock, Timestamp};

/// The states of the parts. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    parts: Arc<Mutex<BTreeMap<Cow<'static, str>, Part>>>,
    caption: Arc<Mutex<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub state: State,
    /// When the state was entered.
    pub since: Timestamp,
    /// What is wrong and what to do; empty when nothing is.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    Starting,
    /// It works, but not as it should.
    Degraded,
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

impl Health {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            started_at: clock.now(),
            clock,
            parts: Arc::default(),
            caption: Arc::default(),
        }
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Reports a part's state; `since` moves only when the state changes.
    pub fn set(
        &self,
        part: impl Into<Cow<'static, str>>,
        state: State,
        message: impl Into<String>,
    ) {
        let now = self.clock.now();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let message = message.into();
        let entry = parts.entry(part.into()).or_insert_with(|| Part {
            state,
            since: now,
            message: String::new(),
        });
        if entry.state != state {
            (entry.state, entry.since) = (state, now);
        }
        entry.message = message;
    }

    /// All parts by name.
    pub fn parts(&self) -> BTreeMap<Cow<'static, str>, Part> {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A line for the dashboard's foot, such as what the demo plays; empty as a rule.
    pub fn caption(&self) -> String {
        self.caption
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_caption(&self, caption: impl Into<String>) {
        *self.caption.lock().unwrap_or_else(PoisonError::into_inner) = caption.into();
    }

    /// Whether every part has started and none has failed.
    pub fn is_ready(&self) -> bool {
        self.parts()
            .values()
            .all(|part| matches!(part.state, State::Ok | State::Degraded))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ManualClock;

    #[test]
    fn since_moves_only_when_the_state_changes() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_000)));
        let health = Health::new(clock.clone());
        health.set("kafka", State::Starting, "connecting");
        assert!(!health.is_ready());
        clock.advance(Duration::from_secs(1));
        health.set("kafka", State::Ok, "");
        clock.advance(Duration::from_secs(1));
        health.set("kafka", State::Ok, "");
        assert_eq!(health.parts()["kafka"].since, Timestamp::from_ms(2_000));
        assert!(health.is_ready());
    }
}
