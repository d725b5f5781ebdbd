//! One request to a target: what it answers, or why it does not.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    LOCATION, USER_AGENT,
};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Config;
use super::target::Target;
use crate::ingest::text::Format;
use crate::net::body;
use crate::net::encoding::{self, Encoding, Unsupported};
use crate::net::secret::Secret;
use crate::net::tls::{self, Trust};

/// As Prometheus asks: OpenMetrics before the plain text format, any other if need be.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,\
    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
const TIMEOUT_SECONDS: &str = "x-prometheus-scrape-timeout-seconds";
/// How many times a target may send us elsewhere.
const REDIRECTS_MAX: usize = 10;

/// What a target answered.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) format: Format,
    pub(super) body: Vec<u8>,
}

/// Why a target's metrics are not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{path} cannot be read", path = path.display())]
    Secret { path: PathBuf, source: io::Error },
    #[error("the secret in {path} has characters that cannot be sent", path = path.display())]
    SecretText { path: PathBuf },
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("server returned HTTP status {0}")]
    Status(StatusCode),
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    Redirects,
    #[error("it redirects to {to:?}, which is no address")]
    Redirect { to: String },
    #[error("it redirects to {to}: name targets that speak TLS by https")]
    RedirectToTls { to: String },
    #[error("body size limit exceeded: {0}")]
    TooLarge(String),
    #[error(transparent)]
    Body(body::Error),
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    #[error(transparent)]
    Encoding(encoding::Error),
    #[error(
        "it says no Content-Type, and job {job:?} has no fallback: set one if what it sends is text or \
         openmetrics"
    )]
    NoContentType { job: String },
    #[error(
        "its Content-Type {content_type:?} is neither text/plain nor application/openmetrics-text, and \
         job {job:?} has no fallback"
    )]
    ContentType { content_type: String, job: String },
}

/// Asks the targets of one job.
#[derive(Debug)]
pub(super) struct Client {
    plain: legacy::Client<HttpConnector, Empty<Bytes>>,
    /// Only where a target is asked by TLS: most jobs need no authorities, and some hosts have none.
    tls: Option<legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
}

