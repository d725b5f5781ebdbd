//! The HTTP API: Prometheus' own for reading and writing, ours for migrations, anomalies and health.
//!
//! This layer turns requests into calls and results into JSON; it computes nothing. [`router()`] is the
//! whole API as a tower service, for a socket ([`serve()`]) or for a client in the same process. Every
//! route stands in one table, with its methods and the scope that a token needs for it; it is bounded in
//! bytes and time, whatever blocks runs off the async runtime, and every failure leaves through `error`,
//! in Prometheus' envelope.

mod admin_api;
mod alerting_api;
mod answer;
mod auth;
mod compress;
mod error;
pub mod export;
mod export_api;
mod federate_api;
mod guard;
mod health;
mod json;
mod migration_api;
mod number;
mod object;
mod observation_api;
mod openapi;
mod otlp_api;
mod params;
mod prom_api;
mod push_api;
mod remote_read;
mod route;
mod router;
mod rule_api;
mod selection;
mod serve;
mod silence_api;
mod status_api;
mod store_api;
mod stream;
mod syntax_api;
mod target_api;
mod turn;
pub mod wire;
mod write_api;

pub use auth::{InProcess, Scope, TokenConfig, TokenError, Tokens, new_token};
pub use guard::Listen;
pub use route::routes;
pub use router::{ApiState, DeadLetters, Limits, Targets, router};
pub use serve::serve;
pub use status_api::Settings;
