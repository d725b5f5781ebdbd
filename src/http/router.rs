//! What the routes answer from, and what they share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use prometheus::IntCounterVec;

use crate::alert::dispatch;
use crate::alert::rule::Rules;
use crate::ingest::Ways;
use crate::ingest::counters::Counters;
use crate::migration::Tracker;
use crate::model::Clock;
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;
use crate::{promql, store};

use super::error::{ApiError, Kind};
use super::status_api::Settings;
use super::turn::Turns;
use super::write_api::Room;
use super::{auth, compress, guard, route, wire};

/// What a request may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes_max: usize,
    /// From the head of a request to the end of its body.
    pub body_timeout: Duration,
    /// From the head of a request to the head of its answer; longer than a query may take.
    pub request_timeout: Duration,
    /// The same of what copies or merges the whole store.
    pub admin_timeout: Duration,
    /// Queries at once, those for series and labels included; more wait for their turn. The rest of
    /// the API is cheap and waits for nobody, so that a dashboard goes on beside heavy queries.
    pub queries_max: usize,
    /// How long a query waits for its turn.
    pub queue_timeout: Duration,
    /// Memory of the answers that are being sent, and for how long one more waits for room in it.
    pub answer_bytes_max: usize,
    pub answer_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(180),
            admin_timeout: Duration::from_secs(6 * 3600),
            queries_max: 20,
            queue_timeout: Duration::from_secs(30),
            answer_bytes_max: 256 << 20,
            answer_timeout: Duration::from_secs(5),
        }
    }
}

/// The newest dead letters, at most as many as asked for. Called off the async runtime.
pub type DeadLetters =
    Arc<dyn Fn(usize) -> Result<Vec<wire::DeadLetter>, store::Error> + Send + Sync>;

/// What is scraped, by job and then by address, at this moment.
pub type Targets = Arc<dyn Fn() -> Vec<wire::Target> + Send + Sync>;

/// Everything the routes answer from. Cloning is cheap.
#[derive(Clone)]
pub struct ApiState {
    pub engine: promql::Engine,
    pub reader: store::Reader,
    pub writer: store::Writer,
    pub migrations: Tracker,
    /// Who is told of alerts, and what is silenced.
    pub alerts: dispatch::Handle,
    /// What of the ways in keeps something between requests.
    pub ways: Ways,
    pub metrics: Metrics,
    pub health: Health,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub listen: guard::Listen,
    /// Who may ask; everybody, when there are none.
    pub tokens: auth::Tokens,
    /// The expression of each watch by its name, for those who chart an anomaly.
    pub watches: Arc<BTreeMap<String, String>>,
    pub dead_letters: DeadLetters,
    pub targets: Targets,
    /// The rules in force and their alerts.
    pub rules: Rules,
    pub settings: Arc<Settings>,
    /// Where snapshots are made; `None` keeps the whole administrative API off.
    pub snapshots: Option<PathBuf>,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiState")
            .field("limits", &self.limits)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The state with what the router adds to it.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) state: ApiState,
    pub(super) requests: IntCounterVec,
    /// Samples taken and refused.
    pub(super) ingest: Counters,
    pub(super) room: Room,
    pub(super) turns: Turns,
}

/// The whole API as a service.
///
/// # Panics
/// When it is built twice with one registry of metrics.
pub fn router(state: ApiState) -> Router {
    let requests = state.metrics.counter(
        "cutover_http_requests_total",
        "Requests answered, by route and status code.",
        &["handler", "code"],
    );
    let api = Arc::new(Api {
        ingest: state.ways.counters.clone(),
        turns: Turns::new(&state.limits),
        state,
        requests,
        room: Room::new(),
    });
    let mut router = Router::new();
    for route in route::table() {
        let access = from_fn_with_state((api.clone(), route.scope), auth::check);
        router = router.route(route.path, route.handler.route_layer(access));
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .layer(from_fn(compress::compress))
        .with_state(api)
}

async fn unknown_route(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(Kind::NotFound, format!("there is no {path:?} here"))
}

/// Browsers ask with OPTIONS what they may do; anything else is refused. `Allow` is there in both cases.
async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::new(
        Kind::MethodNotAllowed,
        format!("{path:?} does not take {method}"),
    )
    .into_response()
}
