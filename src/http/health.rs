//! How the server is: for people, for probes, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::telemetry::health::State as PartState;

use super::json;
use super::router::Api;
use super::wire;

/// The text format of Prometheus.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn healthy() -> &'static str {
    "cutover is healthy.\n"
}

/// 503 until every part is ready, naming those that are not.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let waiting: Vec<String> = api
        .state
        .health
        .parts()
        .into_iter()
        .filter(|(_, part)| matches!(part.state, PartState::Starting | PartState::Failed))
        .map(|(name, part)| match part.message.as_str() {
            "" => format!("{name} is {}", part.state.name()),
            message => format!("{name} is {}: {message}", part.state.name()),
        })
        .collect();
    if waiting.is_empty() {
        return "cutover is ready.\n".into_response();
    }
    let text = format!("cutover is not ready: {}\n", waiting.join("; "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    (
        [(header::CONTENT_TYPE, TEXT_FORMAT)],
        api.state.metrics.render(),
    )
        .into_response()
}

pub(super) async fn health(State(api): State<Arc<Api>>) -> Response {
    let state = &api.state;
    let parts = state
        .health
        .parts()
        .into_iter()
        .map(|(name, part)| wire::PartHealth {
            name: name.into_owned(),
            state: part.state.name().to_owned(),
            since_ms: part.since.ms(),
            message: part.message,
        })
        .collect();
    json::success(&wire::Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: state.health.started_at().ms(),
        now_ms: state.clock.now().ms(),
        parts,
        caption: state.health.caption(),
    })
}
