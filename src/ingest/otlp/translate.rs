//! A request as samples of Prometheus' series. Pure: what was sent before is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Config;
use super::attribute::{self, LabelMap, text};
use super::message::{
    HistogramPoint, KeyValue, Metric, NumberPoint, Request, ResourceMetrics, ScopeMetrics,
    SummaryPoint,
};
use super::name::{self, Kind};
use crate::model::{METRIC_NAME, MetricKind, MetricMetadata, STALE_NAN, Timestamp};

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE];
const TARGET_INFO: &str = "target_info";

/// Half the lookback of queries: so far apart `target_info` is written while a resource sends.
const INFO_INTERVAL: Duration = Duration::from_secs(150);
/// Samples of `target_info` of one resource in one request.
const INFO_MAX: i64 = 1000;

/// The flag of a point that says that there is no value any more.
const NO_RECORDED_VALUE: u32 = 1;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// A sample and the labels of its series, most of which it shares with others.
#[derive(Clone, Debug)]
pub(super) struct Point {
    metric: Arc<str>,
    labels: Arc<LabelMap>,
    /// `le` or `quantile`.
    extra: Option<(&'static str, String)>,
    pub(super) at: Timestamp,
    /// A stale marker where the point says that there is no value.
    pub(super) value: f64,
    /// When a value that is to be added to those before began to be; such are not cumulative.
    pub(super) delta_since: Option<Timestamp>,
    /// The number of its data point in the request.
    pub(super) number: u64,
}

impl Point {
    /// Shows the labels, sorted by name.
    pub(super) fn with_labels<T>(&self, look: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let mut pairs = Vec::with_capacity(self.labels.len() + 2);
        let extra = self.extra.as_ref();
        let own = [
            Some((METRIC_NAME, &*self.metric)),
            extra.map(|(name, value)| (*name, value.as_str())),
        ];
        let is_own = |name: &str| own.iter().flatten().any(|(own, _)| *own == name);
        pairs.extend(
            self.labels
                .iter()
                .filter(|(name, value)| !value.is_empty() && !is_own(name))
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        pairs.extend(own.into_iter().flatten());
        pairs.sort_unstable();
        look(&pairs)
    }
}

/// What a request came to.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) points: Vec<Point>,
    pub(super) metadata: BTreeMap<String, MetricMetadata>,
    /// Data points in all, and those that cannot be series.
    pub(super) data_points: u64,
    pub(super) rejected: u64,
    /// Why the first of them cannot.
    pub(super) reason: Option<String>,
}

impl Translated {
    pub(super) fn reject(&mut self, data_points: u64, reason: impl FnOnce() -> String) {
        self.rejected += data_points;
        if data_points > 0 {
            self.reason.get_or_insert_with(reason);
        }
    }

    pub(super) fn has_deltas(&self) -> bool {
        self.points.iter().any(|point| point.delta_since.is_some())
    }
}

pub(super) fn translate(request: &Request, config: &Config) -> Translated {
    let mut translated = Translated::default();
    for resource in &request.resource_metrics {
        translate_resource(resource, config, &mut translated);
    }
    translated
}

/// What the points of one resource and scope have in common.
struct Common<'a> {
    /// Added where a point has no attribute that becomes the same label.
    promoted: &'a LabelMap,
    /// Those that count more than what a point says.
    fixed: LabelMap,
}

fn translate_resource(resource: &ResourceMetrics, config: &Config, translated: &mut Translated) {
    let no_attributes = Vec::new();
    let attributes = resource
        .resource
        .as_ref()
        .map_or(&no_attributes, |resource| &resource.attributes);
    let target = target(attributes);
    let promoted = attributes
        .iter()
        .filter(|attribute| config.promote_resource_attributes.contains(&attribute.key));
    // Names that cannot be labels are not promoted.
    let promoted = attribute::labels(promoted.filter(|attribute| is_label(attribute)));
    let promoted = promoted.unwrap_or_default();
    let first = translated.points.len();
    for scope in &resource.scope_metrics {
        let mut fixed = scope_labels(scope, config);
        fixed.extend(target.clone());
        let common = Common {
            promoted: &promoted,
            fixed,
        };
        for metric in &scope.metrics {
            translate_metric(metric, &common, translated);
        }
    }
    let (_, points) = translated.points.split_at(first);
    let times = points.iter().map(|point| point.at);
    if let (Some(earliest), Some(latest)) = (times.clone().min(), times.max()) {
        describe_target(attributes, target, config, earliest, latest, translated);
    }
}

