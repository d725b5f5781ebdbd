//! cutover: watches a database migration and says when it is safe to cut over.

pub mod detect;
pub mod http;
pub mod model;
pub mod promql;
pub mod shutdown;
pub mod store;
pub mod telemetry;
