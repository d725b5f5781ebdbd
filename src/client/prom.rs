//! Prometheus' query results as values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::Timestamp;

/// A series' labels, the metric's name under `__name__`.
pub type LabelMap = BTreeMap<String, String>;

/// A query's value with what the server said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    pub data: PromData,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PromData {
    Scalar { at: Timestamp, value: f64 },
    String { at: Timestamp, text: String },
    Vector(Vec<PromSample>),
    Matrix(Vec<PromSeries>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct PromSample {
    pub labels: LabelMap,
    pub at: Timestamp,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PromSeries {
    pub labels: LabelMap,
    pub points: Vec<(Timestamp, f64)>,
}

/// Values are texts on the wire: JSON has no NaN.
type RawPoint = (f64, String);

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum RawData {
    Scalar(RawPoint),
    String(RawPoint),
    Vector(Vec<RawSample>),
    Matrix(Vec<RawSeries>),
}

/// One of `value` and `histogram` is there.
#[derive(Deserialize)]
pub(super) struct RawSample {
    metric: LabelMap,
    value: Option<RawPoint>,
    histogram: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RawSeries {
    metric: LabelMap,
    #[serde(default)]
    values: Vec<RawPoint>,
    histograms: Option<IgnoredAny>,
}

const HISTOGRAMS: &str = "it has native histograms, which are not supported";

impl RawData {
    pub(super) fn parse(self) -> Result<PromData, String> {
        Ok(match self {
            Self::Scalar(point) => {
                let (at, value) = parse_point(point)?;
                PromData::Scalar { at, value }
            }
            Self::String((at, text)) => PromData::String {
                at: parse_time(at)?,
                text,
            },
            Self::Vector(samples) => PromData::Vector(
                samples
                    .into_iter()
                    .map(parse_sample)
                    .collect::<Result<_, _>>()?,
            ),
            Self::Matrix(series) => PromData::Matrix(
                series
                    .into_iter()
                    .map(parse_series)
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

fn parse_sample(raw: RawSample) -> Result<PromSample, String> {
    if raw.histogram.is_some() {
        return Err(HISTOGRAMS.to_owned());
    }
    let point = raw.value.ok_or("a sample has no value")?;
    let (at, value) = parse_point(point)?;
    Ok(PromSample {
        labels: raw.metric,
        at,
        value,
    })
}

fn parse_series(raw: RawSeries) -> Result<PromSeries, String> {
    if raw.histograms.is_some() {
        return Err(HISTOGRAMS.to_owned());
    }
    let points = raw.values.into_iter().map(parse_point);
    Ok(PromSeries {
        labels: raw.metric,
        points: points.collect::<Result<_, _>>()?,
    })
}

fn parse_point((at, value): RawPoint) -> Result<(Timestamp, f64), String> {
    // Rust reads NaN, +Inf, -Inf and exponents as Go writes them.
    let parsed = value
        .parse()
        .map_err(|error| format!("value {value:?}: {error}"))?;
    Ok((parse_time(at)?, parsed))
}

fn parse_time(seconds: f64) -> Result<Timestamp, String> {
    Timestamp::from_seconds(seconds).ok_or_else(|| format!("timestamp {seconds} is out of range"))
}
