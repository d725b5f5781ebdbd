//! Samples over HTTP: Prometheus' remote write, and the import of text.
//!
//! A request is decoded wholly before anything of it is stored. What is valid is then stored in one
//! commit, and what is not is told with status 400: the first offender, and how many of each there are.
//! Senders repeat what was answered with 503, and nothing else.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ingest::admission::{Admission, Refused};
use crate::ingest::counters::Source;
use crate::ingest::remote_write::{self, Version};
use crate::ingest::text::{self, Format};
use crate::net::encoding::Encoding;
use crate::net::{body, encoding, snappy};
use crate::store::{Rejection, Written};

use super::error::{ApiError, Kind};
use super::router::Api;
use super::turn::off_runtime;

/// Smaller bodies are decoded where they are received: going elsewhere costs more.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// The same of what is compressed, as remote write never is: text shrinks to less.
const INLINE_COMPRESSED_BYTES_MAX: usize = 32 << 10;
/// The same when decompressed.
const INLINE_DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// How many times larger metrics become when they are decompressed, as a rule: up to so many.
const USUAL_EXPANSION: usize = 32;

/// How much of a series' labels is shown in a message.
const SHOWN_CHARS_MAX: usize = 500;

/// What a request holds of each kind, told to senders of remote write 2.0.
const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Room for the bodies that are decoded or wait for their commit. What a body becomes in memory is
/// some ten times as much at worst.
#[derive(Debug)]
pub(super) struct Room(Semaphore);

impl Room {
    const BYTES: usize = 128 << 20;
    const BYTES_PER_PERMIT: usize = 1 << 10;
    const PERMITS: usize = Self::BYTES / Self::BYTES_PER_PERMIT;

    pub(super) fn new() -> Self {
        Self(Semaphore::new(Self::PERMITS))
    }

    /// Waits until there is room for so many bytes; more than all of it are given all of it.
    async fn take(&self, bytes: usize, api: &Api) -> Result<SemaphorePermit<'_>, ApiError> {
        let permits = bytes
            .div_ceil(Self::BYTES_PER_PERMIT)
            .clamp(1, Self::PERMITS);
        let timeout = api.state.limits.queue_timeout;
        let waiting = self.0.acquire_many(permits as u32);
        let permit = tokio::time::timeout(timeout, waiting)
            .await
            .map_err(|_elapsed| {
                let message = format!(
                    "no room within {timeout:?}: {} bytes of writes are taken at once",
                    Self::BYTES
                );
                ApiError::new(Kind::Unavailable, message)
            })?;
        Ok(permit.expect("the semaphore is never closed"))
    }
}

/// A body that there is room for until this is dropped.
pub(super) struct Body<'a> {
    pub(super) bytes: Bytes,
    /// How many bytes there is room for: what the body is or becomes.
    room_bytes: usize,
    _room: SemaphorePermit<'a>,
}

/// What a request came to that could be decoded.
pub(super) struct Taken {
    pub(super) refused: Refused,
    pub(super) written: Written,
}

/// `POST /api/v1/write`; errors are plain text, as those of Prometheus.
pub(super) async fn remote_write(State(api): State<Arc<Api>>, request: Request) -> Response {
    let version = match version(request.headers()) {
        Ok(version) => version,
        Err(error) => return error.into_plain(),
    };
    let (stored, result) = match take_remote_write(&api, version, request).await {
        Ok(taken) => (taken.written.accepted, taken.result()),
        Err(error) => (0, Err(error)),
    };
    let mut response = match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_plain(),
    };
    if version == Version::V2 {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, HeaderValue::from(stored));
        headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(0));
        headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(0));
    }
    response
}

/// `POST /api/v1/import/prometheus`.
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let format = format(request.headers())?;
    let received = api.state.clock.now();
    let body = api.body(request).await?;
    let taken = api.take(Source::Import, body, move |body, admission| {
        Ok(text::decode(format, body, received, admission)?)
    });
    taken.await?.result()?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_remote_write(
    api: &Api,
    version: Version,
    request: Request,
) -> Result<Taken, ApiError> {
    let encoding = remote_write_encoding(request.headers())?;
    if encoding != Encoding::Snappy {
        let body = api.body(request).await?;
        let taken = api.take(Source::RemoteWrite, body, move |body, admission| {
            Ok(remote_write::decode(version, body, admission)?)
        });
        return taken.await;
    }
    let block = read(api, request).await?;
    let bytes_max = api.state.limits.body_bytes_max;
    let room_bytes = snappy::decompressed_bytes(&block, bytes_max)?;
    let body = api.with_room(block, room_bytes).await?;
    api.take(Source::RemoteWrite, body, move |block, admission| {
        let body = snappy::decompress(block, bytes_max)?;
        Ok(remote_write::decode(version, &body, admission)?)
    })
    .await
}

