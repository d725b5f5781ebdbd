//! The integration tests, in one binary so that librdkafka is linked once.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, not beside them"
)]
#![expect(clippy::string_slice, reason = "a test may panic")]

mod alerting;
mod api;
mod bad_input;
mod cdc;
mod channels;
mod corpus;
mod dashboard;
mod demo;
mod detect;
mod egress;
mod http;
mod kafka;
mod kill;
mod kill_delivery;
mod kill_write;
mod migrations;
mod nab;
mod operations;
mod otlp;
mod prometheus;
mod promql;
mod push;
mod real;
mod replay;
mod rules;
mod scrape;
mod screens;
mod support;
mod terminal;
mod tidy;
mod write;
