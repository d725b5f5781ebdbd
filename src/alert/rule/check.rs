//! From what was written to rules that can be evaluated, and every reason why not, with its line.
//!
//! Pure: a text goes in. Everything that does not depend on data is refused here, so that a rule in
//! force fails only for what the data holds.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::file::{self, Texts};
use crate::alert::Pairs;
use crate::alert::template::Template;
use crate::model::unit::parse_duration;
use crate::model::{METRIC_NAME, Matcher};
use crate::promql;

/// Something wrong in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u64,
    pub reason: String,
}

/// As it follows a file's name: `7: reason`.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.line, self.reason)
    }
}

/// A group as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub file: String,
    pub name: String,
    /// `None`: that of the configuration.
    pub interval: Option<Duration>,
    pub query_offset: Duration,
    /// The most series of a recording rule, and alerts of an alerting rule; 0 for any number.
    pub limit: usize,
    pub rules: Vec<Rule>,
}

/// One rule. Its labels are those of the group under its own; an empty value takes a label away.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The metric that is recorded, or the alert.
    pub name: String,
    pub line: u64,
    /// In the canonical form.
    pub query: String,
    pub labels: Pairs,
    /// What the expression reads, for who brings its samples elsewhere.
    pub selectors: Vec<Vec<Matcher>>,
    pub reach: Option<Duration>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Recording,
    Alerting(Alerting),
}

/// What an alerting rule has beyond its expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerting {
    /// `for`.
    pub hold: Duration,
    pub keep_firing_for: Duration,
    pub labels: Vec<(String, Template)>,
    pub annotations: Vec<(String, Template)>,
}

impl Spec {
    /// Rules that have name and labels in common with an earlier one: allowed where their expressions
    /// never give the same series, and else a mistake.
    pub fn twins(&self) -> impl Iterator<Item = Problem> {
        self.rules.iter().enumerate().filter_map(|(at, rule)| {
            let before = self.rules.get(..at).unwrap_or_default();
            let twin = before.iter().find(|it| it.identity() == rule.identity())?;
            Some(Problem {
                line: rule.line,
                reason: format!(
                    "{:?} has the same labels as the rule of that name in line {}",
                    rule.name, twin.line
                ),
            })
        })
    }
}

impl Rule {
    /// What tells rules of a group apart; two rules may have it in common.
    fn identity(&self) -> (bool, &str, &Pairs) {
        let records = self.kind == Kind::Recording;
        (records, &self.name, &self.labels)
    }
}

/// The groups of a file's text, or all that is wrong with it.
pub fn check(file: &str, text: &str) -> Result<Vec<Spec>, Vec<Problem>> {
    let read = file::read(text).map_err(|problem| vec![problem])?;
    let mut checker = Checker::default();
    let mut groups = Vec::new();
    let mut names = HashSet::new();
    for group in read.groups.unwrap_or_default() {
        let line = group.referenced.line();
        let group = checker.group(file, line, group.value);
        if !names.insert(group.name.clone()) {
            checker.add(line, format!("group {:?} is there twice", group.name));
        }
        groups.push(group);
    }
    if checker.problems.is_empty() {
        return Ok(groups);
    }
    checker.problems.sort_by_key(|problem| problem.line);
    Err(checker.problems)
}

