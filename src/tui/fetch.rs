//! Asks the server for what a screen shows.
//!
//! The one place of the dashboard that talks to the client. It keeps nothing; a request that is dropped
//! half way has changed nothing. Queries of one request go out together.

mod rows;

use super::action::{Action, AnomalyQuery, Loaded, LoadedPart, Request, Scope};
use super::state::{CdcChart, CdcData, Curve, TableId, Window};
use super::update::quoted;
use crate::client::{Client, Error, PromData, PromSample, PromSeries};

/// Anomalies that are listed; older ones are in the API.
const ANOMALIES_MAX: usize = 500;

/// Curves that are kept of an explored expression.
const CURVES_MAX: usize = 1000;

/// The shortest window of a rate: a dozen samples of the appliance's own series.
const RATE_SECONDS_MIN: u64 = 60;

/// Sends a request and comes to the action that its answer, or the lack of one, means.
pub async fn fetch(client: &Client, request: Request) -> Action {
    match load(client, request).await {
        Ok(loaded) => Action::Loaded(Box::new(loaded)),
        Err(Error::Unreachable { reason, .. }) => Action::Unreachable { reason },
        Err(Error::Api { message, .. }) => Action::Refused { reason: message },
        // Not our API: a proxy before a server that is away, or something else on its port.
        Err(
            error @ (Error::Decode { .. } | Error::BadUrl { .. } | Error::Tls(_) | Error::Token),
        ) => Action::Unreachable {
            reason: error.to_string(),
        },
    }
}

async fn load(client: &Client, request: Request) -> Result<Loaded, Error> {
    let (health, anomalies, part) = tokio::join!(
        client.health(),
        client.anomalies("all", ANOMALIES_MAX),
        load_part(client, &request),
    );
    let (health, anomalies) = (health?, anomalies?);
    Ok(Loaded {
        health: rows::health(health),
        anomalies: anomalies.into_iter().map(rows::anomaly).collect(),
        window: request.window,
        part: part.map_err(slow_query)?,
    })
}

/// The server is there, since it has told its health: what it did not answer in time is too much for it.
fn slow_query(error: Error) -> Error {
    match error {
        Error::Unreachable { reason, .. } => Error::Api {
            status: 503,
            error_type: "timeout".into(),
            message: reason,
        },
        other => other,
    }
}

async fn load_part(client: &Client, request: &Request) -> Result<LoadedPart, Error> {
    let window = request.window;
    match &request.scope {
        Scope::Link => Ok(LoadedPart::Nothing),
        Scope::Overview => load_overview(client, window).await,
        Scope::Cdc { charted } => load_cdc(client, request, charted.as_ref()).await,
        Scope::Anomalies { charted } => {
            let chart = match charted {
                Some(query) => Some((
                    query.key.clone(),
                    load_anomaly(client, window, query).await?,
                )),
                None => None,
            };
            Ok(LoadedPart::Anomalies { chart })
        }
        Scope::Explore { expr } => load_explored(client, window, expr).await,
    }
}

async fn load_overview(client: &Client, window: Window) -> Result<LoadedPart, Error> {
    let rate = rate_window(window);
    let throughput = format!("sum by (migration_id) (rate(migration_rows_total[{rate}]))");
    let lag = "max by (migration_id) (migration_data_lag_seconds)";
    let (migrations, throughput, lag) = tokio::try_join!(
        client.migrations(),
        range(client, &throughput, window),
        range(client, lag, window),
    )?;
    let named = |series: PromSeries| Curve {
        name: series
            .labels
            .get("migration_id")
            .cloned()
            .unwrap_or_default(),
        points: series.points,
    };
    Ok(LoadedPart::Overview {
        migrations: migrations.into_iter().map(rows::migration).collect(),
        throughput: throughput.into_iter().map(named).collect(),
        lag: lag.into_iter().map(named).collect(),
    })
}

