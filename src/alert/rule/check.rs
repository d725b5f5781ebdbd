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
            self.recording(line, &name);
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

    fn recording(&mut self, line: u64, name: &str) {
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
            let is_well = name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
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
