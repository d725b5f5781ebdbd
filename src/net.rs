//! What every connection of ours needs, whichever side opened it.
//!
//! Nothing here knows what is said over a connection; it bounds how much and how long, and who may
//! listen in.

pub mod body;
pub mod encoding;
pub mod secret;
pub mod snappy;
pub mod stall;
pub mod tls;
