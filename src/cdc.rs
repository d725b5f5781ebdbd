//! Change data capture as numbers: Debezium messages to counts and lags.
//!
//! Owns what a message means ([`envelope`]), how many there were ([`count`]) and how far behind the
//! source its tables are ([`lag`]). Pure: no I/O and no clock; topics, bytes and times are passed in.
//! Nothing here panics on any bytes: what is not understood is an [`Unparsable`] with a closed set of
//! [`Reason`]s, and never a guess.

pub mod count;
pub mod envelope;
mod flattened;
pub mod lag;
mod mongodb;
mod mysql;
mod postgres;

pub use count::{Key, Kind, Tally};
pub use envelope::{Change, Classifier, Operation, Reason, Record, Unparsable};
