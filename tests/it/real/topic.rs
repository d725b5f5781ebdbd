//! Topics as another consumer sees them: what the appliance's counts are held against.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;

use super::Counts;

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn create(brokers: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("an admin client needs only brokers");
    let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let results = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing of the system")
        .block_on(admin.create_topics(&topics, &options))
        .expect("the broker answers");
    for result in results {
        result.unwrap_or_else(|(topic, code)| panic!("topic {topic} was not made: {code}"));
    }
}

/// Reads the topics whose names start with `prefix` from their beginning to their present end, and
/// counts the changes by what the records themselves say.
pub(super) fn count(brokers: &str, prefix: &str) -> Counts {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "truth")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer needs only brokers and a group");
    let mut remaining = assign(&consumer, prefix);
    let mut counts = Counts::new();
    while remaining > 0 {
        let message = consumer
            .poll(TIMEOUT)
            .unwrap_or_else(|| panic!("{remaining} records of {prefix}* did not come"))
            .expect("the broker serves what it has");
        remaining -= 1;
        // A tombstone is a record, not a change.
        if let Some(value) = message.payload() {
            *counts.entry(change(value)).or_default() += 1;
        }
    }
    counts
}

/// Assigns every partition of the topics from its beginning; answers how many records there are.
///
/// Offsets count records only where nobody writes transactions or compacts.
fn assign(consumer: &BaseConsumer, prefix: &str) -> i64 {
    let metadata = consumer
        .fetch_metadata(None, TIMEOUT)
        .expect("the broker answers");
    let mut partitions = TopicPartitionList::new();
    let mut records = 0;
    for topic in metadata.topics() {
        if !topic.name().starts_with(prefix) {
            continue;
        }
        for partition in topic.partitions() {
            let (low, high) = consumer
                .fetch_watermarks(topic.name(), partition.id(), TIMEOUT)
                .expect("the broker answers");
            records += high - low;
            partitions
                .add_partition_offset(topic.name(), partition.id(), Offset::Offset(low))
                .expect("a partition is listed once");
        }
    }
    consumer
        .assign(&partitions)
        .expect("partitions that exist can be assigned");
    records
}

/// Logical name, table and operation of a change event of PostgreSQL.
fn change(value: &[u8]) -> (String, String, String) {
    let event: Value = serde_json::from_slice(value).expect("change events are JSON");
    let field = |path: &str| {
        let text = event.pointer(path).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("{path} is not in {event}"))
    };
    let operation = match field("/op") {
        "c" => "create",
        "u" => "update",
        "d" => "delete",
        "r" => "read",
        other => panic!("op {other} in {event}"),
    };
    let table = format!("{}.{}", field("/source/schema"), field("/source/table"));
    (
        field("/source/name").to_owned(),
        table,
        operation.to_owned(),
    )
}
