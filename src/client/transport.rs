//! The way to the server: a socket, or the router itself.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;

use crate::http::InProcess;
use crate::net::tls;

use super::{Access, Error};

#[derive(Clone, Debug)]
pub(super) enum Transport {
    Socket {
        client: Box<Connected>,
        /// Scheme, host and port, without a slash at the end.
        server: String,
        /// What says who asks; it does not print.
        authorization: Option<HeaderValue>,
    },
    Router(Router),
}

/// Over one of the two schemes; a client without TLS never reads the authorities' certificates.
#[derive(Clone, Debug)]
pub(super) enum Connected {
    Clear(legacy::Client<HttpConnector, Body>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Body>),
}

/// How errors name a router in this process.
const IN_PROCESS: &str = "the server in this process";

impl Transport {
    pub(super) fn connect(server_url: &str, access: &Access) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadUrl {
            url: server_url.to_owned(),
            reason,
        };
        let uri: Uri = server_url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad(error.to_string()))?;
        let (scheme, with_tls) = match uri.scheme_str() {
            Some("http") => ("http", false),
            Some("https") => ("https", true),
            _ => {
                return Err(bad(
                    "write it as http://HOST:PORT or https://HOST:PORT".into()
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| bad("it has no host".into()))?;
        if authority.as_str().contains('@') {
            return Err(bad("a name and password do not belong into it".into()));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("it has a path; only host and port are taken".into()));
        }
        let builder = legacy::Client::builder(TokioExecutor::new());
        let client = if with_tls {
            let config = tls::client_config(&access.trust)?;
            Connected::Tls(builder.build(tls::connector(config, None)?))
        } else {
            Connected::Clear(builder.build_http())
        };
        let authorization = access.token.as_ref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_invalid| Error::Token)?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        Ok(Self::Socket {
            client: Box::new(client),
            server: format!("{scheme}://{authority}"),
            authorization: authorization.transpose()?,
        })
    }

    pub(super) fn in_process(router: Router) -> Self {
        Self::Router(router)
    }

    pub(super) fn server(&self) -> &str {
        match self {
            Self::Socket { server, .. } => server,
            Self::Router(_) => IN_PROCESS,
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        content: Vec<u8>,
    ) -> Result<(StatusCode, Body), Error> {
        let uri = match self {
            Self::Socket { server, .. } => format!("{server}{path}"),
            Self::Router(_) => path.to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::from(Bytes::from(content)))
            .expect("paths are encoded where they are made");
        if let Some(content_type) = content_type {
            let value = HeaderValue::from_static(content_type);
            request.headers_mut().insert(CONTENT_TYPE, value);
        }
        match self {
            Self::Socket {
                client,
                server,
                authorization,
            } => {
                if let Some(value) = authorization {
                    request.headers_mut().insert(AUTHORIZATION, value.clone());
                }
                let response = match &**client {
                    Connected::Clear(client) => client.request(request).await,
                    Connected::Tls(client) => client.request(request).await,
                };
                let response = response.map_err(|error| Error::Unreachable {
                    server: server.clone(),
                    reason: innermost(&error),
                })?;
                Ok((response.status(), Body::new(response.into_body())))
            }
            Self::Router(router) => {
                let headers = request.headers_mut();
                headers.insert(HOST, HeaderValue::from_static("localhost"));
                request.extensions_mut().insert(InProcess);
                let Ok::<_, Infallible>(response) = router.clone().oneshot(request).await;
                Ok((response.status(), response.into_body()))
            }
        }
    }
}

/// The cause at the bottom, such as "connection refused"; the layers above it say nothing more.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let mut reason = cause.to_string();
    if reason.contains("invalid peer certificate") {
        reason.push_str(" (--ca-file names the authorities to trust)");
    }
    reason
}
