//! A pushed text as metric families, the unit in which a `POST` replaces what is there.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{GroupKey, PUSH_FAILURE_TIME, PUSH_TIME, Refused};
use crate::ingest::text::{Entry, Format, Parser, text_of};
use crate::model::{Labels, MetricKind, label};

/// Series of one push.
const SERIES_MAX: usize = 100_000;

/// The metrics of one name; part of a stored record, see [`super::GROUPS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Family {
    pub(super) kind: MetricKind,
    pub(super) help: String,
    pub(super) unit: String,
    pub(super) series: Vec<Series>,
}

/// A series with all its labels, sorted, and the value that was pushed last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Series {
    pub(super) fn labels(&self) -> Labels {
        let pairs = self.labels.iter();
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::try_from_pairs(pairs).expect("labels were checked when they were pushed")
    }
}

pub(super) type Families = BTreeMap<String, Family>;

/// Reads a body; every series gets the labels of the group, whatever it says of them itself.
pub(super) fn parse(format: Format, body: &[u8], group: &GroupKey) -> Result<Families, Refused> {
    let mut parser = Parser::new(format, text_of(body)?);
    let mut families = Families::new();
    let mut seen = HashSet::new();
    while let Some(entry) = parser.next()? {
        match entry {
            Entry::Type { metric, kind } => family(&mut families, metric).kind = kind,
            Entry::Help { metric, help } => {
                family(&mut families, metric).help = help.into_owned();
            }
            Entry::Unit { metric, unit } => {
                unit.clone_into(&mut family(&mut families, metric).unit);
            }
            Entry::Sample { value, timestamp } => {
                let labels = parser.with_labels(|pairs| labels(pairs, group));
                let labels = labels.map_err(|error| Refused::Labels {
                    series: parser.with_labels(|pairs| format!("{pairs:?}")),
                    error,
                })?;
                if timestamp.is_some() {
                    return Err(Refused::Timestamp { series: labels });
                }
                if seen.len() == SERIES_MAX {
                    return Err(Refused::TooManySeries {
                        series_max: SERIES_MAX,
                    });
                }
                if !seen.insert(labels.clone()) {
                    return Err(Refused::Twice { series: labels });
                }
                let name = family_name(&families, labels.metric()).to_owned();
                let labels = labels.iter();
                let labels = labels.map(|label| (label.name.to_string(), label.value.to_string()));
                family(&mut families, name.into()).series.push(Series {
                    labels: labels.collect(),
                    value,
                });
            }
        }
    }
    // What is only described has nothing to replace or to show.
    families.retain(|name, family| {
        !family.series.is_empty() && name != PUSH_TIME && name != PUSH_FAILURE_TIME
    });
    Ok(families)
}

fn family<'f>(families: &'f mut Families, name: Cow<'_, str>) -> &'f mut Family {
    families.entry(name.into_owned()).or_insert_with(|| Family {
        kind: MetricKind::Unknown,
        help: String::new(),
        unit: String::new(),
        series: Vec::new(),
    })
}

/// A series' labels with those of the group over them.
fn labels(pairs: &[(&str, &str)], group: &GroupKey) -> Result<Labels, label::Error> {
    let is_of_group = |name: &str| group.0.iter().any(|(key, _)| key == name);
    let own = pairs.iter().copied().filter(|(name, _)| !is_of_group(name));
    let group = group.0.iter();
    let group = group.map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::try_from_pairs(own.chain(group))
}

/// The family that a sample belongs to: the one of its name, or of its name without what the samples of
/// that family's type have at the end.
fn family_name<'n>(families: &Families, metric: &'n str) -> &'n str {
    const SUFFIXES: [(&str, &[MetricKind]); 5] = [
        ("_bucket", &[MetricKind::Histogram]),
        ("_sum", &[MetricKind::Histogram, MetricKind::Summary]),
        ("_count", &[MetricKind::Histogram, MetricKind::Summary]),
        ("_total", &[MetricKind::Counter]),
        (
            "_created",
            &[
                MetricKind::Counter,
                MetricKind::Histogram,
                MetricKind::Summary,
            ],
        ),
    ];
    if families.contains_key(metric) {
        return metric;
    }
    let mut stems = SUFFIXES.iter().filter_map(|(suffix, kinds)| {
        let stem = metric.strip_suffix(suffix)?;
        let family = families.get(stem)?;
        kinds.contains(&family.kind).then_some(stem)
    });
    stems.next().unwrap_or(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pairs: &[(&str, &str)]) -> GroupKey {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        GroupKey(pairs.iter().map(owned).collect())
    }

    fn parsed(text: &str) -> Families {
        let group = group(&[("empty", ""), ("job", "backup")]);
        parse(Format::Text, text.as_bytes(), &group).unwrap()
    }

    fn error(text: &str) -> String {
        let group = group(&[("job", "backup")]);
        let error = parse(Format::Text, text.as_bytes(), &group).unwrap_err();
        error.to_string()
    }

    fn series(family: &Family) -> Vec<String> {
        let series = family.series.iter();
        series
            .map(|series| format!("{} {}", series.labels(), series.value))
            .collect()
    }

    #[test]
    fn samples_belong_to_the_family_of_their_type() {
        let families = parsed(concat!(
            "# TYPE d histogram\n# HELP d Durations.\n",
            "d_bucket{le=\"1\"} 1\nd_bucket{le=\"+Inf\"} 2\nd_sum 3\nd_count 2\n",
            "# TYPE q summary\nq{quantile=\"0.5\"} 1\nq_sum 4\nq_count 4\n",
            "# TYPE x_total counter\nx_total 5\nx_sum 6\n# TYPE only_described gauge\n",
        ));
        let names: Vec<_> = families.keys().map(String::as_str).collect();
        assert_eq!(names, ["d", "q", "x_sum", "x_total"]);
        assert_eq!(families["d"].kind, MetricKind::Histogram);
        assert_eq!(families["d"].help, "Durations.");
        assert_eq!(families["d"].series.len(), 4);
        assert_eq!(families["q"].series.len(), 3);
        assert_eq!(families["x_sum"].kind, MetricKind::Unknown);
    }

    #[test]
    fn the_labels_of_the_group_override_those_of_the_body() {
        let families = parsed("a{job=\"other\",empty=\"full\",instance=\"i\",b=\"c\"} 1\na 2\n");
        assert_eq!(
            series(&families["a"]),
            [
                "a{b=\"c\",instance=\"i\",job=\"backup\"} 1",
                "a{job=\"backup\"} 2"
            ]
        );
    }

    #[test]
    fn what_a_push_may_not_hold_is_named() {
        assert_eq!(
            error("a{b=\"c\"} 1 1700000000000\n"),
            "a{b=\"c\",job=\"backup\"} has a timestamp: pushed metrics must not have timestamps"
        );
        // Two series until they get the labels of the group.
        assert_eq!(
            error("a{job=\"x\"} 1\na{job=\"y\"} 1\n"),
            "a{job=\"backup\"} is pushed twice at once"
        );
        assert_eq!(error("a{"), "line 1, column 3: expected a label's name");
        assert!(error("a{b=\"1\",b=\"2\"} 1").ends_with("label \"b\" occurs twice"));
    }

    #[test]
    fn the_times_of_pushes_are_not_for_the_pusher_to_say() {
        let families = parsed("push_time_seconds 1\npush_failure_time_seconds 1\na 1\n");
        assert_eq!(families.len(), 1);
    }
}
