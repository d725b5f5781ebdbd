//! `GET /federate`: the newest samples of selected series, for another Prometheus to scrape.
//!
//! Metric by metric in the text format, with timestamps; series whose newest sample is older than the
//! lookback or a stale marker are left out. What is no counter or gauge for sure is untyped. Names that the
//! format has no letters for are quoted where the client asks for that, and else written with underscores.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;

use crate::model::{Column, Labels, METRIC_NAME, MetricKind, MetricMetadata, TimeRange, is_stale};
use crate::store::{self, Selection, Walk};

use super::error::ApiError;
use super::export::{is_label_name, is_metric_name, put_escaped, put_quoted, put_value};
use super::params::Params;
use super::router::Api;
use super::selection::Selection as Selected;
use super::stream::{self, Source};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_UTF_8: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

pub(super) async fn federate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let selectors = Selected::of(&params)?.selectors;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let (names, content_type) = match accept {
        Some(accept) if accept.contains("escaping=allow-utf-8") => (Names::Quoted, TEXT_UTF_8),
        _ => (Names::Escaped, TEXT),
    };
    let now = api.state.clock.now();
    // The lookback is open at its beginning.
    let oldest = now.before(api.state.engine.lookback()).offset_ms(1);
    let range = TimeRange::new(oldest.min(now), now).expect("the oldest is not after now");
    let reader = api.state.reader.clone();
    stream::respond(&api, content_type, move || {
        let metadata = reader.snapshot()?.metadata()?.into_iter().collect();
        let selection = reader.selection(&selectors)?;
        let mut metrics: Vec<String> = selection.metrics().map(str::to_owned).collect();
        metrics.reverse();
        Ok(Federation {
            selection,
            range,
            metadata,
            metrics,
            names,
            walk: None,
            last: None,
            is_typed: false,
        })
    })
    .await
}

/// How names are written that are more than letters, digits and underscores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Quoted,
    Escaped,
}

struct Federation {
    selection: Selection,
    range: TimeRange,
    metadata: BTreeMap<String, MetricMetadata>,
    /// What is still to be written, the next one last.
    metrics: Vec<String>,
    names: Names,
    walk: Option<Walk>,
    /// The last column of a series that may go on.
    last: Option<Column>,
    /// Whether the metric's type was written.
    is_typed: bool,
}

impl Source for Federation {
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, store::Error> {
        let Some(walk) = &mut self.walk else {
            let Some(metric) = self.metrics.pop() else {
                return Ok(false);
            };
            self.walk = Some(self.selection.walk(&metric, self.range));
            self.is_typed = false;
            return Ok(true);
        };
        let Some(columns) = walk.next()? else {
            self.walk = None;
            self.write_last(out);
            return Ok(true);
        };
        for column in columns {
            let goes_on = self
                .last
                .as_ref()
                .is_some_and(|last| last.labels == column.labels);
            if !goes_on {
                self.write_last(out);
            }
            self.last = Some(column);
        }
        Ok(true)
    }
}

impl Federation {
    /// The newest sample of the series that has ended.
    fn write_last(&mut self, out: &mut Vec<u8>) {
        let Some(column) = self.last.take() else {
            return;
        };
        let Some((at, value)) = column.timestamps.last().zip(column.values.last()) else {
            return;
        };
        if is_stale(*value) {
            return;
        }
        if !self.is_typed {
            self.is_typed = true;
            let kind = self
                .metadata
                .get(column.labels.metric())
                .map(|known| known.kind);
            put_type(out, column.labels.metric(), kind, self.names);
        }
        put_series(out, &column.labels, self.names);
        put_value(out, *value);
        writeln!(out, " {}", at.ms()).expect("a vector takes all that is written");
    }
}

fn put_type(out: &mut Vec<u8>, metric: &str, kind: Option<MetricKind>, names: Names) {
    if metric.is_empty() {
        return;
    }
    let kind: &[u8] = match kind {
        Some(MetricKind::Counter) => b"counter",
        Some(MetricKind::Gauge) => b"gauge",
        // Parts of a histogram are families of their own here.
        Some(MetricKind::Histogram | MetricKind::Summary | MetricKind::Unknown) | None => {
            b"untyped"
        }
    };
    out.extend_from_slice(b"# TYPE ");
    put_name(out, metric, is_metric_name, names);
    out.push(b' ');
    out.extend_from_slice(kind);
    out.push(b'\n');
}

fn put_series(out: &mut Vec<u8>, labels: &Labels, names: Names) {
    let metric = labels.metric();
    let within = names == Names::Quoted && !metric.is_empty() && !is_metric_name(metric);
    if !within && !metric.is_empty() {
        put_name(out, metric, is_metric_name, names);
    }
    let mut separator = b'{';
    if within {
        out.push(b'{');
        put_quoted(out, metric);
        separator = b',';
    }
    for label in labels.iter().filter(|label| *label.name != *METRIC_NAME) {
        out.push(separator);
        separator = b',';
        put_name(out, &label.name, is_label_name, names);
        out.push(b'=');
        out.push(b'"');
        put_escaped(out, &label.value);
        out.push(b'"');
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
}

fn put_name(out: &mut Vec<u8>, name: &str, is_plain: impl Fn(&str) -> bool, names: Names) {
    match names {
        _ if is_plain(name) => out.extend_from_slice(name.as_bytes()),
        Names::Quoted => put_quoted(out, name),
        Names::Escaped => {
            let escaped = name.chars().enumerate().map(|(at, character)| {
                let fits = match character {
                    '_' => true,
                    ':' => is_plain(":"),
                    digit if digit.is_ascii_digit() => at > 0,
                    other => other.is_ascii_alphabetic(),
                };
                if fits { character } else { '_' }
            });
            out.extend_from_slice(escaped.collect::<String>().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &Labels, names: Names) -> String {
        let mut out = Vec::new();
        put_series(&mut out, labels, names);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_written_as_the_client_reads_them() {
        let plain = Labels::of("up:sum", &[("job", "a\"b\\c\nd")]);
        assert_eq!(
            series(&plain, Names::Escaped),
            "up:sum{job=\"a\\\"b\\\\c\\nd\"} "
        );
        assert_eq!(
            series(&plain, Names::Quoted),
            series(&plain, Names::Escaped)
        );
        let dotted = Labels::of("http.requests", &[("service.name", "x"), ("9:z", "y")]);
        assert_eq!(
            series(&dotted, Names::Quoted),
            "{\"http.requests\",\"9:z\"=\"y\",\"service.name\"=\"x\"} "
        );
        assert_eq!(
            series(&dotted, Names::Escaped),
            "http_requests{__z=\"y\",service_name=\"x\"} "
        );
        assert_eq!(series(&Labels::of("up", &[]), Names::Escaped), "up ");
    }
}