/// Collects problems; what it answers is only used when there are none.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn add(&mut self, line: u64, reason: impl Into<String>) {
        self.problems.push(Problem {
            line,
            reason: reason.into(),
        });
    }

    fn group(&mut self, file: &str, line: u64, group: file::Group) -> Spec {
        let name = text_of(group.name);
        if name.is_empty() {
            self.add(line, "a group has no name");
        }
        let interval = group.interval.map(|text| self.duration("interval", &text));
        let query_offset = self.optional_duration("query_offset", group.query_offset);
        let limit = group.limit.map_or(0, |limit| {
            usize::try_from(limit.value).unwrap_or_else(|_negative| {
                self.add(limit.referenced.line(), "limit: less than 0");
                0
            })
        });
        if let Some(labels) = &group.labels {
            self.label_names("label", labels);
        }
        let shared = group.labels.unwrap_or_default();
        let mut rules: Vec<Rule> = Vec::new();
        for rule in group.rules.unwrap_or_default() {
            let line = rule.referenced.line();
            let rule = self.rule(line, rule.value, &shared);
            let twin = rules
                .iter()
                .find(|other| other.identity() == rule.identity() && other.query == rule.query);
            if let Some(twin) = twin {
                let reason = format!("{:?} is the same rule as in line {}", rule.name, twin.line);
                self.add(line, reason);
            }
            rules.push(rule);
        }
        Spec {
            file: file.to_owned(),
            name,
            interval: interval.filter(|interval| !interval.is_zero()),
            query_offset,
            limit,
            rules,
        }
    }

    fn rule(&mut self, line: u64, rule: file::Rule, shared: &Texts) -> Rule {
        let is_alert = rule.alert.is_some();
        let is_named = is_alert || rule.record.is_some();
        let name = match (rule.record, rule.alert) {
            (Some(_), Some(alert)) => {
                self.add(line, "a rule has both record and alert");
                alert.value
            }
            (Some(name), None) | (None, Some(name)) => name.value,
            (None, None) => {
                self.add(line, "a rule has neither record nor alert");
                String::new()
            }
        };
        let checked = self.expression(line, rule.expr);
        if let Some(labels) = &rule.labels {
            self.label_names("label", labels);
        }
        let own = rule.labels.unwrap_or_default();
        let mut labels = shared.clone();
        labels.extend(own);
        let annotations = rule.annotations.unwrap_or_default();
        let kind = if is_alert {
            if name.is_empty() {
                self.add(line, "an alert has no name");
            }
            self.label_names("annotation", &annotations);
            Kind::Alerting(Alerting {
                hold: self.optional_duration("for", rule.hold),
                keep_firing_for: self.optional_duration("keep_firing_for", rule.keep_firing_for),
                labels: self.templates("label", &labels),
                annotations: self.templates("annotation", &annotations),
            })
        } else {
            if is_named {
                self.recording_name(line, &name);
            }
            for (key, is_there) in [
                ("for", rule.hold.is_some()),
                ("keep_firing_for", rule.keep_firing_for.is_some()),
                ("annotations", !annotations.is_empty()),
            ] {
                if is_there {
                    self.add(line, format!("a recording rule has no `{key}`"));
                }
            }
            Kind::Recording
        };
        let (query, selectors, reach) = checked.map_or_else(Default::default, |checked| {
            (checked.text, checked.selectors, checked.reach)
        });
        Rule {
            name,
            line,
            query,
            labels: labels
                .into_iter()
                .map(|(name, text)| (name, text.value))
                .collect(),
            selectors,
            reach,
            kind,
        }
    }

    fn recording_name(&mut self, line: u64, name: &str) {
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | ':');
        let starts_well = name.starts_with(|it: char| is_name(it) && !it.is_ascii_digit());
        if !starts_well || !name.chars().all(is_name) {
            self.add(line, format!("{name:?} is not the name of a metric"));
        }
    }

    fn expression(&mut self, line: u64, expr: Option<Spanned<String>>) -> Option<promql::Checked> {
        let Some(expr) = expr.filter(|expr| !expr.value.trim().is_empty()) else {
            self.add(line, "a rule has no expr");
            return None;
        };
        match promql::check(&expr.value, &promql::Limits::default()) {
            Ok(checked) => Some(checked),
            Err(error) => {
                self.add(expr.referenced.line(), format!("expr: {error}"));
                None
            }
        }
    }

    fn label_names(&mut self, what: &str, texts: &Texts) {
        for (name, text) in texts {
            let starts_well = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
            let is_well = name
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || it == '_');
            if !starts_well || !is_well || (what == "label" && name == METRIC_NAME) {
                let reason = format!("{name:?} is not the name of a {what}");
                self.add(text.referenced.line(), reason);
            }
        }
    }

    fn templates(&mut self, what: &str, texts: &Texts) -> Vec<(String, Template)> {
        let mut templates = Vec::new();
        for (name, text) in texts {
            match Template::parse(&text.value) {
                Ok(template) => templates.push((name.clone(), template)),
                Err(error) => self.add(text.referenced.line(), format!("{what} {name}: {error}")),
            }
        }
        templates
    }

    fn optional_duration(&mut self, key: &str, text: Option<Spanned<String>>) -> Duration {
        text.map_or(Duration::ZERO, |text| self.duration(key, &text))
    }

    fn duration(&mut self, key: &str, text: &Spanned<String>) -> Duration {
        parse_duration(&text.value).unwrap_or_else(|error| {
            self.add(text.referenced.line(), format!("{key}: {error}"));
            Duration::ZERO
        })
    }
}

