//! An in-process Kafka broker, and recorded events to put into it.
//!
//! The broker is librdkafka's mock cluster: one node that speaks the real protocol over TCP on loopback,
//! so that what reads from it cannot tell. It keeps only about 5 MB of a partition and drops older
//! messages without a word; [`Broker::play`] therefore never runs further ahead of its reader than that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::shutdown::Shutdown;

/// Bytes and messages that may wait unread in one partition: well below what the broker keeps.
const UNREAD_BYTES_MAX: usize = 2 << 20;
const UNREAD_MESSAGES_MAX: i64 = 50_000;

/// The largest message that can be produced, above what a consumer accepts so that this can be seen.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A broker in the same process answers at once or never.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a reader that has fallen behind is looked at.
const PACE: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}: not a recorded event: {source}")]
    Line {
        path: PathBuf,
        line: u64,
        source: serde_json::Error,
    },
    #[error("the in-process broker: {0}")]
    Broker(#[from] KafkaError),
    #[error("topic {topic:?}: message not taken by the in-process broker: {source}")]
    NotTaken { topic: String, source: KafkaError },
    #[error("stopped while events were still to be played")]
    Stopped,
}

/// One recorded message: the bytes as they were on Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    /// `None` is Kafka's null, a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The form of a line; key, value and header values stay unparsed, so that their bytes survive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    topic: String,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Vec<LineHeader<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineHeader<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Event {
    /// Reads one line of a recording.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        let bytes = |raw: Option<&RawValue>| raw.map(|raw| raw.get().as_bytes().to_vec());
        let line: Line<'_> = serde_json::from_str(line)?;
        Ok(Self {
            topic: line.topic,
            key: bytes(line.key),
            value: bytes(line.value),
            headers: line
                .headers
                .into_iter()
                .map(|header| (header.key, bytes(header.value)))
                .collect(),
        })
    }

    fn size_bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter();
        of(&self.key)
            + of(&self.value)
            + headers
                .map(|(key, value)| key.len() + of(value))
                .sum::<usize>()
    }
}

/// The events of a recording, one JSON object a line; empty lines are skipped.
pub fn read_events(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Event, Error>> + use<>, Error> {
    let path = path.to_owned();
    let file = File::open(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let lines = BufReader::new(file).lines().zip(1..);
    Ok(lines.filter_map(move |(text, line)| {
        let path = path.clone();
        match text {
            Ok(text) if text.trim().is_empty() => None,
            Ok(text) => {
                Some(Event::parse(&text).map_err(|source| Error::Line { path, line, source }))
            }
            Err(source) => Some(Err(Error::Read { path, source })),
        }
    }))
}

/// What the broker has acknowledged.
#[derive(Debug, Default)]
struct Deliveries {
    /// The offset after the last message, by topic and partition.
    ends: Mutex<BTreeMap<(String, i32), i64>>,
    refused: Mutex<Option<(String, KafkaError)>>,
}

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "in-process broker: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "in-process broker: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let partition = (message.topic().to_owned(), message.partition());
                let mut ends = lock(&self.ends);
                let end = ends.entry(partition).or_default();
                *end = (*end).max(message.offset() + 1);
            }
            Err((error, message)) => {
                lock(&self.refused)
                    .get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
            }
        }
    }
}

/// The broker and the one producer that feeds it. It ends when it is dropped.
pub struct Broker {
    producer: BaseProducer<Deliveries>,
    /// Bytes sent to a partition since it was last known to be read to its end.
    unread: Mutex<BTreeMap<(String, i32), Unread>>,
}

#[derive(Debug, Default)]
struct Unread {
    bytes: usize,
    messages: i64,
}

impl Broker {
    pub fn start() -> Result<Self, Error> {
        let mut config = ClientConfig::new();
        config
            .set("test.mock.num.brokers", "1")
            // Keeps a partition's order whatever is sent again.
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        let producer = BaseProducer::from_config_and_context(&config, Deliveries::default())?;
        Ok(Self {
            producer,
            unread: Mutex::default(),
        })
    }

    /// The address to give to a consumer.
    pub fn brokers(&self) -> String {
        self.cluster().bootstrap_servers()
    }

