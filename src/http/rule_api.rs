//! Rules and alerts in Prometheus' shapes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as FromState;
use axum::response::Response;
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::alert::Pairs;
use crate::alert::rule::{Active, Alerting, Group, Health, Kind, Member, Rule, State};
use crate::alert::template::scientific;
use crate::model::{Labels, Matcher, Timestamp};

use super::error::{ApiError, Kind as ErrorKind};
use super::json;
use super::params::Params;
use super::router::Api;
use super::selection::Selection;

/// What Go has for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules<'a> {
    groups: Vec<GroupView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupView<'a> {
    name: &'a str,
    file: &'a str,
    rules: Vec<RuleView<'a>>,
    interval: Seconds,
    limit: usize,
    evaluation_time: Seconds,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RuleView<'a> {
    Alerting(AlertingView<'a>),
    Recording(RecordingView<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingView<'a> {
    state: &'static str,
    name: &'a str,
    query: &'a str,
    duration: Seconds,
    keep_firing_for: Seconds,
    labels: &'a Pairs,
    annotations: Pairs,
    /// `null` where alerts were not asked for, as in Prometheus.
    alerts: Option<Vec<AlertView<'a>>>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordingView<'a> {
    name: &'a str,
    query: &'a str,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    labels: &'a Pairs,
    #[serde(flatten)]
    outcome: Outcome<'a>,
    r#type: &'static str,
}

/// How the last evaluation of a rule went.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    evaluation_time: Seconds,
    last_evaluation: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertView<'a> {
    labels: Pairs,
    annotations: &'a Pairs,
    state: &'static str,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<String>,
    value: String,
}

/// Seconds as Go writes a float: whole ones without a point.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

/// Which rules are asked for.
struct Filter {
    kind: String,
    names: HashSet<String>,
    groups: HashSet<String>,
    files: HashSet<String>,
    selectors: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl Filter {
    fn of(params: &Params) -> Result<Self, ApiError> {
        let kind = params.get("type").unwrap_or_default().to_lowercase();
        if !["", "alert", "record"].contains(&&*kind) {
            let why = format!("not supported value {kind:?}");
            return Err(ApiError::bad_param("type", why));
        }
        let set = |name: &str| params.all(name).map(str::to_owned).collect();
        Ok(Self {
            kind,
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            with_alerts: !params.flag("exclude_alerts")?,
            selectors: Selection::of(params)?.selectors,
        })
    }

    fn takes_group(&self, group: &Group) -> bool {
        let is_in = |set: &HashSet<String>, name: &str| set.is_empty() || set.contains(name);
        is_in(&self.groups, &group.spec.name) && is_in(&self.files, &group.spec.file)
    }

    fn takes_rule(&self, rule: &Rule) -> bool {
        let kind = match rule.kind {
            Kind::Alerting(_) => "alert",
            Kind::Recording => "record",
        };
        let label = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let passes = |all: &Vec<Matcher>| all.iter().all(|it| it.matches(label(&it.name)));
        (self.kind.is_empty() || self.kind == kind)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.selectors.is_empty() || self.selectors.iter().any(passes))
    }
}

/// A page of groups.
struct Page<'a> {
    groups_max: Option<usize>,
    token: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn of(params: &'a Params) -> Result<Self, ApiError> {
        let limit = params.get("group_limit").map(str::parse::<usize>);
        let groups_max = match limit {
            None => None,
            Some(Ok(limit @ 1..)) => Some(limit),
            Some(_) => {
                let why = "group_limit needs to be a valid number greater than zero";
                return Err(ApiError::bad_param("group_limit", why));
            }
        };
        let token = params.get("group_next_token");
        if token.is_some() && groups_max.is_none() {
            let why = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::bad_param("group_limit", why));
        }
        Ok(Self { groups_max, token })
    }
}

/// What a page ends with: the group that the next one begins with.
fn token(group: &Group) -> String {
    let name = format!("{};{}", group.spec.file, group.spec.name);
    format!("{:016x}", xxh3_64(name.as_bytes()))
}

