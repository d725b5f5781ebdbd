//! The configuration: one TOML file, nested keys overridable by environment, nothing else.
//!
//! [`Config`] is composed of each module's own section, which owns its fields, defaults and limits. An
//! unknown key or a wrong value is an error with line, column and the nearest right name; nothing is
//! read half.

mod environment;
mod error;
mod shown;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::Error;

use crate::alert::{channel, dispatch, rule};
use crate::ingest::{kafka, otlp, scrape};
use crate::model::unit;
use crate::net::tls::IdentityFiles;
use crate::{detect, http, migration, promql, store};

/// Everything an operator may set, with its defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub store: Store,
    pub query: Query,
    /// Absent: no Kafka is read.
    pub kafka: Option<kafka::Config>,
    pub scrape: Vec<scrape::Config>,
    pub otlp: otlp::Config,
    pub anomaly: detect::Config,
    pub rules: rule::Config,
    pub alert: dispatch::Config,
    #[serde(rename = "channel")]
    pub channels: Vec<channel::Config>,
    #[serde(rename = "migration")]
    pub migrations: Vec<migration::Config>,
}

/// `[server]`: where the API listens and where the data lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// `None`: see [`default_data_dir`].
    pub data: Option<PathBuf>,
    /// Further names by which clients address the server, such as that of a proxy.
    pub names: Vec<String>,
    /// Allows an address beyond loopback without tokens.
    pub insecure: bool,
    /// PEM: the certificate, then those that lead to its authority. With the key, the API speaks TLS.
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    /// Who may ask; without any, everybody.
    #[serde(rename = "token")]
    pub tokens: Vec<http::TokenConfig>,
    /// Allows the API that deletes series and makes backups.
    pub admin_api: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9490)),
            data: None,
            names: Vec::new(),
            insecure: false,
            tls_cert_file: None,
            tls_key_file: None,
            tokens: Vec::new(),
            admin_api: false,
        }
    }
}

impl Server {
    /// The files of the certificate; `None`: no TLS.
    pub fn tls_files(&self) -> Option<IdentityFiles> {
        let (cert, key) = self.tls_cert_file.clone().zip(self.tls_key_file.clone())?;
        Some(IdentityFiles { cert, key })
    }
}

/// `[store]`: how much is kept and what it may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Samples older than this are refused and dropped; 0 keeps everything, also 1970.
    #[serde(with = "unit::duration_text")]
    pub retention: Duration,
    pub memory_mib_max: u64,
    pub series_max: usize,
    /// Writes stop when less of the file system is free.
    pub disk_free_percent_min: u8,
}

impl Default for Store {
    fn default() -> Self {
        let options = store::Options::default();
        Self {
            retention: options.retention.unwrap_or_default(),
            memory_mib_max: options.memory_bytes_max >> 20,
            series_max: options.series_max,
            disk_free_percent_min: options.disk_free_percent_min,
        }
    }
}

impl Store {
    pub fn options(&self, listen: SocketAddr) -> store::Options {
        store::Options {
            retention: (!self.retention.is_zero()).then_some(self.retention),
            memory_bytes_max: self.memory_mib_max << 20,
            series_max: self.series_max,
            disk_free_percent_min: self.disk_free_percent_min,
            listen: Some(listen.to_string()),
        }
    }
}

/// `[query]`: what one PromQL query may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    #[serde(with = "unit::duration_text")]
    pub timeout: Duration,
    #[serde(with = "unit::duration_text")]
    pub lookback: Duration,
    pub samples_max: usize,
    pub points_max: usize,
    pub query_bytes_max: usize,
    pub depth_max: usize,
    /// Queries at once; more wait for their turn.
    pub concurrent_max: usize,
}

impl Default for Query {
    fn default() -> Self {
        let limits = promql::Limits::default();
        Self {
            timeout: limits.timeout,
            lookback: limits.lookback,
            samples_max: limits.samples_max,
            points_max: limits.points_max,
            query_bytes_max: limits.query_bytes_max,
            depth_max: limits.depth_max,
            concurrent_max: http::Limits::default().queries_max,
        }
    }
}

