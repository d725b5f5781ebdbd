//! What `cutover demo` plays, and the broker it plays it through.
//!
//! [`broker`] is the in-process Kafka broker, fed with recorded events. [`story`] is the plot, [`deck`]
//! makes its records of recorded ones, [`history`] is what went before. Only the broker does I/O.

pub mod broker;
pub mod deck;
pub mod history;
pub mod story;