    fn cluster(&self) -> MockCluster<'_, Deliveries> {
        self.producer
            .client()
            .mock_cluster()
            .expect("the producer was made with a mock cluster")
    }

    /// Makes a topic, unless it is there.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        match self.cluster().create_topic(topic, partitions, 1) {
            Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Cuts all connections and takes no new ones, or takes them again.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), Error> {
        const ALL: i32 = -1;
        let cluster = self.cluster();
        if reachable {
            cluster.broker_up(ALL)?;
        } else {
            cluster.broker_down(ALL)?;
        }
        Ok(())
    }

    /// Hands one event to the producer; [`Broker::flush`] makes sure that it has arrived.
    pub fn produce(&self, event: &Event, partition: i32) -> Result<(), Error> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&event.topic).partition(partition);
        if let Some(key) = &event.key {
            record = record.key(key);
        }
        if let Some(value) = &event.value {
            record = record.payload(value);
        }
        if !event.headers.is_empty() {
            let headers = event.headers.iter();
            record = record.headers(headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: value.as_ref(),
                })
            }));
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    self.producer.poll(PACE);
                    record = returned;
                }
                Err((source, _)) => {
                    let topic = event.topic.clone();
                    return Err(Error::NotTaken { topic, source });
                }
            }
        }
    }

    /// Waits until everything produced has been acknowledged.
    pub fn flush(&self) -> Result<(), Error> {
        self.producer.flush(TIMEOUT)?;
        match lock(&self.producer.context().refused).take() {
            Some((topic, source)) => Err(Error::NotTaken { topic, source }),
            None => Ok(()),
        }
    }

    /// The offset after the last acknowledged message, by topic and partition.
    pub fn ends(&self) -> BTreeMap<(String, i32), i64> {
        lock(&self.producer.context().ends).clone()
    }

    /// Whether a reader has come to the end of everything that was acknowledged.
    pub fn is_read(&self, next_offset: impl Fn(&str, i32) -> Option<i64>) -> bool {
        let ends = self.ends();
        let mut ends = ends.iter();
        ends.all(|((topic, partition), end)| next_offset(topic, *partition) >= Some(*end))
    }

    /// Plays events in their order, each topic in one partition that is made when it first occurs.
    ///
    /// `next_offset` tells how far the reader of a partition has come; when too much is unread the
    /// events wait for it, until the process is told to stop.
    pub fn play(
        &self,
        events: impl IntoIterator<Item = Result<Event, Error>>,
        next_offset: impl Fn(&str, i32) -> Option<i64>,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        for event in events {
            let event = event?;
            if shutdown.has_begun() {
                return Err(Error::Stopped);
            }
            self.pace(&event, &next_offset, shutdown)?;
            self.produce(&event, 0)?;
        }
        self.flush()
    }

    fn pace(
        &self,
        event: &Event,
        next_offset: &impl Fn(&str, i32) -> Option<i64>,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let partition = (event.topic.clone(), 0);
        let mut unread = lock(&self.unread);
        if !unread.contains_key(&partition) {
            self.create_topic(&event.topic, 1)?;
        }
        let unread = unread.entry(partition.clone()).or_default();
        unread.bytes += event.size_bytes();
        unread.messages += 1;
        if unread.bytes <= UNREAD_BYTES_MAX && unread.messages <= UNREAD_MESSAGES_MAX {
            return Ok(());
        }
        self.flush()?;
        let end = self.ends().get(&partition).copied().unwrap_or(0);
        while next_offset(&event.topic, 0).unwrap_or(0) < end {
            if shutdown.has_begun() {
                return Err(Error::Stopped);
            }
            std::thread::sleep(PACE);
        }
        *unread = Unread::default();
        Ok(())
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Broker")
            .field("brokers", &self.brokers())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_the_bytes_of_its_key_and_value() {
        let line = r#"{"topic":"t","key": {"id": 18446744073709551617},"value":{"a" :1.00, "b":"\u00e9"},
                       "headers":[{"key":"h","value": {"x": 1}},{"key":"n","value":null}]}"#;
        let event = Event::parse(line).unwrap();
        let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
        assert_eq!(text(&event.key), r#"{"id": 18446744073709551617}"#);
        assert_eq!(text(&event.value), r#"{"a" :1.00, "b":"\u00e9"}"#);
        assert_eq!(text(&event.headers[0].1), r#"{"x": 1}"#);
        assert_eq!(event.headers[1], ("n".to_owned(), None));
    }

    #[test]
    fn null_is_no_key_and_no_value() {
        let event = Event::parse(r#"{"topic":"t","key":null,"value":null,"headers":[]}"#).unwrap();
        assert_eq!((event.key, event.value), (None, None));
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let text = "{\"topic\":\"t\",\"key\":null,\"value\":null}\n\n{\"topic\":\n";
        std::fs::write(&path, text).unwrap();
        let events: Vec<_> = read_events(&path).unwrap().collect();
        assert_eq!(events.len(), 2);
        let error = events[1].as_ref().unwrap_err().to_string();
        assert!(error.contains("events.ndjson:3: "), "{error}");
    }
}
