//! The conversation with the brokers: what exists, where it ends, what comes next.
//!
//! A thin layer over librdkafka that speaks in topics, partitions and offsets. It keeps no position of
//! its own: partitions are added at offsets it is told, never by a group.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use super::config::Config;
use super::ledger::PartitionId;
use crate::ingest::Error;
use crate::model::{Clock, Timestamp};

/// How long a question to the brokers may take: short, since the grid waits behind it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// For how long a token from the file is used before the file is read again.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

pub(super) struct Client {
    consumer: BaseConsumer<Context>,
}

/// A place in a partition, as ListOffsets knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Beginning,
    End,
    /// The first message at or after a time.
    At(Timestamp),
}

impl Client {
    pub(super) fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let sasl = config.sasl.clone().unwrap_or_default();
        let context = Context {
            token_file: sasl.token_file,
            principal: sasl.username,
            clock,
            last_error: Mutex::default(),
        };
        let client_config = config.client_config()?;
        let consumer = BaseConsumer::from_config_and_context(&client_config, context);
        Ok(Self {
            consumer: consumer.map_err(|source| config.client_error(source))?,
        })
    }

    pub(super) fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(timeout)
    }

    /// What librdkafka last said about a broker, else the error itself.
    pub(super) fn explain(&self, error: &KafkaError) -> String {
        let last = self.consumer.context().last_error.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            error.to_string()
        } else {
            last.clone()
        }
    }

    /// Every topic with those of its partitions that have a leader.
    pub(super) fn topics(&self) -> KafkaResult<BTreeMap<String, Vec<i32>>> {
        let metadata = self.consumer.fetch_metadata(None, TIMEOUT)?;
        let topics = metadata.topics().iter();
        Ok(topics
            .filter(|topic| topic.error().is_none())
            .map(|topic| {
                let led = topic
                    .partitions()
                    .iter()
                    .filter(|partition| partition.leader() >= 0)
                    .map(MetadataPartition::id);
                (topic.name().to_owned(), led.collect())
            })
            .collect())
    }

    /// The offset of a place in each partition; absent where the broker does not know it.
    pub(super) fn offsets(
        &self,
        partitions: &BTreeSet<PartitionId>,
        place: Place,
    ) -> KafkaResult<BTreeMap<PartitionId, i64>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        // One request a broker: ListOffsets takes these two in a timestamp's stead.
        let wanted = match place {
            Place::Beginning => Offset::Beginning,
            Place::End => Offset::End,
            Place::At(timestamp) => Offset::Offset(timestamp.ms()),
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, wanted)?;
        }
        let list = self.consumer.offsets_for_times(list, TIMEOUT)?;
        Ok(known_offsets(&list))
    }

    /// The offset after the last message that was handed over, by partition.
    ///
    /// It also counts the markers of transactions, which take offsets but are never handed over.
    pub(super) fn positions(&self) -> KafkaResult<BTreeMap<PartitionId, i64>> {
        Ok(known_offsets(&self.consumer.position()?))
    }

    /// Begins to read partitions, each from an offset.
    pub(super) fn add(&self, positions: &BTreeMap<PartitionId, i64>) -> KafkaResult<()> {
        if positions.is_empty() {
            return Ok(());
        }
        self.consumer.incremental_assign(&offset_list(positions)?)
    }

    /// Ceases to read partitions.
    pub(super) fn remove(&self, partitions: &BTreeSet<PartitionId>) -> KafkaResult<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        self.consumer.incremental_unassign(&list)
    }

    /// Shows positions to other tools as those of our group. Nobody waits for it.
    pub(super) fn publish(&self, positions: &BTreeMap<PartitionId, i64>) {
        if positions.is_empty() {
            return;
        }
        let list = offset_list(positions);
        if let Err(error) = list.and_then(|list| self.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(%error, "group offsets not published");
        }
    }
}

fn offset_list(positions: &BTreeMap<PartitionId, i64>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for ((topic, partition), offset) in positions {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

fn known_offsets(list: &TopicPartitionList) -> BTreeMap<PartitionId, i64> {
    let known = list.elements().into_iter().filter_map(|element| {
        let id = (element.topic().to_owned(), element.partition());
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some((id, offset)),
            _ => None,
        }
    });
    known.collect()
}

/// What librdkafka calls back.
struct Context {
    token_file: Option<PathBuf>,
    principal: String,
    clock: Arc<dyn Clock>,
    last_error: Mutex<String>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!(facility, "librdkafka: {message}"),
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reason.clone_into(&mut last);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        let path = self.token_file.as_ref().ok_or("no kafka.sasl.token_file")?;
        let token = std::fs::read_to_string(path)
            .map_err(|error| format!("kafka.sasl.token_file: {}: {error}", path.display()))?;
        Ok(OAuthToken {
            token: token.trim().to_owned(),
            principal_name: self.principal.clone(),
            lifetime_ms: self.clock.now().after(TOKEN_LIFETIME).ms(),
        })
    }
}

impl ConsumerContext for Context {}
