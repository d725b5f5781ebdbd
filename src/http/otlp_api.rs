//! `POST /api/v1/otlp/v1/metrics`: OTLP over HTTP, answered in the encoding in which it was asked.
//!
//! What is stored in part is a success that says so, and is not sent again; what the server has no room
//! for is answered with 503 and when to come back. A request goes on when the client hangs up.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};

use crate::ingest::counters::Source;
use crate::ingest::otlp::{Answer, Encoding};

use super::error::{ApiError, Kind};
use super::router::Api;
use super::turn::off_runtime;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Response {
    let encoding = match encoding(request.headers()) {
        Ok(encoding) => encoding,
        Err(error) => return error.into_response(),
    };
    match take(&api, encoding, request).await {
        Ok(answer) => (content_type(encoding), answer.encode(encoding)).into_response(),
        Err(error) => error.into_otlp(encoding, content_type(encoding)[0].1),
    }
}

async fn take(api: &Api, encoding: Encoding, request: Request) -> Result<Answer, ApiError> {
    let body = api.body(request).await?;
    let (receiver, bytes) = (api.state.ways.otlp.clone(), body.bytes.clone());
    let taken = off_runtime(move || Ok(receiver.take(encoding, &bytes)?)).await?;
    api.ingest
        .count(Source::Otlp, &taken.refused, &taken.written);
    Ok(taken.answer)
}

fn content_type(encoding: Encoding) -> [(HeaderName, &'static str); 1] {
    let content_type = match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => JSON,
    };
    [(CONTENT_TYPE, content_type)]
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        PROTOBUF => Ok(Encoding::Protobuf),
        JSON => Ok(Encoding::Json),
        _ => Err(ApiError::new(
            Kind::UnsupportedMediaType,
            format!(
                "Content-Type {content_type:?} is not taken: what is taken is {PROTOBUF} and {JSON}"
            ),
        )),
    }
}
