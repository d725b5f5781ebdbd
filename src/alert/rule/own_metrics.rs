//! What is counted of evaluating rules.

use prometheus::{GaugeVec, IntCounterVec};

use crate::telemetry::Metrics;

#[derive(Clone, Debug)]
pub(super) struct OwnMetrics {
    pub(super) evaluations: IntCounterVec,
    pub(super) failures: IntCounterVec,
    pub(super) missed: IntCounterVec,
    pub(super) seconds: GaugeVec,
    pub(super) reloads: IntCounterVec,
}

impl OwnMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let group = &["rule_group"];
        Self {
            evaluations: metrics.counter(
                "cutover_rule_evaluations_total",
                "Rules evaluated, by group.",
                group,
            ),
            failures: metrics.counter(
                "cutover_rule_evaluation_failures_total",
                "Rules whose evaluation failed, by group.",
                group,
            ),
            missed: metrics.counter(
                "cutover_rule_group_iterations_missed_total",
                "Evaluations left out because the one before took too long, by group.",
                group,
            ),
            seconds: metrics.float_gauge(
                "cutover_rule_group_last_duration_seconds",
                "How long the last evaluation of a group took.",
                group,
            ),
            reloads: metrics.counter(
                "cutover_rule_reloads_total",
                "Times that changed rule files were read, by outcome.",
                &["outcome"],
            ),
        }
    }
}
