//! Prometheus' query API: the same parameters, answers, statuses and error types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use crate::model::{Column, Label, Labels, MetricKind, MetricMetadata, Timestamp};
use crate::promql::{self, Answer, Engine, QueryOptions, Steps, Value};

use super::answer::AnswerPieces;
use super::error::{ApiError, Kind};
use super::json::{self, SeriesList};
use super::params::Params;
use super::router::Api;
use super::selection::Selection;

type ApiResult = Result<Response, ApiError>;

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn query(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let at = params
        .optional_time("time")?
        .unwrap_or_else(|| api.state.clock.now());
    evaluate(&api, &params, move |engine, query, options| {
        engine.instant(query, at, options)
    })
    .await
}

pub(super) async fn query_range(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let steps = steps(&params)?;
    evaluate(&api, &params, move |engine, query, options| {
        engine.range(query, steps, options)
    })
    .await
}

/// Runs a query when its turn has come, and answers it with what else its parameters ask for.
async fn evaluate(
    api: &Api,
    params: &Params,
    answer: impl FnOnce(&Engine, &str, &QueryOptions) -> Result<Answer, promql::Error> + Send + 'static,
) -> ApiResult {
    let limit = params.limit("limit")?;
    let (query, options) = query_options(params)?;
    let engine = api.state.engine.clone();
    let samples_read = params.get("stats").map(|_| Arc::default());
    let counted = samples_read.clone();
    let clock = api.state.clock.clone();
    let asked_at = clock.monotonic();
    let run = move |cancel: Arc<AtomicBool>| {
        let begun_at = clock.monotonic();
        let options = QueryOptions {
            cancel: Some(cancel),
            samples_read: counted,
            ..options
        };
        let answer = truncated(answer(&engine, &query, &options)?, limit);
        let evaluated = clock.monotonic().saturating_sub(begun_at);
        Ok((answer, begun_at.saturating_sub(asked_at), evaluated))
    };
    let weigh = |(answer, ..): &(Answer, Duration, Duration)| bytes_of(&answer.value);
    let ((answer, queued, evaluated), held) = api.read_to_send(run, weigh).await?;
    let stats = samples_read.map(|samples| stats(&samples, queued, evaluated));
    Ok(json::respond(AnswerPieces::new(answer, stats), held))
}

/// About what a value takes in memory. The texts of labels are the store's.
fn bytes_of(value: &Value) -> usize {
    let series = |labels: &Labels| size_of::<Column>() + (labels.len() + 1) * size_of::<Label>();
    match value {
        Value::Scalar(_) | Value::String { .. } => 0,
        Value::Vector(samples) => samples.iter().map(|sample| series(&sample.labels)).sum(),
        Value::Matrix(columns) => columns
            .iter()
            .map(|column| series(&column.labels) + column.values.len() * size_of::<(i64, f64)>())
            .sum(),
    }
}

/// What a query cost, in the shape of Prometheus' `stats`; what is not told apart here is 0.
fn stats(samples: &AtomicUsize, queued: Duration, evaluated: Duration) -> String {
    let samples = samples.load(Ordering::Relaxed);
    let (queued, evaluated) = (queued.as_secs_f64(), evaluated.as_secs_f64());
    serde_json::json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0.0,
            "queryPreparationTime": 0.0,
            "innerEvalTime": evaluated,
            "execQueueTime": queued,
            "execTotalTime": queued + evaluated,
        },
        "samples": {
            "totalQueryableSamples": samples,
            "samplesRead": samples,
            "peakSamples": samples,
        },
    })
    .to_string()
}

/// We keep no exemplars; Grafana asks once and takes an error for a broken data source.
pub(super) async fn query_exemplars(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let start = params.optional_time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.optional_time("end")?.unwrap_or(Timestamp::MAX);
    if end < start {
        let message = "end timestamp must not be before start timestamp";
        return Err(ApiError::new(Kind::BadData, message));
    }
    let query = params.get("query").unwrap_or_default().to_owned();
    let engine = api.state.engine.clone();
    api.read(move |_| Ok(engine.format(&query)?)).await?;
    Ok(json::success(&[(); 0]))
}

pub(super) async fn series(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let selection = Selection::required(&params)?;
    let limit = selection.limit;
    let reader = api.state.reader.clone();
    let select = move |_: Arc<AtomicBool>| {
        let snapshot = reader.snapshot()?;
        let mut series: Vec<Labels> = Vec::new();
        for matchers in &selection.selectors {
            series.extend(snapshot.series(matchers, selection.range)?);
        }
        series.sort_unstable();
        series.dedup();
        let warnings = cut(&mut series, limit);
        Ok((series, warnings))
    };
    let weigh = |(series, _): &(Vec<Labels>, Vec<String>)| {
        let labels: usize = series.iter().map(|labels| labels.len() + 1).sum();
        labels * size_of::<Label>()
    };
    let ((series, warnings), held) = api.read_to_send(select, weigh).await?;
    Ok(json::respond(SeriesList::new(series, warnings), held))
}

pub(super) async fn labels(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let selection = Selection::of(&params)?;
    let limit = selection.limit;
    let reader = api.state.reader.clone();
    let names = api
        .read(move |_| {
            let snapshot = reader.snapshot()?;
            let mut names = BTreeSet::new();
            for matchers in selection.selectors_or_all() {
                names.extend(snapshot.label_names(&matchers, selection.range)?);
            }
            Ok(names)
        })
        .await?;
    Ok(list(names, limit))
}