fn is_label(attribute: &KeyValue) -> bool {
    name::label(&attribute.key).is_some()
}

/// `job` and `instance`, as far as a resource says who it is.
fn target(attributes: &[KeyValue]) -> LabelMap {
    let value = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute.key == name);
        found.map(|attribute| text(attribute.value.as_ref()))
    };
    let mut labels = LabelMap::new();
    if let Some(service) = value(SERVICE_NAME) {
        let job = match value(SERVICE_NAMESPACE) {
            Some(namespace) => format!("{namespace}/{service}"),
            None => service,
        };
        labels.insert("job".to_owned(), job);
    }
    if let Some(instance) = value(SERVICE_INSTANCE) {
        labels.insert("instance".to_owned(), instance);
    }
    labels
}

fn scope_labels(scope_metrics: &ScopeMetrics, config: &Config) -> LabelMap {
    let Some(scope) = &scope_metrics.scope else {
        return LabelMap::new();
    };
    if !config.promote_scope_metadata || scope.name.is_empty() {
        return LabelMap::new();
    }
    let of_scope = scope.attributes.iter().filter_map(|attribute| {
        let name = name::label(&format!("otel_scope_{}", attribute.key))?;
        Some((name, text(attribute.value.as_ref())))
    });
    let named = [
        ("otel_scope_name", &scope.name),
        ("otel_scope_version", &scope.version),
        ("otel_scope_schema_url", &scope_metrics.schema_url),
    ];
    let named = named.map(|(name, value)| (name.to_owned(), value.clone()));
    of_scope.chain(named).collect()
}

/// Writes what else is known of a resource while it sends.
fn describe_target(
    attributes: &[KeyValue],
    target: LabelMap,
    config: &Config,
    earliest: Timestamp,
    latest: Timestamp,
    translated: &mut Translated,
) {
    let is_identifying = |attribute: &&KeyValue| IDENTIFYING.contains(&attribute.key.as_str());
    let says_more = attributes
        .iter()
        .any(|attribute| !is_identifying(&attribute));
    if target.is_empty() || !says_more {
        return;
    }
    let told = attributes.iter().filter(|attribute| {
        config.keep_identifying_resource_attributes || !is_identifying(attribute)
    });
    let labels = attribute::labels(told.filter(|attribute| is_label(attribute)));
    let mut labels = labels.unwrap_or_default();
    labels.extend(target);
    let (metric, labels) = (Arc::from(TARGET_INFO), Arc::new(labels));
    let interval_ms = INFO_INTERVAL.as_millis() as i64;
    let earliest = earliest.max(latest.offset_ms(-interval_ms * INFO_MAX));
    let steps = latest.ms_since(earliest) / interval_ms;
    let grid = (0..=steps).map(|step| earliest.offset_ms(step * interval_ms));
    let mut times: Vec<_> = grid.chain([latest]).collect();
    times.dedup();
    for at in times {
        translated.points.push(Point {
            metric: Arc::clone(&metric),
            labels: Arc::clone(&labels),
            extra: None,
            at,
            value: 1.0,
            delta_since: None,
            number: translated.data_points,
        });
    }
    let metadata = MetricMetadata {
        kind: MetricKind::Gauge,
        help: "Target metadata".to_owned(),
        unit: String::new(),
    };
    translated.metadata.insert(TARGET_INFO.to_owned(), metadata);
}

/// How the values of a metric come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temporality {
    Cumulative,
    Delta,
}

