//! One POST, and what came of it: shared by all channels but mail.
//!
//! Redirects are not followed, since what is sent is meant for one receiver; proxies are not supported.
//! Each request has a connection of its own: notifications are rare, and one that was kept open would
//! mostly be found closed.

use std::cmp::Reverse;
use std::error::Error as StdError;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::address::{Address, REDACTED};
use super::config::Connection;
use super::{Error, text};
use crate::net::body;
use crate::net::secret::{Secret, Source};
use crate::net::tls::{self, Trust};

/// Of an answer; it is read for the sake of an error text only.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Of an answer that is shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Reads a secret. Later it may be there.
pub(super) fn load(source: &Source) -> Result<Secret, Error> {
    source.load().map_err(|error| match error.source() {
        Some(cause) => Error::later(format!("{error}: {cause}")),
        None => Error::later(error.to_string()),
    })
}

/// A header's value that does not show.
pub(super) fn sensitive(value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_unsendable| Error::later("a secret has characters that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// On one line, cut, and cleared of secrets.
    pub(super) body: String,
    retry_after: Option<Duration>,
    from: Address,
}

impl Answer {
    /// `200 OK: ok`, or the status alone.
    pub(super) fn shown(&self) -> String {
        match &*self.body {
            "" => self.status.to_string(),
            body => format!("{}: {body}", self.status),
        }
    }

    /// Success as most receivers say it: any status from 200 to 299.
    pub(super) fn accepted(self) -> Result<String, Error> {
        if self.status.is_success() {
            return Ok(self.shown());
        }
        Err(self.refused())
    }

    /// The error that it is: later for a receiver that is busy or broken, never for what it does not want.
    pub(super) fn refused(self) -> Error {
        let (from, shown) = (&self.from, self.shown());
        match self.status.as_u16() {
            408 | 425 | 429 | 500..=599 => Error::Later {
                reason: format!("{from} answers {shown}"),
                retry_after: self.retry_after,
            },
            401 | 403 => Error::never(format!("{from} does not accept the secret: {shown}")),
            300..=399 => Error::never(format!(
                "{from} answers {}, and redirects are not followed: set the address that it leads to",
                self.status
            )),
            _ => Error::never(format!("{from} refuses it: {shown}")),
        }
    }
}

type Client<C> = legacy::Client<C, Full<Bytes>>;

/// Sends requests to one receiver.
#[derive(Debug)]
pub(super) struct Http {
    plain: Client<HttpConnector>,
    /// Why there is no TLS: some hosts have no authorities, and need none for an address without TLS.
    tls: Result<Client<HttpsConnector<HttpConnector>>, String>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(connection: &Connection) -> Result<Self, String> {
        let trust = connection.trust();
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        let config = tls::client_config(&trust).and_then(|config| tls::connector(config, None));
        let tls = match config {
            Ok(connector) => Ok(builder.build(connector)),
            Err(error) if trust == Trust::System => Err(error.to_string()),
            Err(error) => return Err(format!("ca_file: {error}")),
        };
        Ok(Self {
            plain: builder.build_http(),
            tls,
            timeout: connection.timeout,
        })
    }

    /// Posts JSON. `headers` may hold secrets, which are kept out of what is answered and of errors.
    pub(super) async fn post(
        &self,
        address: &Address,
        headers: HeaderMap,
        body: Vec<u8>,
        secrets: &[&Secret],
    ) -> Result<Answer, Error> {
        let posting = self.post_unbounded(address, headers, body, secrets);
        tokio::time::timeout(self.timeout, posting)
            .await
            .unwrap_or_else(|_elapsed| {
                let timeout = self.timeout;
                Err(Error::later(format!(
                    "{address}: no answer within {timeout:?}"
                )))
            })
    }

    async fn post_unbounded(
        &self,
        address: &Address,
        mut headers: HeaderMap,
        body: Vec<u8>,
        secrets: &[&Secret],
    ) -> Result<Answer, Error> {
        // Named, since some receivers take it for UTF-16 otherwise, and count it twice as long.
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(CONTENT_TYPE, json);
        let agent = concat!("cutover/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address.0.clone();
        *request.headers_mut() = headers;
        let response = self.request(address, request).await?;
        let (head, body) = response.into_parts();
        // An answer that is too long or breaks off has a status all the same.
        let body = body::read(body, ANSWER_BYTES_MAX, self.timeout).await;
        let body = body.unwrap_or_default();
        let given = secrets.iter().map(|secret| secret.expose());
        let body = clear(
            &String::from_utf8_lossy(&body),
            given.chain(address.secrets()),
        );
        Ok(Answer {
            status: head.status,
            body: text::line(&body, SHOWN_CHARS_MAX),
            retry_after: retry_after(&head.headers),
            from: address.clone(),
        })
    }

    async fn request(
        &self,
        address: &Address,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        let sent = if address.is_tls() {
            let client = self
                .tls
                .as_ref()
                .map_err(|reason| Error::later(reason.as_str()))?;
            client.request(request).await
        } else {
            self.plain.request(request).await
        };
        sent.map_err(|error| Error::later(format!("{address}: {}", innermost(&error))))
    }
}

/// The cause at the bottom, such as "connection refused"; the layers above it say nothing more.
pub(super) fn innermost(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A text of the other side without what it may have repeated of our secrets.
pub(super) fn clear<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
    let mut secrets: Vec<&str> = secrets.collect();
    // One may be part of another, of which nothing is to be left.
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    let hide = |text: String, secret: &&str| text.replace(*secret, REDACTED);
    secrets.iter().fold(text.to_owned(), hide)
}

/// `Retry-After`, in seconds or as a date; the date counts from the answer's own, so that no two clocks
/// have to agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let value = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok();
    let (until, now) = (date(value)?, date(text(DATE)?)?);
    let seconds = until.timestamp().as_second() - now.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cleared_of_what_it_repeats() {
        let address = Address::parse("https://a/services/T0123456/hunter2-hunter2?k=v").unwrap();
        let token = Secret::new("tok");
        let text = "no hunter2-hunter2 at /services/T0123456/hunter2-hunter2?k=v for tok";
        let secrets = [token.expose()].into_iter().chain(address.secrets());
        assert_eq!(
            clear(text, secrets),
            "no <redacted> at <redacted> for <redacted>"
        );
    }

    #[test]
    fn the_time_to_wait_is_in_seconds_or_up_to_a_date() {
        let after = |value: &'static str, date: &'static str| {
            let pairs = [(RETRY_AFTER, value), (DATE, date)];
            retry_after(
                &pairs
                    .map(|(name, value)| (name, HeaderValue::from_static(value)))
                    .into_iter()
                    .collect(),
            )
        };
        let date = "Thu, 26 Nov 2026 03:00:00 GMT";
        assert_eq!(after("120", ""), Some(Duration::from_secs(120)));
        let later = after("Thu, 26 Nov 2026 03:01:30 GMT", date);
        assert_eq!(later, Some(Duration::from_secs(90)));
        let past = after("Thu, 26 Nov 2026 02:00:00 GMT", date);
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(after("soon", date), None);
        assert_eq!(after("-1", date), None);
    }

    #[test]
    fn a_status_says_whether_it_is_worth_trying_again() {
        let outcome = |status: u16| {
            let answer = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                body: "no".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
                from: Address::parse("http://a/b").unwrap(),
            };
            match answer.accepted() {
                Ok(text) => text,
                Err(Error::Later {
                    reason,
                    retry_after,
                }) => format!("later {retry_after:?} {reason}"),
                Err(Error::Never { reason }) => format!("never {reason}"),
            }
        };
        assert_eq!(outcome(200), "200 OK: no");
        assert_eq!(outcome(202), "202 Accepted: no");
        let busy = "later Some(7s) http://a/<redacted> answers 429 Too Many Requests: no";
        assert_eq!(outcome(429), busy);
        let broken = "later Some(7s) http://a/<redacted> answers 503 Service Unavailable: no";
        assert_eq!(outcome(503), broken);
        let secret = "never http://a/<redacted> does not accept the secret: 401 Unauthorized: no";
        assert_eq!(outcome(401), secret);
        let bad = "never http://a/<redacted> refuses it: 400 Bad Request: no";
        assert_eq!(outcome(400), bad);
        let moved = "never http://a/<redacted> answers 302 Found, and redirects are not followed: set the \
                     address that it leads to";
        assert_eq!(outcome(302), moved);
    }
}
