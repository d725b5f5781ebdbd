//! The configuration as it may be seen: as TOML, and by the names of Prometheus' flags.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::{Config, default_data_dir};
use crate::http::Settings;
use crate::model::unit::format_duration;

/// What stands where something is kept back.
const HIDDEN: &str = "<secret>";

/// Parts of the names of keys whose values are kept back. The types of secrets hide themselves; this is
/// for what is passed on to others as text, such as `kafka.properties`.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "pem", "credential", "sha256"];

impl Config {
    /// What is in force, as others may see it; `path` is the file that was read.
    pub fn settings(&self, path: Option<&Path>) -> Settings {
        let retention = match self.store.retention {
            Duration::ZERO => "0".to_owned(),
            span => format_duration(span),
        };
        Settings {
            config: self.to_toml(),
            flags: self.flags(path, &retention),
            retention,
        }
    }

    /// The whole as TOML, without secrets.
    fn to_toml(&self) -> String {
        let mut table = Table::try_from(self).expect("what was read from TOML becomes TOML");
        hide(&mut table);
        table.to_string()
    }

    fn flags(&self, path: Option<&Path>, retention: &str) -> BTreeMap<String, String> {
        let data = self.server.data.clone().unwrap_or_else(default_data_dir);
        let (server, query) = (&self.server, &self.query);
        [
            (
                "config.file",
                path.unwrap_or(Path::new("")).display().to_string(),
            ),
            ("query.lookback-delta", format_duration(query.lookback)),
            ("query.max-concurrency", query.concurrent_max.to_string()),
            ("query.max-samples", query.samples_max.to_string()),
            ("query.timeout", format_duration(query.timeout)),
            ("storage.tsdb.path", data.display().to_string()),
            ("storage.tsdb.retention.time", retention.to_owned()),
            ("web.enable-admin-api", server.admin_api.to_string()),
            ("web.enable-remote-write-receiver", "true".to_owned()),
            ("web.listen-address", server.listen.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

fn hide(table: &mut Table) {
    for (key, value) in table {
        let key = key.to_ascii_lowercase();
        let names_a_file = key.ends_with("_file") || key.ends_with(".location");
        match value {
            Value::Table(inner) => hide(inner),
            Value::Array(list) => {
                for inner in list.iter_mut().filter_map(Value::as_table_mut) {
                    hide(inner);
                }
            }
            Value::String(text)
                if !names_a_file && SECRET_WORDS.iter().any(|word| key.contains(word)) =>
            {
                HIDDEN.clone_into(text);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_shown_without_its_secrets() {
        let text = r#"
            [[server.token]]
            name = "ci"
            sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            scopes = ["read", "admin"]
            [kafka]
            brokers = "a:9092"
            topics = ["shop.public.orders"]
            [kafka.sasl]
            mechanism = "PLAIN"
            username = "reader"
            password = "hunter2"
            [kafka.tls]
            key_password_file = "/run/key"
            [kafka.properties]
            "plugin.secret" = "hunter3"
            "client.id" = "cutover-1"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        let shown = config.to_toml();
        for secret in ["hunter", "ba7816bf"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        for plain in [
            "reader",
            "cutover-1",
            "/run/key",
            "\"admin\"",
            "retention = \"90d\"",
        ] {
            assert!(shown.contains(plain), "{plain} in {shown}");
        }
        let flags = config.settings(None).flags;
        assert_eq!(flags["storage.tsdb.retention.time"], "90d");
        assert_eq!(flags["query.lookback-delta"], "5m");
    }
}