async fn read(api: &Api, request: Request) -> Result<Bytes, ApiError> {
    let limits = &api.state.limits;
    let body = request.into_body();
    Ok(body::read(body, limits.body_bytes_max, limits.body_timeout).await?)
}

impl Api {
    /// The body of a request as it was before it was compressed.
    ///
    /// Room is made first for what such a body becomes as a rule, then for the most that it may become.
    pub(super) async fn body(&self, request: Request) -> Result<Body<'_>, ApiError> {
        let encoding = header(request.headers(), &CONTENT_ENCODING);
        let encoding = Encoding::of(encoding)?;
        let body = read(self, request).await?;
        if encoding == Encoding::Identity {
            let bytes = body.len();
            return self.with_room(body, bytes).await;
        }
        let bytes_max = self.state.limits.body_bytes_max;
        let usual = body.len().saturating_mul(USUAL_EXPANSION).min(bytes_max);
        let mut decompressed = self.decompress(encoding, &body, usual).await?;
        if let Err(encoding::Error::TooLarge { .. }) = decompressed
            && usual < bytes_max
        {
            decompressed = self.decompress(encoding, &body, bytes_max).await?;
        }
        Ok(decompressed?)
    }

    /// Takes the encoding off a body that may become so many bytes.
    async fn decompress(
        &self,
        encoding: Encoding,
        body: &Bytes,
        bytes_max: usize,
    ) -> Result<Result<Body<'_>, encoding::Error>, ApiError> {
        let room = self.room.take(bytes_max, self).await?;
        let (is_small, body) = (body.len() < INLINE_COMPRESSED_BYTES_MAX, body.clone());
        let work = move || Ok(encoding.decompress(&body, bytes_max));
        let bytes = if is_small {
            work()
        } else {
            off_runtime(work).await
        }?;
        Ok(bytes.map(|bytes| Body {
            room_bytes: bytes.len(),
            bytes: bytes.into(),
            _room: room,
        }))
    }

    async fn with_room(&self, bytes: Bytes, room_bytes: usize) -> Result<Body<'_>, ApiError> {
        let room = self.room.take(room_bytes, self).await?;
        Ok(Body {
            bytes,
            room_bytes,
            _room: room,
        })
    }

    /// Decodes a body and stores what is valid of it.
    async fn take(
        &self,
        source: Source,
        body: Body<'_>,
        decode: impl FnOnce(&[u8], &mut Admission<'_, '_>) -> Result<(), ApiError> + Send + 'static,
    ) -> Result<Taken, ApiError> {
        let Body {
            bytes: body,
            room_bytes,
            _room,
        } = body;
        let is_small = body.len() < INLINE_BYTES_MAX && room_bytes < INLINE_DECOMPRESSED_BYTES_MAX;
        let mut append = self.state.writer.append();
        let work = move || {
            let mut fill = append.fill();
            let mut admission = Admission::new(&mut fill);
            decode(&body, &mut admission)?;
            let refused = admission.finish();
            drop(fill);
            Ok((append, refused))
        };
        let (append, refused) = if is_small {
            work()?
        } else {
            off_runtime(work).await?
        };
        let written = if append.is_empty() {
            Written::default()
        } else {
            append.commit().await?
        };
        self.ingest.count(source, &refused, &written);
        Ok(Taken { refused, written })
    }
}

impl Taken {
    /// An error when anything was refused: by the rules of admission first, then by the store.
    fn result(self) -> Result<(), ApiError> {
        let by_rules = self.refused.first.map(|refusal| refusal.to_string());
        let by_store = || self.written.first_rejection.as_ref().map(rejected);
        let Some(first) = by_rules.or_else(by_store) else {
            return Ok(());
        };
        let refused = self.refused.samples + self.written.rejected;
        let stored = self.written.accepted;
        let message = format!("{first} (samples refused: {refused}, stored: {stored})");
        Err(ApiError::new(Kind::BadData, message))
    }
}

