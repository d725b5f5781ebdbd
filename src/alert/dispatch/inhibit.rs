//! Inhibition: while one alert fires, others that it explains are held back.
//!
//! As in Alertmanager, an alert that matches both sides of a rule is not held back by one for which the
//! same is true, so that neither itself nor its like can keep it from being told.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::matchers::Matchers;
use crate::alert::Pairs;

/// `[[alert.inhibit]]`: while an alert fires that matches `source`, those that match `target` and agree
/// with it in all `equal` labels are held back. A label that both lack is equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub source: Matchers,
    pub target: Matchers,
    #[serde(default)]
    pub equal: Vec<String>,
}

/// What holds unless other rules are configured: something critical holds back the milder alerts of the
/// same name about the same migration and table.
pub fn built_in() -> Vec<Rule> {
    let matchers = |text: &str| {
        Matchers::try_from(vec![text.to_owned()]).expect("the built-in matchers are well formed")
    };
    vec![Rule {
        source: matchers("severity=critical"),
        target: matchers("severity=~warning|info"),
        equal: ["alertname", "migration_id", "table"]
            .map(str::to_owned)
            .into(),
    }]
}

/// Who inhibits at one moment: made from the firing alerts, asked about each of them.
pub(super) struct Inhibitions<'a>(Vec<(&'a Rule, HashMap<Vec<&'a str>, Sources>)>);

/// The alerts that inhibit those with certain values of the `equal` labels.
#[derive(Clone, Copy, Default)]
struct Sources {
    any: Option<u64>,
    /// One that does not match the target's side as well.
    one_sided: Option<u64>,
}

impl<'a> Inhibitions<'a> {
    /// `firing` has the labels of every firing alert with its fingerprint, silenced ones included: what
    /// explains another does so whether it is told or not.
    pub(super) fn of(
        rules: &'a [Rule],
        firing: &(impl Iterator<Item = (u64, &'a Pairs)> + Clone),
    ) -> Self {
        let indexed = rules.iter().map(|rule| {
            let mut index: HashMap<Vec<&str>, Sources> = HashMap::new();
            for (fingerprint, labels) in firing.clone() {
                if rule.source.matches(labels) {
                    let sources = index.entry(key(rule, labels)).or_default();
                    sources.any.get_or_insert(fingerprint);
                    if !rule.target.matches(labels) {
                        sources.one_sided.get_or_insert(fingerprint);
                    }
                }
            }
            (rule, index)
        });
        Self(indexed.collect())
    }

    /// An alert that holds the one with these labels back.
    pub(super) fn source(&self, labels: &Pairs) -> Option<u64> {
        self.0.iter().find_map(|(rule, index)| {
            if !rule.target.matches(labels) {
                return None;
            }
            let sources = index.get(&key(rule, labels))?;
            if rule.source.matches(labels) {
                sources.one_sided
            } else {
                sources.any
            }
        })
    }
}

fn key<'a>(rule: &Rule, labels: &'a Pairs) -> Vec<&'a str> {
    let value = |name| labels.get(name).map_or("", String::as_str);
    rule.equal.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Pairs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    /// For each alert, the position of the one that holds it back.
    fn sources(rules: &[Rule], alerts: &[Pairs]) -> Vec<Option<u64>> {
        let firing = (0..).zip(alerts);
        let inhibitions = Inhibitions::of(rules, &firing);
        alerts
            .iter()
            .map(|alert| inhibitions.source(alert))
            .collect()
    }

    #[test]
    fn a_critical_alert_holds_back_milder_ones_of_its_name_and_migration() {
        let alert = |name, severity, id| {
            labels(&[
                ("alertname", name),
                ("severity", severity),
                ("migration_id", id),
            ])
        };
        let alerts = [
            alert("lag", "critical", "shop"),
            alert("lag", "warning", "shop"),
            alert("lag", "info", "shop"),
            alert("lag", "warning", "crm"),
            alert("errors", "warning", "shop"),
            alert("lag", "page", "shop"),
        ];
        assert_eq!(
            sources(&built_in(), &alerts),
            [None, Some(0), Some(0), None, None, None]
        );
    }

    #[test]
    fn labels_that_both_lack_are_equal() {
        let critical = labels(&[("alertname", "disk"), ("severity", "critical")]);
        let warning = labels(&[("alertname", "disk"), ("severity", "warning")]);
        assert_eq!(sources(&built_in(), &[critical, warning]), [None, Some(0)]);
    }

    #[test]
    fn an_alert_on_both_sides_is_held_back_only_by_one_that_is_not() {
        let rule: Rule = toml::from_str("source = [\"a=1\"]\ntarget = [\"b=1\"]").unwrap();
        let both = labels(&[("a", "1"), ("b", "1")]);
        let like = labels(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let target = labels(&[("b", "1")]);
        let rules = [rule];
        assert_eq!(
            sources(&rules, &[both.clone(), like, target]),
            [None, None, Some(0)]
        );
        let source = labels(&[("a", "1")]);
        assert_eq!(sources(&rules, &[both, source]), [Some(1), None]);
    }
}
