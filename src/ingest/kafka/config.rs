//! What an operator sets about Kafka, and the client settings that come of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::security::{Sasl, Tls};
use super::topic::Selection;
use crate::ingest::Error;
use crate::model::{Timestamp, unit};

/// The `[kafka]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bootstrap addresses, `host:port` separated by commas.
    pub brokers: String,
    /// Topics by name, or by pattern where an entry starts with `^`.
    pub topics: Vec<String>,
    /// Where partitions start that are there when Kafka is read for the first time. Those that appear
    /// later start at their beginning.
    pub start: Start,
    /// The partitions of every data topic that this host reads; all unless set.
    pub partitions: Option<Vec<i32>>,
    /// Under what name positions are shown to other tools. They are never read back.
    pub group_id: String,
    /// Debezium's `topic.heartbeat.prefix`.
    pub heartbeat_prefix: String,
    /// Debezium's `heartbeat.interval.ms`.
    #[serde(with = "unit::duration_text")]
    pub heartbeat_interval: Duration,
    /// How often new topics and partitions are looked for.
    #[serde(with = "unit::duration_text")]
    pub metadata_interval: Duration,
    /// Present, even if empty, where brokers are reached over TLS.
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    /// Further settings of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".to_owned(),
            topics: Vec::new(),
            start: Start::Beginning,
            partitions: None,
            group_id: "cutover".to_owned(),
            heartbeat_prefix: "__debezium-heartbeat".to_owned(),
            heartbeat_interval: Duration::from_secs(10),
            metadata_interval: Duration::from_secs(10),
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }
}

/// Where the first reading begins: `beginning`, `end`, or a time in RFC 3339 or milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Beginning,
    End,
    At(Timestamp),
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Beginning => serializer.serialize_str("beginning"),
            Self::End => serializer.serialize_str("end"),
            Self::At(timestamp) => serializer.collect_str(timestamp),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StartVisitor)
    }
}

struct StartVisitor;

impl Visitor<'_> for StartVisitor {
    type Value = Start;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"beginning\", \"end\", an RFC 3339 time or milliseconds since 1970")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Start, E> {
        match text {
            "beginning" => return Ok(Start::Beginning),
            "end" => return Ok(Start::End),
            _ => {}
        }
        // From the environment a number arrives as text.
        let timestamp_ms = match text.parse::<i64>() {
            Ok(timestamp_ms) => timestamp_ms,
            Err(_) => text
                .parse::<jiff::Timestamp>()
                .map_err(|_unparsable| E::invalid_value(de::Unexpected::Str(text), &self))?
                .as_millisecond(),
        };
        self.visit_i64(timestamp_ms)
    }

    fn visit_i64<E: de::Error>(self, timestamp_ms: i64) -> Result<Start, E> {
        if timestamp_ms < 0 {
            return Err(E::invalid_value(
                de::Unexpected::Signed(timestamp_ms),
                &self,
            ));
        }
        Ok(Start::At(Timestamp::from_ms(timestamp_ms)))
    }

    fn visit_u64<E: de::Error>(self, timestamp_ms: u64) -> Result<Start, E> {
        match i64::try_from(timestamp_ms) {
            Ok(timestamp_ms) => self.visit_i64(timestamp_ms),
            Err(_) => Err(E::invalid_value(
                de::Unexpected::Unsigned(timestamp_ms),
                &self,
            )),
        }
    }
}

/// Settings that cannot be passed through, and what to do instead.
const OWNED: [(&str, &str); 12] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group_id"),
    (
        "security.protocol",
        "it follows from [kafka.tls] and [kafka.sasl]",
    ),
    ("sasl.mechanism", "set kafka.sasl.mechanism"),
    ("sasl.mechanisms", "set kafka.sasl.mechanism"),
    ("sasl.username", "set kafka.sasl.username"),
    ("sasl.password", "set kafka.sasl.password_file"),
    ("ssl.key.password", "set kafka.tls.key_password_file"),
    ("enable.auto.commit", "positions live in the store"),
    ("enable.auto.offset.store", "positions live in the store"),
    (
        "auto.offset.reset",
        "a lost position is reported, never skipped over",
    ),
];