fn text_of(text: Option<Spanned<String>>) -> String {
    text.map(|text| text.value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = check("a.yml", text).unwrap_err();
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_file_is_read_with_everything_that_a_rule_can_have() {
        let text = "\
groups:
  - name: lag
    interval: 30s
    query_offset: 1m
    limit: 5
    labels: {team: db, severity: info}
    rules:
      - record: job:lag:max
        expr: max  by(job)(lag)
      - alert: Lag
        expr: |
          lag > 300
        for: 5m
        keep_firing_for: 1m
        labels: {severity: critical, level: 1}
        annotations:
          summary: 'Lag of {{ $labels.table }}: {{ $value }}.'
";
        let groups = check("a.yml", text).unwrap();
        let [group] = &groups[..] else {
            panic!("{groups:?}");
        };
        assert_eq!(
            (&*group.name, &*group.file, group.limit),
            ("lag", "a.yml", 5)
        );
        assert_eq!(group.interval, Some(Duration::from_secs(30)));
        assert_eq!(group.query_offset, Duration::from_secs(60));
        let [record, alert] = &group.rules[..] else {
            panic!("{group:?}");
        };
        assert_eq!((record.line, &*record.query), (8, "max by (job) (lag)"));
        assert_eq!(record.labels["severity"], "info");
        assert_eq!((alert.line, &*alert.query), (10, "lag > 300"));
        assert_eq!(alert.labels["severity"], "critical");
        assert_eq!(
            (&*alert.labels["team"], &*alert.labels["level"]),
            ("db", "1")
        );
        let Kind::Alerting(alerting) = &alert.kind else {
            panic!("{alert:?}");
        };
        assert_eq!(alerting.hold, Duration::from_secs(300));
        assert_eq!(alerting.keep_firing_for, Duration::from_secs(60));
    }

    #[test]
    fn a_file_without_groups_has_no_rules() {
        for text in [
            "",
            "# nothing\n",
            "groups:\n",
            "groups: []\n",
            "groups: [{name: a}]\n",
        ] {
            let groups = check("a.yml", text).unwrap();
            assert!(groups.iter().all(|group| group.rules.is_empty()), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_nearest_right_name() {
        assert_eq!(
            problems("groups:\n- name: g\n  rules:\n  - alert: A\n    exprr: up\n"),
            ["5: unknown key `exprr`, did you mean `expr`?"]
        );
        assert_eq!(
            problems("groups:\n- name: g\n  colour: red\n"),
            [
                "3: unknown key `colour`, known are: name, interval, query_offset, limit, labels, rules"
            ]
        );
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        for (text, line) in [
            ("groups:\n- name: \"a\n", "2"),
            ("groups:\n- name: a\n rules: []\n", "3"),
            ("groups: 5\n", "1"),
            ("groups:\n- name: a\n  name: b\n", "3"),
        ] {
            let told = problems(text);
            assert_eq!(told.len(), 1, "{told:?}");
            let at = told[0].split(':').next().unwrap();
            assert!(
                at == line || at.parse::<u64>().unwrap() >= 1,
                "{text:?}: {told:?}"
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_in_the_order_of_lines() {
        let text = "\
groups:
  - name: g
    interval: 5 minutes
    rules:
      - alert: A
        expr: up ==
      - alert: B
        expr: sum(up)[5m:]
        for: tomorrow
      - record: 'a{b=\"c\"}'
        expr: up
        annotations: {summary: x}
      - expr: up
      - alert: C
        record: c
        expr: up
      - alert: D
        labels: {__name__: x, bad-name: y}
        annotations:
          summary: '{{ range query \"up\" }}{{ end }}'
      - alert: E
        expr: native_histogram(up)
  - name: g
    rules: []
";
        let told = problems(text);
        let expected = [
            "3: interval: ",
            "6: expr: ",
            "8: expr: the expression is a range vector",
            "9: for: ",
            "10: \"a{b=\\\"c\\\"}\" is not the name of a metric",
            "10: a recording rule has no `annotations`",
            "13: a rule has neither record nor alert",
            "14: a rule has both record and alert",
            "17: a rule has no expr",
            "18: \"__name__\" is not the name of a label",
            "18: \"bad-name\" is not the name of a label",
            "20: annotation summary: \"range\" is not supported in templates",
            "22: expr: ",
            "23: group \"g\" is there twice",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told:?} is not {expected:?}");
        }
        assert!(told[12].contains("native_histogram"), "{}", told[12]);
    }

    #[test]
    fn the_same_rule_again_is_refused_and_one_like_it_is_noted() {
        let rules = |second: &str| {
            format!(
                "groups:\n- name: g\n  rules:\n  - record: a\n    expr: up\n  - record: a\n    expr: {second}\n"
            )
        };
        assert_eq!(
            problems(&rules("'up  '")),
            ["6: \"a\" is the same rule as in line 4"]
        );
        let groups = check("a.yml", &rules("down")).unwrap();
        let notes: Vec<_> = groups[0].twins().map(|note| note.to_string()).collect();
        assert_eq!(
            notes,
            ["6: \"a\" has the same labels as the rule of that name in line 4"]
        );
    }
}
