//! The whole API over a store of its own, in this process and under a clock that the test moves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cutover::alert::dispatch::Handle;
use cutover::alert::rule::Rules;
use cutover::http::{ApiState, Limits, Listen, Tokens, router};
use cutover::ingest::{Ways, otlp};
use cutover::migration::{Config, Tracker};
use cutover::model::{Batch, Clock, Labels, ManualClock, Sample, Timestamp};
use cutover::net::body;
use cutover::promql::{self, Engine};
use cutover::store::{Options, Store};
use cutover::telemetry::Metrics;
use cutover::telemetry::health::Health;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request};
use tower::ServiceExt;

pub(crate) const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// A metric, its labels, a value.
pub(crate) type SeriesValue<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) tracker: Tracker,
    pub(crate) health: Health,
    pub(crate) router: Router,
    _dir: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The status, type and text of an error.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(json["status"], "error", "{self:?}");
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        (self.status, text("errorType"), text("error"))
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(&[], |_| {})
    }

    pub(crate) fn with(configs: &[Config], change: impl FnOnce(&mut ApiState)) -> Self {
        Self::open(Options::default(), START, configs, change)
    }

    /// Over a store with other settings, at another time.
    pub(crate) fn open(
        options: Options,
        now: Timestamp,
        configs: &[Config],
        change: impl FnOnce(&mut ApiState),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now));
        let store = Store::open(dir.path(), options, clock.clone()).unwrap();
        let tracker =
            Tracker::open(store.reader(), store.writer(), clock.clone(), configs).unwrap();
        let health = Health::new(clock.clone());
        let metrics = Metrics::default();
        let shared: Arc<dyn Clock> = clock.clone();
        let mut state = ApiState {
            engine: Engine::new(store.reader(), promql::Limits::default()),
            reader: store.reader(),
            writer: store.writer(),
            alerts: Handle::stopped(),
            migrations: tracker.clone(),
            ways: Ways::open(
                &store.reader(),
                &store.writer(),
                &shared,
                &metrics,
                otlp::Config::default(),
            )
            .unwrap(),
            metrics,
            health: health.clone(),
            clock: clock.clone(),
            limits: Limits::default(),
            listen: Listen {
                host: "127.0.0.1".into(),
                names: vec![],
            },
            tokens: Tokens::default(),
            watches: Arc::new(BTreeMap::new()),
            dead_letters: Arc::new(|_| Ok(vec![])),
            targets: Arc::new(Vec::new),
            rules: Rules::default(),
            settings: Arc::default(),
            snapshots: None,
        };
        change(&mut state);
        Self {
            store,
            clock,
            tracker,
            health,
            router: router(state),
            _dir: dir,
        }
    }

    /// Writes one sample of each series at the present time.
    pub(crate) fn write(&self, samples: &[SeriesValue<'_>]) {
        let mut batch = Batch::default();
        for (metric, labels, value) in samples {
            let sample = Sample::new(self.clock.now(), *value);
            batch.push(Labels::of(metric, labels), sample);
        }
        self.store.writer().write_blocking(batch).unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.send_lossy(request).await;
        assert!(!answer.body.contains('\u{fffd}'), "{answer:?} is not UTF-8");
        answer
    }

    /// The same where the answer may be no text.
    pub(crate) async fn send_lossy(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, response_body) = response.into_parts();
        let bytes = body::read(response_body, 1 << 26, Duration::from_secs(10)).await;
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&bytes.unwrap()).into_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, Body::empty())).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &'static str) -> Answer {
        let mut request = request(Method::POST, path, form.into());
        let form_type = "application/x-www-form-urlencoded".parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, form_type);
        self.send(request).await
    }

    pub(crate) async fn post(&self, path: &str, json: &str) -> Answer {
        let mut request = request(Method::POST, path, json.to_owned().into());
        let json_type = "application/json".parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, json_type);
        self.send(request).await
    }
}

pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost:9490")
        .body(body)
        .unwrap()
}
