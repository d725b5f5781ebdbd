//! Two hours of made-up history, so that the detectors are warm and the charts full when the story
//! begins.
//!
//! Pure: it answers samples, and the counters that the live consumer has to continue from.

use std::time::Duration;

use super::deck::{Deck, Share};
use super::story::{COPY_RATE, Cast, STREAM_RATE};
use crate::cdc::Operation;
use crate::model::{Batch, Labels, Sample, SeriesSamples, Timestamp};

pub const SPAN: Duration = Duration::from_secs(2 * 3600);
const STEP: Duration = Duration::from_secs(15);
/// What `legacy` read in its snapshot, which was over before the history begins.
const LEGACY_READS: f64 = 48_000.0;

/// What went before the story.
#[derive(Debug, Default)]
pub struct History {
    pub batch: Batch,
    /// The absolute counts at the end, which the live ones continue.
    pub counters: Vec<Counter>,
}

#[derive(Clone, Debug)]
pub struct Counter {
    pub cast: Cast,
    pub topic: String,
    pub table: String,
    pub operation: Operation,
    pub total: u64,
}

/// Repeatable noise (splitmix64): the demo looks alike each time.
struct Noise(u64);

impl Noise {
    /// Evenly spread over 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The history that ends just before `now`.
pub fn before(now: Timestamp) -> History {
    let mut history = History::default();
    let mut noise = Noise(7);
    for cast in Cast::ALL {
        history.write(cast, &Deck::new(cast).shares(), now, &mut noise);
    }
    history
}

impl History {
    fn write(&mut self, cast: Cast, shares: &[Share], now: Timestamp, noise: &mut Noise) {
        let steps = (SPAN.as_millis() / STEP.as_millis()) as u32;
        // The last one is of just now: a gap before the story would be seen as one.
        let at = |step: u32| now.before(STEP * (steps - 1 - step) + Duration::from_secs(1));
        for share in shares {
            let rate = match (cast, share.snapshot) {
                (Cast::Shop, true) => COPY_RATE * share.part,
                (Cast::Legacy, false) => STREAM_RATE * share.part,
                // The streaming of one and the snapshot of the other are in another time.
                (Cast::Shop, false) | (Cast::Legacy, true) => 0.0,
            };
            let mut total = match (cast, share.snapshot) {
                (Cast::Legacy, true) => LEGACY_READS * share.part,
                _ => 0.0,
            };
            let mut samples = Vec::with_capacity(steps as usize);
            for step in 0..steps {
                total += rate * STEP.as_secs_f64() * (0.85 + 0.3 * noise.next());
                samples.push(Sample::new(at(step), total.floor()));
            }
            if total < 1.0 {
                continue;
            }
            let labels = [
                ("source", cast.source()),
                ("table", &share.table),
                ("operation", share.operation.name()),
            ];
            let labels = Labels::of("cdc_events_processed_total", &labels);
            self.batch.samples.push(SeriesSamples { labels, samples });
            self.counters.push(Counter {
                cast,
                topic: share.topic.clone(),
                table: share.table.clone(),
                operation: share.operation,
                total: total as u64,
            });
        }
        self.write_rows(cast, steps, &at);
        self.write_lags(cast, shares, steps, &at, noise);
    }

    /// The rows of each table: the sum of its operations, which were written just before.
    fn write_rows(&mut self, cast: Cast, steps: u32, at: &dyn Fn(u32) -> Timestamp) {
        let mut tables: Vec<&str> = self
            .counters
            .iter()
            .filter(|counter| counter.cast == cast)
            .map(|counter| counter.table.as_str())
            .collect();
        tables.sort_unstable();
        tables.dedup();
        let mut rows = Vec::new();
        for table in tables {
            let mut sums = vec![0.0; steps as usize];
            for series in &self.batch.samples {
                let labels = &series.labels;
                if labels.get("source") == Some(cast.source()) && labels.get("table") == Some(table)
                {
                    for (sum, sample) in sums.iter_mut().zip(&series.samples) {
                        *sum += sample.value;
                    }
                }
            }
            let labels = [("migration_id", cast.migration_id()), ("table_name", table)];
            let samples = (0..steps)
                .zip(sums)
                .map(|(step, sum)| Sample::new(at(step), sum));
            rows.push(SeriesSamples {
                labels: Labels::of("migration_rows_total", &labels),
                samples: samples.collect(),
            });
        }
        self.batch.samples.extend(rows);
    }

    fn write_lags(
        &mut self,
        cast: Cast,
        shares: &[Share],
        steps: u32,
        at: &dyn Fn(u32) -> Timestamp,
        noise: &mut Noise,
    ) {
        let mut worst = vec![0.0_f64; steps as usize];
        let mut seen: Vec<&str> = Vec::new();
        for share in shares {
            if seen.contains(&share.table.as_str()) {
                continue;
            }
            seen.push(&share.table);
            let mut samples = Vec::with_capacity(steps as usize);
            let mut backlog = Vec::with_capacity(steps as usize);
            for step in 0..steps {
                let lag = ((0.3 + 0.9 * noise.next()) * 1e3).round() / 1e3;
                worst[step as usize] = worst[step as usize].max(lag);
                samples.push(Sample::new(at(step), lag));
                backlog.push(Sample::new(at(step), (noise.next() * 4.0).floor()));
            }
            let labels = [
                ("source_table", &*share.table),
                ("target_table", &*share.table),
            ];
            let labels = Labels::of("cdc_replication_lag_seconds", &labels);
            self.batch.samples.push(SeriesSamples { labels, samples });
            let labels = [("topic", &*share.topic), ("partition", "0")];
            let labels = Labels::of("cdc_consumer_lag_messages", &labels);
            self.batch.samples.push(SeriesSamples {
                labels,
                samples: backlog,
            });
        }
        let labels = Labels::of(
            "migration_data_lag_seconds",
            &[("migration_id", cast.migration_id())],
        );
        let samples = (0..steps)
            .zip(worst)
            .map(|(step, lag)| Sample::new(at(step), lag));
        self.batch.samples.push(SeriesSamples {
            labels,
            samples: samples.collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn counters_continue_where_the_history_ends() {
        let history = before(NOW);
        for counter in &history.counters {
            let series = history.batch.samples.iter().find(|series| {
                series.labels.get("source") == Some(counter.cast.source())
                    && series.labels.get("table") == Some(&counter.table)
                    && series.labels.get("operation") == Some(counter.operation.name())
            });
            let last = series.unwrap().samples.last().unwrap();
            assert_eq!(last.value, counter.total as f64);
            assert!(last.timestamp < NOW);
        }
        assert!(
            history
                .counters
                .iter()
                .any(|counter| counter.operation == Operation::Read)
        );
    }

    #[test]
    fn no_series_is_written_twice() {
        let history = before(NOW);
        let mut labels: Vec<_> = history
            .batch
            .samples
            .iter()
            .map(|series| &series.labels)
            .collect();
        let count = labels.len();
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), count);
    }
}
