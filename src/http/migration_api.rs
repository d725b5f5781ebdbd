//! Migrations over HTTP: create, report, finish, look.
//!
//! Changes go on when the client hangs up: what it sent is applied whole or not at all, and it may send
//! the same again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use crate::migration::{Config, Event, Phase, Report, Status};
use crate::model::Timestamp;

use super::error::ApiError;
use super::json;
use super::object::Object;
use super::router::Api;
use super::turn::off_runtime;
use super::wire;

type ApiResult = Result<Response, ApiError>;

pub(super) async fn list(State(api): State<Arc<Api>>) -> ApiResult {
    let migrations = api.state.migrations.clone();
    let list = off_runtime(move || Ok(migrations.list()?)).await?;
    let list: Vec<wire::Migration> = list.into_iter().map(on_the_wire).collect();
    Ok(json::success(&list))
}

pub(super) async fn one(State(api): State<Arc<Api>>, Path(id): Path<String>) -> ApiResult {
    let migrations = api.state.migrations.clone();
    let migration = off_runtime(move || Ok(migrations.get(&id)?)).await?;
    Ok(json::success(&on_the_wire(migration)))
}

pub(super) async fn events(State(api): State<Arc<Api>>, Path(id): Path<String>) -> ApiResult {
    let migrations = api.state.migrations.clone();
    let list = off_runtime(move || Ok(migrations.events(&id)?)).await?;
    let list: Vec<wire::MigrationEvent> = list.into_iter().map(event_on_the_wire).collect();
    Ok(json::success(&list))
}

pub(super) async fn create(State(api): State<Arc<Api>>, mut body: Object) -> ApiResult {
    let config = Config {
        id: body.require("id")?,
        source: body.take("source")?,
        target: body.take("target")?,
        expected_rows: body.take("expected_rows")?,
        expected_rate: body.take("expected_rate")?,
        tables: body.take("tables")?.unwrap_or_default(),
        topics: body.take("topics")?.unwrap_or_default(),
    };
    body.finish()?;
    let migrations = api.state.migrations.clone();
    let migration = off_runtime(move || Ok(migrations.create(config)?)).await?;
    Ok(json::success(&on_the_wire(migration)))
}

pub(super) async fn progress(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    mut body: Object,
) -> ApiResult {
    let phase: Option<String> = body.take("phase")?;
    let report = Report {
        table: body.take("table")?,
        rows_total: body.take("rows_total")?,
        rows_delta: body.take("rows_delta")?,
        errors: body.take("errors")?.unwrap_or_default(),
        lag_seconds: body.take("lag_seconds")?,
        phase: phase
            .map(|phase| Phase::parse("phase", &phase))
            .transpose()?,
        key: body.take("key")?,
    };
    body.finish()?;
    let migrations = api.state.migrations.clone();
    let migration = off_runtime(move || Ok(migrations.progress(&id, &report)?)).await?;
    Ok(json::success(&on_the_wire(migration)))
}

pub(super) async fn phase(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    mut body: Object,
) -> ApiResult {
    let phase: String = body.require("phase")?;
    body.finish()?;
    let phase = Phase::parse("phase", &phase)?;
    let migrations = api.state.migrations.clone();
    let migration = off_runtime(move || Ok(migrations.set_phase(&id, phase)?)).await?;
    Ok(json::success(&on_the_wire(migration)))
}

pub(super) async fn finish(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    mut body: Object,
) -> ApiResult {
    let status: String = body.require("status")?;
    body.finish()?;
    let status = Phase::parse("status", &status)?;
    let migrations = api.state.migrations.clone();
    let migration = off_runtime(move || Ok(migrations.finish(&id, status)?)).await?;
    Ok(json::success(&on_the_wire(migration)))
}

fn on_the_wire(status: Status) -> wire::Migration {
    let (rows_total, errors_total) = (status.migration.rows(), status.migration.errors_total());
    let migration = status.migration;
    let lag = status.lag.map_or_else(
        || wire::Lag {
            state: "unknown".to_owned(),
            ..wire::Lag::default()
        },
        |lag| wire::Lag {
            seconds: Some(lag.seconds),
            age_seconds: lag.age.map(|age| age.as_secs_f64()),
            kind: lag.kind,
            state: lag.state.name().to_owned(),
        },
    );
    let tables = status
        .tables
        .into_iter()
        .map(|table| wire::MigrationTable {
            name: table.name,
            rows_total: table.rows,
            rate: table.rate,
        })
        .collect();
    wire::Migration {
        id: migration.config.id,
        source: migration.config.source,
        target: migration.config.target,
        phase: migration.phase.name().to_owned(),
        started_at_ms: migration.started_at.ms(),
        finished_at_ms: migration.finished_at.map(Timestamp::ms),
        updated_at_ms: migration.updated_at.ms(),
        expected_rows: migration.config.expected_rows,
        expected_rate: migration.config.expected_rate,
        rows_total,
        rate: status.rate,
        progress: status.progress,
        eta_seconds: status.eta.map(|eta| eta.as_secs_f64()),
        errors_total,
        lag,
        tables,
    }
}

fn event_on_the_wire(event: Event) -> wire::MigrationEvent {
    wire::MigrationEvent {
        at_ms: event.at.ms(),
        kind: event.kind.name().to_owned(),
        message: event.message,
    }
}
