//! Stored samples as OpenMetrics text, in pieces of a bounded size.
//!
//! Family by family, series by series, with exact values and times. Stale markers are left out: the
//! format has none. A family's type and help come before it where they are known; a counter whose name
//! does not end in `_total` has no type there, since the format would not allow it.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::model::{Column, Labels, METRIC_NAME, Matcher, MetricKind, MetricMetadata, TimeRange};
use crate::model::{Timestamp, sample};
use crate::store::{self, Reader, Selection, Walk};

/// Names that a metric of a family may have beside the family's own, by the family's kind.
const SUFFIXES: [(&str, MetricKind); 7] = [
    ("_total", MetricKind::Counter),
    ("_bucket", MetricKind::Histogram),
    ("_count", MetricKind::Histogram),
    ("_sum", MetricKind::Histogram),
    ("_count", MetricKind::Summary),
    ("_sum", MetricKind::Summary),
    ("_created", MetricKind::Counter),
];

/// Writes what selectors select.
#[derive(Debug)]
pub struct Export {
    selection: Selection,
    range: TimeRange,
    /// What is still to be written, the next one last.
    families: Vec<Family>,
    current: Option<Family>,
    walk: Option<Walk>,
    samples: u64,
    has_ended: bool,
}

/// Metrics that belong together.
#[derive(Debug, Default)]
struct Family {
    name: String,
    metadata: Option<MetricMetadata>,
    /// The next one last.
    metrics: Vec<String>,
    /// Whether what describes it was written.
    is_described: bool,
}

impl Export {
    /// Selects the series that pass all matchers of any of the selectors.
    pub fn new(
        reader: &Reader,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Self, store::Error> {
        let metadata: BTreeMap<_, _> = reader.snapshot()?.metadata()?.into_iter().collect();
        let selection = reader.selection(selectors)?;
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        for metric in selection.metrics() {
            let (name, metadata) = family_of(metric, &metadata);
            let family = families.entry(name.clone()).or_insert_with(|| Family {
                name,
                metadata,
                ..Family::default()
            });
            family.metrics.push(metric.to_owned());
        }
        let mut families: Vec<Family> = families.into_values().rev().collect();
        for family in &mut families {
            family.metrics.reverse();
        }
        Ok(Self {
            selection,
            range,
            families,
            current: None,
            walk: None,
            samples: 0,
            has_ended: false,
        })
    }

    /// Samples written so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Appends the next piece; false when the text is complete.
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, store::Error> {
        if self.has_ended {
            return Ok(false);
        }
        if let Some(walk) = &mut self.walk {
            match walk.next()? {
                Some(columns) => self.write_columns(&columns, out),
                None => self.walk = None,
            }
            return Ok(true);
        }
        let next = self
            .current
            .as_mut()
            .and_then(|family| family.metrics.pop());
        if let Some(metric) = next {
            self.walk = Some(self.selection.walk(&metric, self.range));
            return Ok(true);
        }
        self.current = self.families.pop();
        if self.current.is_none() {
            out.extend_from_slice(b"# EOF\n");
            self.has_ended = true;
        }
        Ok(!self.has_ended)
    }

    fn write_columns(&mut self, columns: &[Column], out: &mut Vec<u8>) {
        let mut series = Vec::new();
        for column in columns {
            series.clear();
            for (at, &value) in column.timestamps.iter().zip(&column.values) {
                if sample::is_stale(value) {
                    continue;
                }
                if let Some(family) = self.current.as_mut().filter(|family| !family.is_described) {
                    family.describe(out);
                    family.is_described = true;
                }
                if series.is_empty() {
                    put_series(&mut series, &column.labels);
                }
                out.extend_from_slice(&series);
                put_value(out, value);
                put_timestamp(out, *at);
                self.samples += 1;
            }
        }
    }
}

impl Family {
    fn describe(&self, out: &mut Vec<u8>) {
        let Some(metadata) = &self.metadata else {
            return;
        };
        let mut name = Vec::new();
        put_name(&mut name, &self.name, is_metric_name);
        let mut line = |word: &str, text: &str| {
            out.extend_from_slice(b"# ");
            out.extend_from_slice(word.as_bytes());
            out.push(b' ');
            out.extend_from_slice(&name);
            out.push(b' ');
            put_escaped(out, text);
            out.push(b'\n');
        };
        line("TYPE", kind_name(metadata.kind));
        if !metadata.unit.is_empty() && self.name.ends_with(&format!("_{}", metadata.unit)) {
            line("UNIT", &metadata.unit);
        }
        if !metadata.help.is_empty() {
            line("HELP", &metadata.help);
        }
    }
}

/// The family that a metric belongs to, and what describes it.
fn family_of(
    metric: &str,
    known: &BTreeMap<String, MetricMetadata>,
) -> (String, Option<MetricMetadata>) {
    for (suffix, kind) in SUFFIXES {
        let Some(base) = metric.strip_suffix(suffix).filter(|base| !base.is_empty()) else {
            continue;
        };
        let own = known.get(base);
        if let Some(metadata) = own.filter(|metadata| metadata.kind == kind) {
            return (base.to_owned(), Some(metadata.clone()));
        }
        // A counter is known by its whole name, unless something else has the family's.
        let whole = known.get(metric).filter(|metadata| metadata.kind == kind);
        if let Some(metadata) = whole.filter(|_| suffix == "_total" && own.is_none()) {
            return (base.to_owned(), Some(metadata.clone()));
        }
    }
    let metadata = known.get(metric).cloned().map(|mut metadata| {
        if metadata.kind == MetricKind::Counter {
            metadata.kind = MetricKind::Unknown;
        }
        metadata
    });
    (metric.to_owned(), metadata)
}

fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Summary => "summary",
        MetricKind::Unknown => "unknown",
    }
}

