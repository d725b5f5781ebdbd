//! Whether two programs gave the same answer.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::request::Agreement;

/// How far apart two values may be, of the sum of their magnitudes.
const TOLERANCE: f64 = 1e-9;

/// An answer by series: points by time, none for those of the metadata.
pub(crate) type Series = BTreeMap<String, BTreeMap<i64, f64>>;

/// Reads an answer of the API; what cutover writes about itself is left out, and the metrics' names,
/// which VictoriaMetrics keeps in functions that take them away elsewhere.
pub(crate) fn read(body: &[u8]) -> anyhow::Result<Series> {
    let answer: Value = serde_json::from_slice(body).context("an answer is JSON")?;
    ensure!(answer["status"] == "success", "{answer}");
    let data = &answer["data"];
    let list = data["result"].as_array().or(data.as_array());
    let series = list.context("an answer has a list")?.iter();
    Ok(series
        .filter(|one| !is_own(one))
        .map(|one| match one.get("metric") {
            Some(metric) => (without_name(metric), points(one)),
            None => (one.to_string(), BTreeMap::new()),
        })
        .collect())
}

fn is_own(series: &Value) -> bool {
    let name = series.get("__name__").and_then(Value::as_str);
    name.is_some_and(|name| name.starts_with("cutover_"))
}

fn without_name(metric: &Value) -> String {
    let mut labels = metric.as_object().cloned().unwrap_or_default();
    labels.remove("__name__");
    Value::Object(labels).to_string()
}

fn points(series: &Value) -> BTreeMap<i64, f64> {
    let many = series["values"].as_array().map(Vec::as_slice);
    let points = many.unwrap_or(std::slice::from_ref(&series["value"]));
    points.iter().filter_map(point).collect()
}

fn point(pair: &Value) -> Option<(i64, f64)> {
    let at_ms = (pair[0].as_f64()? * 1e3).round() as i64;
    Some((at_ms, pair[1].as_str()?.parse().ok()?))
}

/// What differs of what has to agree.
pub(crate) fn difference(ours: &Series, theirs: &Series, agreement: Agreement) -> Option<String> {
    if agreement == Agreement::Nothing {
        return None;
    }
    let missing: Vec<_> = theirs
        .keys()
        .filter(|one| !ours.contains_key(*one))
        .collect();
    let more: Vec<_> = ours
        .keys()
        .filter(|one| !theirs.contains_key(*one))
        .collect();
    if let Some(one) = missing.first() {
        return Some(format!("{} series are missing, as {one}", missing.len()));
    }
    if let Some(one) = more.first() {
        return Some(format!("{} series too many, as {one}", more.len()));
    }
    if agreement == Agreement::Series {
        return None;
    }
    ours.iter()
        .zip(theirs.values())
        .find_map(|((name, ours), theirs)| {
            if !ours.keys().eq(theirs.keys()) {
                return Some(format!(
                    "{name}: {} points, not {}",
                    ours.len(),
                    theirs.len()
                ));
            }
            let apart = |(here, there): &(&f64, &f64)| {
                (*here - *there).abs() > TOLERANCE * (here.abs() + there.abs())
            };
            let (here, there) = ours.values().zip(theirs.values()).find(apart)?;
            Some(format!("{name}: {here}, not {there}"))
        })
}