fn translate_metric(metric: &Metric, common: &Common<'_>, translated: &mut Translated) {
    if let Some(histogram) = &metric.exponential_histogram {
        let count = histogram.data_points.len() as u64;
        translated.data_points += count;
        translated.reject(count, || {
            let name = &metric.name;
            format!("metric {name:?}: exponential histograms are not stored: use explicit buckets")
        });
    }
    let points = |kind, name_kind, temporality| Points {
        metric,
        kind,
        name_kind,
        temporality,
        common,
    };
    let cumulative = Ok(Temporality::Cumulative);
    if let Some(gauge) = &metric.gauge {
        let points = points(MetricKind::Gauge, Kind::Gauge, cumulative.clone());
        points.translate(&gauge.data_points, translated);
    }
    if let Some(sum) = &metric.sum {
        let (kind, name_kind) = if sum.is_monotonic {
            (MetricKind::Counter, Kind::Counter)
        } else {
            (MetricKind::Gauge, Kind::Other)
        };
        let points = points(kind, name_kind, temporality(sum.aggregation_temporality));
        points.translate(&sum.data_points, translated);
    }
    if let Some(histogram) = &metric.histogram {
        let temporality = temporality(histogram.aggregation_temporality);
        let points = points(MetricKind::Histogram, Kind::Other, temporality);
        points.translate(&histogram.data_points, translated);
    }
    if let Some(summary) = &metric.summary {
        let points = points(MetricKind::Summary, Kind::Other, cumulative);
        points.translate(&summary.data_points, translated);
    }
}

fn temporality(number: i32) -> Result<Temporality, String> {
    match number {
        DELTA => Ok(Temporality::Delta),
        CUMULATIVE => Ok(Temporality::Cumulative),
        other => Err(format!("{other} is not an aggregation temporality")),
    }
}

/// The data points of one metric, of one kind.
struct Points<'a> {
    metric: &'a Metric,
    kind: MetricKind,
    name_kind: Kind,
    temporality: Result<Temporality, String>,
    common: &'a Common<'a>,
}

/// What data points of all kinds have.
struct Head<'a> {
    attributes: &'a [KeyValue],
    time_unix_nano: u64,
    start_time_unix_nano: u64,
    flags: u32,
}

/// A data point of any kind.
trait DataPoint {
    fn head(&self) -> Head<'_>;

    /// Gives each of its samples away: what follows the metric's name, a further label, the value.
    fn samples(
        &self,
        give: &mut dyn FnMut(&'static str, Option<(&'static str, String)>, f64),
    ) -> Result<(), String>;
}

impl Points<'_> {
    fn translate<P: DataPoint>(&self, points: &[P], translated: &mut Translated) {
        let count = points.len() as u64;
        if count == 0 {
            return;
        }
        let metric = self.metric;
        let named = self.temporality.clone().and_then(|temporality| {
            let name = name::metric(&metric.name, &metric.unit, self.name_kind);
            let name = name.ok_or("its name holds nothing that a name may hold")?;
            Ok((name, temporality))
        });
        let (name, temporality) = match named {
            Ok(named) => named,
            Err(reason) => {
                translated.data_points += count;
                translated.reject(count, || format!("metric {:?}: {reason}", metric.name));
                return;
            }
        };
        let metadata = MetricMetadata {
            kind: self.kind,
            help: metric.description.clone(),
            unit: name::unit(&metric.unit),
        };
        translated.metadata.insert(name.clone(), metadata);
        // The names of its series, each made once.
        let mut names: BTreeMap<&'static str, Arc<str>> = BTreeMap::new();
        for point in points {
            let result = self.translate_point(point, temporality, &name, &mut names, translated);
            if let Err(reason) = result {
                translated.reject(1, || format!("metric {:?}: {reason}", metric.name));
            }
            translated.data_points += 1;
        }
    }

    fn translate_point(
        &self,
        point: &impl DataPoint,
        temporality: Temporality,
        name: &str,
        names: &mut BTreeMap<&'static str, Arc<str>>,
        translated: &mut Translated,
    ) -> Result<(), String> {
        let head = point.head();
        let labels = attribute::labels(head.attributes.iter());
        let mut labels = labels.map_err(|error| error.to_string())?;
        for (name, value) in self.common.promoted {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        labels.extend(self.common.fixed.clone());
        let labels = Arc::new(labels);
        let at = time(head.time_unix_nano);
        let start = time(head.start_time_unix_nano);
        let delta_since = (temporality == Temporality::Delta).then_some(start);
        let is_stale = head.flags & NO_RECORDED_VALUE != 0;
        let number = translated.data_points;
        let kept = translated.points.len();
        let samples = &mut translated.points;
        let result = point.samples(&mut |suffix, extra, value| {
            let metric = names
                .entry(suffix)
                .or_insert_with(|| format!("{name}{suffix}").into());
            samples.push(Point {
                metric: metric.clone(),
                labels: labels.clone(),
                extra,
                at,
                value: if is_stale { STALE_NAN } else { value },
                delta_since,
                number,
            });
        });
        if result.is_err() {
            translated.points.truncate(kept);
        }
        result
    }
}

