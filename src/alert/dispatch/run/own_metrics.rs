//! What the dispatcher counts about itself.

use std::time::Duration;

use prometheus::{CounterVec, IntCounterVec, IntGaugeVec};

use crate::alert::dispatch::dispatcher::Dispatcher;
use crate::telemetry::Metrics;

/// What came of a notification, or of one attempt to deliver it.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Delivered,
    Delayed,
    Refused,
    Superseded,
    PassedOver,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Delayed => "delayed",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::PassedOver => "passed_over",
        }
    }
}

pub(super) struct OwnMetrics {
    notifications: IntCounterVec,
    delivery: CounterVec,
    attempts: IntCounterVec,
    waiting: IntGaugeVec,
    alerts: IntGaugeVec,
    refused: IntCounterVec,
}

impl OwnMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let channel = &["channel"];
        Self {
            notifications: metrics.counter(
                "cutover_alert_notifications_total",
                "Notifications by what came of them: delivered, delayed (counted at each attempt), refused for good, superseded by a newer one, or passed over because the channel was never told that the alert fired.",
                &["channel", "result"],
            ),
            delivery: metrics.float_counter(
                "cutover_alert_delivery_seconds_total",
                "Time spent on attempts to deliver.",
                channel,
            ),
            attempts: metrics.counter(
                "cutover_alert_delivery_attempts_total",
                "Attempts to deliver.",
                channel,
            ),
            waiting: metrics.gauge(
                "cutover_alert_queue_notifications",
                "Notifications that wait for a channel.",
                channel,
            ),
            alerts: metrics.gauge(
                "cutover_alert_alerts",
                "Alerts that are known: firing, flapping (held firing), or over.",
                &["state"],
            ),
            refused: metrics.counter(
                "cutover_alert_refused_alerts_total",
                "Alerts that there was no room for.",
                &[],
            ),
        }
    }

    pub(super) fn refused(&self, count: usize) {
        let none: &[&str] = &[];
        self.refused.with_label_values(none).inc_by(count as u64);
    }

    pub(super) fn attempt(&self, channel: &str, took: Duration) {
        self.attempts.with_label_values(&[channel]).inc();
        let seconds = self.delivery.with_label_values(&[channel]);
        seconds.inc_by(took.as_secs_f64());
    }

    pub(super) fn count(&self, channel: &str, outcome: Outcome, count: usize) {
        let counter = self
            .notifications
            .with_label_values(&[channel, outcome.name()]);
        counter.inc_by(count as u64);
    }

    /// Sets what follows from the dispatcher's state.
    pub(super) fn state(&self, dispatcher: &Dispatcher) {
        for outbox in dispatcher.outboxes() {
            let waiting = self.waiting.with_label_values(&[&outbox.name]);
            waiting.set(outbox.waiting().count() as i64);
        }
        let (mut firing, mut flapping, mut over) = (0, 0, 0);
        for (_, known) in dispatcher.alerts() {
            let count = match (known.history.flapping_since(), known.fires()) {
                (Some(_), _) => &mut flapping,
                (None, true) => &mut firing,
                (None, false) => &mut over,
            };
            *count += 1;
        }
        for (state, count) in [("firing", firing), ("flapping", flapping), ("over", over)] {
            self.alerts.with_label_values(&[state]).set(count);
        }
    }
}