impl Client {
    pub(super) fn new(config: &Config, targets: &[Target]) -> Result<Self, tls::Error> {
        let is_tls = |target: &Target| target.url.scheme() == Some(&Scheme::HTTPS);
        let trust = match &config.ca_file {
            _ if config.insecure_skip_verify => Trust::Anyone,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        };
        let builder = legacy::Client::builder(TokioExecutor::new());
        let tls = if targets.iter().any(is_tls) {
            let connector = tls::connector(tls::client_config(&trust)?, None)?;
            Some(builder.build(connector))
        } else {
            None
        };
        Ok(Self {
            plain: builder.build_http(),
            tls,
        })
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Error> {
        let sent = if request.uri().scheme() == Some(&Scheme::HTTPS) {
            let Some(client) = &self.tls else {
                let to = request.uri().to_string();
                return Err(Error::RedirectToTls { to });
            };
            client.request(request).await
        } else {
            self.plain.request(request).await
        };
        sent.map_err(|error| Error::Unreachable(innermost(&error)))
    }

    pub(super) async fn fetch(&self, config: &Config, url: &Uri) -> Result<Fetched, Error> {
        let fetching = self.fetch_unbounded(config, url);
        tokio::time::timeout(config.timeout, fetching)
            .await
            .map_err(|_elapsed| Error::Timeout(config.timeout))?
    }

    async fn fetch_unbounded(&self, config: &Config, url: &Uri) -> Result<Fetched, Error> {
        let response = self.follow(config, url).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let headers = response.headers();
        let format = format(config, headers)?;
        let encoding = headers.get(CONTENT_ENCODING);
        let encoding = encoding.map(|value| value.to_str().unwrap_or("(not ASCII)"));
        let encoding = Encoding::of(encoding)?;
        let bytes_max = config.body_size_limit;
        let bytes = body::read(response.into_body(), bytes_max, config.timeout)
            .await
            .map_err(|error| match error {
                body::Error::TooLarge { .. } => Error::TooLarge(error.to_string()),
                other => Error::Body(other),
            })?;
        let body = encoding
            .decompress(&bytes, bytes_max)
            .map_err(|error| match error {
                encoding::Error::TooLarge { .. } => Error::TooLarge(error.to_string()),
                other => Error::Encoding(other),
            })?;
        Ok(Fetched { format, body })
    }

    /// Asks, and asks where it is sent. Secrets go to the host that they are meant for only.
    async fn follow(&self, config: &Config, url: &Uri) -> Result<Response<Incoming>, Error> {
        let authorization = authorization(config)?;
        let mut place = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = place.clone();
            let headers = request.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            let agent = concat!("cutover/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            let seconds = config.timeout.as_secs_f64().to_string();
            let seconds = HeaderValue::from_str(&seconds).expect("a number is ASCII");
            headers.insert(TIMEOUT_SECONDS, seconds);
            if place.authority() == url.authority() && place.scheme() == url.scheme() {
                headers.extend(authorization.clone().map(|value| (AUTHORIZATION, value)));
            }
            let response = self.send(request).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else {
                return Ok(response);
            };
            place = redirected(&place, location)?;
        }
        Err(Error::Redirects)
    }
}

/// The cause at the bottom, such as "connection refused"; the layers above it say nothing more.
fn innermost(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Where a `Location` leads from a place.
fn redirected(place: &Uri, location: &HeaderValue) -> Result<Uri, Error> {
    let to = String::from_utf8_lossy(location.as_bytes());
    let scheme = place.scheme_str().unwrap_or("http");
    let authority = place.authority().map_or("", |authority| authority.as_str());
    let absolute = if to.contains("://") {
        to.to_string()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else {
        let (directory, _) = place.path().rsplit_once('/').unwrap_or_default();
        format!("{scheme}://{authority}{directory}/{to}")
    };
    absolute
        .parse::<Uri>()
        .ok()
        .filter(|uri| {
            uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
        })
        .ok_or_else(|| Error::Redirect { to: to.to_string() })
}

/// What says who we are. Files are read for each scrape, so that secrets can be renewed.
fn authorization(config: &Config) -> Result<Option<HeaderValue>, Error> {
    let read = |path: &PathBuf| {
        Secret::load(path).map_err(|source| Error::Secret {
            path: path.clone(),
            source,
        })
    };
    let (path, text) = match (&config.bearer_token_file, &config.password_file) {
        (Some(path), _) => (path.clone(), format!("Bearer {}", read(path)?.expose())),
        (None, Some(path)) => {
            let pair = format!("{}:{}", config.username, read(path)?.expose());
            (path.clone(), format!("Basic {}", STANDARD.encode(pair)))
        }
        (None, None) if !config.username.is_empty() => {
            let pair = format!("{}:", config.username);
            (PathBuf::new(), format!("Basic {}", STANDARD.encode(pair)))
        }
        (None, None) => return Ok(None),
    };
    let mut value =
        HeaderValue::from_str(&text).map_err(|_unsendable| Error::SecretText { path })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The format that a target says it writes, or that its job says instead.
fn format(config: &Config, headers: &HeaderMap) -> Result<Format, Error> {
    let job = || config.job.clone();
    let Some(content_type) = headers.get(CONTENT_TYPE).filter(|value| !value.is_empty()) else {
        let fallback = config.fallback.map(Format::from);
        return fallback.ok_or_else(|| Error::NoContentType { job: job() });
    };
    let content_type = String::from_utf8_lossy(content_type.as_bytes());
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "text/plain" => Ok(Format::Text),
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        _ => config
            .fallback
            .map(Format::from)
            .ok_or_else(|| Error::ContentType {
                content_type: content_type.to_string(),
                job: job(),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &'static str, fallback: Option<super::super::config::Fallback>) -> String {
        let config = Config {
            job: "j".to_owned(),
            fallback,
            ..Config::default()
        };
        let value = HeaderValue::from_static(content_type);
        match format(&config, &HeaderMap::from_iter([(CONTENT_TYPE, value)])) {
            Ok(format) => format!("{format:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_format_is_what_the_target_says_it_is() {
        use super::super::config::Fallback;
        assert_eq!(of("text/plain; version=0.0.4", None), "Text");
        assert_eq!(of("Text/Plain", Some(Fallback::OpenMetrics)), "Text");
        let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(of(open_metrics, None), "OpenMetrics");
        assert!(of("text/html", None).contains("\"text/html\" is neither"));
        assert_eq!(of("text/html", Some(Fallback::Text)), "Text");
        assert!(of("", None).contains("says no Content-Type"));
        assert_eq!(of("", Some(Fallback::OpenMetrics)), "OpenMetrics");
    }

    #[test]
    fn a_redirect_leads_to_where_it_says() {
        let place: Uri = "https://a:1/b/c?d".parse().unwrap();
        let to = |location| {
            let location = HeaderValue::from_static(location);
            redirected(&place, &location).map(|uri| uri.to_string())
        };
        assert_eq!(to("http://e/f").unwrap(), "http://e/f");
        assert_eq!(to("//e/f").unwrap(), "https://e/f");
        assert_eq!(to("/f?g").unwrap(), "https://a:1/f?g");
        assert_eq!(to("f").unwrap(), "https://a:1/b/f");
        assert!(to("ftp://e/").is_err());
        assert!(to("http://").is_err());
    }
}