pub(super) async fn rules(
    FromState(api): FromState<Arc<Api>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (filter, page) = (Filter::of(&params)?, Page::of(&params)?);
    let groups = api.state.rules.groups();
    let first = match page.token {
        None => 0,
        Some(wanted) => groups
            .iter()
            .position(|group| token(group) == wanted)
            .ok_or_else(|| {
                let message = "invalid group_next_token. were rule groups changed?";
                ApiError::new(ErrorKind::BadData, message)
            })?,
    };
    let mut views = Vec::new();
    let mut group_next_token = None;
    let asked_for = groups.iter().skip(first);
    for group in asked_for.filter(|group| filter.takes_group(group)) {
        let rules = group.rules().filter(|(rule, _)| filter.takes_rule(rule));
        let rules: Vec<_> = rules
            .map(|(rule, member)| rule_view(rule, member, filter.with_alerts))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if page.groups_max == Some(views.len()) {
            group_next_token = Some(token(group));
            break;
        }
        views.push(GroupView {
            name: &group.spec.name,
            file: &group.spec.file,
            rules,
            interval: Seconds(group.interval),
            limit: group.spec.limit,
            evaluation_time: Seconds(group.evaluation_time),
            last_evaluation: time(group.last_evaluation),
        });
    }
    Ok(json::success(&Rules {
        groups: views,
        group_next_token,
    }))
}

fn rule_view<'a>(rule: &'a Rule, member: &'a Member, with_alerts: bool) -> RuleView<'a> {
    let (health, last_error) = match &member.health {
        Health::Unknown => ("unknown", None),
        Health::Ok => ("ok", None),
        Health::Failed(reason) => ("err", Some(reason.as_str())),
    };
    let outcome = Outcome {
        health,
        last_error,
        evaluation_time: Seconds(member.evaluation_time),
        last_evaluation: time(member.last_evaluation),
    };
    match &rule.kind {
        Kind::Recording => RuleView::Recording(RecordingView {
            name: &rule.name,
            query: &rule.query,
            labels: &rule.labels,
            outcome,
            r#type: "recording",
        }),
        Kind::Alerting(alerting) => RuleView::Alerting(AlertingView {
            state: state_name(member),
            name: &rule.name,
            query: &rule.query,
            duration: Seconds(alerting.hold),
            keep_firing_for: Seconds(alerting.keep_firing_for),
            labels: &rule.labels,
            annotations: annotations(alerting),
            alerts: with_alerts.then(|| active(member).map(alert_view).collect()),
            outcome,
            r#type: "alerting",
        }),
    }
}

fn state_name(member: &Member) -> &'static str {
    match (member.state(), member.last_evaluation) {
        (Some(state), _) => state.name(),
        (None, Some(_)) => "inactive",
        (None, None) => "unknown",
    }
}

fn annotations(alerting: &Alerting) -> Pairs {
    let texts = alerting.annotations.iter();
    texts
        .map(|(name, template)| (name.clone(), template.text().to_owned()))
        .collect()
}

/// The alerts of a rule that are pending or firing.
fn active(member: &Member) -> impl Iterator<Item = &Active> {
    let alerts = member.alerts.values();
    alerts.filter(|alert| alert.state != State::Resolved)
}

fn alert_view(alert: &Active) -> AlertView<'_> {
    AlertView {
        labels: pairs(&alert.labels),
        annotations: &alert.annotations,
        state: alert.state.name(),
        active_at: time(Some(alert.active_at)),
        keep_firing_since: alert.keep_firing_since.map(|since| time(Some(since))),
        value: scientific(alert.value),
    }
}

fn pairs(labels: &Labels) -> Pairs {
    let labels = labels.iter();
    labels
        .map(|label| (label.name.to_string(), label.value.to_string()))
        .collect()
}

/// RFC 3339 with as many decimals as there are.
fn time(at: Option<Timestamp>) -> String {
    at.and_then(|at| jiff::Timestamp::from_millisecond(at.ms()).ok())
        .map_or_else(|| NEVER.to_owned(), |at| at.to_string())
}

pub(super) async fn alerts(FromState(api): FromState<Arc<Api>>) -> Response {
    #[derive(Serialize)]
    struct Alerts<'a> {
        alerts: Vec<AlertView<'a>>,
    }
    let groups = api.state.rules.groups();
    let members = groups.iter().flat_map(|group| &group.members);
    json::success(&Alerts {
        alerts: members.flat_map(active).map(alert_view).collect(),
    })
}

/// Where notifications would go by way of Alertmanager.
pub(super) async fn alertmanagers() -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Alertmanagers {
        active_alertmanagers: [(); 0],
        dropped_alertmanagers: [(); 0],
    }
    json::success(&Alertmanagers {
        active_alertmanagers: [],
        dropped_alertmanagers: [],
    })
}