fn time(unix_nano: u64) -> Timestamp {
    Timestamp::from_ms((unix_nano / 1_000_000) as i64)
}

impl DataPoint for NumberPoint {
    fn head(&self) -> Head<'_> {
        Head {
            attributes: &self.attributes,
            time_unix_nano: self.time_unix_nano,
            start_time_unix_nano: self.start_time_unix_nano,
            flags: self.flags,
        }
    }

    fn samples(
        &self,
        give: &mut dyn FnMut(&'static str, Option<(&'static str, String)>, f64),
    ) -> Result<(), String> {
        let int = self.as_int.map(|value| value as f64);
        let is_stale = self.flags & NO_RECORDED_VALUE != 0;
        let value = self.as_double.or(int).or(is_stale.then_some(STALE_NAN));
        give("", None, value.ok_or("a data point has no value")?);
        Ok(())
    }
}

impl DataPoint for HistogramPoint {
    fn head(&self) -> Head<'_> {
        Head {
            attributes: &self.attributes,
            time_unix_nano: self.time_unix_nano,
            start_time_unix_nano: self.start_time_unix_nano,
            flags: self.flags,
        }
    }

    fn samples(
        &self,
        give: &mut dyn FnMut(&'static str, Option<(&'static str, String)>, f64),
    ) -> Result<(), String> {
        let (counts, bounds) = (self.bucket_counts.len(), self.explicit_bounds.len());
        // Without buckets there is but the count.
        if counts != 0 && counts != bounds + 1 {
            return Err(format!(
                "a histogram has {counts} buckets and {bounds} bounds between them"
            ));
        }
        if let Some(sum) = self.sum {
            give("_sum", None, sum);
        }
        give("_count", None, self.count as f64);
        let mut below = 0_u64;
        for (bound, count) in self.explicit_bounds.iter().zip(&self.bucket_counts) {
            below = below.saturating_add(*count);
            give("_bucket", Some(("le", bound.to_string())), below as f64);
        }
        let all = Some(("le", "+Inf".to_owned()));
        give("_bucket", all, self.count as f64);
        Ok(())
    }
}

impl DataPoint for SummaryPoint {
    fn head(&self) -> Head<'_> {
        Head {
            attributes: &self.attributes,
            time_unix_nano: self.time_unix_nano,
            start_time_unix_nano: 0,
            flags: self.flags,
        }
    }

    fn samples(
        &self,
        give: &mut dyn FnMut(&'static str, Option<(&'static str, String)>, f64),
    ) -> Result<(), String> {
        give("_sum", None, self.sum);
        give("_count", None, self.count as f64);
        for at in &self.quantile_values {
            give("", Some(("quantile", at.quantile.to_string())), at.value);
        }
        Ok(())
    }
}