impl Query {
    pub fn limits(&self) -> promql::Limits {
        promql::Limits {
            timeout: self.timeout,
            lookback: self.lookback,
            samples_max: self.samples_max,
            points_max: self.points_max,
            query_bytes_max: self.query_bytes_max,
            depth_max: self.depth_max,
        }
    }
}

impl Query {
    pub fn http_limits(&self) -> http::Limits {
        http::Limits {
            queries_max: self.concurrent_max,
            ..http::Limits::default()
        }
    }
}

impl Config {
    /// Reads the file that was named, else the first default place that has one, else the defaults;
    /// then the environment. Answers the file that was read.
    pub fn load(named: Option<&Path>) -> Result<(Self, Option<PathBuf>), Error> {
        let path = named.map(Path::to_owned).or_else(find);
        let text = match &path {
            Some(path) => std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
                path: path.clone(),
                source,
            })?,
            None => String::new(),
        };
        let shown = path.clone().unwrap_or_default();
        let overrides = std::env::vars().filter(|(name, _)| name.starts_with(environment::PREFIX));
        let config = Self::parse(&text, &shown, overrides)?;
        Ok((config, path))
    }

    fn parse(
        text: &str,
        path: &Path,
        overrides: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        // The file alone first: only then does an error know its line.
        let from_file: Self =
            toml::from_str(text).map_err(|source| Error::in_file(path, text, &source))?;
        let Some(table) = environment::apply(text, overrides)? else {
            return from_file.checked(path);
        };
        let config: Self =
            table
                .try_into()
                .map_err(|source: toml::de::Error| Error::Environment {
                    reason: error::explain(&source),
                })?;
        config.checked(path)
    }

    /// The checks that no single section can make.
    fn checked(self, path: &Path) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Invalid {
            path: path.to_owned(),
            reason,
        };
        if self.store.disk_free_percent_min > 90 {
            let reason = "store.disk_free_percent_min is a percentage up to 90";
            return Err(invalid(reason.to_owned()));
        }
        if self.store.memory_mib_max < 16 {
            return Err(invalid(
                "store.memory_mib_max: 16 is the least that works".to_owned(),
            ));
        }
        if self.server.tls_cert_file.is_some() != self.server.tls_key_file.is_some() {
            let reason = "server.tls_cert_file and server.tls_key_file go together";
            return Err(invalid(reason.to_owned()));
        }
        http::Tokens::new(&self.server.tokens).map_err(|error| invalid(error.to_string()))?;
        if let Some(kafka) = &self.kafka {
            kafka.check().map_err(|error| invalid(error.to_string()))?;
        }
        scrape::check(&self.scrape).map_err(|error| invalid(format!("[[scrape]]: {error}")))?;
        self.anomaly
            .expressions()
            .map_err(|error| invalid(error.to_string()))?;
        self.alert
            .check()
            .map_err(|error| invalid(error.to_string()))?;
        channel::check(&self.channels).map_err(|error| invalid(format!("[[channel]]: {error}")))?;
        migration::check(&self.migrations)
            .map_err(|error| invalid(format!("[[migration]]: {error}")))?;
        Ok(self)
    }

    fn tls_note(&self) -> &'static str {
        match self.server.tls_cert_file {
            Some(_) => " (TLS)",
            None => "",
        }
    }

    fn token_names(&self) -> String {
        let names: Vec<&str> = self
            .server
            .tokens
            .iter()
            .map(|token| &*token.name)
            .collect();
        if names.is_empty() {
            return "none, everybody may ask".to_owned();
        }
        names.join(" ")
    }

    /// Reads the rules; relative paths begin where the configuration was read from.
    pub fn rule_set(&self, source: Option<&Path>) -> Result<rule::Set, rule::Error> {
        let dir = source.and_then(Path::parent).unwrap_or(Path::new(""));
        let anomalies_tell = self.anomaly.enabled && self.anomaly.notify;
        let told = if anomalies_tell {
            rule::Told::ByAnomalies
        } else {
            rule::Told::ByRules
        };
        rule::Set::load(&self.rules, dir, told)
    }

    /// What is set, a line each, without secrets.
    pub fn summary(&self) -> String {
        let retention = match self.store.retention {
            Duration::ZERO => "everything is kept".to_owned(),
            span => unit::format_duration(span),
        };
        let data = self.server.data.clone().unwrap_or_else(default_data_dir);
        let mut lines = vec![
            format!("listen     {}{}", self.server.listen, self.tls_note()),
            format!("tokens     {}", self.token_names()),
            format!("data       {}", data.display()),
            format!("retention  {retention}"),
        ];
        lines.push(match &self.kafka {
            Some(kafka) => format!(
                "kafka      {}, topics {}",
                kafka.brokers,
                kafka.topics.join(" ")
            ),
            None => "kafka      not read (no [kafka] section)".to_owned(),
        });
        lines.extend(
            self.scrape
                .iter()
                .map(|job| format!("scrape     {}, {}", job.job, job.targets.join(" "))),
        );
        lines.extend(
            self.migrations
                .iter()
                .map(|migration| format!("migration  {}", migration.id)),
        );
        lines.extend(
            self.anomaly
                .watch
                .iter()
                .map(|watch| format!("watch      {}", watch.name)),
        );
        lines.extend(
            self.channels
                .iter()
                .map(|channel| format!("channel    {}, {}", channel.name, channel.kind.name())),
        );
        lines.extend(
            self.rules
                .files
                .iter()
                .map(|file| format!("rules      {}", file.display())),
        );
        if self.rules.built_in {
            lines.push("rules      those that are shipped".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

/// The first default place that has a file.
fn find() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or(home);
    user.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|dir| dir.join("cutover/cutover.toml"))
        .find(|path| path.is_file())
}

/// Where data lives unless it is set: `/var/lib/cutover` for root, else the user's data directory.
pub fn default_data_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CUTOVER_DATA") {
        return PathBuf::from(dir);
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/cutover");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/share");
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(home, PathBuf::from)
        .join("cutover")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, overrides: &[(&str, &str)]) -> Result<Config, String> {
        let overrides = overrides
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        Config::parse(text, Path::new("cutover.toml"), overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = parse("", &[]).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:9490");
        assert_eq!(config.store.retention, Duration::from_secs(90 * 86_400));
        assert!(config.kafka.is_none());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_right_one() {
        let error = parse("[store]\nretension = \"1d\"\n", &[]).unwrap_err();
        assert_eq!(
            error,
            "cutover.toml:2:1: unknown key `retension`, did you mean `retention`?"
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let error = parse("[server]\nlisten = 9490\n", &[]).unwrap_err();
        assert!(error.starts_with("cutover.toml:2:10: "), "{error}");
        let error = parse("[store]\nretention = \"1 day\"\n", &[]).unwrap_err();
        assert!(
            error.starts_with("cutover.toml:2:13: \"1 day\" is not a duration"),
            "{error}"
        );
    }

    #[test]
    fn the_environment_overrides_nested_keys() {
        let config = parse(
            "[store]\nseries_max = 5\n",
            &[
                ("CUTOVER_STORE__RETENTION", "2d"),
                ("CUTOVER_STORE__SERIES_MAX", "7"),
                ("CUTOVER_KAFKA__BROKERS", "a:9092"),
                ("CUTOVER_KAFKA__TOPICS", "[\"shop.orders\"]"),
                ("CUTOVER_DATA", "/not/a/key"),
            ],
        )
        .unwrap();
        assert_eq!(config.store.retention, Duration::from_secs(2 * 86_400));
        assert_eq!(config.store.series_max, 7);
        assert_eq!(config.kafka.unwrap().brokers, "a:9092");
    }

    #[test]
    fn a_wrong_override_names_the_variable() {
        let error = parse("", &[("CUTOVER_STORE__RETENSION", "2d")]).unwrap_err();
        assert!(
            error.contains("`retension`, did you mean `retention`?"),
            "{error}"
        );
    }

    #[test]
    fn the_shipped_example_is_valid_and_documents_every_section() {
        let text = include_str!("../assets/cutover.example.toml");
        parse(text, &[]).unwrap();
        let enabled: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        parse(&enabled, &[]).unwrap();
    }
}
