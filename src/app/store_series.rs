//! The store's state as own metrics.

use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGaugeVec};

use crate::ingest::counters::reason_name;
use crate::store::{Done, Stats};
use crate::telemetry::Metrics;

/// What is set each time the own metrics are written.
#[derive(Debug)]
pub(super) struct StoreSeries {
    series: IntGaugeVec,
    samples: IntGaugeVec,
    file_bytes: IntGaugeVec,
    live_bytes: IntGaugeVec,
    head_bytes: IntGaugeVec,
    dead_ratio: GaugeVec,
    commits: Work,
    seals: Work,
    merges: Work,
    rewrites: IntCounterVec,
    conflicts: IntCounterVec,
    rejected: IntCounterVec,
    failures: IntCounterVec,
}

/// Something that is done and takes time.
#[derive(Debug)]
struct Work {
    count: IntCounterVec,
    seconds: CounterVec,
}

impl Work {
    fn set(&self, done: Done) {
        raise(&self.count, &[], done.count);
        let seconds = self.seconds.with_label_values(&[] as &[&str]);
        // It is only ever set here, and the totals never fall.
        seconds.inc_by((done.time.as_secs_f64() - seconds.get()).max(0.0));
    }
}

/// Brings a counter up to a total that somebody else keeps.
fn raise(counter: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = counter.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

impl StoreSeries {
    /// # Panics
    /// When it is made twice with one registry.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let work = |count, count_help, seconds, seconds_help| Work {
            count: metrics.counter(count, count_help, &[]),
            seconds: metrics.float_counter(seconds, seconds_help, &[]),
        };
        Self {
            series: metrics.gauge(
                "cutover_store_series",
                "Series that are defined in the store.",
                &[],
            ),
            samples: metrics.gauge(
                "cutover_store_samples",
                "Samples in the store: in memory (head) and in blocks (sealed).",
                &["place"],
            ),
            file_bytes: metrics.gauge(
                "cutover_store_file_bytes",
                "What the store's files take on the disk.",
                &["file"],
            ),
            live_bytes: metrics.gauge(
                "cutover_store_live_bytes",
                "What of the data file is in use.",
                &[],
            ),
            head_bytes: metrics.gauge(
                "cutover_store_head_bytes",
                "Memory of the samples that are not in blocks yet.",
                &[],
            ),
            dead_ratio: metrics.float_gauge(
                "cutover_store_dead_ratio",
                "The part of the data file that is not in use.",
                &[],
            ),
            commits: work(
                "cutover_store_commits_total",
                "Commits of the write-ahead file.",
                "cutover_store_commit_seconds_total",
                "Time that they took.",
            ),
            seals: work(
                "cutover_store_seals_total",
                "Times that samples were sealed into blocks.",
                "cutover_store_seal_seconds_total",
                "Time that it took.",
            ),
            merges: work(
                "cutover_store_merges_total",
                "Slices of blocks that were merged.",
                "cutover_store_merge_seconds_total",
                "Time that it took.",
            ),
            rewrites: metrics.counter(
                "cutover_store_rewrites_total",
                "Times that the data file was written anew.",
                &[],
            ),
            conflicts: metrics.counter(
                "cutover_store_conflicts_total",
                "Samples refused, or left out at a merge, because another value is stored for their timestamp.",
                &[],
            ),
            rejected: metrics.counter(
                "cutover_store_rejected_samples_total",
                "Samples that the store refused, by reason.",
                &["reason"],
            ),
            failures: metrics.counter(
                "cutover_store_failures_total",
                "Commits and background jobs of the store that went wrong.",
                &[],
            ),
        }
    }

    pub(super) fn set(&self, stats: &Stats) {
        let gauge = |gauge: &IntGaugeVec, labels: &[&str], value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(labels).set(value);
        };
        gauge(&self.series, &[], stats.series);
        gauge(&self.samples, &["head"], stats.head_samples);
        gauge(&self.samples, &["sealed"], stats.sealed_samples);
        gauge(&self.file_bytes, &["wal"], stats.wal_bytes);
        gauge(&self.file_bytes, &["data"], stats.data_bytes);
        gauge(&self.live_bytes, &[], stats.live_bytes);
        gauge(&self.head_bytes, &[], stats.head_bytes);
        let dead_ratio = self.dead_ratio.with_label_values(&[] as &[&str]);
        dead_ratio.set(stats.dead_ratio());
        let counts = &stats.counts;
        self.commits.set(counts.commits);
        self.seals.set(counts.seals);
        self.merges.set(counts.merges);
        raise(&self.rewrites, &[], counts.rewrites.count);
        raise(&self.conflicts, &[], counts.conflicts());
        raise(&self.failures, &[], counts.failures);
        for (reason, count) in &counts.rejected {
            raise(&self.rejected, &[reason_name(*reason)], *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Counts;

    #[test]
    fn totals_are_shown_as_they_are_however_often_they_are_set() {
        let metrics = Metrics::default();
        let series = StoreSeries::new(&metrics);
        let mut stats = Stats {
            head_samples: 7,
            data_bytes: 100,
            live_bytes: 75,
            counts: Counts {
                seals: Done {
                    count: 3,
                    time: Duration::from_millis(1500),
                },
                ..Counts::default()
            },
            ..Stats::default()
        };
        series.set(&stats);
        series.set(&stats);
        stats.counts.failures = 2;
        series.set(&stats);
        let text = metrics.render();
        for line in [
            "cutover_store_samples{place=\"head\"} 7",
            "cutover_store_dead_ratio 0.25",
            "cutover_store_seals_total 3",
            "cutover_store_seal_seconds_total 1.5",
            "cutover_store_failures_total 2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }
}
