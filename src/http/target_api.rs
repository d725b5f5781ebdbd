//! What is scraped, in Prometheus' shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::ingest::scrape::{TargetHealth, TargetStatus};
use crate::model::{METRIC_NAME, Matcher, TimeRange, unit};
use crate::promql::{Limits, parse_selector};
use crate::store::Snapshot;

use super::error::{ApiError, Kind};
use super::json;
use super::params::Params;
use super::prom_api::kind_name;
use super::router::Api;
use super::wire::Target;

type ApiResult = Result<Response, ApiError>;

/// When a target was not scraped yet, as Go writes the time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl From<TargetStatus> for Target {
    fn from(status: TargetStatus) -> Self {
        let interval = unit::format_duration(status.interval);
        let timeout = unit::format_duration(status.timeout);
        let labels = status.labels.iter();
        let labels = labels.map(|label| (label.name.to_string(), label.value.to_string()));
        let discovered = [
            ("__address__", &status.address),
            ("__metrics_path__", &status.path),
            ("__scheme__", &status.scheme),
            ("__scrape_interval__", &interval),
            ("__scrape_timeout__", &timeout),
            ("job", &status.job),
        ];
        let discovered = discovered.map(|(name, value)| (name.to_owned(), value.clone()));
        let health = match status.health {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        };
        Self {
            discovered_labels: discovered.into(),
            labels: labels.collect(),
            scrape_pool: status.job,
            global_url: status.url.clone(),
            scrape_url: status.url,
            last_error: status.last_error,
            last_scrape: status
                .last_scrape
                .map_or_else(|| NEVER.to_owned(), |at| at.to_string()),
            last_scrape_duration: status.last_duration.as_secs_f64(),
            health: health.to_owned(),
            scrape_interval: interval,
            scrape_timeout: timeout,
        }
    }
}

pub(super) async fn targets(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovery {
        active_targets: Vec<Target>,
        /// Nothing drops targets: there is no relabelling.
        dropped_targets: [(); 0],
        dropped_target_counts: BTreeMap<String, u64>,
    }
    let state = params.get("state").unwrap_or_default().to_lowercase();
    let pool = params.get("scrapePool");
    let mut active_targets = Vec::new();
    if ["", "any", "active"].contains(&&*state) {
        active_targets = (api.state.targets)();
        active_targets.retain(|target| pool.is_none_or(|pool| target.scrape_pool == pool));
    }
    Ok(json::success(&Discovery {
        active_targets,
        dropped_targets: [],
        dropped_target_counts: BTreeMap::new(),
    }))
}

/// The metadata of what each target has shown.
pub(super) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> ApiResult {
    #[derive(Serialize)]
    struct Entry {
        target: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metric: Option<String>,
        r#type: &'static str,
        help: String,
        unit: String,
    }
    let limit = match params.get("limit").map(str::parse::<i64>) {
        None => usize::MAX,
        Some(Ok(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        Some(Err(_)) => return Err(ApiError::new(Kind::BadData, "limit must be a number")),
    };
    let wanted = match params.get("match_target") {
        None => vec![Vec::new()],
        Some(text) => parse_selector(text, &Limits::default())
            .map_err(|error| ApiError::bad_param("match_target", error))?,
    };
    let metric = params.get("metric").map(str::to_owned);
    let mut targets = (api.state.targets)();
    targets.retain(|target| {
        let value = |name: &str| target.labels.get(name).map_or("", String::as_str);
        let passes = |matchers: &Vec<Matcher>| {
            let mut matchers = matchers.iter();
            matchers.all(|matcher| matcher.matches(value(&matcher.name)))
        };
        wanted.iter().any(passes)
    });
    let reader = api.state.reader.clone();
    let entries = api
        .read(move |_| {
            let snapshot = reader.snapshot()?;
            let known: BTreeMap<_, _> = snapshot.metadata()?.into_iter().collect();
            let mut entries = Vec::new();
            for target in targets {
                for name in metrics_of(&snapshot, &target)? {
                    if entries.len() >= limit {
                        return Ok(entries);
                    }
                    let Some(metadata) = known.get(&name) else {
                        continue;
                    };
                    if metric.as_ref().is_some_and(|metric| *metric != name) {
                        continue;
                    }
                    entries.push(Entry {
                        target: target.labels.clone(),
                        metric: metric.is_none().then_some(name),
                        r#type: kind_name(metadata.kind),
                        help: metadata.help.clone(),
                        unit: metadata.unit.clone(),
                    });
                }
            }
            Ok(entries)
        })
        .await?;
    Ok(json::success(&entries))
}

fn metrics_of(snapshot: &Snapshot, target: &Target) -> Result<Vec<String>, ApiError> {
    let matchers: Vec<Matcher> = ["job", "instance"]
        .into_iter()
        .filter_map(|name| Some((name, target.labels.get(name)?)))
        .map(|(name, value)| Matcher::equal(name, value))
        .collect();
    Ok(snapshot.label_values(METRIC_NAME, &matchers, TimeRange::ALL)?)
}
