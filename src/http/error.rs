//! What a request can fail with, and the status and `errorType` that say so.
//!
//! The one table from errors to HTTP: each error enum below has one exhaustive match here, so that a new
//! variant does not compile until somebody has decided what a client is told.

use std::error::Error as StdError;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::alert::dispatch::{self, silence};
use crate::ingest::{admission, otlp, push, remote_write, text};
use crate::net::{body, encoding, snappy};
use crate::promql::Exceeded;
use crate::{migration, promql, store};

/// An error as a client sees it.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: Kind,
    message: String,
}

/// Prometheus' error types, and those that only our own routes need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadData,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    Execution,
    Canceled,
    Internal,
    Unavailable,
    /// What the configuration keeps off: trying again does not help.
    Disabled,
    Timeout,
}

/// Seconds after which a client may try again what the server had no room for.
const RETRY_AFTER: &str = "5";

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Canceled => StatusCode::from_u16(499).expect("499 is in the range of statuses"),
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::Disabled | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
            Self::Unavailable | Self::Disabled => "unavailable",
            Self::Timeout => "timeout",
        }
    }
}

impl Kind {
    /// What gRPC calls it.
    fn rpc_code(self) -> i32 {
        match self {
            Self::BadData
            | Self::Conflict
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::Execution => 3,
            Self::NotFound => 5,
            Self::Forbidden => 7,
            Self::Unauthorized => 16,
            Self::MethodNotAllowed => 12,
            Self::Internal => 13,
            Self::Canceled => 1,
            Self::Unavailable | Self::Disabled | Self::Timeout => 14,
        }
    }
}

impl ApiError {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The same error, said of one part of what was sent.
    pub(super) fn within(self, place: &str) -> Self {
        let message = format!("{place}: {}", self.message);
        Self { message, ..self }
    }

    /// A parameter that cannot be used, in Prometheus' words.
    pub(super) fn bad_param(name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Kind::BadData, format!("invalid parameter {name:?}: {why}"))
    }

    /// An error of the layer below with everything that caused it.
    pub(super) fn caused(kind: Kind, error: &dyn StdError) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors already print their source.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self { kind, message }
    }

    /// The error as a line of text, where Prometheus answers so.
    pub(super) fn into_plain(self) -> Response {
        let text = format!("{}\n", self.message);
        let content_type = "text/plain; charset=utf-8";
        self.respond(content_type, text.into_bytes())
    }

    /// The error as clients of OTLP read it.
    pub(super) fn into_otlp(
        self,
        encoding: otlp::Encoding,
        content_type: &'static str,
    ) -> Response {
        let body = otlp::encode_error(encoding, self.kind.rpc_code(), &self.message);
        self.respond(content_type, body)
    }

    fn respond(&self, content_type: &'static str, body: Vec<u8>) -> Response {
        if self.kind == Kind::Internal {
            tracing::error!(error = %self.message, "request failed");
        }
        let headers = [(header::CONTENT_TYPE, content_type)];
        let mut response = (self.kind.status(), headers, body).into_response();
        if self.kind == Kind::Unavailable {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Envelope<'a> {
            status: &'a str,
            #[serde(rename = "errorType")]
            error_type: &'a str,
            error: &'a str,
        }
        let envelope = Envelope {
            status: "error",
            error_type: self.kind.name(),
            error: &self.message,
        };
        let json = serde_json::to_vec(&envelope).expect("texts become JSON");
        self.respond("application/json", json)
    }
}

