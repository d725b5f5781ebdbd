//! `[[channel]]` in the configuration: what all kinds share, and what is each kind's own.
//!
//! The keys of a section are those of both together. They are told apart here and not by serde, whose
//! `flatten` would let unknown keys pass.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;

use super::{address, alertmanager, email, pagerduty, webhook};
use crate::alert::dispatch::route::Route;
use crate::model::unit;
use crate::net::secret::Source;
use crate::net::tls::Trust;

/// One `[[channel]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// How the channel is called in commands, logs and metrics.
    pub name: String,
    /// Which alerts it is told.
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub connection: Connection,
    #[serde(flatten)]
    pub kind: Kind,
}

/// How a receiver is reached, whatever it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// How long one attempt may take, from the connection to the end of the answer.
    #[serde(with = "unit::duration_text")]
    pub timeout: Duration,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

/// What is each kind's own; `type` in the section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Kind {
    Slack(address::Config),
    Email(email::Config),
    PagerDuty(pagerduty::Config),
    Webhook(webhook::Config),
    Alertmanager(alertmanager::Config),
    Teams(address::Config),
}

/// What is wrong with a section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("section {position} has no name")]
    NoName {
        /// Counted from 1, as people do.
        position: usize,
    },
    #[error("two sections have the name {name:?}")]
    SameName { name: String },
    #[error("channel {name:?}: {reason}")]
    Channel { name: String, reason: String },
}

/// The keys of [`Connection`] and [`Route`].
const CONNECTION_KEYS: [&str; 3] = ["timeout", "ca_file", "insecure_skip_verify"];
const ROUTE_KEYS: [&str; 3] = ["severity_min", "match", "send_resolved"];

impl Default for Connection {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            ca_file: None,
            insecure_skip_verify: false,
        }
    }
}

impl Connection {
    pub(super) fn trust(&self) -> Trust {
        match &self.ca_file {
            _ if self.insecure_skip_verify => Trust::Anyone,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout cannot be 0".to_owned());
        }
        if self.insecure_skip_verify && self.ca_file.is_some() {
            return Err("ca_file is of no use with insecure_skip_verify".to_owned());
        }
        Ok(())
    }
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
            Self::PagerDuty(_) => "pagerduty",
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
            Self::Teams(_) => "teams",
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Slack(address) | Self::Teams(address) => address.source().map(drop),
            Self::Email(email) => email.check(),
            Self::PagerDuty(duty) => duty.check(),
            Self::Webhook(webhook) => webhook.check(),
            Self::Alertmanager(alertmanager) => alertmanager.check(),
        }
    }

    /// Where its secrets are.
    pub(super) fn sources(&self) -> Result<Vec<Source>, String> {
        match self {
            Self::Slack(address) | Self::Teams(address) => Ok(vec![address.source()?]),
            Self::Email(email) => email.sources(),
            Self::PagerDuty(duty) => duty.sources(),
            Self::Webhook(webhook) => webhook.sources(),
            Self::Alertmanager(_) => Ok(Vec::new()),
        }
    }
}

