//! Queries as texts: in the canonical form, as a tree.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::json;
use super::params::Params;
use super::router::Api;

pub(super) async fn format_query(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let query = params.get("query").unwrap_or_default().to_owned();
    let engine = api.state.engine.clone();
    let text = api.read(move |_| Ok(engine.format(&query)?)).await?;
    Ok(json::success(&text))
}

pub(super) async fn parse_query(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let query = params.get("query").unwrap_or_default().to_owned();
    let engine = api.state.engine.clone();
    // Written where it is made: the tree of a deep query is dropped with a deep stack as well.
    api.read(move |_| Ok(json::success(&engine.tree(&query)?)))
        .await
}
