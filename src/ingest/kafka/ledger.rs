//! What has been read, partition by partition: positions and counts, in one record each.
//!
//! The ledger in memory may run ahead of the store by what is staged. A commit writes the records of all
//! partitions that changed, so positions and the counts they led to are never apart. When a commit
//! fails the ledger must be thrown away and loaded again: nothing goes on from memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cdc::lag::{Marks, Watermark};
use crate::cdc::{Classifier, Record, Tally};
use crate::ingest::dead_letter::{self, DeadLetter, Log};
use crate::model::{Batch, Mutation, Timestamp};
use crate::store::{self, Reader, Table};

/// A topic and the number of one of its partitions.
pub(super) type PartitionId = (String, i32);

/// Topic, a zero byte, partition (big endian) -> record of the partition.
const PARTITIONS: Table<Progress> = Table::new("kafka_partitions", 1);

/// One row under an empty key: the timestamp of the latest samples, in milliseconds.
const STAMP: Table<i64> = Table::new("kafka_stamp", 1);

/// How many records are loaded at a time.
const PAGE: usize = 1_000;

/// What is known of one partition, as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    next_offset: i64,
    tally: Tally,
    marks: Marks,
}

/// One partition: its record, and what is only known while it is read.
#[derive(Debug, Default)]
pub(super) struct Partition {
    progress: Progress,
    watermark: Watermark,
    end_offset: Option<i64>,
    opening: Opening,
    is_staged: bool,
}

/// Whether a partition is read, and what the client's own position in it is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Opening {
    /// Not since the ledger was loaded.
    #[default]
    Never,
    /// No longer.
    Closed,
    /// Once more, and nothing has come yet: for a moment the client may still be where it was before.
    Reopened,
    Open,
}

impl Partition {
    /// The offset of the message that comes next.
    pub(super) fn next_offset(&self) -> i64 {
        self.progress.next_offset
    }

    /// The offset at which the next message will be written, when last asked.
    pub(super) fn end_offset(&self) -> Option<i64> {
        self.end_offset
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.progress.tally
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.progress.marks
    }

    pub(super) fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Whether it is among the partitions that are read now.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.opening, Opening::Open | Opening::Reopened)
    }
}

/// One message as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) value: Option<&'a [u8]>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    classifier: Classifier,
    /// By topic, then partition: a level each, so that a look-up copies no name.
    topics: BTreeMap<String, BTreeMap<i32, Partition>>,
    letters: Log,
    stamp: Timestamp,
    staged_messages: usize,
    staged_bytes: usize,
}

