//! The state of alerting, and alerts of others: a Prometheus can use this server as its Alertmanager.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use crate::alert::Alert;
use crate::alert::dispatch::{AlertView, ChannelView, GroupView, Overview};
use crate::model::Timestamp;
use crate::net::body;

use super::error::{ApiError, Kind};
use super::json;
use super::router::Api;
use super::silence_api::time;
use super::wire;

/// The texts of one alert.
const ALERT_BYTES_MAX: usize = 64 << 10;

pub(super) async fn overview(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let overview = api.state.alerts.overview().await?;
    Ok(json::success(&on_the_wire(overview)))
}

/// One of the alerts that a Prometheus sends; what else it says of them is passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
}

/// `POST /api/v2/alerts`. What is valid is taken in, and durable when this is answered; what is not is an
/// error that names the first.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let limits = &api.state.limits;
    let bytes = body::read(
        request.into_body(),
        limits.body_bytes_max,
        limits.body_timeout,
    )
    .await?;
    let posted: Vec<Posted> = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the body is not a list of alerts: {error}");
        ApiError::new(Kind::BadData, message)
    })?;
    let now = api.state.clock.now();
    let mut alerts = Vec::with_capacity(posted.len());
    let mut first_wrong = None;
    for (at, posted) in posted.into_iter().enumerate() {
        match alert(posted, now) {
            Ok(alert) => alerts.push(alert),
            Err(why) => {
                first_wrong.get_or_insert(why.within(&format!("alert {at}")));
            }
        }
    }
    api.state.alerts.post(alerts).await?;
    match first_wrong {
        None => Ok(StatusCode::OK),
        Some(error) => Err(error),
    }
}

fn alert(posted: Posted, now: Timestamp) -> Result<Alert, ApiError> {
    let wrong = |why: &str| Err(ApiError::new(Kind::BadData, why));
    let given = |name, text: Option<String>| {
        // Go's zero time, the year 1, is how a Prometheus says that there is none.
        let at = text.map(|text| time(name, &text)).transpose()?;
        Ok::<_, ApiError>(at.filter(|at| *at > Timestamp::EPOCH))
    };
    let mut labels = posted.labels;
    labels.retain(|_, value| !value.is_empty());
    if labels.is_empty() {
        return wrong("it has no labels");
    }
    let pairs = labels.iter().chain(&posted.annotations);
    let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
    if bytes + posted.generator_url.len() > ALERT_BYTES_MAX {
        return wrong("its texts have more than 64 KiB");
    }
    let ends_at = given("endsAt", posted.ends_at)?;
    let starts_at = given("startsAt", posted.starts_at)?;
    let starts_at = starts_at.unwrap_or_else(|| ends_at.map_or(now, |end| end.min(now)));
    if ends_at.is_some_and(|end| end < starts_at) {
        return wrong("it ends before it begins");
    }
    Ok(Alert {
        labels,
        annotations: posted.annotations,
        starts_at,
        ends_at,
        generator_url: posted.generator_url,
    })
}

fn on_the_wire(overview: Overview) -> wire::Alerting {
    let group = |group: GroupView| wire::AlertGroup {
        key: group.key,
        labels: group.labels,
        alerts: group.alerts,
        next_at_ms: group.next_at.ms(),
    };
    wire::Alerting {
        alerts: overview.alerts.into_iter().map(alert_on_the_wire).collect(),
        groups: overview.groups.into_iter().map(group).collect(),
        channels: overview
            .channels
            .into_iter()
            .map(channel_on_the_wire)
            .collect(),
    }
}

fn alert_on_the_wire(view: AlertView) -> wire::AlertState {
    let is_held = !view.silenced_by.is_empty() || view.inhibited_by.is_some();
    let state = match (view.alert.ends_at, is_held) {
        (Some(_), _) => "resolved",
        (None, true) => "suppressed",
        (None, false) => "active",
    };
    let hex = |fingerprint: u64| format!("{fingerprint:016x}");
    wire::AlertState {
        fingerprint: hex(view.fingerprint),
        labels: view.alert.labels,
        annotations: view.alert.annotations,
        state: state.to_owned(),
        starts_at_ms: view.alert.starts_at.ms(),
        ends_at_ms: view.alert.ends_at.map(Timestamp::ms),
        silenced_by: view.silenced_by,
        inhibited_by: view.inhibited_by.map(hex).into_iter().collect(),
        flapping_since_ms: view.flapping_since.map(Timestamp::ms),
        group: view.group_key,
        told: view.told,
        generator_url: view.alert.generator_url,
    }
}

fn channel_on_the_wire(view: ChannelView) -> wire::AlertChannel {
    let (last_error_at, last_error) = view.last_error.unzip();
    wire::AlertChannel {
        name: view.name,
        waiting: view.waiting,
        waiting_since_ms: view.waiting_since.map(Timestamp::ms),
        failures: view.failures,
        next_attempt_at_ms: view.next_at.map(Timestamp::ms),
        last_error,
        last_error_at_ms: last_error_at.map(Timestamp::ms),
        delivered_at_ms: view.delivered_at.map(Timestamp::ms),
    }
}
