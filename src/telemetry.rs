//! Logs, and the appliance's metrics about itself.
//!
//! [`Metrics`] is one registry per process, handed to whoever counts; `/metrics` renders it, and the
//! appliance writes it into its own store, so that `cutover_*` can be queried like any other series.

pub mod health;
pub mod log;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::model::{Batch, Labels, METRIC_NAME, MetricKind, MetricMetadata, Sample, Timestamp};

/// The registry of own metrics. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A counter; its name ends in `_total`.
    ///
    /// # Panics
    /// When the name is taken or malformed: names are written in the source.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)
            .expect("metric names in the source are well formed");
        self.register(counter)
    }

    /// A gauge.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels)
            .expect("metric names in the source are well formed");
        self.register(gauge)
    }

    /// A counter of what is no whole number, such as seconds; its name ends in `_total`.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn float_counter(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let counter = CounterVec::new(Opts::new(name, help), labels)
            .expect("metric names in the source are well formed");
        self.register(counter)
    }

    /// A gauge of what is no whole number.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn float_gauge(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)
            .expect("metric names in the source are well formed");
        self.register(gauge)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry
            .register(Box::new(collector.clone()))
            .expect("metric names in the source are distinct");
        collector
    }

    /// The Prometheus text format, for `/metrics`.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what the registry accepted can be written")
    }

    /// Every own metric as samples at one time, for the store.
    pub fn batch(&self, at: Timestamp) -> Batch {
        let mut batch = Batch::default();
        for family in self.registry.gather() {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => MetricKind::Counter,
                MetricType::GAUGE => MetricKind::Gauge,
                _ => continue,
            };
            let help = family.help().to_owned();
            let metadata = MetricMetadata {
                kind,
                help,
                unit: String::new(),
            };
            batch.metadata.push((family.name().to_owned(), metadata));
            for metric in family.get_metric() {
                let value = match kind {
                    MetricKind::Counter => metric.get_counter().get_value(),
                    _ => metric.get_gauge().get_value(),
                };
                let pairs = metric
                    .get_label()
                    .iter()
                    .map(|pair| (pair.name(), pair.value()));
                let pairs = std::iter::once((METRIC_NAME, family.name())).chain(pairs);
                let labels =
                    Labels::try_from_pairs(pairs).expect("the registry keeps label names distinct");
                batch.push(labels, Sample::new(at, value));
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_rendered_and_written_alike() {
        let metrics = Metrics::default();
        let counter = metrics.counter("cutover_test_total", "What is counted.", &["kind"]);
        counter.with_label_values(&["a"]).inc_by(3);
        assert!(
            metrics
                .render()
                .contains("cutover_test_total{kind=\"a\"} 3")
        );
        let batch = metrics.batch(Timestamp::from_ms(5));
        assert_eq!(
            batch.samples[0].labels.to_string(),
            "cutover_test_total{kind=\"a\"}"
        );
        assert_eq!(
            batch.samples[0].samples,
            [Sample::new(Timestamp::from_ms(5), 3.0)]
        );
    }
}
