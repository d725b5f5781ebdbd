//! The state of the store: Prometheus' page about its own, and ours.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::store::Frequency;

use super::error::{ApiError, Kind};
use super::json;
use super::params::Params;
use super::router::Api;
use super::turn::off_runtime;
use super::wire;

type ApiResult = Result<Response, ApiError>;

/// Entries of each list when the request does not say, and at most.
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TsdbStatus {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<Stat>,
    label_value_count_by_label_name: Vec<Stat>,
    memory_in_bytes_by_label_name: Vec<Stat>,
    series_count_by_label_value_pair: Vec<Stat>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: u64,
    num_label_pairs: u64,
    /// Of the store, which has blocks where Prometheus has chunks.
    chunk_count: u64,
    min_time: i64,
    max_time: i64,
}

#[derive(Serialize)]
struct Stat {
    name: String,
    value: u64,
}

/// `GET /api/v1/status/tsdb`: of the whole store, which has no head that is indexed apart.
pub(super) async fn tsdb(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let limit = limit(&params)?;
    let reader = api.state.reader.clone();
    let stats = off_runtime(move || Ok(reader.index_stats(limit))).await?;
    let list = |frequencies: Vec<Frequency>| -> Vec<Stat> {
        let stat = |(name, value)| Stat { name, value };
        frequencies.into_iter().map(stat).collect()
    };
    let cardinality = stats.cardinality;
    Ok(json::success(&TsdbStatus {
        head_stats: HeadStats {
            num_series: stats.series,
            num_label_pairs: cardinality.label_pairs,
            chunk_count: stats.blocks,
            min_time: stats.span.map_or(i64::MAX, |span| span.start().ms()),
            max_time: stats.span.map_or(i64::MIN, |span| span.end().ms()),
        },
        series_count_by_metric_name: list(cardinality.series_by_metric),
        label_value_count_by_label_name: list(cardinality.values_by_label),
        memory_in_bytes_by_label_name: list(cardinality.bytes_by_label),
        series_count_by_label_value_pair: list(cardinality.series_by_pair),
    }))
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let Some(text) = params.get("limit") else {
        return Ok(LIMIT_DEFAULT);
    };
    match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Ok(limit) if limit > LIMIT_MAX => {
            let message = format!("limit must not exceed {LIMIT_MAX}");
            Err(ApiError::new(Kind::BadData, message))
        }
        _ => Err(ApiError::new(
            Kind::BadData,
            "limit must be a positive number",
        )),
    }
}

/// `GET /api/v1/status/store`; with `blocks=true` it reads every block, as a query would.
pub(super) async fn store(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    let with_blocks = params.flag("blocks")?;
    let reader = api.state.reader.clone();
    let encoding_of = reader.clone();
    let stats = off_runtime(move || Ok(reader.stats()?)).await?;
    let mut status = wire::StoreStatus::from(stats);
    if with_blocks {
        let stats = api.read(move |_| Ok(encoding_of.block_stats()?)).await?;
        status.encoding = Some(stats.into());
    }
    Ok(json::success(&status))
}
