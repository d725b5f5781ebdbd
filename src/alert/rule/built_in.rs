//! The rules that are shipped with the program, and evaluated without any configuration.
//!
//! They name only series that the appliance writes itself or that well-known exporters have; where a
//! series is not there, its rule stays quiet.

use super::{Spec, Told, check};

/// The name under which a shipped file is shown, and its text.
const FILES: [(&str, &str); 3] = [
    (
        "built-in/migration.yml",
        include_str!("../../../assets/rules/migration.yml"),
    ),
    (
        "built-in/replication.yml",
        include_str!("../../../assets/rules/replication.yml"),
    ),
    (
        "built-in/cutover.yml",
        include_str!("../../../assets/rules/cutover.yml"),
    ),
];

/// What the watches `low_throughput` and `high_error_rate` tell by anomalies, told by rules.
const INSTEAD_OF_ANOMALIES: (&str, &str) = (
    "built-in/throughput.yml",
    include_str!("../../../assets/rules/throughput.yml"),
);

/// The shipped groups.
pub fn built_in(told: Told) -> Vec<Spec> {
    let instead = (told == Told::ByRules).then_some(INSTEAD_OF_ANOMALIES);
    FILES
        .into_iter()
        .chain(instead)
        .flat_map(|(name, text)| {
            check(name, text).expect("shipped rules are right: a test reads them")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::Kind;

    #[test]
    fn every_shipped_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do() {
        let groups = built_in(Told::ByRules);
        let rules: Vec<_> = groups.iter().flat_map(|group| &group.rules).collect();
        assert!(rules.len() >= 10);
        for rule in rules {
            let Kind::Alerting(alerting) = &rule.kind else {
                continue;
            };
            let severity = rule.labels.get("severity").map_or("", String::as_str);
            assert!(
                matches!(severity, "critical" | "warning" | "info"),
                "{}",
                rule.name
            );
            let text = |name: &str| {
                let found = alerting.annotations.iter().find(|(key, _)| key == name);
                found.map_or("", |(_, template)| template.text())
            };
            let summary = text("summary");
            assert!(summary.contains("$value"), "{}: {summary}", rule.name);
            assert!(
                summary.ends_with('.') && !summary.contains('\n'),
                "{summary}"
            );
            assert!(text("description").len() > 40, "{}", rule.name);
        }
    }

    #[test]
    fn nothing_is_told_twice() {
        let names = |told| -> Vec<String> {
            let groups = built_in(told).into_iter();
            groups
                .flat_map(|group| group.rules)
                .map(|rule| rule.name)
                .collect()
        };
        let told_by_watches = ["LowThroughput", "HighErrorRate"];
        for name in told_by_watches {
            assert!(names(Told::ByRules).iter().any(|other| other == name));
            assert!(!names(Told::ByAnomalies).iter().any(|other| other == name));
        }
    }
}