impl Ledger {
    /// What the store holds; every partition is known, none is read.
    pub(super) fn load(reader: &Reader, classifier: Classifier) -> Result<Self, store::Error> {
        let snapshot = reader.snapshot()?;
        let mut topics: BTreeMap<String, BTreeMap<i32, Partition>> = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = snapshot.records(&PARTITIONS, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, progress) in page {
                let Some((topic, partition)) = decode_key(&key) else {
                    tracing::warn!(?key, "stored partition with an unreadable key left out");
                    continue;
                };
                let partitions = topics.entry(topic).or_default();
                let watermark = Watermark::resumed(progress.next_offset);
                partitions.insert(
                    partition,
                    Partition {
                        progress,
                        watermark,
                        ..Partition::default()
                    },
                );
            }
        }
        let stamp = snapshot.record(&STAMP, b"")?.unwrap_or(i64::MIN);
        Ok(Self {
            classifier,
            topics,
            letters: Log::resume(snapshot.record(&dead_letter::RANGE, b"")?),
            stamp: Timestamp::from_ms(stamp),
            staged_messages: 0,
            staged_bytes: 0,
        })
    }

    /// Whether nothing has ever been read into this store.
    pub(super) fn is_blank(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (&str, i32, &Partition)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(number, partition)| (&**topic, *number, partition))
        })
    }

    /// The partitions that are read, with the offset that comes next in each.
    pub(super) fn positions(&self) -> BTreeMap<PartitionId, i64> {
        self.partitions()
            .filter(|(_, _, partition)| partition.is_read())
            .map(|(topic, number, partition)| ((topic.to_owned(), number), partition.next_offset()))
            .collect()
    }

    pub(super) fn get(&self, (topic, number): &PartitionId) -> Option<&Partition> {
        self.topics.get(topic)?.get(number)
    }

    fn get_mut(&mut self, topic: &str, number: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(&number)
    }

    /// Counts a partition among those that are read, from an offset on; its counts go on.
    pub(super) fn open(&mut self, (topic, number): &PartitionId, next_offset: i64) {
        let partitions = self.topics.entry(topic.clone()).or_default();
        let partition = partitions.entry(*number).or_insert_with(|| Partition {
            // A new partition's position is stored even if no message ever comes: it must not count
            // as new again after a restart.
            is_staged: true,
            ..Partition::default()
        });
        partition.opening = match partition.opening {
            Opening::Never => Opening::Open,
            _ => Opening::Reopened,
        };
        if partition.progress.next_offset != next_offset {
            partition.progress.next_offset = next_offset;
            partition.watermark = Watermark::default();
            partition.is_staged = true;
        }
    }

    /// No longer counts a partition among those that are read.
    pub(super) fn close(&mut self, (topic, number): &PartitionId) {
        if let Some(partition) = self.get_mut(topic, *number) {
            partition.opening = Opening::Closed;
            partition.end_offset = None;
        }
    }

    /// Counts one message, unless it has been counted or its partition is not read.
    pub(super) fn take(&mut self, message: Received<'_>, now: Timestamp) {
        let partitions = self.topics.get_mut(message.topic);
        let partition = partitions.and_then(|partitions| partitions.get_mut(&message.partition));
        let Some(partition) = partition.filter(|partition| partition.is_read()) else {
            return;
        };
        if message.offset < partition.progress.next_offset {
            return;
        }
        match self.classifier.classify(message.topic, message.value) {
            Ok(record) => {
                partition.progress.tally.add(&record);
                match record {
                    Record::Change(change) => partition.progress.marks.change(&change, now),
                    Record::Heartbeat { source, at } => {
                        partition.progress.marks.heartbeat(source, at, now);
                    }
                    _ => {}
                }
            }
            Err(unparsable) => {
                partition.progress.tally.add_dead_letter(unparsable.reason);
                let value = message.value.unwrap_or_default();
                let at = (message.topic, message.partition, message.offset);
                let letter = DeadLetter::new(at, value, unparsable, now);
                self.staged_bytes += letter.excerpt.len();
                self.letters.push(&letter);
            }
        }
        partition.progress.next_offset = message.offset + 1;
        partition.opening = Opening::Open;
        partition.is_staged = true;
        self.staged_messages += 1;
        self.staged_bytes += message.value.map_or(0, <[u8]>::len);
    }

    /// Moves on over the markers of transactions, to where the client is.
    ///
    /// Whatever it handed over has been taken, so nothing else can lie between. Without this the end
    /// of a topic that is written in transactions would never be reached.
    pub(super) fn skip_markers(&mut self, positions: &BTreeMap<PartitionId, i64>) {
        for ((topic, number), position) in positions {
            let Some(partition) = self.get_mut(topic, *number) else {
                continue;
            };
            let is_ahead = *position > partition.progress.next_offset;
            if is_ahead && partition.opening == Opening::Open {
                partition.progress.next_offset = *position;
                partition.is_staged = true;
            }
        }
    }

    /// Takes the ends that the brokers gave for positions asked for before.
    pub(super) fn set_ends(&mut self, ends: &BTreeMap<PartitionId, i64>, now: Timestamp) {
        for ((topic, number), end) in ends {
            if let Some(partition) = self.get_mut(topic, *number) {
                partition.end_offset = Some(*end);
                partition
                    .watermark
                    .poll(partition.progress.next_offset, *end, now);
            }
        }
    }

    /// Messages and bytes that the next commit will make durable.
    pub(super) fn staged(&self) -> (usize, usize) {
        (self.staged_messages, self.staged_bytes)
    }

    /// Dead letters dropped to make room.
    pub(super) fn letters_dropped(&self) -> u64 {
        self.letters.dropped()
    }

    /// The time of the next samples: now, but always after the samples before.
    pub(super) fn next_stamp(&mut self, now: Timestamp, batch: &mut Batch) -> Timestamp {
        self.stamp = self.stamp.offset_ms(1).max(now);
        batch.mutations.push(STAMP.put([], &self.stamp.ms()));
        self.stamp
    }

    /// Adds what changed to a batch. [`Ledger::committed`] must follow when it has been written.
    pub(super) fn stage(&mut self, batch: &mut Batch) {
        for (topic, partitions) in &self.topics {
            for (number, partition) in partitions {
                if partition.is_staged {
                    let key = encode_key(topic, *number);
                    batch
                        .mutations
                        .push(PARTITIONS.put(key, &partition.progress));
                }
            }
        }
        self.letters.stage(batch);
    }

    /// Notes that what was staged is durable, and says which partitions it was.
    pub(super) fn committed(&mut self) -> BTreeSet<PartitionId> {
        (self.staged_messages, self.staged_bytes) = (0, 0);
        let mut changed = BTreeSet::new();
        for (topic, partitions) in &mut self.topics {
            for (number, partition) in partitions {
                if std::mem::take(&mut partition.is_staged) {
                    changed.insert((topic.clone(), *number));
                }
            }
        }
        changed
    }
}

/// The record of a partition on which changes were counted before its first message.
pub(super) fn counted(topic: &str, tally: Tally) -> Mutation {
    let progress = Progress {
        tally,
        ..Progress::default()
    };
    PARTITIONS.put(encode_key(topic, 0), &progress)
}

fn encode_key(topic: &str, partition: i32) -> Vec<u8> {
    let mut key = topic.as_bytes().to_vec();
    key.push(0);
    key.extend(partition.to_be_bytes());
    key
}

fn decode_key(key: &[u8]) -> Option<PartitionId> {
    let (rest, partition) = key.split_last_chunk::<4>()?;
    let (0, topic) = rest.split_last()? else {
        return None;
    };
    let topic = String::from_utf8(topic.to_vec()).ok()?;
    Some((topic, i32::from_be_bytes(*partition)))
}

#[cfg(test)]
mod tests;
