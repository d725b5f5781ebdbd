//! `cutover` watches a database migration and says when it is safe to cut over.
//!
//! One process, one data directory. Change events (Debezium over Kafka) and reports of migrations come
//! in, become samples in an embedded store, are evaluated in PromQL, watched by detectors, and shown
//! over HTTP; the terminal dashboard and the command line are clients of that HTTP API like any other.
//!
//! ```text
//!  Kafka (Debezium) ─┐
//!  scraped targets ──┤
//!  push, OTLP ───────┤
//!  remote write ─────┼─► ingest ─► store ─► promql ─► http ─► client ─► tui, cli
//!  migrations API  ──┘    (Batch)  (redb)     │  ▲
//!                                      ▲      ▼  │
//!                                      └─── detect (scores, anomalies) ─► alert ─► channels
//! ```
//!
//! # The modules, from the lowest to the highest
//!
//! A module uses only those above it in this list; `tests/it/tidy.rs` keeps it so.
//!
//! | module | owns |
//! | --- | --- |
//! | [`model`] | labels, samples, time, batches: plain values |
//! | [`net`] | capped bodies, decompression, time-outs |
//! | [`store`] | the redb files: write-ahead rows, head, sealed blocks, label index, records |
//! | [`promql`] | PromQL over the store's columns, with its limits |
//! | [`cdc`] | Debezium messages to counts and lags; pure |
//! | [`ingest`] | the ways in: Kafka with its dead letters, scraping, pushes, OTLP, remote write, text formats |
//! | [`detect`] | watches, detectors, anomalies |
//! | [`alert`] | rule files, groups, silences, the durable queue, channels |
//! | [`migration`] | a migration's life: phases, totals, progress |
//! | [`http`] | routes and JSON shapes |
//! | [`client`] | the typed client of our own API |
//! | [`tui`] | the dashboard |
//! | [`config`] | one file of settings, made of each module's own section |
//! | [`demo`] | the in-process broker and the story that `cutover demo` plays |
//! | [`app`] | composition: open, wire, spawn, stop in order |
//! | [`cli`] | what was typed, one file a command |
//!
//! [`telemetry`] (logs, health, own metrics) and [`shutdown`] are used by all but `model` and `cdc`.
//!
//! # What must always hold
//!
//! - **Acknowledged means durable and visible.** A batch is one commit: samples, records, Kafka
//!   positions and counters together, or nothing. There is one writer; it answers after the commit.
//! - **Exactly once.** The offset that comes next is stored in the commit that holds what the messages
//!   before it led to. After any crash the counts equal the topic's truth.
//! - **Lag is never a bare number** and never freezes: value, age, kind and state.
//! - **Nothing leaves the host** that was not configured; the API listens on loopback.
//! - **Data flows one way.** The dashboard and the commands see only what the API serves.
//!
//! Time comes from [`model::Clock`], tasks run under [`shutdown::Shutdown`], errors are one typed enum
//! a module, mapped to an exit code in `cli` and to a status in `http`. The disk format is described in
//! [`store`].

pub mod alert;
pub mod app;
pub mod cdc;
pub mod cli;
pub mod client;
pub mod config;
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