pub(super) async fn label_values(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult {
    let name = unescape_name(&name)
        .ok_or_else(|| ApiError::new(Kind::BadData, format!("invalid label name: {name:?}")))?;
    let selection = Selection::of(&params)?;
    let limit = selection.limit;
    let reader = api.state.reader.clone();
    let values = api
        .read(move |_| {
            let snapshot = reader.snapshot()?;
            let mut values = BTreeSet::new();
            for matchers in selection.selectors_or_all() {
                values.extend(snapshot.label_values(&name, &matchers, selection.range)?);
            }
            Ok(values)
        })
        .await?;
    Ok(list(values, limit))
}

pub(super) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    #[derive(Serialize)]
    struct Entry {
        r#type: &'static str,
        help: String,
        unit: String,
    }
    let number = |name: &str| match params.get(name).map(str::parse::<i64>) {
        None => Ok(usize::MAX),
        // A negative one limits nothing.
        Some(Ok(limit)) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        Some(Err(_)) => {
            let message = format!("{name} must be a number");
            Err(ApiError::new(Kind::BadData, message))
        }
    };
    let limit = number("limit")?;
    // There is one entry a metric.
    let per_metric = number("limit_per_metric")?.min(1);
    let metric = params.get("metric").map(str::to_owned);
    let reader = api.state.reader.clone();
    let known: Vec<(String, MetricMetadata)> = api
        .read(move |_| Ok(reader.snapshot()?.metadata()?))
        .await?;
    // One entry a metric, in a list: Prometheus may know several from several targets.
    let entries: BTreeMap<String, [Entry; 1]> = known
        .into_iter()
        .filter(|(name, _)| metric.as_ref().is_none_or(|metric| metric == name))
        .take(limit * per_metric)
        .map(|(name, metadata)| {
            let entry = Entry {
                r#type: kind_name(metadata.kind),
                help: metadata.help,
                unit: metadata.unit,
            };
            (name, [entry])
        })
        .collect();
    Ok(json::success(&entries))
}

pub(super) fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Summary => "summary",
        MetricKind::Unknown => "unknown",
    }
}

/// The query and what its request says about its evaluation.
fn query_options(params: &Params) -> Result<(String, QueryOptions), ApiError> {
    let query = params.get("query").unwrap_or_default().to_owned();
    let options = QueryOptions {
        timeout: params.duration("timeout")?,
        lookback: params.lookback()?,
        ..QueryOptions::default()
    };
    Ok((query, options))
}

fn steps(params: &Params) -> Result<Steps, ApiError> {
    let start = params.required_time("start")?;
    let end = params.required_time("end")?;
    if end < start {
        let why = "end timestamp must not be before start time";
        return Err(ApiError::bad_param("end", why));
    }
    let step = params.step()?;
    Ok(Steps { start, end, step })
}

/// Cuts a value to `limit` series.
fn truncated(mut answer: Answer, limit: Option<usize>) -> Answer {
    let warnings = match &mut answer.value {
        Value::Vector(samples) => cut(samples, limit),
        Value::Matrix(columns) => cut(columns, limit),
        Value::Scalar(_) | Value::String { .. } => Vec::new(),
    };
    answer.warnings.extend(warnings);
    answer
}

/// Cuts a list to `limit` entries, with the warning that says so.
fn cut<T>(list: &mut Vec<T>, limit: Option<usize>) -> Vec<String> {
    match limit {
        Some(limit) if list.len() > limit => {
            list.truncate(limit);
            vec![TRUNCATED.to_owned()]
        }
        _ => Vec::new(),
    }
}

fn list(names: BTreeSet<String>, limit: Option<usize>) -> Response {
    let mut names = Vec::from_iter(names);
    let warnings = cut(&mut names, limit);
    json::success_with(&names, &warnings)
}

/// Undoes the escaping by which clients send names beyond `[a-zA-Z0-9_]`: `U__`, then `__` for an
/// underscore and `_HEX_` for any other character. `None` when the result would not be a name.
fn unescape_name(escaped: &str) -> Option<String> {
    let Some(mut rest) = escaped.strip_prefix("U__") else {
        return (!escaped.is_empty()).then(|| escaped.to_owned());
    };
    let mut name = String::new();
    while let Some((plain, tail)) = rest.split_once('_') {
        name.push_str(plain);
        if let Some(tail) = tail.strip_prefix('_') {
            name.push('_');
            rest = tail;
            continue;
        }
        let (hex, tail) = tail.split_once('_')?;
        let digits = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = digits
            .then(|| u32::from_str_radix(hex, 16).ok())
            .flatten()?;
        name.push(char::from_u32(code)?);
        rest = tail;
    }
    name.push_str(rest);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The escaping that [`unescape_name`] undoes.
    fn escape_name(name: &str) -> String {
        let mut escaped = "U__".to_owned();
        for character in name.chars() {
            match character {
                '_' => escaped.push_str("__"),
                plain if plain.is_ascii_alphanumeric() => escaped.push(plain),
                other => escaped.push_str(&format!("_{:x}_", u32::from(other))),
            }
        }
        escaped
    }

    proptest! {
        #[test]
        fn an_escaped_name_reads_the_same(name in "\\PC{1,20}") {
            prop_assert_eq!(unescape_name(&escape_name(&name)), Some(name));
        }

        #[test]
        fn arbitrary_names_never_panic(tail in "[_a-f0-9G\u{e9}]{0,20}") {
            let _read = unescape_name(&format!("U__{tail}"));
        }
    }

    #[test]
    fn escaped_label_names_are_read() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__job", "job"),
            ("U__service_2e_name", "service.name"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "\u{1f600}"),
            ("U__http_2e_status_2e___code", "http.status._code"),
        ] {
            assert_eq!(unescape_name(escaped).as_deref(), Some(name), "{escaped}");
        }
        for bad in ["", "U__", "U__a_zz_", "U__a_d800_", "U__a_2e", "U__a_+2e_"] {
            assert_eq!(unescape_name(bad), None, "{bad}");
        }
    }
}
