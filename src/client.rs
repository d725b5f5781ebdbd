//! A typed client of our own API, over a socket or straight into the router.
//!
//! The dashboard, the command line and the tests read and write through it, so there is one read path.
//! Every call is bounded in time and size and comes to a value or to one of the errors of [`Error`]; what
//! the server said is never guessed.

mod alerting;
mod prom;
mod store;
mod transport;

use std::time::Duration;

use axum::Router;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::wire;
use crate::model::Timestamp;
use crate::model::unit::format_duration;
use crate::net::body;
use crate::net::secret::Secret;
use crate::net::tls::{self, Trust};

pub use prom::{LabelMap, PromData, PromSample, PromSeries, QueryAnswer};
pub use store::ExportError;
use transport::Transport;

/// Largest answer that is taken: a full range query of many series is some 100 MB.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Longer than the server lets a query run, so that its own answer about that arrives.
const TIMEOUT: Duration = Duration::from_secs(150);

/// Asks one server. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    timeout: Duration,
}

/// What a server may want to see, and whether it is the right one.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Shown with every request.
    pub token: Option<Secret>,
    /// For servers that speak TLS.
    pub trust: Trust,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url:?} is not a server's address: {reason}")]
    BadUrl { url: String, reason: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("the token holds characters that no token has")]
    Token,
    /// Nothing was answered: the server is away, or the network.
    #[error("{server} is unreachable: {reason}")]
    Unreachable { server: String, reason: String },
    /// The server answered that it cannot or will not.
    #[error("{message}")]
    Api {
        status: u16,
        error_type: String,
        message: String,
    },
    /// The server answered something that is not its API.
    #[error("{server} answered {what} with what cannot be read: {reason}")]
    Decode {
        server: String,
        what: String,
        reason: String,
    },
}

/// Parameters of a query string or a form.
type Pairs<'a> = Vec<(&'a str, String)>;

/// Prometheus' envelope, of success and of failure.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
}

impl Client {
    /// A client of the server at a URL such as `http://127.0.0.1:9490`. Connects when it is first asked.
    pub fn connect(server_url: &str) -> Result<Self, Error> {
        Self::connect_with(server_url, &Access::default())
    }

    /// The same where the server wants to see a token, or is known by an authority of its own.
    pub fn connect_with(server_url: &str, access: &Access) -> Result<Self, Error> {
        Ok(Self::over(Transport::connect(server_url, access)?))
    }

