//! Records other than samples: typed tables over encoded bytes.
//!
//! The one place that knows how a record becomes bytes (bincode, its standard configuration). Each
//! value starts with its table's schema version, so that a later program can tell an older record.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use crate::model::Mutation;

/// What a table can hold.
pub trait Record: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Record for T {}

/// A table of records, declared as a constant by the module that owns the record's type.
///
/// Keys are bytes in their natural order; values are one serde type.
#[derive(Debug)]
pub struct Table<V> {
    name: &'static str,
    schema: u8,
    record: PhantomData<fn() -> V>,
}

impl<V: Record> Table<V> {
    pub const fn new(name: &'static str, schema: u8) -> Self {
        Self {
            name,
            schema,
            record: PhantomData,
        }
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The change that stores a record.
    pub fn put(&self, key: impl Into<Vec<u8>>, record: &V) -> Mutation {
        let mut value = vec![self.schema];
        bincode::serde::encode_into_std_write(record, &mut value, bincode::config::standard())
            .expect("plain values encode into memory");
        Mutation {
            table: self.name.to_owned(),
            key: key.into(),
            value: Some(value),
        }
    }

    /// The change that removes a record.
    pub fn remove(&self, key: impl Into<Vec<u8>>) -> Mutation {
        Mutation {
            table: self.name.to_owned(),
            key: key.into(),
            value: None,
        }
    }

    pub(super) fn decode(&self, bytes: &[u8]) -> Result<V, Error> {
        let (&found, rest) = bytes.split_first().unwrap_or((&0, &[]));
        if found != self.schema {
            return Err(Error::RecordSchema {
                table: self.name,
                found,
                known: self.schema,
            });
        }
        bincode::serde::decode_from_slice(rest, bincode::config::standard())
            .map(|(record, _)| record)
            .map_err(|source| Error::Record {
                table: self.name,
                source,
            })
    }
}
