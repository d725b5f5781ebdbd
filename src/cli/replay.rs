//! `cutover replay`: what would have paged over stored history, and what anomalies there were.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::ConfigArgs;
use super::output::{print, table};
use super::place::parse_time;
use super::progress::Progress;
use crate::alert::rule::{self, Set, Told};
use crate::app::UsageError;
use crate::app::offline::{self, Page, Replayed};
use crate::config::{self, Config};
use crate::detect::anomaly::Anomaly;
use crate::model::{Clock as _, SystemClock, TimeRange, Timestamp, unit};

#[derive(Args, Debug)]
pub(super) struct Command {
    /// The first time: seconds since 1970, or as 2026-11-25T14:30:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    from: Timestamp,
    /// The last time, included [default: now].
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to: Option<Timestamp>,
    /// A rule file, several times for several [default: the files of the configuration and the shipped
    /// rules].
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// The interval of groups that have none of their own [default: that of the configuration, 15s].
    #[arg(long, value_name = "SPAN", value_parser = unit::parse_duration)]
    every: Option<Duration>,
    /// The data directory, at rest [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (config, source) = Config::load(self.config.config.as_deref())?;
        let to = self.to.unwrap_or_else(|| SystemClock::default().now());
        let range = TimeRange::new(self.from, to)
            .ok_or_else(|| UsageError(format!("--to {to} is before --from {}", self.from)))?;
        let set = self.set(&config, source.as_deref())?;
        let every = self.every.unwrap_or(config.rules.every);
        if every < Duration::from_secs(1) {
            return Err(UsageError("--every: at least 1s".to_owned()).into());
        }
        let data = self.data.or(config.server.data);
        let data = data.unwrap_or_else(config::default_data_dir);
        let limits = config.query.limits();
        let mut progress = Progress::new();
        let replayed = offline::replay(&data, set, every, limits, range, |at, steps| {
            progress.show(|| format!("{at}, {steps} evaluations"));
        })?;
        drop(progress);
        if self.json {
            return print(&format!("{}\n", to_json(&replayed, range)));
        }
        print(&report(&replayed, range))
    }

    /// The files that were named, else what a server would evaluate.
    fn set(&self, config: &Config, source: Option<&Path>) -> Result<Set, rule::Error> {
        if !self.rules.is_empty() {
            let only = rule::Config {
                files: self.rules.clone(),
                built_in: false,
                ..rule::Config::default()
            };
            return Set::load(&only, Path::new(""), Told::ByAnomalies);
        }
        let dir = source.and_then(Path::parent).unwrap_or(Path::new(""));
        // Anomalies are told beside the alerts, so the rules that stand in for them are left out.
        Set::load(&config.rules, dir, Told::ByAnomalies)
    }
}

fn seconds(page: &Page, end: Timestamp) -> Duration {
    page.to.unwrap_or(end).since(page.from)
}

fn labels_of<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let shown: Vec<_> = pairs
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "alertname" | "severity"))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if shown.is_empty() {
        "-".to_owned()
    } else {
        shown.join(" ")
    }
}

fn until(to: Option<Timestamp>) -> String {
    to.map_or_else(|| "still".to_owned(), |to| to.to_string())
}

fn report(replayed: &Replayed, range: TimeRange) -> String {
    let mut text = String::new();
    if replayed.pages.is_empty() {
        text.push_str("No alert would have fired.\n");
    } else {
        let row = |page: &Page| {
            vec![
                page.name.clone(),
                page.severity.clone(),
                page.from.to_string(),
                until(page.to),
                unit::human_duration(seconds(page, range.end())),
                unit::human_number(page.peak),
                labels_of(&page.labels),
            ]
        };
        let rows: Vec<_> = replayed.pages.iter().map(row).collect();
        let header = ["alert", "severity", "from", "to", "for", "peak", "labels"];
        text.push_str(&table(&header, &rows, &[4, 5]));
    }
    if !replayed.anomalies.is_empty() {
        let row = |anomaly: &Anomaly| {
            let end = anomaly.closed_at.unwrap_or(range.end());
            vec![
                anomaly.watch.clone(),
                anomaly.severity.name().to_owned(),
                anomaly.opened_at.to_string(),
                until(anomaly.closed_at),
                unit::human_duration(end.since(anomaly.opened_at)),
                unit::human_number(anomaly.score_max),
                labels_of(&anomaly.labels),
            ]
        };
        let rows: Vec<_> = replayed.anomalies.iter().map(row).collect();
        let header = [
            "anomaly", "severity", "from", "to", "for", "score", "labels",
        ];
        text.push('\n');
        text.push_str(&table(&header, &rows, &[4, 5]));
    }
    for (rule, reason) in &replayed.failures {
        text.push_str(&format!(
            "note: {rule} was not always evaluated: {reason}\n"
        ));
    }
    text.push_str(&format!(
        "\n{} evaluations of {} rules from {} to {}\n",
        replayed.evaluations,
        replayed.rules,
        range.start(),
        range.end()
    ));
    text
}

fn to_json(replayed: &Replayed, range: TimeRange) -> serde_json::Value {
    let number = |value: f64| {
        if value.is_finite() {
            json!(value)
        } else {
            json!(value.to_string())
        }
    };
    let pages = replayed.pages.iter().map(|page| {
        json!({
            "alert": page.name,
            "severity": page.severity,
            "labels": page.labels,
            "summary": page.summary,
            "from": page.from.to_string(),
            "to": page.to.map(|to| to.to_string()),
            "seconds": seconds(page, range.end()).as_secs_f64(),
            "peak": number(page.peak),
        })
    });
    let anomalies = replayed.anomalies.iter().map(|anomaly| {
        let end = anomaly.closed_at.unwrap_or(range.end());
        json!({
            "watch": anomaly.watch,
            "severity": anomaly.severity.name(),
            "labels": anomaly.labels,
            "summary": anomaly.summary,
            "from": anomaly.opened_at.to_string(),
            "to": anomaly.closed_at.map(|to| to.to_string()),
            "seconds": end.since(anomaly.opened_at).as_secs_f64(),
            "score": number(anomaly.score_max),
        })
    });
    let failures = replayed.failures.iter();
    json!({
        "from": range.start().to_string(),
        "to": range.end().to_string(),
        "rules": replayed.rules,
        "evaluations": replayed.evaluations,
        "alerts": pages.collect::<Vec<_>>(),
        "anomalies": anomalies.collect::<Vec<_>>(),
        "failures": failures
            .map(|(rule, reason)| json!({"rule": rule, "reason": reason}))
            .collect::<Vec<_>>(),
    })
}
