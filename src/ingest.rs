//! Every way in: what turns the outside world into samples for the store.
//!
//! Each way owns its own reading and its own configuration; they share nothing but the store's writer,
//! the dead letters and, where samples come as such, the rules of admission. What is sent over HTTP is
//! decoded here by pure functions of the body; what has to be kept between requests is in [`Ways`]. Nothing
//! here knows who reads what was written.

pub mod admission;
pub mod counters;
pub mod dead_letter;
pub mod error;
pub mod kafka;
pub mod otlp;
pub mod push;
pub mod remote_write;
pub mod scrape;
pub mod text;
pub mod ways;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use ways::Ways;