async fn load_cdc(
    client: &Client,
    request: &Request,
    charted: Option<&TableId>,
) -> Result<LoadedPart, Error> {
    let rates = "sum by (source, table, operation) (rate(cdc_events_processed_total[1m]))";
    let levels = "{__name__=~\"cdc_events_processed_total|cdc_consumer_lag_messages\
                  |cdc_replication_lag_seconds|cutover_lag_age_seconds\
                  |cutover_cdc_dead_letters_total\"}";
    let states = "cutover_lag_state == 1";
    let (rates, levels, states, chart) = tokio::try_join!(
        instant(client, rates, request),
        instant(client, levels, request),
        instant(client, states, request),
        load_cdc_chart(client, request.window, charted),
    )?;
    Ok(LoadedPart::Cdc(CdcData {
        chart,
        ..rows::cdc(&rates, &levels, &states)
    }))
}

async fn load_cdc_chart(
    client: &Client,
    window: Window,
    charted: Option<&TableId>,
) -> Result<Option<CdcChart>, Error> {
    let Some(id) = charted else {
        return Ok(None);
    };
    let (source, table, rate) = (quoted(&id.source), quoted(&id.table), rate_window(window));
    let changes =
        format!("sum(rate(cdc_events_processed_total{{source={source},table={table}}}[{rate}]))");
    let lag = format!("max(cdc_replication_lag_seconds{{source_table={table}}})");
    let (changes, lag) =
        tokio::try_join!(range(client, &changes, window), range(client, &lag, window))?;
    let only = |series: Vec<PromSeries>| {
        let first = series.into_iter().next();
        first.map(|series| Curve {
            name: String::new(),
            points: series.points,
        })
    };
    Ok(Some(CdcChart {
        table: id.clone(),
        rate: only(changes),
        lag: only(lag),
    }))
}

/// The one series of a watch's expression in which the anomaly was found. A watch that is gone, or whose
/// expression is refused, leaves the anomaly without a chart rather than the screen without a list.
async fn load_anomaly(
    client: &Client,
    window: Window,
    query: &AnomalyQuery,
) -> Result<Option<Curve>, Error> {
    if query.expr.is_empty() {
        return Ok(None);
    }
    let series = match range(client, &query.expr, window).await {
        Err(Error::Api { .. }) => return Ok(None),
        answer => answer?,
    };
    let found = series.into_iter().find(|series| {
        let labels = series.labels.iter().filter(|(name, _)| *name != "__name__");
        labels.eq(query.labels.iter())
    });
    Ok(found.map(|series| Curve {
        name: String::new(),
        points: series.points,
    }))
}

async fn load_explored(client: &Client, window: Window, expr: &str) -> Result<LoadedPart, Error> {
    let result = match range(client, expr, window).await {
        Ok(series) => Ok(series),
        Err(Error::Api { message, .. }) => Err(message),
        // Not an answer: what is on the screen stays until there is one.
        Err(error) => return Err(error),
    };
    let series_total = result.as_ref().map_or(0, Vec::len);
    let curves = |series: Vec<PromSeries>| {
        series
            .into_iter()
            .take(CURVES_MAX)
            .map(rows::curve)
            .collect()
    };
    Ok(LoadedPart::Explore {
        expr: expr.to_owned(),
        result: result.map(curves),
        series_total,
    })
}

/// A rate over less than a step would leave samples out between the points of a chart.
fn rate_window(window: Window) -> String {
    format!("{}s", window.step.as_secs().max(RATE_SECONDS_MIN))
}

async fn range(client: &Client, expr: &str, window: Window) -> Result<Vec<PromSeries>, Error> {
    let answer = client
        .query_range(expr, window.start, window.end, window.step)
        .await?;
    Ok(match answer.data {
        PromData::Matrix(series) => series,
        // A range query is answered by a matrix; what is not one has no curves.
        PromData::Scalar { .. } | PromData::String { .. } | PromData::Vector(_) => Vec::new(),
    })
}

async fn instant(client: &Client, expr: &str, request: &Request) -> Result<Vec<PromSample>, Error> {
    Ok(match client.query(expr, Some(request.at)).await?.data {
        PromData::Vector(samples) => samples,
        PromData::Scalar { .. } | PromData::String { .. } | PromData::Matrix(_) => Vec::new(),
    })
}

#[cfg(test)]
mod tests;
