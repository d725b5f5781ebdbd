//! What is written about a series under watch: its score, whether an anomaly is open, and the band.

use crate::detect::monitor::Step;
use crate::detect::watch::Watch;
use crate::model::{
    Batch, Labels, LabelsBuilder, METRIC_NAME, MetricKind, MetricMetadata, STALE_NAN, Sample,
    Timestamp,
};

pub(super) const SCORE: &str = "cutover_anomaly_score";
pub(super) const ANOMALY: &str = "cutover_anomaly";
pub(super) const EXPECTED: &str = "cutover_anomaly_expected";
pub(super) const LOWER: &str = "cutover_anomaly_lower";
pub(super) const UPPER: &str = "cutover_anomaly_upper";

const WRITTEN: [(&str, &str); 5] = [
    (
        SCORE,
        "How unusual a watched series is; above 1 is anomalous.",
    ),
    (ANOMALY, "1 while an anomaly of the series is open, else 0."),
    (EXPECTED, "The value expected of a watched series."),
    (
        LOWER,
        "The lower end of what is normal for a watched series.",
    ),
    (
        UPPER,
        "The upper end of what is normal for a watched series.",
    ),
];

/// What the metrics mean, for `/api/v1/metadata`.
pub(super) fn metadata() -> impl Iterator<Item = (String, MetricMetadata)> {
    WRITTEN.into_iter().map(|(name, help)| {
        let metadata = MetricMetadata {
            kind: MetricKind::Gauge,
            help: help.to_owned(),
            unit: String::new(),
        };
        (name.to_owned(), metadata)
    })
}

/// The label sets of what is written about one series.
#[derive(Clone, Debug)]
pub(super) struct Written {
    score: Labels,
    anomaly: Labels,
    expected: Labels,
    lower: Labels,
    upper: Labels,
}

impl Written {
    pub(super) fn of(watch: &Watch, labels: &Labels) -> Self {
        let named = |metric: &str| {
            let mut builder = LabelsBuilder::default();
            for label in labels {
                // A label of ours that the series has too is kept beside it, as a scrape would.
                let name = match &*label.name {
                    "watch" => "exported_watch",
                    "severity" if metric == ANOMALY => "exported_severity",
                    name => name,
                };
                builder.set(name, label.value.clone());
            }
            builder
                .set(METRIC_NAME, metric)
                .set("watch", watch.name.as_str());
            if metric == ANOMALY {
                builder.set("severity", watch.severity.name());
            }
            builder.build()
        };
        Self {
            score: named(SCORE),
            anomaly: named(ANOMALY),
            expected: named(EXPECTED),
            lower: named(LOWER),
            upper: named(UPPER),
        }
    }

    /// The scores of one step; a side of the band without a limit, or a band that is not known yet, is
    /// left out.
    pub(super) fn push(&self, batch: &mut Batch, at: Timestamp, step: &Step, is_open: bool) {
        batch.push(self.score.clone(), Sample::new(at, step.score));
        let is_open = f64::from(u8::from(is_open));
        batch.push(self.anomaly.clone(), Sample::new(at, is_open));
        let Some(band) = step.band else { return };
        for (labels, value) in [
            (&self.expected, band.expected),
            (&self.lower, band.lower),
            (&self.upper, band.upper),
        ] {
            if value.is_finite() {
                batch.push(labels.clone(), Sample::new(at, value));
            }
        }
    }

    /// The end of all that is written: the series has left.
    pub(super) fn push_stale(self, batch: &mut Batch, at: Timestamp) {
        let all = [
            self.score,
            self.anomaly,
            self.expected,
            self.lower,
            self.upper,
        ];
        for labels in all {
            batch.push(labels, Sample::new(at, STALE_NAN));
        }
    }
}
