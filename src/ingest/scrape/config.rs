//! What an operator sets about scraping: jobs, each with its targets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::ingest::text::Format;
use crate::model::{LabelsBuilder, unit};

/// A `[[scrape]]` section. Prometheus' names, where it has the same.
///
/// There is no relabelling: what a target calls its series is what they are called here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The `job` label.
    pub job: String,
    /// `host:port`, or a URL whose scheme and path count more than those of the job.
    pub targets: Vec<String>,
    #[serde(with = "unit::duration_text")]
    pub interval: Duration,
    #[serde(with = "unit::duration_text")]
    pub timeout: Duration,
    pub scheme: Scheme,
    pub path: String,
    /// Parameters of the URL; one that has several values is a list.
    pub params: BTreeMap<String, Values>,
    /// Further labels of every series.
    pub labels: BTreeMap<String, String>,
    /// Whether labels of the target's own count more than `job`, `instance` and `labels`.
    pub honor_labels: bool,
    /// Whether timestamps that the target writes are taken.
    pub honor_timestamps: bool,
    /// The format of a target that does not say one.
    pub fallback: Option<Fallback>,
    /// The file with a token that is sent as `Authorization: Bearer`; read again for each scrape.
    pub bearer_token_file: Option<PathBuf>,
    pub username: String,
    pub password_file: Option<PathBuf>,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
    /// Samples of one scrape; 0 for as many as there are.
    pub sample_limit: usize,
    /// Bytes of one answer when it is decompressed.
    pub body_size_limit: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    #[serde(rename = "text")]
    Text,
    #[serde(rename = "openmetrics")]
    OpenMetrics,
}

impl From<Fallback> for Format {
    fn from(fallback: Fallback) -> Self {
        match fallback {
            Fallback::Text => Self::Text,
            Fallback::OpenMetrics => Self::OpenMetrics,
        }
    }
}

/// The values of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    One(String),
    Many(Vec<String>),
}

impl Values {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            job: String::new(),
            targets: Vec::new(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            scheme: Scheme::Http,
            path: "/metrics".to_owned(),
            params: BTreeMap::new(),
            labels: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            fallback: None,
            bearer_token_file: None,
            username: String::new(),
            password_file: None,
            ca_file: None,
            insecure_skip_verify: false,
            sample_limit: 0,
            body_size_limit: 32 << 20,
        }
    }
}

/// What is wrong with a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("section {position} has no job")]
    NoJob {
        /// Counted from 1, as people do.
        position: usize,
    },
    #[error("two sections have the job {job:?}")]
    SameJob { job: String },
    #[error("job {job:?}: {reason}")]
    Job { job: String, reason: String },
    #[error("job {job:?}: target {target:?}: {reason}")]
    Target {
        job: String,
        target: String,
        reason: String,
    },
}

/// Refuses jobs that cannot be scraped.
pub fn check(configs: &[Config]) -> Result<(), Error> {
    let mut jobs = BTreeSet::new();
    for (at, config) in configs.iter().enumerate() {
        if config.job.is_empty() {
            return Err(Error::NoJob { position: at + 1 });
        }
        if !jobs.insert(&config.job) {
            return Err(Error::SameJob {
                job: config.job.clone(),
            });
        }
        config.check()?;
        config.targets()?;
    }
    Ok(())
}

