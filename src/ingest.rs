//! Every way in: what turns the outside world into batches for the store.
//!
//! Each way owns its own reading and its own configuration; they share nothing but the store's writer
//! and the dead letters. Nothing here knows who reads what was written.

pub mod dead_letter;
pub mod error;
pub mod kafka;

pub use error::Error;
