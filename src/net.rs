//! What every connection of ours needs, whichever side opened it.
//!
//! Nothing here knows what is said over a connection; it bounds how much and how long.

pub mod body;
pub mod snappy;
pub mod stall;
