//! What a query says about itself beside its value: Prometheus' warnings and infos, in its words.

use std::collections::HashSet;
use std::fmt;

use super::{Answer, Value};
use crate::model::METRIC_NAME;

/// How many of each kind an answer lists.
const LISTED_MAX: usize = 10;

/// One remark, at a byte of the query's text.
#[derive(Clone, Debug)]
pub(super) enum Annotation {
    QuantileOutOfRange { quantile: f64 },
    RatioOutOfRange { ratio: f64, capped: f64 },
    BadBucketLabel { value: String, metric: String },
    PossibleNonCounter { metric: String },
    ForcedMonotonicity { metric: String },
}

/// The distinct remarks of one query, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    known: HashSet<(String, usize)>,
    warnings: Vec<(String, usize)>,
    infos: Vec<(String, usize)>,
}

impl Annotation {
    fn is_warning(&self) -> bool {
        match self {
            Self::QuantileOutOfRange { .. }
            | Self::RatioOutOfRange { .. }
            | Self::BadBucketLabel { .. } => true,
            Self::PossibleNonCounter { .. } | Self::ForcedMonotonicity { .. } => false,
        }
    }
}

impl fmt::Display for Annotation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_metric = |metric: &str| match metric {
            "" => String::new(),
            metric => format!(" for metric name {metric:?}"),
        };
        match self {
            Self::QuantileOutOfRange { quantile } => write!(
                formatter,
                "PromQL warning: quantile value should be between 0 and 1, got {}",
                general(*quantile)
            ),
            Self::RatioOutOfRange { ratio, capped } => write!(
                formatter,
                "PromQL warning: ratio value should be between -1 and 1, got {}, capping to {}",
                general(*ratio),
                general(*capped)
            ),
            Self::BadBucketLabel { value, metric } => write!(
                formatter,
                "PromQL warning: bucket label \"le\" is missing or has a malformed value of \
                 {value:?}{}",
                for_metric(metric)
            ),
            Self::PossibleNonCounter { metric } => write!(
                formatter,
                "PromQL info: metric might not be a counter, name does not end in \
                 _total/_sum/_count/_bucket: {metric:?}"
            ),
            Self::ForcedMonotonicity { metric } => write!(
                formatter,
                "PromQL info: input to histogram_quantile needed to be fixed for monotonicity \
                 (see https://prometheus.io/docs/prometheus/latest/querying/functions/\
                 #histogram_quantile){}",
                for_metric(metric)
            ),
        }
    }
}

impl Annotations {
    pub(super) fn add(&mut self, annotation: &Annotation, position: usize) {
        let remark = (annotation.to_string(), position);
        if self.known.insert(remark.clone()) {
            if annotation.is_warning() {
                self.warnings.push(remark);
            } else {
                self.infos.push(remark);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn into_answer(self, value: Value, query: &str) -> Answer {
        Answer {
            value,
            warnings: listed(&self.warnings, query, "warning"),
            infos: listed(&self.infos, query, "info"),
        }
    }
}

fn listed(remarks: &[(String, usize)], query: &str, kind: &str) -> Vec<String> {
    let mut texts: Vec<_> = remarks
        .iter()
        .take(LISTED_MAX)
        .map(|(remark, at)| format!("{remark} ({})", line_and_column(query, *at)))
        .collect();
    if let Some(more @ 1..) = remarks.len().checked_sub(LISTED_MAX) {
        texts.push(format!("{more} more {kind} annotations omitted"));
    }
    texts
}

/// `line:column` of a byte, both from one.
pub(super) fn line_and_column(query: &str, at: usize) -> String {
    let before = query.as_bytes().get(..at).unwrap_or(query.as_bytes());
    let line = before.split(|byte| *byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    format!("{line}:{}", before.len() - line_start + 1)
}

/// Whether a metric's name is that of a counter, by the field's custom.
pub(super) fn is_counter_name(metric: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"]
        .iter()
        .any(|suffix| metric.ends_with(suffix))
}

/// A number as Prometheus writes it where no exponent is wanted.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.into()
    } else {
        value.to_string()
    }
}

/// A number as Go's `%g` writes it: with an exponent where that is below -4 or above 5.
pub(super) fn general(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return number(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((text.as_str(), "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// The metric's name of a label set, empty when there is none.
pub(super) fn metric_of(labels: &crate::model::Labels) -> String {
    labels.value(METRIC_NAME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_columns_from_one() {
        assert_eq!(line_and_column("rate(x[5m])", 5), "1:6");
        assert_eq!(line_and_column("sum(\n  x)", 7), "2:3");
        assert_eq!(line_and_column("x", 99), "1:2");
    }

    #[test]
    fn numbers_in_remarks_have_exponents_early() {
        for (value, text) in [
            (1.5, "1.5"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (-1.25e-5, "-1.25e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(general(value), text);
        }
    }

    #[test]
    fn the_same_remark_is_kept_once() {
        let mut annotations = Annotations::default();
        for _ in 0..2 {
            let quantile = f64::NAN;
            annotations.add(&Annotation::QuantileOutOfRange { quantile }, 9);
        }
        let answer = annotations.into_answer(Value::Vector(Vec::new()), "quantile(NaN, x)");
        assert_eq!(
            answer.warnings,
            ["PromQL warning: quantile value should be between 0 and 1, got NaN (1:10)"]
        );
        assert!(answer.infos.is_empty());
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let mut annotations = Annotations::default();
        for at in 0..13 {
            let metric = "m".to_owned();
            annotations.add(&Annotation::PossibleNonCounter { metric }, at);
        }
        let answer = annotations.into_answer(Value::Vector(Vec::new()), "");
        assert_eq!(answer.infos.len(), 11);
        assert_eq!(answer.infos[10], "3 more info annotations omitted");
    }
}
