//! `GET /api/v1/export`: stored samples as text, written while they are sent.
//!
//! The last line of a whole text is `# EOF`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::store;

use super::error::ApiError;
use super::export::Export;
use super::params::Params;
use super::router::Api;
use super::selection::Selection;
use super::stream::{self, Source};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn export(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let selection = Selection::required(&params)?;
    let reader = api.state.reader.clone();
    stream::respond(&api, OPEN_METRICS, move || {
        Ok(Export::new(&reader, &selection.selectors, selection.range)?)
    })
    .await
}

impl Source for Export {
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<bool, store::Error> {
        Export::write_next(self, out)
    }
}