    /// A client of a router in this process.
    pub fn in_process(router: Router) -> Self {
        Self::over(Transport::in_process(router))
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            timeout: TIMEOUT,
        }
    }

    /// The same with another time-out for a whole call.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the client talks to, for messages.
    pub fn server(&self) -> &str {
        self.transport.server()
    }

    /// Evaluates a query at a time, now when there is none.
    pub async fn query(&self, expr: &str, at: Option<Timestamp>) -> Result<QueryAnswer, Error> {
        let mut form = vec![("query", expr.to_owned())];
        form.extend(at.map(|at| ("time", seconds(at))));
        self.evaluate("/api/v1/query", form).await
    }

    /// Evaluates a query at `start`, `start + step`, ... up to and including `end`.
    pub async fn query_range(
        &self,
        expr: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    ) -> Result<QueryAnswer, Error> {
        let form = vec![
            ("query", expr.to_owned()),
            ("start", seconds(start)),
            ("end", seconds(end)),
            ("step", format_duration(step)),
        ];
        self.evaluate("/api/v1/query_range", form).await
    }

    async fn evaluate(&self, path: &str, form: Pairs<'_>) -> Result<QueryAnswer, Error> {
        let envelope: Envelope<prom::RawData> =
            self.call(Method::POST, path, Content::Form(form)).await?;
        let data = self.data(path, envelope.data)?;
        Ok(QueryAnswer {
            data: data.parse().map_err(|reason| self.decode(path, reason))?,
            warnings: envelope.warnings,
            infos: envelope.infos,
        })
    }

    /// The series that pass one of the selectors, in all of time.
    pub async fn series(&self, selectors: &[&str]) -> Result<Vec<LabelMap>, Error> {
        let form = matches(selectors);
        self.ask(Method::POST, "/api/v1/series", Content::Form(form))
            .await
    }

    /// The values of a label among the series that pass one of the selectors, or among all.
    pub async fn label_values(&self, name: &str, selectors: &[&str]) -> Result<Vec<String>, Error> {
        let path = format!("/api/v1/label/{}/values", path_segment(name));
        self.get(&with_query(&path, matches(selectors))).await
    }

    pub async fn migrations(&self) -> Result<Vec<wire::Migration>, Error> {
        self.get("/api/v1/migrations").await
    }

    pub async fn migration(&self, id: &str) -> Result<wire::Migration, Error> {
        self.get(&migration_path(id, "")).await
    }

    pub async fn migration_events(&self, id: &str) -> Result<Vec<wire::MigrationEvent>, Error> {
        self.get(&migration_path(id, "/events")).await
    }

    pub async fn migration_create(
        &self,
        new: &wire::NewMigration,
    ) -> Result<wire::Migration, Error> {
        self.post("/api/v1/migrations", new).await
    }

    pub async fn migration_progress(
        &self,
        id: &str,
        progress: &wire::Progress,
    ) -> Result<wire::Migration, Error> {
        self.post(&migration_path(id, "/progress"), progress).await
    }

    pub async fn migration_phase(&self, id: &str, phase: &str) -> Result<wire::Migration, Error> {
        let body = serde_json::json!({ "phase": phase });
        self.post(&migration_path(id, "/phase"), &body).await
    }

    /// Ends a migration: `done` or `failed`.
    pub async fn migration_finish(&self, id: &str, status: &str) -> Result<wire::Migration, Error> {
        let body = serde_json::json!({ "status": status });
        self.post(&migration_path(id, "/finish"), &body).await
    }

    /// The newest anomalies first; `state` is `open`, `closed` or `all`.
    pub async fn anomalies(&self, state: &str, limit: usize) -> Result<Vec<wire::Anomaly>, Error> {
        let pairs = vec![("state", state.to_owned()), ("limit", limit.to_string())];
        self.get(&with_query("/api/v1/anomalies", pairs)).await
    }

    /// The newest dead letters first.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<wire::DeadLetter>, Error> {
        let pairs = vec![("limit", limit.to_string())];
        self.get(&with_query("/api/v1/dead-letters", pairs)).await
    }

    pub async fn health(&self) -> Result<wire::Health, Error> {
        self.get("/api/v1/health").await
    }

    /// Ready, or not yet and why.
    pub async fn ready(&self) -> Result<Readiness, Error> {
        let (status, body) = self.send(Method::GET, "/-/ready", Content::None).await?;
        let text = String::from_utf8_lossy(&body).trim_end().to_owned();
        match status {
            StatusCode::OK => Ok(Readiness::Ready),
            StatusCode::SERVICE_UNAVAILABLE => Ok(Readiness::NotReady(text)),
            _ => Err(self.refusal("/-/ready", status, &body)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, Content::None).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let json = serde_json::to_vec(body).expect("wire shapes become JSON");
        self.ask(Method::POST, path, Content::Json(json)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
    ) -> Result<T, Error> {
        let envelope: Envelope<T> = self.call(method, path, content).await?;
        self.data(path, envelope.data)
    }

    fn data<T>(&self, path: &str, data: Option<T>) -> Result<T, Error> {
        data.ok_or_else(|| self.decode(path, "it has no data".to_owned()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
    ) -> Result<Envelope<T>, Error> {
        let (status, body) = self.send(method, path, content).await?;
        if !status.is_success() {
            return Err(self.refusal(path, status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.decode(path, error.to_string()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
    ) -> Result<(StatusCode, hyper::body::Bytes), Error> {
        let (content_type, bytes) = content.encode();
        let exchange = async {
            let (status, body) = self
                .transport
                .send(method, path, content_type, bytes)
                .await?;
            let body = body::read(body, ANSWER_BYTES_MAX, self.timeout).await;
            let body = body.map_err(|error| self.unreachable(error.to_string()))?;
            Ok((status, body))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// What a status other than success says.
    fn refusal(&self, path: &str, status: StatusCode, body: &[u8]) -> Error {
        match serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(body) {
            Ok(envelope) if !envelope.error.is_empty() => Error::Api {
                status: status.as_u16(),
                error_type: envelope.error_type,
                message: envelope.error,
            },
            _ => {
                let body = String::from_utf8_lossy(body);
                let said: String = body
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(200)
                    .collect();
                let reason = format!("status {status} without an error of the API");
                self.decode(
                    path,
                    if said.is_empty() {
                        reason
                    } else {
                        format!("{reason}: {said:?}")
                    },
                )
            }
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::Unreachable {
            server: self.server().to_owned(),
            reason,
        }
    }

    fn decode(&self, path: &str, reason: String) -> Error {
        Error::Decode {
            server: self.server().to_owned(),
            what: path.to_owned(),
            reason,
        }
    }
}

/// What `/-/ready` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// The parts that are not, in words.
    NotReady(String),
}

/// What a request carries.
enum Content<'a> {
    None,
    Form(Pairs<'a>),
    Text(&'static str, Vec<u8>),
    Json(Vec<u8>),
}

impl Content<'_> {
    fn encode(self) -> (Option<&'static str>, Vec<u8>) {
        match self {
            Self::None => (None, Vec::new()),
            Self::Form(pairs) => (
                Some("application/x-www-form-urlencoded"),
                encode_pairs(pairs).into_bytes(),
            ),
            Self::Text(content_type, text) => (Some(content_type), text),
            Self::Json(json) => (Some("application/json"), json),
        }
    }
}

fn encode_pairs(pairs: Pairs<'_>) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn with_query(path: &str, pairs: Pairs<'_>) -> String {
    if pairs.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", encode_pairs(pairs))
}

fn matches<'a>(selectors: &[&str]) -> Pairs<'a> {
    let pair = |selector: &&str| ("match[]", (*selector).to_owned());
    selectors.iter().map(pair).collect()
}

fn migration_path(id: &str, tail: &str) -> String {
    format!("/api/v1/migrations/{}{tail}", path_segment(id))
}

/// A text as one segment of a path. A form's plus sign is a plain one in a path.
fn path_segment(text: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}

fn seconds(at: Timestamp) -> String {
    let ms = at.ms().unsigned_abs();
    let sign = if at.ms() < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests;
