//! What every request passes before its route: whose request it is, how long it may take.
//!
//! A server on loopback is reachable by every web page that its host's browser shows. Such a page cannot
//! choose what the browser writes into `Host` and `Origin`, so both are checked on every request, reads
//! included: a foreign `Host` is a name that was pointed at us (DNS rebinding), a foreign `Origin` a page
//! that is not ours. Where tokens are asked for, any `Host` will do: a page has none.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Kind};
use super::router::Api;

/// The names by which this server may be addressed, beside those of loopback.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// The host that it listens on, a name or an address. The unspecified address admits every address
    /// (an address in `Host` cannot have been rebound), but no names.
    pub host: String,
    /// Further names, such as that of a proxy or a container.
    pub names: Vec<String>,
}

impl Listen {
    fn admits(&self, host: &str) -> bool {
        let Some(address) = parse_address(host) else {
            let host = host.trim_end_matches('.');
            return std::iter::once("localhost")
                .chain([self.host.as_str()])
                .chain(self.names.iter().map(String::as_str))
                .any(|name| name.eq_ignore_ascii_case(host));
        };
        address.is_loopback()
            || parse_address(&self.host)
                .is_some_and(|listen| listen == address || listen.is_unspecified())
            || self
                .names
                .iter()
                .any(|name| parse_address(name) == Some(address))
    }
}

/// An IP address, with or without the brackets that version 6 has in a URL.
fn parse_address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// The middleware around every route.
pub(super) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let limits = &api.state.limits;
    let timeout = if route.starts_with("/api/v1/admin/") {
        limits.admin_timeout
    } else {
        limits.request_timeout
    };
    let listen = api.state.tokens.is_empty().then_some(&api.state.listen);
    let response = match check(listen, &request) {
        Ok(()) => within(timeout, next.run(request)).await,
        Err(error) => Err(error),
    }
    .into_response();
    let code = response.status().as_u16().to_string();
    api.requests.with_label_values(&[&*route, &*code]).inc();
    response
}

/// Gives a request up that takes too long; its work is told so by being dropped.
async fn within(
    timeout: Duration,
    answering: impl Future<Output = Response>,
) -> Result<Response, ApiError> {
    tokio::time::timeout(timeout, answering)
        .await
        .map_err(|_elapsed| {
            let message = format!("the request took longer than {timeout:?}");
            ApiError::new(Kind::Timeout, message)
        })
}

/// Refuses a foreign `Host`, where `listen` says which are ours, or `Origin`. A request without them is
/// not a browser's.
fn check(listen: Option<&Listen>, request: &Request) -> Result<(), ApiError> {
    let mut host = None;
    if let Some(authority) = request.uri().authority() {
        host = Some(admitted(listen, "target", authority.as_str())?);
    }
    for value in request.headers().get_all(HOST) {
        host = Some(admitted(listen, "Host", &text(value))?);
    }
    for value in request.headers().get_all(ORIGIN) {
        check_origin(&text(value), host.as_ref())?;
    }
    Ok(())
}

/// The host and port of a header, when they are ours.
fn admitted(listen: Option<&Listen>, header: &str, text: &str) -> Result<Authority, ApiError> {
    text.parse::<Authority>()
        .ok()
        .filter(|authority| listen.is_none_or(|listen| listen.admits(authority.host())))
        .ok_or_else(|| foreign(header, text))
}

/// An origin has to be the very server that is asked: another port of this host is another page.
fn check_origin(text: &str, host: Option<&Authority>) -> Result<(), ApiError> {
    let origin = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let same = origin
        .zip(host)
        .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host.as_str()));
    same.then_some(()).ok_or_else(|| foreign("Origin", text))
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn foreign(header: &str, text: &str) -> ApiError {
    ApiError::new(
        Kind::Forbidden,
        format!("{header} {text:?} is not this server"),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn listen(host: &str, names: &[&str]) -> Listen {
        Listen {
            host: host.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn loopback_is_always_admitted() {
        let listen = listen("127.0.0.1", &[]);
        for host in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "127.1.2.3",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(listen.admits(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "127.0.0.1.nip.io",
            "[::2]",
            "",
        ] {
            assert!(!listen.admits(host), "{host}");
        }
    }

    #[test]
    fn a_configured_host_and_its_names_are_admitted() {
        let named = listen("db-watch", &["cutover.internal", "10.1.1.1"]);
        assert!(named.admits("DB-Watch") && named.admits("cutover.internal"));
        assert!(named.admits("10.1.1.1") && !named.admits("10.1.1.2"));
    }

    #[test]
    fn the_unspecified_address_admits_addresses_but_no_names() {
        let any = listen("0.0.0.0", &[]);
        assert!(any.admits("192.168.7.7") && any.admits("[fe80::1]"));
        assert!(!any.admits("evil.example"));
    }

    #[test]
    fn an_origin_has_to_be_the_server_itself() {
        let check = |origin: &str| {
            let request = Request::builder()
                .uri("/api/v1/query")
                .header(HOST, "localhost:9490")
                .header(ORIGIN, origin)
                .body(Body::empty())
                .unwrap();
            check(Some(&listen("127.0.0.1", &[])), &request).is_ok()
        };
        assert!(check("http://localhost:9490"));
        for origin in [
            "http://localhost:3000",
            "https://evil.example",
            "null",
            "http://localhost",
        ] {
            assert!(!check(origin), "{origin}");
        }
    }
}
