//! What one Kafka message of a Debezium connector says.
//!
//! [`Classifier::classify`] looks at the topic's name and the value's bytes. It reads the few fields that
//! counts and lags need and skips the rest unparsed: rows may hold anything that is valid JSON. A
//! message's key is never needed. Both forms of the JSON converter are understood, with schema and
//! without, and what ExtractNewRecordState makes of a change.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{flattened, mongodb, mysql, postgres};
use crate::model::Timestamp;

/// The largest value that is parsed.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How much of a cause is kept: enough to recognise it, whatever the message holds.
const DETAIL_CHARS_MAX: usize = 200;

/// What a change does to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// A row read by a snapshot.
    Read,
    Truncate,
    /// A logical decoding message: it belongs to no table.
    Message,
}

impl Operation {
    pub const ALL: [Self; 6] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Read,
        Self::Truncate,
        Self::Message,
    ];

    /// The value of the `operation` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
            Self::Message => "message",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "c" => Self::Create,
            "u" => Self::Update,
            "d" => Self::Delete,
            "r" => Self::Read,
            "t" => Self::Truncate,
            "m" => Self::Message,
            _ => return None,
        })
    }
}

/// One understood message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Change(Change<'a>),
    /// The null that follows a delete, so that compaction can drop the key. It is no event.
    Tombstone,
    /// The connector is alive, and had nothing to say up to `at`.
    Heartbeat {
        source: &'a str,
        at: Timestamp,
    },
    /// A transaction's beginning or end.
    Transaction(Boundary),
    /// The course of a snapshot.
    Notification,
    /// A DDL statement, from connectors that publish them.
    SchemaChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    Begin,
    End,
}

/// One change of one row, of one table, or one message of the source's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The connector's logical name, which is its topic prefix.
    pub source: Cow<'a, str>,
    /// `schema.table`, `db.table` or `db.collection`; empty for messages.
    pub table: Cow<'a, str>,
    pub operation: Operation,
    /// When the source committed it, on the source's clock.
    pub committed_at: Option<Timestamp>,
    /// When the connector worked on it, on the connector's clock.
    pub captured_at: Option<Timestamp>,
    /// Whether a snapshot, initial or incremental, read it.
    pub snapshot: bool,
}

/// Why a message is not understood: the `reason` label of the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    TooLarge,
    InvalidUtf8,
    TruncatedJson,
    InvalidJson,
    WrongType,
    MissingField,
    UnknownOp,
    UnknownEnvelope,
}

impl Reason {
    pub const ALL: [Self; 8] = [
        Self::TooLarge,
        Self::InvalidUtf8,
        Self::TruncatedJson,
        Self::InvalidJson,
        Self::WrongType,
        Self::MissingField,
        Self::UnknownOp,
        Self::UnknownEnvelope,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TruncatedJson => "truncated_json",
            Self::InvalidJson => "invalid_json",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::UnknownOp => "unknown_op",
            Self::UnknownEnvelope => "unknown_envelope",
        }
    }
}

/// A message that is kept as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .reason.name())]
pub struct Unparsable {
    pub reason: Reason,
    /// What exactly is wrong, in a sentence's length.
    pub detail: String,
}

impl Unparsable {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { reason, detail }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::new(Reason::MissingField, format!("no `{field}`"))
    }

    fn json(what: &str, error: &serde_json::Error) -> Self {
        let reason = match error.classify() {
            serde_json::error::Category::Eof => Reason::TruncatedJson,
            serde_json::error::Category::Data => Reason::WrongType,
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                Reason::InvalidJson
            }
        };
        Self::new(reason, format!("{what}: {error}"))
    }
}

/// A string that borrows from the message unless it holds escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The fields that tell the forms apart, each unparsed: a flattened record may use any of the names
/// for columns of its own, with values of any type.
#[derive(Debug, Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    ts_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    /// Present even when null: a wrapped null is a tombstone.
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    aggregate_type: Option<&'a RawValue>,
    #[serde(borrow)]
    ddl: Option<&'a RawValue>,
    #[serde(borrow, rename = "tableChanges")]
    table_changes: Option<&'a RawValue>,
    #[serde(borrow, rename = "__op")]
    pub(super) flat_op: Option<&'a RawValue>,
    #[serde(borrow, rename = "__deleted")]
    pub(super) flat_deleted: Option<&'a RawValue>,
    #[serde(borrow, rename = "__table", alias = "__collection")]
    pub(super) flat_table: Option<&'a RawValue>,
    #[serde(borrow, rename = "__source_ts_ms")]
    pub(super) flat_committed_at: Option<&'a RawValue>,
}

fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The `source` block of an envelope, whichever connector wrote it.
#[derive(Debug, Deserialize)]
pub(super) struct Source<'a> {
    #[serde(borrow)]
    connector: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    db: Option<Text<'a>>,
    #[serde(borrow)]
    schema: Option<Text<'a>>,
    #[serde(borrow)]
    table: Option<Text<'a>>,
    #[serde(borrow)]
    collection: Option<Text<'a>>,
    ts_ms: Option<i64>,
    #[serde(borrow)]
    snapshot: Option<&'a RawValue>,
}

/// The parts of a table's name as the connectors spell them; empty where a connector has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    pub(super) db: &'a str,
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    pub(super) collection: &'a str,
}

impl Source<'_> {
    fn table(&self) -> Result<String, Unparsable> {
        let naming = Naming {
            db: part(self.db.as_ref()),
            schema: part(self.schema.as_ref()),
            table: part(self.table.as_ref()),
            collection: part(self.collection.as_ref()),
        };
        match self.connector.as_ref().map(|connector| &*connector.0) {
            Some(postgres::CONNECTOR) => postgres::table(naming),
            Some(mysql::CONNECTOR | mysql::CONNECTOR_MARIADB) => mysql::table(naming),
            Some(mongodb::CONNECTOR) => mongodb::table(naming),
            // The other relational connectors follow one of the two shapes.
            _ if naming.schema.is_empty() => mysql::table(naming),
            _ => postgres::table(naming),
        }
    }

    fn is_snapshot(&self) -> bool {
        self.snapshot
            .is_some_and(|snapshot| !matches!(snapshot.get(), "false" | "\"false\"" | "null"))
    }
}

fn part<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map_or("", |text| &text.0)
}

/// Tells messages apart; holds what the configuration says about topics.
#[derive(Clone, Debug)]
pub struct Classifier {
    heartbeat_prefix: String,
}

impl Classifier {
    /// `heartbeat_prefix` is Debezium's `topic.heartbeat.prefix`, without the dot.
    pub fn new(heartbeat_prefix: impl Into<String>) -> Self {
        Self {
            heartbeat_prefix: heartbeat_prefix.into(),
        }
    }

    /// The connector whose heartbeats are on this topic.
    pub fn heartbeat_source<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic
            .strip_prefix(&*self.heartbeat_prefix)?
            .strip_prefix('.')
    }

    /// Reads one message; `None` as value is Kafka's null.
    pub fn classify<'a>(
        &self,
        topic: &'a str,
        value: Option<&'a [u8]>,
    ) -> Result<Record<'a>, Unparsable> {
        let Some(value) = value else {
            return Ok(Record::Tombstone);
        };
        if value.len() > MESSAGE_BYTES_MAX {
            let detail = format!(
                "{} bytes, at most {MESSAGE_BYTES_MAX} are read",
                value.len()
            );
            return Err(Unparsable::new(Reason::TooLarge, detail));
        }
        if let Some(0) = value.first() {
            let detail = "starts with a zero byte as Avro and Protobuf from a schema registry do: \
                          use JsonConverter";
            return Err(Unparsable::new(Reason::InvalidJson, detail));
        }
        let text = std::str::from_utf8(value)
            .map_err(|error| Unparsable::new(Reason::InvalidUtf8, error.to_string()))?;
        let fields = parse_fields(text)?;
        match fields.payload {
            Some(payload) if fields.is_wrapper() => match payload.get() {
                "null" => Ok(Record::Tombstone),
                payload => self.classify_payload(topic, &parse_fields(payload)?),
            },
            _ => self.classify_payload(topic, &fields),
        }
    }

    fn classify_payload<'a>(
        &self,
        topic: &'a str,
        fields: &Fields<'a>,
    ) -> Result<Record<'a>, Unparsable> {
        if let Some(source) = self.heartbeat_source(topic) {
            let at = fields.ts_ms.ok_or_else(|| Unparsable::missing("ts_ms"))?;
            let at = Timestamp::from_ms(typed("ts_ms", at)?);
            return Ok(Record::Heartbeat { source, at });
        }
        if fields.flat_op.is_some() || fields.flat_deleted.is_some() {
            return flattened::change(topic, fields).map(Record::Change);
        }
        match (fields.op, fields.source) {
            (Some(op), Some(source)) => {
                return change(op, source, fields.ts_ms).map(Record::Change);
            }
            (None, Some(_)) if fields.ddl.is_some() || fields.table_changes.is_some() => {
                return Ok(Record::SchemaChange);
            }
            (None, Some(_)) => return Err(Unparsable::missing("op")),
            (Some(_), None) => return Err(Unparsable::missing("source")),
            (None, None) => {}
        }
        if fields.aggregate_type.is_some() {
            return Ok(Record::Notification);
        }
        match (fields.id, fields.status.map(RawValue::get)) {
            (Some(_), Some("\"BEGIN\"")) => Ok(Record::Transaction(Boundary::Begin)),
            (Some(_), Some("\"END\"")) => Ok(Record::Transaction(Boundary::End)),
            _ => Err(Unparsable::new(
                Reason::UnknownEnvelope,
                "neither `op` nor `__op`: no Debezium record, or a flattened one made without \
                 add.fields=op,table,source.ts_ms",
            )),
        }
    }
}

