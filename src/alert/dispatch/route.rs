//! Which alerts a channel is told.

use serde::{Deserialize, Serialize};

use super::matchers::Matchers;
use crate::alert::Alert;
use crate::detect::anomaly::Severity;

/// The part of a `[[channel]]` that the dispatcher reads. Every channel whose route takes an alert is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The least severity that is told. An alert whose severity is none of the three, or that has none,
    /// passes: what nobody graded is not to be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity_min: Option<Severity>,
    /// Conditions on the labels, which all have to hold.
    #[serde(rename = "match")]
    pub matchers: Matchers,
    /// Whether the channel is told that an alert is over.
    pub send_resolved: bool,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            severity_min: None,
            matchers: Matchers::default(),
            send_resolved: true,
        }
    }
}

impl Route {
    /// Whether the channel is told of an alert.
    pub fn takes(&self, alert: &Alert) -> bool {
        let is_severe = match (self.severity_min, severity(alert)) {
            (Some(least), Some(severity)) => severity >= least,
            (None, _) | (_, None) => true,
        };
        is_severe && self.matchers.matches(&alert.labels)
    }
}

fn severity(alert: &Alert) -> Option<Severity> {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|severity| severity.name() == alert.severity())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Pairs;
    use crate::model::Timestamp;

    fn alert(severity: &str) -> Alert {
        let labels = [("severity", severity), ("migration_id", "shop")];
        Alert {
            labels: labels
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            annotations: Pairs::new(),
            starts_at: Timestamp::EPOCH,
            ends_at: None,
            generator_url: String::new(),
        }
    }

    #[test]
    fn a_route_takes_what_is_severe_enough_and_matches() {
        let text = "severity_min = \"warning\"\nmatch = [\"migration_id=shop\"]";
        let route: Route = toml::from_str(text).unwrap();
        assert!(route.send_resolved);
        assert!(route.takes(&alert("warning")) && route.takes(&alert("critical")));
        assert!(!route.takes(&alert("info")));
        let elsewhere: Route = toml::from_str("match = [\"migration_id!=shop\"]").unwrap();
        assert!(!elsewhere.takes(&alert("critical")));
    }

    #[test]
    fn an_alert_that_nobody_graded_passes() {
        let route: Route = toml::from_str("severity_min = \"critical\"").unwrap();
        assert!(route.takes(&alert("page")) && route.takes(&alert("")));
    }

    #[test]
    fn a_wrong_matcher_is_refused_with_its_text() {
        let error = toml::from_str::<Route>("match = [\"shop\"]").unwrap_err();
        assert!(
            error.to_string().contains("\"shop\" is not a matcher"),
            "{error}"
        );
    }
}