impl From<promql::Error> for ApiError {
    fn from(error: promql::Error) -> Self {
        let kind = match error {
            promql::Error::BadData { message } => return Self::bad_param("query", message),
            promql::Error::Store(error) => return error.into(),
            promql::Error::Limit(limit) => match limit {
                Exceeded::QueryBytes { .. } | Exceeded::Depth { .. } => {
                    return Self::bad_param("query", limit);
                }
                Exceeded::Points { .. } => return Self::bad_param("step", limit),
                Exceeded::Samples { .. } => Kind::Execution,
            },
            promql::Error::Execution { .. } => Kind::Execution,
            promql::Error::Timeout(_) => Kind::Timeout,
            promql::Error::Canceled => Kind::Canceled,
        };
        Self::caused(kind, &error)
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        let kind = match error {
            store::Error::TooManySamples { .. } => Kind::Execution,
            store::Error::NotEmpty { .. } => Kind::BadData,
            store::Error::Closed
            | store::Error::DiskFull { .. }
            | store::Error::Busy { .. }
            | store::Error::Uncertain { .. }
            | store::Error::Recovering { .. }
            | store::Error::Restarted => Kind::Unavailable,
            store::Error::Record { .. }
            | store::Error::RecordSchema { .. }
            | store::Error::Deletion
            | store::Error::Io { .. }
            | store::Error::Locked { .. }
            | store::Error::NotStore { .. }
            | store::Error::NotDirectory { .. }
            | store::Error::NotWritable { .. }
            | store::Error::Missing { .. }
            | store::Error::NewerFormat { .. }
            | store::Error::Mismatch { .. }
            | store::Error::Corrupt { .. }
            | store::Error::Engine { .. }
            | store::Error::NotSealed { .. } => Kind::Internal,
        };
        Self::caused(kind, &error)
    }
}

impl From<migration::Error> for ApiError {
    fn from(error: migration::Error) -> Self {
        let kind = match error {
            migration::Error::Store(error) => return error.into(),
            migration::Error::Unknown { .. } => Kind::NotFound,
            migration::Error::Invalid { .. } | migration::Error::TooMany { .. } => Kind::BadData,
            migration::Error::Exists { .. }
            | migration::Error::TotalFell { .. }
            | migration::Error::CountedByCdc { .. }
            | migration::Error::Transition { .. }
            | migration::Error::Finished { .. } => Kind::Conflict,
        };
        Self::caused(kind, &error)
    }
}

impl From<dispatch::Error> for ApiError {
    fn from(error: dispatch::Error) -> Self {
        let kind = match error {
            dispatch::Error::Store(error) => return error.into(),
            dispatch::Error::Silence(silence::Error::Unknown { .. }) => Kind::NotFound,
            dispatch::Error::Silence(
                silence::Error::Invalid(_) | silence::Error::TooMany { .. },
            ) => Kind::BadData,
            dispatch::Error::Full { .. } | dispatch::Error::Stopped => Kind::Unavailable,
        };
        Self::caused(kind, &error)
    }
}

impl From<body::Error> for ApiError {
    fn from(error: body::Error) -> Self {
        let kind = match error {
            body::Error::TooLarge { .. } => Kind::TooLarge,
            body::Error::Timeout(_) => Kind::Timeout,
            body::Error::Broken(_) => Kind::BadData,
        };
        Self::caused(kind, &error)
    }
}

impl From<snappy::Error> for ApiError {
    fn from(error: snappy::Error) -> Self {
        let kind = match error {
            snappy::Error::TooLarge { .. } => Kind::TooLarge,
            snappy::Error::Malformed(_) | snappy::Error::Impossible { .. } => Kind::BadData,
        };
        Self::caused(kind, &error)
    }
}

impl From<encoding::Unsupported> for ApiError {
    fn from(error: encoding::Unsupported) -> Self {
        Self::caused(Kind::UnsupportedMediaType, &error)
    }
}

impl From<encoding::Error> for ApiError {
    fn from(error: encoding::Error) -> Self {
        let kind = match error {
            encoding::Error::Snappy(error) => return error.into(),
            encoding::Error::TooLarge { .. } => Kind::TooLarge,
            encoding::Error::Malformed { .. } => Kind::BadData,
        };
        Self::caused(kind, &error)
    }
}

impl From<admission::Exceeded> for ApiError {
    fn from(error: admission::Exceeded) -> Self {
        let kind = match error {
            admission::Exceeded::Items | admission::Exceeded::Symbols { .. } => Kind::TooLarge,
        };
        Self::caused(kind, &error)
    }
}

