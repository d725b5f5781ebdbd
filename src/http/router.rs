//! What the routes answer from, and what they share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use prometheus::IntCounterVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ingest::Ways;
use crate::ingest::counters::Counters;
use crate::migration::Tracker;
use crate::model::Clock;
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;
use crate::{promql, store};

use super::error::{ApiError, Kind};
use super::status_api::Settings;
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
    /// One permit for each query that may run at once.
    turns: Arc<Semaphore>,
    /// The same of answers that are read from the store while they are sent: they hold little, and for
    /// as long as the client likes, so that they must not keep queries waiting.
    streams: Arc<Semaphore>,
    /// One permit for each KiB of the answers that are being sent.
    answers: Arc<Semaphore>,
}

/// The share that an answer has of the memory for answers, until it is sent.
pub(super) type Held = OwnedSemaphorePermit;

const ANSWER_BYTES_PER_PERMIT: usize = 1 << 10;
/// Smaller answers are sent before they could be in anyone's way.
const ANSWER_BYTES_FREE: usize = 64 << 10;

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
    let limits = &state.limits;
    let turns = Arc::new(Semaphore::new(limits.queries_max));
    let streams = Arc::new(Semaphore::new(limits.queries_max));
    let answers = limits.answer_bytes_max / ANSWER_BYTES_PER_PERMIT;
    let api = Arc::new(Api {
        ingest: state.ways.counters.clone(),
        state,
        requests,
        room: Room::new(),
        turns,
        streams,
        answers: Arc::new(Semaphore::new(answers)),
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

impl Api {
    /// Runs a query off the async runtime, when its turn has come.
    ///
    /// When the client hangs up, the work is told so and keeps its turn until it has noticed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<AtomicBool>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (result, _) = self.read_to_send(work, |_| 0).await?;
        Ok(result)
    }

    /// The same where the result takes memory until it is sent, `weigh` says how many bytes.
    ///
    /// The turn is kept until there is room for the result: clients that take no answers must not pile
    /// them up here.
    pub(super) async fn read_to_send<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<AtomicBool>) -> Result<T, ApiError> + Send + 'static,
        weigh: impl FnOnce(&T) -> usize,
    ) -> Result<(T, Option<Held>), ApiError> {
        let turn = self.turn(&self.turns, "queries").await?;
        let hang_up = CancelOnDrop(Arc::default());
        let cancel = hang_up.0.clone();
        let (result, _turn) = off_runtime(move || Ok((work(cancel)?, turn))).await?;
        let bytes = weigh(&result);
        if bytes < ANSWER_BYTES_FREE {
            return Ok((result, None));
        }
        Ok((result, Some(self.hold(bytes).await?)))
    }

    /// Waits for the turn of an answer that is read while it is sent.
    pub(super) async fn stream_turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.turn(&self.streams, "streamed answers").await
    }

    async fn turn(
        &self,
        turns: &Arc<Semaphore>,
        what: &str,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let queue_timeout = self.state.limits.queue_timeout;
        let turn = tokio::time::timeout(queue_timeout, turns.clone().acquire_owned())
            .await
            .map_err(|_elapsed| {
                let message = format!(
                    "no turn within {queue_timeout:?}: {} {what} run at once (query.concurrent_max)",
                    self.state.limits.queries_max
                );
                ApiError::new(Kind::Timeout, message)
            })?
            .expect("the semaphore is never closed");
        Ok(turn)
    }

    /// Waits until there is room for so many bytes; more than all of it are given all of it.
    async fn hold(&self, bytes: usize) -> Result<Held, ApiError> {
        let limits = &self.state.limits;
        let most = limits.answer_bytes_max / ANSWER_BYTES_PER_PERMIT;
        let permits = bytes.div_ceil(ANSWER_BYTES_PER_PERMIT).min(most) as u32;
        let waiting = self.answers.clone().acquire_many_owned(permits);
        let held = tokio::time::timeout(limits.answer_timeout, waiting)
            .await
            .map_err(|_elapsed| {
                let message = format!(
                    "no room within {:?}: answers of {} bytes wait for clients to take them",
                    limits.answer_timeout, limits.answer_bytes_max
                );
                ApiError::new(Kind::Unavailable, message)
            })?
            .expect("the semaphore is never closed");
        Ok(held)
    }
}

/// Runs what blocks off the async runtime; it goes on when the client hangs up.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::new(
            Kind::Internal,
            format!("the request broke off: {error}"),
        )),
    }
}

/// Tells the work of a request that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::ingest::otlp;
    use crate::model::SystemClock;

    fn api() -> Api {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::default());
        let options = store::Options::default();
        let store = store::Store::open(dir.path(), options, clock.clone()).unwrap();
        let (reader, writer) = (store.reader(), store.writer());
        let metrics = Metrics::default();
        let shared: Arc<dyn Clock> = clock.clone();
        let state = ApiState {
            engine: promql::Engine::new(reader.clone(), promql::Limits::default()),
            migrations: Tracker::open(reader.clone(), writer.clone(), clock.clone(), &[]).unwrap(),
            ways: Ways::open(&reader, &writer, &shared, &metrics, otlp::Config::default()).unwrap(),
            reader,
            writer,
            metrics,
            health: Health::new(clock.clone()),
            clock,
            limits: Limits {
                queries_max: 1,
                ..Limits::default()
            },
            listen: guard::Listen::default(),
            tokens: auth::Tokens::default(),
            watches: Arc::default(),
            dead_letters: Arc::new(|_| Ok(Vec::new())),
            targets: Arc::new(Vec::new),
            settings: Arc::default(),
            snapshots: None,
        };
        let requests = state
            .metrics
            .counter("requests_total", "Requests.", &["handler", "code"]);
        Api {
            ingest: state.ways.counters.clone(),
            room: Room::new(),
            state,
            requests,
            turns: Arc::new(Semaphore::new(1)),
            streams: Arc::new(Semaphore::new(1)),
            answers: Arc::new(Semaphore::new(1)),
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_told_so_and_gives_its_turn_back() {
        let api = api();
        let (began, begun) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let read = api.read(move |cancel| {
            began.send(()).unwrap();
            while !cancel.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            end.send(()).unwrap();
            Ok(())
        });
        tokio::select! {
            _ = read => panic!("it ends only when it is given up"),
            begun = tokio::task::spawn_blocking(move || begun.recv()) => begun.unwrap().unwrap(),
        }
        tokio::task::spawn_blocking(move || ended.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(api.read(|_| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_query_that_finds_no_turn_is_told_so() {
        let mut api = api();
        api.state.limits.queue_timeout = Duration::from_millis(20);
        let (began, begun) = sync_channel(1);
        let (release, released) = sync_channel(1);
        let first = api.read(move |_| {
            began.send(()).unwrap();
            released.recv().unwrap();
            Ok(1)
        });
        let second = async {
            tokio::task::spawn_blocking(move || begun.recv())
                .await
                .unwrap()
                .unwrap();
            let refused = api.read(|_| Ok(2)).await;
            release.send(()).unwrap();
            refused
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap(), 1);
        let message = "no turn within 20ms: 1 queries run at once (query.concurrent_max)";
        assert_eq!(
            format!("{:?}", second.unwrap_err()),
            format!("{:?}", ApiError::new(Kind::Timeout, message))
        );
    }
}
