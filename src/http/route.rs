//! The table of routes: each with its path, methods, scope and handler.
//!
//! There is no other way for a route to come about than [`route()`], which asks for a scope: what
//! everybody may ask says [`OPEN`]. The OpenAPI document is checked against this table.

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::auth::Scope;
use super::router::Api;
use super::{
    admin_api, alerting_api, export_api, federate_api, health, migration_api, observation_api,
    openapi, otlp_api, prom_api, push_api, remote_read, rule_api, silence_api, status_api,
    store_api, syntax_api, target_api, write_api,
};

/// One route: requests of one path and some methods.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) methods: &'static [Method],
    /// What a token has to be good for; `None`: everybody may ask.
    pub(super) scope: Option<Scope>,
    pub(super) handler: MethodRouter<Arc<Api>>,
}

const OPEN: Option<Scope> = None;
const READ: Option<Scope> = Some(Scope::Read);
const WRITE: Option<Scope> = Some(Scope::Write);
const ADMIN: Option<Scope> = Some(Scope::Admin);

/// HEAD comes with it.
const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
/// A question that may be too long for a query string.
const ASK: &[Method] = &[Method::GET, Method::POST];
const ORDER: &[Method] = &[Method::POST, Method::PUT];
const CHANGE: &[Method] = &[Method::DELETE];
const PUSH: &[Method] = &[Method::PUT, Method::POST, Method::DELETE];

fn route<H, T>(
    path: &'static str,
    methods: &'static [Method],
    scope: Option<Scope>,
    handler: H,
) -> Route
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    let filter = methods
        .iter()
        .map(|method| MethodFilter::try_from(method.clone()).expect("it is a known method"))
        .reduce(MethodFilter::or)
        .expect("a route has a method");
    Route {
        path,
        methods,
        scope,
        handler: on(filter, handler),
    }
}

/// Every route there is.
pub(super) fn table() -> Vec<Route> {
    let mut table = prometheus();
    table.extend(push());
    table.extend(own());
    table.extend(alerting());
    table.extend(store());
    table
}

/// The path, methods and scope of every route; HEAD comes with GET.
pub fn routes() -> Vec<(&'static str, &'static [Method], Option<Scope>)> {
    let table = table().into_iter();
    table
        .map(|route| (route.path, route.methods, route.scope))
        .collect()
}

#[rustfmt::skip] // One route a line, however long.
fn prometheus() -> Vec<Route> {
    vec![
        route("/api/v1/query", ASK, READ, prom_api::query),
        route("/api/v1/query_range", ASK, READ, prom_api::query_range),
        route("/api/v1/query_exemplars", ASK, READ, prom_api::query_exemplars),
        route("/api/v1/format_query", ASK, READ, syntax_api::format_query),
        route("/api/v1/parse_query", ASK, READ, syntax_api::parse_query),
        route("/api/v1/series", ASK, READ, prom_api::series),
        route("/api/v1/labels", ASK, READ, prom_api::labels),
        route("/api/v1/label/{name}/values", GET, READ, prom_api::label_values),
        route("/api/v1/metadata", GET, READ, prom_api::metadata),
        route("/api/v1/read", POST, READ, remote_read::read),
        route("/api/v1/write", POST, WRITE, write_api::remote_write),
        route("/api/v1/import/prometheus", POST, WRITE, write_api::import),
        route("/api/v1/otlp/v1/metrics", POST, WRITE, otlp_api::metrics),
        route("/api/v1/targets", GET, READ, target_api::targets),
        route("/api/v1/targets/metadata", GET, READ, target_api::metadata),
        route("/api/v1/rules", GET, READ, rule_api::rules),
        route("/api/v1/alerts", GET, READ, rule_api::alerts),
        route("/api/v1/alertmanagers", GET, READ, rule_api::alertmanagers),
        route("/api/v1/status/buildinfo", GET, READ, status_api::buildinfo),
        route("/api/v1/status/runtimeinfo", GET, READ, status_api::runtimeinfo),
        route("/api/v1/status/flags", GET, READ, status_api::flags),
        route("/api/v1/status/config", GET, READ, status_api::config),
        route("/api/v1/status/walreplay", GET, READ, status_api::walreplay),
        route("/federate", GET, READ, federate_api::federate),
        route("/metrics", GET, READ, health::metrics),
        route("/-/healthy", GET, OPEN, health::healthy),
        route("/-/ready", GET, OPEN, health::ready),
    ]
}

/// As a Pushgateway has them; the labels of the group follow the job.
fn push() -> Vec<Route> {
    vec![
        route("/metrics/job/", PUSH, WRITE, push_api::push),
        route("/metrics/job/{*group}", PUSH, WRITE, push_api::push),
        route("/metrics/job@base64/{*group}", PUSH, WRITE, push_api::push),
    ]
}

#[rustfmt::skip] // One route a line, however long.
fn own() -> Vec<Route> {
    vec![
        route("/api/v1/migrations", GET, READ, migration_api::list),
        route("/api/v1/migrations", POST, WRITE, migration_api::create),
        route("/api/v1/migrations/{id}", GET, READ, migration_api::one),
        route("/api/v1/migrations/{id}/progress", POST, WRITE, migration_api::progress),
        route("/api/v1/migrations/{id}/phase", POST, WRITE, migration_api::phase),
        route("/api/v1/migrations/{id}/finish", POST, WRITE, migration_api::finish),
        route("/api/v1/migrations/{id}/events", GET, READ, migration_api::events),
        route("/api/v1/anomalies", GET, READ, observation_api::anomalies),
        route("/api/v1/dead-letters", GET, READ, observation_api::dead_letters),
        route("/api/v1/health", GET, READ, health::health),
        route("/api/v1/openapi.json", GET, READ, openapi::document),
    ]
}

/// Alerts from others, and what becomes of all.
#[rustfmt::skip] // As above.
fn alerting() -> Vec<Route> {
    vec![
        route("/api/v1/alerting", GET, READ, alerting_api::overview),
        route("/api/v1/silences", GET, READ, silence_api::list),
        route("/api/v1/silences", POST, WRITE, silence_api::set),
        route("/api/v1/silences/{id}", GET, READ, silence_api::one),
        route("/api/v1/silences/{id}", CHANGE, WRITE, silence_api::expire),
        route("/api/v2/alerts", POST, WRITE, alerting_api::post),
    ]
}

/// What operators ask about the store and do to it.
#[rustfmt::skip] // As above.
fn store() -> Vec<Route> {
    vec![
        route("/api/v1/export", GET, READ, export_api::export),
        route("/api/v1/status/tsdb", GET, READ, store_api::tsdb),
        route("/api/v1/status/store", GET, READ, store_api::store),
        route("/api/v1/admin/tsdb/delete_series", ORDER, ADMIN, admin_api::delete_series),
        route("/api/v1/admin/tsdb/clean_tombstones", ORDER, ADMIN, admin_api::clean_tombstones),
        route("/api/v1/admin/tsdb/snapshot", ORDER, ADMIN, admin_api::snapshot),
    ]
}
