//! What can go wrong on a way in, with what is needed to act on it.

use std::io;
use std::path::PathBuf;

use rdkafka::error::KafkaError;

use crate::store;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("kafka.topics is empty: name topics, or give patterns that start with ^")]
    NoTopics,
    #[error("kafka.topics: entry {position} is an empty topic pattern")]
    EmptyTopic {
        /// Counted from 1, as people do.
        position: usize,
    },
    #[error("kafka.topics: pattern {pattern:?} is not a regular expression: {source}")]
    BadPattern {
        pattern: String,
        source: regex::Error,
    },
    #[error("kafka.properties: {key:?} is not free to set: {instead}")]
    OwnedProperty { key: String, instead: &'static str },
    #[error(
        "kafka.sasl.mechanism: Kerberos (GSSAPI) is not included; use SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or \
         OAUTHBEARER"
    )]
    Kerberos,
    #[error(
        "kafka.sasl.mechanism: {mechanism:?} is none of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER"
    )]
    UnknownMechanism { mechanism: String },
    #[error("{key} is needed for kafka.sasl.mechanism {mechanism:?}")]
    MissingKey {
        key: &'static str,
        mechanism: String,
    },
    #[error("{key}: {path}: {source}")]
    SecretFile {
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("kafka client for {brokers}: {source}")]
    Client { brokers: String, source: KafkaError },
    #[error("thread of the kafka consumer: {source}")]
    Thread { source: io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
}