impl Config {
    pub(super) fn error(&self, reason: &impl ToString) -> Error {
        Error::Channel {
            name: self.name.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Refuses sections that cannot work.
pub fn check(configs: &[Config]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for (at, config) in configs.iter().enumerate() {
        let name = &config.name;
        if name.trim().is_empty() {
            return Err(Error::NoName { position: at + 1 });
        }
        if name.chars().any(char::is_control) {
            return Err(config.error(&"a name is one line of text"));
        }
        if !names.insert(name) {
            return Err(Error::SameName { name: name.clone() });
        }
        let checked = config.connection.check().and_then(|()| config.kind.check());
        checked.map_err(|reason| config.error(&reason))?;
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Table::deserialize(deserializer)?;
        let name = match own.remove("name") {
            Some(toml::Value::String(name)) => name,
            Some(_) => return Err(D::Error::custom("a channel's name is a text in quotes")),
            None => String::new(),
        };
        // A section without a name is named by its type, and refused by `check`.
        let explain = |error: toml::de::Error| {
            let message = error.message().trim_end();
            let known = [CONNECTION_KEYS, ROUTE_KEYS].concat();
            let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
            let known = known.join(", ");
            // Serde knows the keys of the kind only.
            let others = if message.contains("unknown field") {
                format!(", `name`, {known}")
            } else {
                String::new()
            };
            D::Error::custom(format!("channel {name:?}: {message}{others}"))
        };
        let connection = take(&mut own, &CONNECTION_KEYS)
            .try_into()
            .map_err(explain)?;
        let route = take(&mut own, &ROUTE_KEYS).try_into().map_err(explain)?;
        let kind = own.try_into().map_err(explain)?;
        Ok(Self {
            name: name.clone(),
            route,
            connection,
            kind,
        })
    }
}

/// The entries of these keys, which are not there any more afterwards.
fn take(table: &mut Table, keys: &[&str]) -> Table {
    let entry = |key: &&str| Some(((*key).to_owned(), table.remove(*key)?));
    keys.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(section: &str) -> Result<Config, String> {
        toml::from_str(section).map_err(|error| error.message().to_owned())
    }

    fn error(section: &str) -> String {
        let config = parse(&format!("name = \"ops\"\n{section}")).unwrap();
        check(&[config]).unwrap_err().to_string()
    }

    #[test]
    fn the_keys_that_kinds_share_are_those_of_connection_and_route() {
        let keys = |table: &Table| table.keys().cloned().collect::<BTreeSet<_>>();
        let connection = Connection {
            ca_file: Some(PathBuf::from("ca.pem")),
            ..Connection::default()
        };
        let connection = Table::try_from(connection).unwrap();
        assert_eq!(keys(&connection), CONNECTION_KEYS.map(str::to_owned).into());
        let route: Route = toml::from_str("severity_min = 'warning'").unwrap();
        let route = Table::try_from(route).unwrap();
        assert_eq!(keys(&route), ROUTE_KEYS.map(str::to_owned).into());
    }

    #[test]
    fn a_section_is_what_its_kind_and_all_kinds_have() {
        let config = parse(
            "name = 'ops'\ntype = 'slack'\nurl_file = '/run/slack'\ntimeout = '3s'\nca_file = 'ca.pem'\n\
             send_resolved = false",
        );
        let expected = Config {
            name: "ops".to_owned(),
            route: Route {
                send_resolved: false,
                ..Route::default()
            },
            connection: Connection {
                timeout: Duration::from_secs(3),
                ca_file: Some(PathBuf::from("ca.pem")),
                insecure_skip_verify: false,
            },
            kind: Kind::Slack(address::Config {
                url_file: Some(PathBuf::from("/run/slack")),
                ..address::Config::default()
            }),
        };
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn a_key_that_its_kind_does_not_have_is_refused_with_those_that_it_has() {
        let error = parse("name = 'ops'\ntype = 'slack'\nhost = 'mail'").unwrap_err();
        assert_eq!(
            error,
            "channel \"ops\": unknown field `host`, expected one of `url`, `url_file`, `url_env`, `name`, \
             `timeout`, `ca_file`, `insecure_skip_verify`, `severity_min`, `match`, `send_resolved`"
        );
        let error = parse("name = 'ops'\ntype = 'pigeon'").unwrap_err();
        let start = "channel \"ops\": unknown variant `pigeon`, expected one of `slack`, `email`";
        assert!(error.starts_with(start), "{error}");
        let error = parse("name = 'ops'\nurl_file = 'u'").unwrap_err();
        assert_eq!(error, "channel \"ops\": missing field `type`");
        let error = parse("name = 'ops'\ntype = 'slack'\ntimeout = '1 s'").unwrap_err();
        let start = "channel \"ops\": \"1 s\" is not a duration";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_section_names_the_channel_and_the_key() {
        assert_eq!(
            error("type = 'slack'"),
            "channel \"ops\": set url, url_file or url_env"
        );
        assert_eq!(
            error("type = 'slack'\nurl = 'https://a/b'\nurl_env = 'URL'"),
            "channel \"ops\": url, url_file and url_env are three ways to say one thing: set one of them"
        );
        assert_eq!(
            error("type = 'slack'\nurl = 'ftp://a/hunter2'"),
            "channel \"ops\": url is not an address that begins with http:// or https://"
        );
        assert_eq!(
            error("type = 'teams'\nurl_file = 'u'\ntimeout = '0s'"),
            "channel \"ops\": timeout cannot be 0"
        );
        let two = ["one", "one"].map(|name| {
            parse(&format!("name = '{name}'\ntype = 'teams'\nurl_file = 'u'")).unwrap()
        });
        let same = check(&two).unwrap_err().to_string();
        assert_eq!(same, "two sections have the name \"one\"");
        let none = parse("type = 'teams'\nurl_file = 'u'").unwrap();
        let none = check(&[none]).unwrap_err().to_string();
        assert_eq!(none, "section 1 has no name");
    }
}
