//! Rules and alerts in Prometheus' shapes. There are none yet, and that is what is answered; what is asked
//! for is read and checked all the same.

use axum::response::Response;
use serde::Serialize;

use super::error::{ApiError, Kind};
use super::json;
use super::params::Params;
use super::selection::Selection;

pub(super) async fn rules(params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Rules {
        groups: [(); 0],
    }
    let kind = params.get("type").unwrap_or_default().to_lowercase();
    if !["", "alert", "record"].contains(&&*kind) {
        let why = format!("not supported value {kind:?}");
        return Err(ApiError::bad_param("type", why));
    }
    params.flag("exclude_alerts")?;
    Selection::of(&params)?;
    let group_limit = params.get("group_limit").map(str::parse::<usize>);
    if !matches!(group_limit, None | Some(Ok(1..))) {
        let why = "group_limit needs to be a valid number greater than zero";
        return Err(ApiError::bad_param("group_limit", why));
    }
    if params.get("group_next_token").is_some() {
        if group_limit.is_none() {
            let why = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::bad_param("group_limit", why));
        }
        let message = "invalid group_next_token. were rule groups changed?";
        return Err(ApiError::new(Kind::BadData, message));
    }
    Ok(json::success(&Rules { groups: [] }))
}

pub(super) async fn alerts() -> Response {
    #[derive(Serialize)]
    struct Alerts {
        alerts: [(); 0],
    }
    json::success(&Alerts { alerts: [] })
}

/// Where notifications would go by way of Alertmanager.
pub(super) async fn alertmanagers() -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Alertmanagers {
        active_alertmanagers: [(); 0],
        dropped_alertmanagers: [(); 0],
    }
    json::success(&Alertmanagers {
        active_alertmanagers: [],
        dropped_alertmanagers: [],
    })
}
