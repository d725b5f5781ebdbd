//! How the server was built and started, as Prometheus tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::model::Timestamp;
use crate::telemetry::health::State as PartState;

use super::json;
use super::router::Api;

/// The Prometheus version whose API we answer; clients choose their requests by it.
const PROMETHEUS_VERSION: &str = "3.8.0";

/// What was set when the server was started, for those who look at it from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The configuration in force as TOML, without secrets.
    pub config: String,
    /// Settings that Prometheus has too, by the names of its flags.
    pub flags: BTreeMap<String, String>,
    /// How long samples are kept, in words.
    pub retention: String,
}

/// Without a list of `features`: with one, Grafana takes the server for Mimir.
pub(super) async fn buildinfo() -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct BuildInfo {
        version: &'static str,
        revision: &'static str,
        branch: &'static str,
        build_user: &'static str,
        build_date: &'static str,
        go_version: &'static str,
        #[serde(rename = "application_version")]
        application_version: &'static str,
    }
    json::success(&BuildInfo {
        version: PROMETHEUS_VERSION,
        revision: "",
        branch: "",
        build_user: "",
        build_date: "",
        go_version: "",
        application_version: env!("CARGO_PKG_VERSION"),
    })
}

/// What has no counterpart here is 0 or empty: clients expect every name.
#[derive(Serialize)]
struct RuntimeInfo {
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "CWD")]
    working_directory: String,
    hostname: String,
    #[serde(rename = "serverTime")]
    server_time: String,
    #[serde(rename = "reloadConfigSuccess")]
    is_config_reloaded: bool,
    #[serde(rename = "lastConfigTime")]
    last_config_time: String,
    #[serde(rename = "corruptionCount")]
    corruption_count: u64,
    /// Tasks of the async runtime.
    #[serde(rename = "goroutineCount")]
    task_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    cores: usize,
    #[serde(rename = "GOMEMLIMIT")]
    memory_limit: i64,
    #[serde(rename = "GOGC")]
    gogc: &'static str,
    #[serde(rename = "GODEBUG")]
    godebug: &'static str,
    #[serde(rename = "storageRetention")]
    storage_retention: String,
}

pub(super) async fn runtimeinfo(State(api): State<Arc<Api>>) -> Response {
    let state = &api.state;
    let started_at = state.health.started_at();
    // The part is there once a configuration was read again.
    let parts = state.health.parts();
    let config = parts.get("configuration");
    let time = |at: Timestamp| at.to_string();
    let working_directory = std::env::current_dir().unwrap_or_default();
    let hostname = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    json::success(&RuntimeInfo {
        start_time: time(started_at),
        working_directory: working_directory.display().to_string(),
        hostname,
        server_time: time(state.clock.now()),
        is_config_reloaded: config.is_none_or(|part| part.state == PartState::Ok),
        last_config_time: time(config.map_or(started_at, |part| part.since)),
        corruption_count: 0,
        task_count: tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_limit: i64::MAX,
        gogc: "",
        godebug: "",
        storage_retention: state.settings.retention.clone(),
    })
}

pub(super) async fn flags(State(api): State<Arc<Api>>) -> Response {
    json::success(&api.state.settings.flags)
}

/// The name of the field is Prometheus'; the text is TOML.
pub(super) async fn config(State(api): State<Arc<Api>>) -> Response {
    #[derive(Serialize)]
    struct Config<'a> {
        yaml: &'a str,
    }
    let yaml = &api.state.settings.config;
    json::success(&Config { yaml })
}

/// The store has replayed its write-ahead rows before the API is there.
pub(super) async fn walreplay() -> Response {
    #[derive(Serialize)]
    struct Replay {
        min: u64,
        max: u64,
        current: u64,
    }
    let (min, max, current) = (0, 0, 0);
    json::success(&Replay { min, max, current })
}
