//! Silences over HTTP, in the shapes of Alertmanager's API inside our envelope.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use crate::alert::dispatch::matchers::Matchers;
use crate::alert::dispatch::silence::{Silence, Wish};
use crate::model::{MatchOp, Matcher, Timestamp};

use super::error::{ApiError, Kind};
use super::json;
use super::object::Object;
use super::router::Api;
use super::wire::{self, NewSilence, SilenceId, SilenceMatcher, SilenceStatus};

type ApiResult = Result<Response, ApiError>;

/// The newest first.
pub(super) async fn list(State(api): State<Arc<Api>>) -> ApiResult {
    let mut silences = api.state.alerts.silences().await?;
    silences.sort_by_key(|silence| std::cmp::Reverse(silence.starts_at));
    let now = api.state.clock.now();
    let list = silences
        .into_iter()
        .map(|silence| on_the_wire(silence, now));
    Ok(json::success(&list.collect::<Vec<_>>()))
}

pub(super) async fn set(State(api): State<Arc<Api>>, mut body: Object) -> ApiResult {
    let silence = NewSilence {
        id: body.take("id")?.filter(|id: &String| !id.is_empty()),
        matchers: body.require("matchers")?,
        starts_at: body.take("startsAt")?,
        ends_at: body.require("endsAt")?,
        created_by: body.take("createdBy")?.unwrap_or_default(),
        comment: body.take("comment")?.unwrap_or_default(),
    };
    body.finish()?;
    let wish = wish(silence, api.state.clock.now())?;
    let silence_id = api.state.alerts.silence(wish).await?;
    Ok(json::success(&SilenceId { silence_id }))
}

/// Ends a silence, and answers what it then is.
pub(super) async fn expire(api: State<Arc<Api>>, Path(id): Path<String>) -> ApiResult {
    api.state.alerts.expire(id.clone()).await?;
    one(api, Path(id)).await
}

pub(super) async fn one(State(api): State<Arc<Api>>, Path(id): Path<String>) -> ApiResult {
    let silences = api.state.alerts.silences().await?;
    let silence = silences.into_iter().find(|silence| silence.id == id);
    let unknown = || ApiError::new(Kind::NotFound, format!("there is no silence {id:?}"));
    let silence = silence.ok_or_else(unknown)?;
    Ok(json::success(&on_the_wire(silence, api.state.clock.now())))
}

fn wish(silence: NewSilence, now: Timestamp) -> Result<Wish, ApiError> {
    let matchers: Result<Vec<Matcher>, ApiError> = silence.matchers.iter().map(matcher).collect();
    let starts_at = silence.starts_at.as_deref();
    Ok(Wish {
        id: silence.id,
        matchers: Matchers::new(matchers?),
        starts_at: starts_at.map_or(Ok(now), |text| time("startsAt", text))?,
        ends_at: time("endsAt", &silence.ends_at)?,
        created_by: silence.created_by,
        comment: silence.comment,
    })
}

fn matcher(matcher: &SilenceMatcher) -> Result<Matcher, ApiError> {
    let op = match (matcher.is_regex, matcher.is_equal) {
        (false, true) => MatchOp::Equal,
        (false, false) => MatchOp::NotEqual,
        (true, true) => MatchOp::Regex,
        (true, false) => MatchOp::NotRegex,
    };
    if matcher.name.is_empty() {
        return Err(bad_field("matchers", "a matcher names no label"));
    }
    let made = Matcher::new(&*matcher.name, op, &*matcher.value);
    made.map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        bad_field("matchers", format!("{error}: {}", why.unwrap_or_default()))
    })
}

pub(super) fn time(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    let parsed = text.parse::<jiff::Timestamp>();
    let at = parsed
        .map_err(|error| bad_field(field, format!("{text:?} is no RFC 3339 time: {error}")))?;
    Ok(Timestamp::from_ms(at.as_millisecond()))
}

fn bad_field(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Kind::BadData, format!("field {field:?}: {why}"))
}

fn on_the_wire(silence: Silence, now: Timestamp) -> wire::Silence {
    let matcher = |matcher: &Matcher| SilenceMatcher {
        name: matcher.name.clone(),
        value: matcher.value.clone(),
        is_regex: matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex),
        is_equal: matches!(matcher.op, MatchOp::Equal | MatchOp::Regex),
    };
    wire::Silence {
        status: SilenceStatus {
            state: silence.state(now).name().to_owned(),
        },
        matchers: silence.matchers.iter().map(matcher).collect(),
        id: silence.id,
        starts_at: silence.starts_at.to_string(),
        ends_at: silence.ends_at.to_string(),
        updated_at: silence.updated_at.to_string(),
        created_by: silence.created_by,
        comment: silence.comment,
    }
}