/// What suits this consumer better than librdkafka's own defaults; `properties` may differ.
const DEFAULTS: [(&str, &str); 8] = [
    ("client.id", "cutover"),
    ("isolation.level", "read_committed"),
    // The default of a second halves the throughput as soon as we are slower than the fetcher.
    ("fetch.queue.backoff.ms", "5"),
    ("queued.max.messages.kbytes", "32768"),
    // Above our own limit of a message, so that a larger one arrives and becomes a dead letter.
    ("receive.message.max.bytes", "134217728"),
    ("allow.auto.create.topics", "false"),
    ("socket.keepalive.enable", "true"),
    ("reconnect.backoff.max.ms", "2000"),
];

impl Config {
    /// Finds settings that cannot work, before a client is made of them.
    pub fn check(&self) -> Result<(), Error> {
        Selection::new(&self.topics, &self.heartbeat_prefix)?;
        let checked = self.client_config()?.create_native_config();
        checked
            .map(drop)
            .map_err(|source| self.client_error(source))
    }

    pub(super) fn client_error(&self, source: KafkaError) -> Error {
        let brokers = self.brokers.clone();
        Error::Client { brokers, source }
    }

    /// The settings of the client, secrets read from their files.
    pub(super) fn client_config(&self) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        for (key, value) in DEFAULTS {
            client.set(key, value);
        }
        for (key, value) in &self.properties {
            if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| owned == key) {
                let key = key.clone();
                return Err(Error::OwnedProperty { key, instead });
            }
            client.set(key, value);
        }
        client
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", &self.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set(
                "security.protocol",
                match (&self.tls, &self.sasl) {
                    (None, None) => "plaintext",
                    (Some(_), None) => "ssl",
                    (None, Some(_)) => "sasl_plaintext",
                    (Some(_), Some(_)) => "sasl_ssl",
                },
            );
        if let Some(tls) = &self.tls {
            tls.apply(&mut client)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.apply(&mut client)?;
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn start_is_a_place_or_a_time() {
        let start =
            |text: &str| toml::from_str::<Config>(&format!("start = {text}")).map(|c| c.start);
        assert_eq!(start("\"beginning\"").unwrap(), Start::Beginning);
        assert_eq!(start("\"end\"").unwrap(), Start::End);
        let time = Start::At(Timestamp::from_ms(1_500));
        assert_eq!(start("\"1970-01-01T00:00:01.5Z\"").unwrap(), time);
        assert_eq!(start("1500").unwrap(), time);
        assert_eq!(start("\"1500\"").unwrap(), time);
        let error = start("\"yesterday\"").unwrap_err().to_string();
        assert!(error.contains("RFC 3339"), "{error}");
        assert!(start("-1").is_err());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>("topic = []")
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `topic`"), "{error}");
    }

    #[test]
    fn properties_pass_through_unless_they_are_ours() {
        let mut config = Config::default();
        let mut set = |key: &str, value: &str| {
            config.properties.insert(key.into(), value.into());
            config.client_config()
        };
        let client = set("isolation.level", "read_uncommitted").unwrap();
        assert_eq!(client.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(client.get("enable.auto.commit"), Some("false"));
        let error = set("auto.offset.reset", "earliest")
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"auto.offset.reset\""), "{error}");
    }

    #[test]
    fn a_property_that_librdkafka_does_not_know_is_found_at_the_start() {
        let mut config = Config {
            topics: vec!["shop.orders".to_owned()],
            ..Config::default()
        };
        assert!(config.check().is_ok());
        config.properties.insert("fetch.nothing".into(), "1".into());
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("fetch.nothing"), "{error}");
    }

    #[test]
    fn the_protocol_follows_from_the_sections_that_are_there() {
        let protocol = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            let client = config.client_config().unwrap();
            client.get("security.protocol").unwrap().to_owned()
        };
        let sasl = "[sasl]\nmechanism = 'PLAIN'\nusername = 'u'\npassword = 'p'\n";
        assert_eq!(protocol(""), "plaintext");
        assert_eq!(protocol("[tls]"), "ssl");
        assert_eq!(protocol(sasl), "sasl_plaintext");
        assert_eq!(protocol(&format!("[tls]\n{sasl}")), "sasl_ssl");
    }
}
