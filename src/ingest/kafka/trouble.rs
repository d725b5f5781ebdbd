//! What the operator should know about the reading of Kafka: as counters, log lines and health.

use std::error::Error as _;

use prometheus::IntCounterVec;

use super::ledger::PartitionId;
use crate::ingest::Error;
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State};

/// The part of the health report.
pub(super) const PART: &str = "kafka";

/// Gaps that are told in full; the rest are counted.
const GAPS_TOLD_MAX: usize = 3;

/// The troubles as they stand, and the counters of all there were.
#[derive(Debug)]
pub(super) struct Troubles {
    brokers: String,
    health: Health,
    unreachable: Option<String>,
    session: Option<String>,
    /// Names and patterns of the configuration.
    unmatched: Vec<String>,
    /// Never cleared: counts after a gap stay short for good.
    gaps: Vec<String>,
    gap_messages: IntCounterVec,
    recreated: IntCounterVec,
    errors: IntCounterVec,
}

impl Troubles {
    pub(super) fn new(brokers: &str, metrics: &Metrics, health: Health) -> Self {
        Self {
            brokers: brokers.to_owned(),
            health,
            unreachable: None,
            session: None,
            unmatched: Vec::new(),
            gaps: Vec::new(),
            gap_messages: metrics.counter(
                "cutover_kafka_gap_messages_total",
                "Messages that Kafka deleted before they were read.",
                &["topic", "partition"],
            ),
            recreated: metrics.counter(
                "cutover_kafka_recreated_total",
                "Partitions found to end before our position, and read again from their beginning.",
                &["topic", "partition"],
            ),
            errors: metrics.counter(
                "cutover_kafka_errors_total",
                "Errors of the Kafka client, questions that no broker answered, and failed sessions.",
                &["kind"],
            ),
        }
    }

    pub(super) fn client_failed(&self) {
        self.count("client");
    }

    pub(super) fn brokers_answered(&mut self) {
        if self.unreachable.take().is_some() {
            tracing::info!(brokers = self.brokers, "kafka answers again");
        }
    }

    pub(super) fn brokers_silent(&mut self, reason: String) {
        if self.unreachable.is_none() {
            tracing::warn!(brokers = self.brokers, "kafka does not answer: {reason}");
        }
        self.count("unreachable");
        self.unreachable = Some(reason);
    }

    pub(super) fn session_works(&mut self) {
        self.session = None;
    }

    /// What made the consumer drop everything in memory and start again from the store.
    pub(super) fn session_failed(&mut self, error: &Error) {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(&format!(": {error}"));
            cause = error.source();
        }
        tracing::error!("kafka consumer starts again from what is stored: {reason}");
        self.count("session");
        self.session = Some(reason);
    }

    /// Which names and patterns of the configuration no topic matches.
    pub(super) fn topics_unmatched(&mut self, unmatched: Vec<String>) {
        self.unmatched = unmatched;
    }

    /// Messages that will never be read: from one offset up to, but not including, another.
    pub(super) fn gap(&mut self, (topic, number): &PartitionId, from: i64, to: i64) {
        let missing = u64::try_from(to - from).expect("a gap is not empty");
        let last = to - 1;
        let gap = format!(
            "{topic}[{number}]: offsets {from} to {last} were deleted before they were read"
        );
        tracing::error!(missing, "gap in kafka: {gap}");
        let labels = [&**topic, &*number.to_string()];
        self.gap_messages.with_label_values(&labels).inc_by(missing);
        self.gaps.push(gap);
    }

    /// A partition whose log ends before our position.
    pub(super) fn made_anew(&self, (topic, number): &PartitionId, left_at: i64, from: i64) {
        tracing::warn!(
            topic,
            partition = number,
            left_at,
            from,
            "kafka's log ends before our position, so the topic was made anew: read from its start"
        );
        let labels = [&**topic, &*number.to_string()];
        self.recreated.with_label_values(&labels).inc();
    }

    fn count(&self, kind: &str) {
        self.errors.with_label_values(&[kind]).inc();
    }

    /// Puts the troubles as they stand into the health report.
    pub(super) fn report(&self) {
        let mut told = Vec::new();
        told.extend(self.session.clone());
        if let Some(reason) = &self.unreachable {
            told.push(format!("no answer from {}: {reason}", self.brokers));
        }
        if !self.unmatched.is_empty() {
            told.push(format!("no topic matches {}", self.unmatched.join(", ")));
        }
        told.extend(self.gaps.iter().take(GAPS_TOLD_MAX).cloned());
        if let Some(more @ 1..) = self.gaps.len().checked_sub(GAPS_TOLD_MAX) {
            told.push(format!("and {more} more gaps"));
        }
        let state = if told.is_empty() {
            State::Ok
        } else {
            State::Degraded
        };
        self.health.set(PART, state, told.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::ManualClock;

    #[test]
    fn troubles_are_told_until_they_pass_and_gaps_for_good() {
        let health = Health::new(Arc::new(ManualClock::default()));
        let mut troubles = Troubles::new("one:9092", &Metrics::default(), health.clone());
        let told = || health.parts()[PART].clone();
        troubles.report();
        assert_eq!((told().state, &*told().message), (State::Ok, ""));

        troubles.brokers_silent("connection refused".into());
        troubles.topics_unmatched(vec!["a.b".into(), "^srv".into()]);
        troubles.report();
        let expected = "no answer from one:9092: connection refused; no topic matches a.b, ^srv";
        assert_eq!(
            (told().state, &*told().message),
            (State::Degraded, expected)
        );

        troubles.session_failed(&Error::NoTopics);
        troubles.brokers_answered();
        troubles.topics_unmatched(Vec::new());
        troubles.report();
        assert!(told().message.starts_with("kafka.topics is empty"));
        troubles.session_works();
        for number in 0..5 {
            troubles.gap(&("t".into(), number), 3, 8);
        }
        troubles.report();
        let message = told().message;
        assert!(
            message.starts_with("t[0]: offsets 3 to 7 were deleted"),
            "{message}"
        );
        assert!(message.ends_with("; and 2 more gaps"), "{message}");
    }
}
