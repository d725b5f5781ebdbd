//! `cutover` watches a database migration and says when it is safe to cut over.

pub mod cdc;
pub mod client;
pub mod demo;
pub mod detect;
pub mod http;
pub mod ingest;
pub mod migration;
pub mod model;
pub mod net;
pub mod promql;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod tui;
