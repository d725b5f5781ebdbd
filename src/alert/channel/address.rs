//! Addresses that are secrets: where they come from, and how little of them is seen.

use std::fmt;
use std::path::PathBuf;

use hyper::Uri;
use hyper::http::uri::{PathAndQuery, Scheme};
use serde::{Deserialize, Serialize};

use super::{Error, http};
use crate::net::secret::{Secret, Source};

/// Parts of an address that are shorter are words, such as `api`, and no secrets.
const SECRET_CHARS_MIN: usize = 8;
pub(super) const REDACTED: &str = "<redacted>";

/// The keys of a channel of which no more is to be known than its address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address, which is a secret.
    #[serde(serialize_with = "shown")]
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    /// The variable of the environment that holds it.
    pub url_env: Option<String>,
}

impl Config {
    pub(super) fn source(&self) -> Result<Source, String> {
        let Self {
            url,
            url_file,
            url_env,
        } = self;
        source(url.as_ref(), url_file.as_ref(), url_env.as_ref())
    }
}

/// A URL of which only scheme and host may be seen: with many receivers the rest is the secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) Uri);

impl Address {
    /// `None` for what is no URL of HTTP, or holds a name and password.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.trim().parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_user = uri.authority()?.as_str().contains('@');
        (is_http && !has_user).then_some(Self(uri))
    }

    /// An address whose secret is read now.
    pub(super) fn load(source: &Source) -> Result<Self, Error> {
        let secret = http::load(source)?;
        Self::parse(secret.expose()).ok_or_else(|| {
            Error::later("the URL does not begin with http:// or https://, or holds a password")
        })
    }

    /// The address of something below this one.
    pub(super) fn below(&self, path: &str) -> Option<Self> {
        let base = self.0.to_string();
        let base = base.trim_end_matches('/');
        Some(Self(format!("{base}{path}").parse().ok()?))
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// The parts of it that an answer might repeat.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        let whole = self.0.path_and_query().map(PathAndQuery::as_str);
        let parts = whole.unwrap_or_default().split(['/', '?', '&', '=']);
        let all = whole.into_iter().chain(parts);
        all.filter(|part| part.chars().count() >= SECRET_CHARS_MIN)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |place| place.as_str());
        write!(formatter, "{scheme}://{authority}/")?;
        match self.0.path_and_query().map(PathAndQuery::as_str) {
            None | Some("" | "/") => Ok(()),
            Some(_) => formatter.write_str(REDACTED),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How a URL of the configuration is shown; what is none is a secret as any.
pub(super) fn redact(secret: &Secret) -> String {
    Address::parse(secret.expose()).map_or_else(|| REDACTED.to_owned(), |url| url.to_string())
}

/// `#[serde(serialize_with = "address::shown")]`, for a URL.
#[expect(clippy::ref_option, reason = "serde gives it so")]
pub(super) fn shown<S: serde::Serializer>(
    url: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.serialize_str(&redact(url)),
        None => serializer.serialize_none(),
    }
}

/// Where a URL is, which has to be set; one that is there already is checked.
pub(super) fn source(
    url: Option<&Secret>,
    file: Option<&PathBuf>,
    variable: Option<&String>,
) -> Result<Source, String> {
    let source = Source::of("url", url, file, variable).map_err(|error| error.to_string())?;
    match source {
        None => Err("set url, url_file or url_env".to_owned()),
        Some(Source::Given(url)) if Address::parse(url.expose()).is_none() => {
            Err("url is not an address that begins with http:// or https://".to_owned())
        }
        Some(source) => Ok(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_scheme_and_host_are_seen() {
        let url = "https://hooks.slack.com:8443/services/T01/B02/hunter2?key=hunter3";
        let address = Address::parse(url).unwrap();
        assert_eq!(
            address.to_string(),
            "https://hooks.slack.com:8443/<redacted>"
        );
        assert_eq!(format!("{address:?}"), address.to_string());
        let bare = Address::parse("http://127.0.0.1:9093").unwrap();
        assert_eq!(bare.to_string(), "http://127.0.0.1:9093/");
        for none in [
            "",
            "hunter2",
            "ftp://a/b",
            "https://user:hunter2@a/b",
            "/services",
        ] {
            assert_eq!(Address::parse(none), None, "{none}");
            assert_eq!(redact(&Secret::new(none)), "<redacted>");
        }
    }

    #[test]
    fn an_address_below_another_keeps_its_path() {
        let below = |url: &str| {
            Address::parse(url)
                .unwrap()
                .below("/api/v2/alerts")
                .unwrap()
                .0
        };
        assert_eq!(below("http://a:1"), "http://a:1/api/v2/alerts");
        assert_eq!(below("http://a:1/am/"), "http://a:1/am/api/v2/alerts");
    }
}