fn rejected(rejection: &Rejection) -> String {
    let mut labels = rejection.labels.to_string();
    if let Some((cut, _)) = labels.char_indices().nth(SHOWN_CHARS_MAX) {
        labels.truncate(cut);
        labels.push_str("...");
    }
    let timestamp = rejection.sample.timestamp;
    format!("{labels} at {timestamp}: {}", rejection.reason)
}

/// How a body of remote write is compressed: by snappy, as the protocol has it, or by zstd, as senders
/// of VictoriaMetrics may.
fn remote_write_encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let name = header(headers, &CONTENT_ENCODING).unwrap_or("snappy");
    if let Ok(encoding @ (Encoding::Snappy | Encoding::Zstd)) = Encoding::of(Some(name)) {
        return Ok(encoding);
    }
    let what = format!("Content-Encoding {name:?} is not taken: only snappy and zstd are");
    Err(ApiError::new(Kind::UnsupportedMediaType, what))
}

/// Which message of remote write a body is said to hold.
///
/// Senders of 1.0 that name neither are taken as Prometheus takes them.
fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let content_type = header(headers, &CONTENT_TYPE).unwrap_or("application/x-protobuf");
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let message = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"))
        .map(|(_, message)| message.trim().trim_matches('"'));
    let is_protobuf = essence
        .trim()
        .eq_ignore_ascii_case("application/x-protobuf");
    match message {
        None | Some("prometheus.WriteRequest") if is_protobuf => Ok(Version::V1),
        Some("io.prometheus.write.v2.Request") if is_protobuf => Ok(Version::V2),
        _ => Err(unsupported_type(
            content_type,
            "application/x-protobuf, alone or with ;proto=prometheus.WriteRequest or \
             ;proto=io.prometheus.write.v2.Request",
        )),
    }
}

/// Which format a text is said to be in.
fn format(headers: &HeaderMap) -> Result<Format, ApiError> {
    let content_type = header(headers, &CONTENT_TYPE).unwrap_or("text/plain");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        // The last is what curl says of whatever it posts.
        "text/plain" | "application/x-www-form-urlencoded" => Ok(Format::Text),
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        _ => Err(unsupported_type(
            content_type,
            "text/plain and application/openmetrics-text",
        )),
    }
}

/// A header's text; one that is not ASCII is answered as it can be shown.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?;
    Some(value.to_str().unwrap_or("(not ASCII)"))
}

fn unsupported_type(content_type: &str, taken: &str) -> ApiError {
    ApiError::new(
        Kind::UnsupportedMediaType,
        format!("Content-Type {content_type:?} is not taken: what is taken is {taken}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_message_of_remote_write_is_negotiated() {
        let of = |content_type| version(&headers(&[("content-type", content_type)])).ok();
        assert_eq!(version(&HeaderMap::new()).ok(), Some(Version::V1));
        assert_eq!(of("application/x-protobuf"), Some(Version::V1));
        assert_eq!(
            of("application/x-protobuf;proto=prometheus.WriteRequest"),
            Some(Version::V1)
        );
        assert_eq!(
            of("Application/X-Protobuf; charset=x; Proto=\"io.prometheus.write.v2.Request\""),
            Some(Version::V2)
        );
        assert_eq!(
            of("application/x-protobuf;proto=io.prometheus.write.v3.Request"),
            None
        );
        assert_eq!(of("application/json"), None);
        assert_eq!(of("application/x-protobuffer"), None);
    }

    #[test]
    fn remote_write_is_compressed_by_snappy_or_zstd() {
        let of = |name| remote_write_encoding(&headers(&[("content-encoding", name)])).ok();
        assert_eq!(of("Snappy"), Some(Encoding::Snappy));
        assert_eq!(of("zstd"), Some(Encoding::Zstd));
        assert_eq!((of("gzip"), of("identity"), of("")), (None, None, None));
        assert_eq!(
            remote_write_encoding(&HeaderMap::new()).ok(),
            Some(Encoding::Snappy)
        );
    }

    #[test]
    fn the_format_of_a_text_is_negotiated() {
        let of = |content_type| format(&headers(&[("content-type", content_type)])).ok();
        assert_eq!(format(&HeaderMap::new()).ok(), Some(Format::Text));
        assert_eq!(of("text/plain; version=0.0.4"), Some(Format::Text));
        let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(of(open_metrics), Some(Format::OpenMetrics));
        assert_eq!(of("application/json"), None);
    }
}