impl Fields<'_> {
    /// Whether this is `{"schema":..,"payload":..}` and not a record with columns of these names.
    fn is_wrapper(&self) -> bool {
        let schema_fits = self
            .schema
            .is_none_or(|schema| schema.get().starts_with('{'));
        schema_fits && self.op.is_none() && self.flat_op.is_none() && self.flat_deleted.is_none()
    }
}

fn parse_fields(text: &str) -> Result<Fields<'_>, Unparsable> {
    serde_json::from_str(text).map_err(|error| Unparsable::json("value", &error))
}

fn change<'a>(
    op: &'a RawValue,
    source: &'a RawValue,
    captured_at: Option<&'a RawValue>,
) -> Result<Change<'a>, Unparsable> {
    let operation = operation("op", op)?;
    let source: Source<'a> =
        serde_json::from_str(source.get()).map_err(|error| Unparsable::json("source", &error))?;
    let table = match operation {
        Operation::Message => Cow::Borrowed(""),
        _ => Cow::Owned(source.table()?),
    };
    Ok(Change {
        table,
        operation,
        committed_at: source.ts_ms.and_then(known_time),
        captured_at: match captured_at {
            Some(captured_at) => known_time(typed("ts_ms", captured_at)?),
            None => None,
        },
        snapshot: source.is_snapshot(),
        source: match source.name {
            Some(name) => name.0,
            None => return Err(Unparsable::missing("source.name")),
        },
    })
}

/// Connectors write 0 for a time that they do not know.
pub(super) fn known_time(timestamp_ms: i64) -> Option<Timestamp> {
    (timestamp_ms > 0).then(|| Timestamp::from_ms(timestamp_ms))
}

pub(super) fn operation(field: &str, raw: &RawValue) -> Result<Operation, Unparsable> {
    let code = text(field, raw)?;
    Operation::from_code(&code)
        .ok_or_else(|| Unparsable::new(Reason::UnknownOp, format!("`{field}` is {code:?}")))
}

pub(super) fn text<'a>(field: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Unparsable> {
    serde_json::from_str::<Text<'a>>(raw.get())
        .map(|text| text.0)
        .map_err(|error| Unparsable::json(field, &error))
}

pub(super) fn typed<T: DeserializeOwned>(field: &str, raw: &RawValue) -> Result<T, Unparsable> {
    serde_json::from_str(raw.get()).map_err(|error| Unparsable::json(field, &error))
}

/// `outer.inner`, or the inner name alone where there is nothing around it.
pub(super) fn qualified(outer: &str, inner: &str) -> String {
    if outer.is_empty() {
        inner.to_owned()
    } else {
        format!("{outer}.{inner}")
    }
}

#[cfg(test)]
mod tests;
