//! Finding what is unusual.

pub mod anomaly;
