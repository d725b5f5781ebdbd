//! Pushes to groups, as a Pushgateway answers them: 200, 202 for a deletion, and errors in plain text.
//!
//! A push goes on when the client hangs up: it is taken whole or not at all, and may be sent again.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::ingest::admission::Refused;
use crate::ingest::counters::Source;
use crate::ingest::push::{self, GroupKey};
use crate::ingest::text::Format;

use super::error::{ApiError, Kind};
use super::router::Api;
use super::turn::off_runtime;

/// `PUT`, `POST` and `DELETE /metrics/job/...`.
pub(super) async fn push(State(api): State<Arc<Api>>, request: Request) -> Response {
    let answer = match push::parse_path(request.uri().path()) {
        Err(error) => Err(ApiError::new(Kind::BadData, error.to_string())),
        Ok(key) => match *request.method() {
            Method::PUT => take(&api, push::Method::Replace, key, request).await,
            Method::POST => take(&api, push::Method::Merge, key, request).await,
            _ => delete(&api, key).await,
        },
    };
    match answer {
        Ok(status) => status.into_response(),
        Err(error) => error.into_plain(),
    }
}

async fn take(
    api: &Api,
    method: push::Method,
    key: GroupKey,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let format = format(request.headers())?;
    let body = api.body(request).await?;
    let groups = api.state.ways.push.clone();
    let bytes = body.bytes.clone();
    let pushed = off_runtime(move || Ok(groups.push(method, key, format, &bytes)?)).await?;
    api.ingest.count(Source::Push, &Refused::default(), &pushed);
    Ok(StatusCode::OK)
}

async fn delete(api: &Api, key: GroupKey) -> Result<StatusCode, ApiError> {
    let groups = api.state.ways.push.clone();
    off_runtime(move || Ok(groups.delete(key)?)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The format of a push. Whatever is not said to be another is taken for text, as a Pushgateway does:
/// clients such as curl say all sorts of things.
fn format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next();
    match essence
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => Err(ApiError::new(
            Kind::UnsupportedMediaType,
            "metrics in protobuf (application/vnd.google.protobuf) are not taken: push them as text",
        )),
        _ => Ok(Format::Text),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn whatever_is_not_said_to_be_another_format_is_text() {
        let of = |content_type: &'static str| {
            let value = HeaderValue::from_static(content_type);
            format(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).ok()
        };
        assert_eq!(format(&HeaderMap::new()).ok(), Some(Format::Text));
        assert_eq!(of("application/x-www-form-urlencoded"), Some(Format::Text));
        assert_eq!(
            of("application/openmetrics-text; version=1.0.0"),
            Some(Format::OpenMetrics)
        );
        let protobuf = "application/vnd.google.protobuf; \
                        proto=io.prometheus.client.MetricFamily; encoding=delimited";
        assert_eq!(of(protobuf), None);
    }
}
