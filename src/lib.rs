//! `cutover` watches a database migration and says when it is safe to cut over.

pub mod cdc;
pub mod demo;
pub mod detect;
pub mod ingest;
pub mod migration;
pub mod model;
pub mod promql;
pub mod shutdown;
pub mod store;
pub mod telemetry;
