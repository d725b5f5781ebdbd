//! What the appliance found out by itself: anomalies and messages that it could not read.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::detect::anomaly::{ANOMALIES, Anomaly, Direction, Severity};
use crate::store;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::router::Api;
use super::turn::off_runtime;
use super::wire;

/// Entries of a list when the request does not say.
const LIMIT_DEFAULT: usize = 1000;

/// Records read from the store at a time.
const PAGE: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Open,
    Closed,
    All,
}

pub(super) async fn anomalies(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let which = match params.get("state") {
        None | Some("all") => Which::All,
        Some("open") => Which::Open,
        Some("closed") => Which::Closed,
        Some(other) => {
            let why = format!("{other:?} is none of open, closed, all");
            return Err(ApiError::bad_param("state", why));
        }
    };
    let limit = params.limit("limit")?.unwrap_or(LIMIT_DEFAULT);
    let reader = api.state.reader.clone();
    let newest = off_runtime(move || Ok(newest_anomalies(&reader, which, limit)?)).await?;
    let watches = &api.state.watches;
    let list: Vec<wire::Anomaly> = newest
        .into_iter()
        .rev()
        .map(|anomaly| {
            let expr = watches.get(&anomaly.watch).cloned().unwrap_or_default();
            on_the_wire(anomaly, expr)
        })
        .collect();
    Ok(json::success(&list))
}

pub(super) async fn dead_letters(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?.unwrap_or(LIMIT_DEFAULT);
    let dead_letters = api.state.dead_letters.clone();
    let list = off_runtime(move || Ok(dead_letters(limit)?)).await?;
    Ok(json::success(&list))
}

/// The last `limit` of those asked for, in the order of their opening.
fn newest_anomalies(
    reader: &store::Reader,
    which: Which,
    limit: usize,
) -> Result<VecDeque<Anomaly>, store::Error> {
    let snapshot = reader.snapshot()?;
    let mut newest = VecDeque::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.records(&ANOMALIES, after.as_deref(), PAGE)?;
        let complete = page.len() < PAGE;
        for (key, anomaly) in page {
            after = Some(key);
            let wanted = match which {
                Which::Open => anomaly.closed_at.is_none(),
                Which::Closed => anomaly.closed_at.is_some(),
                Which::All => true,
            };
            if wanted {
                newest.push_back(anomaly);
            }
            if newest.len() > limit {
                newest.pop_front();
            }
        }
        if complete {
            return Ok(newest);
        }
    }
}

fn on_the_wire(anomaly: Anomaly, expr: String) -> wire::Anomaly {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    wire::Anomaly {
        watch: anomaly.watch,
        labels: anomaly.labels,
        detector: anomaly.detector,
        direction: match anomaly.direction {
            Direction::Low => "low",
            Direction::High => "high",
        }
        .to_owned(),
        severity: match anomaly.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
        .to_owned(),
        opened_at_ms: anomaly.opened_at.ms(),
        updated_at_ms: anomaly.updated_at.ms(),
        closed_at_ms: anomaly.closed_at.map(crate::model::Timestamp::ms),
        score: finite(anomaly.score),
        score_max: finite(anomaly.score_max),
        observed: finite(anomaly.observed),
        expected: finite(anomaly.expected),
        lower: finite(anomaly.lower),
        upper: finite(anomaly.upper),
        summary: anomaly.summary,
        expr,
    }
}