impl Config {
    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Job {
            job: self.job.clone(),
            reason: reason.into(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.targets.is_empty() {
            return Err(self.error("targets is empty: name some, such as \"localhost:9404\""));
        }
        if self.interval.is_zero() || self.timeout.is_zero() {
            return Err(self.error("interval and timeout cannot be 0"));
        }
        if self.timeout > self.interval {
            return Err(self.error(format!(
                "timeout {} is longer than interval {}",
                unit::format_duration(self.timeout),
                unit::format_duration(self.interval)
            )));
        }
        if !self.path.starts_with('/') {
            return Err(self.error("path does not begin with a slash"));
        }
        if self.body_size_limit == 0 {
            return Err(self.error("body_size_limit cannot be 0"));
        }
        let bad_label = |name: &&String| name.is_empty() || name.starts_with("__");
        if let Some(name) = self.labels.keys().find(bad_label) {
            return Err(self.error(format!("labels: {name:?} cannot be the name of a label")));
        }
        let has_password = self.password_file.is_some();
        if self.bearer_token_file.is_some() && (has_password || !self.username.is_empty()) {
            return Err(
                self.error("bearer_token_file and a username are two ways to say who we are")
            );
        }
        if has_password && self.username.is_empty() {
            return Err(self.error("password_file needs a username"));
        }
        if self.insecure_skip_verify && self.ca_file.is_some() {
            return Err(self.error("ca_file is of no use with insecure_skip_verify"));
        }
        Ok(())
    }

    /// The targets of the job; one that is named twice is one.
    pub(super) fn targets(&self) -> Result<Vec<Target>, Error> {
        let mut targets: Vec<Target> = Vec::new();
        for address in &self.targets {
            let target = self.target(address).map_err(|reason| Error::Target {
                job: self.job.clone(),
                target: address.clone(),
                reason,
            })?;
            let is_known = |known: &Target| known.url == target.url;
            if !targets.iter().any(is_known) {
                targets.push(target);
            }
        }
        Ok(targets)
    }

    fn target(&self, address: &str) -> Result<Target, String> {
        let full = if address.contains("://") {
            address.to_owned()
        } else {
            format!("{}://{address}", self.scheme.name())
        };
        let uri: Uri = full
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err("its scheme is neither http nor https".to_owned()),
        };
        let authority = uri.authority().ok_or("it has no host")?.as_str();
        if authority.contains('@') {
            return Err("a name and password do not belong into it: use username".to_owned());
        }
        let path = match uri.path() {
            "" | "/" => self.path.as_str(),
            path => path,
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, values) in &self.params {
            for value in values.as_slice() {
                query.append_pair(name, value);
            }
        }
        let own_query = uri.query().unwrap_or_default().to_owned();
        let queries = [own_query, query.finish()];
        let queries: Vec<_> = queries.iter().filter(|query| !query.is_empty()).collect();
        let mut url = format!("{}://{authority}{path}", scheme.name());
        for (separator, query) in ["?", "&"].iter().zip(queries) {
            url.push_str(separator);
            url.push_str(query);
        }
        let url = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
        let mut labels = LabelsBuilder::default();
        labels.set("job", self.job.as_str());
        labels.set("instance", authority);
        for (name, value) in &self.labels {
            labels.set(name, value.as_str());
        }
        Ok(Target {
            url,
            labels: labels.build(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        let text = format!("job = \"j\"\n{toml}");
        toml::from_str(&text).unwrap()
    }

    fn targets(toml: &str) -> Vec<(String, String)> {
        let config = config(toml);
        check(std::slice::from_ref(&config)).unwrap();
        let targets = config.targets().unwrap().into_iter();
        targets
            .map(|target| (target.url.to_string(), target.labels.to_string()))
            .collect()
    }

    fn error(toml: &str) -> String {
        check(&[config(toml)]).unwrap_err().to_string()
    }

    #[test]
    fn a_target_is_an_address_or_a_url() {
        let found = targets(
            "targets = [\"a:1\", \"https://b/c\", \"http://[::1]:2/\", \"a:1\"]\nlabels = { x = \"y\" }",
        );
        let expected = [
            ("http://a:1/metrics", "{instance=\"a:1\",job=\"j\",x=\"y\"}"),
            ("https://b/c", "{instance=\"b\",job=\"j\",x=\"y\"}"),
            (
                "http://[::1]:2/metrics",
                "{instance=\"[::1]:2\",job=\"j\",x=\"y\"}",
            ),
        ];
        let expected = expected.map(|(url, labels)| (url.to_owned(), labels.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn parameters_follow_those_of_the_url_and_labels_override_job_and_instance() {
        let found = targets(concat!(
            "targets = [\"a?x=1\"]\nscheme = \"https\"\npath = \"/p\"\n",
            "params = { \"match[]\" = [\"up\", \"{a=\\\"b\\\"}\"], y = \"2\" }\n",
            "labels = { instance = \"i\", job = \"other\" }",
        ));
        let url = "https://a/p?x=1&match%5B%5D=up&match%5B%5D=%7Ba%3D%22b%22%7D&y=2";
        let labels = "{instance=\"i\",job=\"other\"}";
        assert_eq!(found, [(url.to_owned(), labels.to_owned())]);
    }

    #[test]
    fn what_is_wrong_with_a_job_is_named() {
        let no_targets = "job \"j\": targets is empty: name some, such as \"localhost:9404\"";
        assert_eq!(error(""), no_targets);
        assert_eq!(
            error("targets = [\"a\"]\ninterval = \"5s\""),
            "job \"j\": timeout 10s is longer than interval 5s"
        );
        assert_eq!(
            error("targets = [\"a\", \"ftp://b\"]"),
            "job \"j\": target \"ftp://b\": its scheme is neither http nor https"
        );
        assert_eq!(
            error("targets = [\"http://u:p@a\"]"),
            "job \"j\": target \"http://u:p@a\": a name and password do not belong into it: use username"
        );
        assert_eq!(
            error("targets = [\"a\"]\nlabels = { __x = \"1\" }"),
            "job \"j\": labels: \"__x\" cannot be the name of a label"
        );
        assert!(error("targets = [\"a b\"]").contains("target \"a b\": "));
        assert!(error("targets = [\"a\"]\npassword_file = \"p\"").contains("needs a username"));
        let same = [config("targets = [\"a\"]"), config("targets = [\"b\"]")];
        let message = "two sections have the job \"j\"";
        assert_eq!(check(&same).unwrap_err().to_string(), message);
        let none = [Config::default()];
        assert_eq!(
            check(&none).unwrap_err().to_string(),
            "section 1 has no job"
        );
    }
}