impl From<remote_write::Error> for ApiError {
    fn from(error: remote_write::Error) -> Self {
        match error {
            remote_write::Error::Limit(limit) => limit.into(),
            remote_write::Error::Malformed { .. } => Self::caused(Kind::BadData, &error),
        }
    }
}

impl From<otlp::Error> for ApiError {
    fn from(error: otlp::Error) -> Self {
        match error {
            otlp::Error::Limit(limit) => limit.into(),
            otlp::Error::Store(error) => error.into(),
            otlp::Error::Decode(otlp::DecodeError::TooManyMessages) => {
                Self::caused(Kind::TooLarge, &error)
            }
            otlp::Error::Decode(_) => Self::caused(Kind::BadData, &error),
        }
    }
}

impl From<push::Error> for ApiError {
    fn from(error: push::Error) -> Self {
        match error {
            push::Error::Store(error) => error.into(),
            push::Error::Refused(push::Refused::Syntax(error)) => {
                Self::caused(Kind::BadData, &error)
            }
            push::Error::Refused(_) => Self::caused(Kind::BadData, &error),
        }
    }
}

impl From<text::Refused> for ApiError {
    fn from(error: text::Refused) -> Self {
        match error {
            text::Refused::Limit(limit) => limit.into(),
            text::Refused::Syntax(error) => Self::caused(Kind::BadData, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(error: impl Into<ApiError>) -> (u16, &'static str, String) {
        let error = error.into();
        (
            error.kind.status().as_u16(),
            error.kind.name(),
            error.message,
        )
    }

    #[test]
    fn query_errors_have_prometheus_statuses_and_types() {
        let message = "1:3: parse error".to_owned();
        assert_eq!(
            shown(promql::Error::BadData { message }),
            (
                400,
                "bad_data",
                "invalid parameter \"query\": 1:3: parse error".into()
            )
        );
        let message = "many-to-many matching not allowed".to_owned();
        assert_eq!(
            shown(promql::Error::Execution {
                message: message.clone()
            }),
            (422, "execution", message)
        );
        let points = Exceeded::Points {
            points: 11_001,
            points_max: 11_000,
        };
        let (status, _, message) = shown(promql::Error::Limit(points));
        assert_eq!(status, 400);
        assert!(
            message.starts_with("invalid parameter \"step\": "),
            "{message}"
        );
        let samples = Exceeded::Samples { samples_max: 5 };
        let (status, kind, _) = shown(promql::Error::Limit(samples));
        assert_eq!((status, kind), (422, "execution"));
        let (status, kind, _) = shown(promql::Error::Timeout(Duration::from_secs(1)));
        assert_eq!((status, kind), (503, "timeout"));
        let (status, kind, _) = shown(promql::Error::Canceled);
        assert_eq!((status, kind), (499, "canceled"));
        let too_many = store::Error::TooManySamples { samples_max: 5 };
        let (status, kind, _) = shown(promql::Error::Store(too_many));
        assert_eq!((status, kind), (422, "execution"));
    }

    #[test]
    fn an_inner_cause_is_told_once() {
        let source = std::io::Error::other("disk on fire");
        let path = "/data/wal.redb".into();
        assert_eq!(
            shown(store::Error::Io { path, source }),
            (500, "internal", "/data/wal.redb: disk on fire".into())
        );
        let broken = body::Error::Broken("connection reset".into());
        assert_eq!(
            shown(broken),
            (
                400,
                "bad_data",
                "the body broke off: connection reset".into()
            )
        );
    }

    #[test]
    fn a_server_without_room_says_when_to_come_back() {
        let response = ApiError::from(store::Error::Closed).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        let plain = ApiError::from(store::Error::Restarted).into_plain();
        assert_eq!(plain.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(plain.headers()[header::RETRY_AFTER], "5");
    }
}
