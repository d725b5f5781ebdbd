//! Whose turn it is: how many requests read at once, and how much their answers hold until they are sent.
//!
//! Queries run off the async runtime, so many at a time; more wait. A large answer stays in memory until
//! its client has taken it, so all of them together have a bound too, and what is read from the store
//! while it is sent has turns of its own: it holds little, and for as long as the client likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, Kind};
use super::router::{Api, Limits};

/// The share that an answer has of the memory for answers, until it is sent.
pub(super) type Held = OwnedSemaphorePermit;

const ANSWER_BYTES_PER_PERMIT: usize = 1 << 10;
/// Smaller answers are sent before they could be in anyone's way.
const ANSWER_BYTES_FREE: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Turns {
    /// One permit for each query that may run at once.
    queries: Arc<Semaphore>,
    /// The same of answers that are read while they are sent.
    streams: Arc<Semaphore>,
    /// One permit for each KiB of the answers that are being sent.
    answers: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new(limits: &Limits) -> Self {
        let permits = |permits| Arc::new(Semaphore::new(permits));
        Self {
            queries: permits(limits.queries_max),
            streams: permits(limits.queries_max),
            answers: permits(limits.answer_bytes_max / ANSWER_BYTES_PER_PERMIT),
        }
    }
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
        let turn = self.turn(&self.turns.queries, "queries").await?;
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
        self.turn(&self.turns.streams, "streamed answers").await
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
        let waiting = self.turns.answers.clone().acquire_many_owned(permits);
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
    use std::time::Duration;

    use super::super::router::{ApiState, Limits};
    use super::super::write_api::Room;
    use super::super::{auth, guard};
    use super::*;
    use crate::alert::rule::Rules;
    use crate::ingest::{Ways, otlp};
    use crate::migration::Tracker;
    use crate::model::{Clock, SystemClock};
    use crate::telemetry::Metrics;
    use crate::telemetry::health::Health;
    use crate::{promql, store};

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
            alerts: crate::alert::dispatch::Handle::stopped(),
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
            rules: Rules::default(),
            settings: Arc::default(),
            snapshots: None,
        };
        let requests = state
            .metrics
            .counter("requests_total", "Requests.", &["handler", "code"]);
        Api {
            ingest: state.ways.counters.clone(),
            turns: Turns::new(&state.limits),
            room: Room::new(),
            state,
            requests,
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

    #[tokio::test]
    async fn large_answers_wait_until_others_are_sent() {
        let mut api = api();
        api.state.limits.answer_bytes_max = 100 << 10;
        api.state.limits.answer_timeout = Duration::from_millis(20);
        api.turns = Turns::new(&api.state.limits);
        let answer = async |bytes| api.read_to_send(|_| Ok(()), |()| bytes).await;
        let ((), first) = answer(80 << 10).await.unwrap();
        assert!(first.is_some());
        let message = "no room within 20ms: answers of 102400 bytes wait for clients to take them";
        assert_eq!(
            format!("{:?}", answer(80 << 10).await.unwrap_err()),
            format!("{:?}", ApiError::new(Kind::Unavailable, message))
        );
        // Small ones need no room, and the refused one gave its turn back.
        assert!(answer(1 << 10).await.unwrap().1.is_none());
        drop(first);
        // More than all of it is given all of it.
        assert!(answer(1 << 30).await.unwrap().1.is_some());
    }
}
