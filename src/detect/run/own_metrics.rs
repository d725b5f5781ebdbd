//! What detection counts about itself.

use std::time::Duration;

use prometheus::{CounterVec, IntCounterVec, IntGaugeVec};

use crate::detect::engine::Counts;
use crate::detect::monitor::Change;
use crate::telemetry::Metrics;

pub(super) struct OwnMetrics {
    steps: IntCounterVec,
    anomalies: IntCounterVec,
    series: IntGaugeVec,
    samples: IntCounterVec,
    warmup_samples: IntCounterVec,
    series_seconds: CounterVec,
    judging: CounterVec,
    dropped: IntCounterVec,
    pub(super) failures: IntCounterVec,
    busy: IntCounterVec,
}

impl OwnMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let watch = &["watch"];
        Self {
            steps: metrics.counter(
                "cutover_detect_steps_total",
                "Evaluations of a watch.",
                watch,
            ),
            anomalies: metrics.counter(
                "cutover_detect_anomalies_total",
                "Anomalies that opened.",
                watch,
            ),
            series: metrics.gauge(
                "cutover_detect_series",
                "Series of a watch that are followed.",
                watch,
            ),
            samples: metrics.counter("cutover_detect_samples_total", "Samples judged.", watch),
            warmup_samples: metrics.counter(
                "cutover_detect_warmup_samples_total",
                "Samples judged on which there was no verdict yet.",
                watch,
            ),
            series_seconds: metrics.float_counter(
                "cutover_detect_series_seconds_total",
                "Time that series were followed, summed over the series.",
                watch,
            ),
            judging: metrics.float_counter(
                "cutover_detect_judging_seconds_total",
                "Time spent in judging alone, without evaluating and writing.",
                &[],
            ),
            dropped: metrics.counter(
                "cutover_detect_series_dropped_total",
                "Samples not judged because the watch has too many series.",
                watch,
            ),
            failures: metrics.counter(
                "cutover_detect_failures_total",
                "Evaluations that failed; without a watch, whole steps.",
                watch,
            ),
            busy: metrics.counter(
                "cutover_detect_busy_seconds_total",
                "Time spent in evaluating, judging and writing.",
                &[],
            ),
        }
    }

    pub(super) fn count(&self, changes: &[Change], counts: &[Counts]) {
        for counts in counts {
            let watch = &[counts.watch.as_str()];
            self.steps.with_label_values(watch).inc();
            self.series
                .with_label_values(watch)
                .set(counts.series as i64);
            self.samples
                .with_label_values(watch)
                .inc_by(counts.judged as u64);
            self.warmup_samples
                .with_label_values(watch)
                .inc_by(counts.warming as u64);
            self.series_seconds
                .with_label_values(watch)
                .inc_by(counts.followed.as_secs_f64());
            self.dropped
                .with_label_values(watch)
                .inc_by(counts.dropped as u64);
        }
        for change in changes {
            if let Change::Opened(anomaly) = change {
                self.anomalies.with_label_values(&[&anomaly.watch]).inc();
            }
        }
    }

    pub(super) fn add_judging(&self, spent: Duration) {
        self.judging
            .with_label_values(&[] as &[&str])
            .inc_by(spent.as_secs_f64());
    }

    /// Whole seconds: the registry counts in integers.
    pub(super) fn set_busy(&self, busy: Duration) {
        let counter = self.busy.with_label_values(&[] as &[&str]);
        counter.inc_by(busy.as_secs().saturating_sub(counter.get()));
    }
}