/// The series with a blank after it; names that the format has no letters for are quoted.
fn put_series(out: &mut Vec<u8>, labels: &Labels) {
    let metric = labels.metric();
    let is_plain = is_metric_name(metric);
    if is_plain {
        out.extend_from_slice(metric.as_bytes());
    }
    let mut separator: &[u8] = b"{";
    if !is_plain && !metric.is_empty() {
        out.push(b'{');
        put_quoted(out, metric);
        separator = b",";
    }
    for label in labels.iter().filter(|label| *label.name != *METRIC_NAME) {
        out.extend_from_slice(separator);
        separator = b",";
        put_name(out, &label.name, is_label_name);
        out.push(b'=');
        put_quoted(out, &label.value);
    }
    if separator == b"," {
        out.push(b'}');
    }
    out.push(b' ');
}

fn put_name(out: &mut Vec<u8>, name: &str, is_plain: impl Fn(&str) -> bool) {
    if is_plain(name) {
        out.extend_from_slice(name.as_bytes());
    } else {
        put_quoted(out, name);
    }
}

pub(super) fn put_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    put_escaped(out, text);
    out.push(b'"');
}

pub(super) fn put_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

pub(super) fn is_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

pub(super) fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':')
}

/// The shortest text that reads as the same float.
pub(super) fn put_value(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    let written = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if magnitude == 0.0 || (1e-5..1e17).contains(&magnitude) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.expect("a vector takes all that is written");
}

/// A blank, the seconds and the end of the line.
fn put_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    let ms = at.ms().unsigned_abs();
    let sign = if at.ms() < 0 { "-" } else { "" };
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let written = if rest == 0 {
        writeln!(out, " {sign}{seconds}")
    } else {
        writeln!(out, " {sign}{seconds}.{rest:03}")
    };
    written.expect("a vector takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: MetricKind) -> MetricMetadata {
        MetricMetadata {
            kind,
            help: String::new(),
            unit: String::new(),
        }
    }

    #[test]
    fn metrics_belong_to_the_family_that_describes_them() {
        let known: BTreeMap<String, MetricMetadata> = [
            ("requests_total", MetricKind::Counter),
            ("rows", MetricKind::Counter),
            ("latency", MetricKind::Histogram),
            ("depth", MetricKind::Gauge),
            ("depth_total", MetricKind::Counter),
        ]
        .into_iter()
        .map(|(name, kind)| (name.to_owned(), metadata(kind)))
        .collect();
        let of = |metric| {
            let (family, metadata) = family_of(metric, &known);
            (family, metadata.map(|metadata| kind_name(metadata.kind)))
        };
        let is = |family: &str, kind| (family.to_owned(), kind);
        assert_eq!(of("requests_total"), is("requests", Some("counter")));
        assert_eq!(of("rows_total"), is("rows", Some("counter")));
        assert_eq!(of("rows"), is("rows", Some("unknown")));
        assert_eq!(of("latency_bucket"), is("latency", Some("histogram")));
        assert_eq!(of("latency_sum"), is("latency", Some("histogram")));
        assert_eq!(of("depth"), is("depth", Some("gauge")));
        // "depth" is a gauge's: the counter keeps its name and is of no type.
        assert_eq!(of("depth_total"), is("depth_total", Some("unknown")));
        assert_eq!(of("else_count"), is("else_count", None));
    }

    #[test]
    fn series_are_written_as_they_can_be_read() {
        let written = |labels: &Labels| {
            let mut out = Vec::new();
            put_series(&mut out, labels);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&Labels::of("up", &[])), "up ");
        assert_eq!(
            written(&Labels::of("up", &[("a", "x\"\\\n"), ("b.c", "y")])),
            "up{a=\"x\\\"\\\\\\n\",\"b.c\"=\"y\"} "
        );
        assert_eq!(
            written(&Labels::of("a.b", &[("c", "d")])),
            "{\"a.b\",c=\"d\"} "
        );
        assert_eq!(written(&Labels::of("a.b", &[])), "{\"a.b\"} ");
    }

    #[test]
    fn numbers_are_exact() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            put_value(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        for (ms, text) in [(1500, " 1.500\n"), (-7, " -0.007\n"), (2000, " 2\n")] {
            let mut out = Vec::new();
            put_timestamp(&mut out, Timestamp::from_ms(ms));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
