//! `info`: the labels of info series, such as `target_info`, added to the series that they are about.
//!
//! An info series is about those with its `instance` and `job`. Of several that are, at a step, the one
//! with the newest sample counts, so a change of its other labels is a change of the labels added.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use crate::promql::error::Error;
use crate::promql::eval::{Evaluator, Yield};
use crate::promql::plan::{Kind, Node};
use crate::promql::value::{ABSENT, Grid, Merged, Series, is_absent, is_present};

const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_METRIC: &str = "target_info";

/// What the second argument says.
#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Info {
    /// Series whose name passes all of these are info series themselves; none are when it is empty.
    names: Vec<Matcher>,
    /// Labels to add with what they have to be; all are added when it is empty.
    data: Vec<Matcher>,
}

/// The matchers of the info series that are meant by the matchers of the second argument, if there
/// is one.
pub(in crate::promql) fn series_matchers(selector: Option<&[Matcher]>) -> Vec<Matcher> {
    let default = Matcher::equal(METRIC_NAME, DEFAULT_METRIC);
    let Some(selector) = selector else {
        return vec![default];
    };
    let mut matchers = selector.to_vec();
    let names = || selector.iter().filter(|one| one.name == METRIC_NAME);
    if names().next().is_none() {
        matchers.push(default);
    } else if names().all(|one| matches!(one.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
        // What is not meant does not tell which metrics hold information.
        let any = Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info");
        matchers.extend(any);
    }
    matchers
}

impl Info {
    pub(in crate::promql) fn of(selector: Option<&[Matcher]>) -> Self {
        let Some(selector) = selector else {
            return Self {
                names: series_matchers(None),
                data: Vec::new(),
            };
        };
        let is_name = |one: &Matcher| one.name == METRIC_NAME;
        let data: Vec<_> = selector
            .iter()
            .filter(|one| !is_name(one))
            .cloned()
            .collect();
        let mut names = Vec::new();
        if data.len() < selector.len() {
            names = series_matchers(Some(selector));
            names.retain(is_name);
        }
        Self { names, data }
    }

    pub(super) fn evaluate(
        &self,
        evaluator: &Evaluator<'_>,
        args: &[Node],
        steps: Grid,
    ) -> Result<Vec<Series>, Error> {
        let base = evaluator.vector(&args[0], steps)?;
        let Some(Kind::Select(select)) = args.get(1).map(|arg| &arg.kind) else {
            return Err(Error::bad_data("info needs a selector"));
        };
        let info = evaluator.select(select, steps, Yield::Time)?;
        let about = self.about(&base, &info, steps)?;
        let mut merged = Merged::default();
        for one in base {
            evaluator.guard().check()?;
            if self.is_info(&one.labels) {
                merged.push(one)?;
            } else {
                self.enrich(&one, &info, &about, &mut merged)?;
            }
        }
        Ok(merged.into_series())
    }

    fn is_info(&self, labels: &Labels) -> bool {
        !self.names.is_empty() && self.names.iter().all(|one| one.matches(labels.metric()))
    }

    /// Of every info metric and every identity the newest info series at each step.
    fn about(&self, base: &[Series], info: &[Series], steps: Grid) -> Result<About, Error> {
        let others = || base.iter().filter(|one| !self.is_info(&one.labels));
        let wanted = IDENTIFYING.map(|name| -> BTreeSet<&str> {
            let values = others().map(|one| one.labels.value(name));
            values.filter(|value| !value.is_empty()).collect()
        });
        let mut about = About::new();
        if wanted.iter().all(BTreeSet::is_empty) {
            return Ok(about);
        }
        let has_base: Vec<bool> = (0..steps.len)
            .map(|step| base.iter().any(|one| is_present(one.values[step])))
            .collect();
        for (index, one) in info.iter().enumerate() {
            let is_wanted = |(name, values): (&&str, &BTreeSet<&str>)| {
                values.is_empty() || values.contains(one.labels.value(name))
            };
            if !IDENTIFYING.iter().zip(&wanted).all(is_wanted) {
                continue;
            }
            let newest = about
                .entry(one.labels.metric().to_owned())
                .or_default()
                .entry(identity(&one.labels))
                .or_insert_with(|| vec![None; steps.len]);
            for (step, newest) in newest.iter_mut().enumerate() {
                let at = one.values[step];
                if is_absent(at) || !has_base[step] {
                    continue;
                }
                match newest {
                    Some(other) if info[*other].values[step] > at => {}
                    Some(other) if info[*other].values[step] == at => {
                        let at_ms = (at * 1e3).round() as i64;
                        return Err(Error::execution(format!(
                            "found duplicate series for info metric: existing {} @ {at_ms}, \
                             new {} @ {at_ms}",
                            info[*other].labels, one.labels
                        )));
                    }
                    _ => *newest = Some(index),
                }
            }
        }
        Ok(about)
    }

    /// The parts of a series with the labels that each of its steps has.
    fn enrich(
        &self,
        one: &Series,
        info: &[Series],
        about: &About,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let identity = identity(&one.labels);
        let metrics: Vec<&Vec<Option<usize>>> = about
            .values()
            .filter_map(|identities| identities.get(&identity))
            .collect();
        let mut parts: BTreeMap<Vec<usize>, Vec<f64>> = BTreeMap::new();
        for (step, value) in one.values.iter().enumerate() {
            if is_absent(*value) {
                continue;
            }
            let found: Vec<usize> = metrics.iter().filter_map(|newest| newest[step]).collect();
            if found.is_empty() && !self.data.iter().all(Matcher::matches_empty) {
                continue;
            }
            let part = parts
                .entry(found)
                .or_insert_with(|| vec![ABSENT; one.values.len()]);
            part[step] = *value;
        }
        for (found, values) in parts {
            merged.push(Series {
                labels: self.labels(&one.labels, found.iter().map(|at| &info[*at].labels))?,
                drop_name: one.drop_name,
                values,
            })?;
        }
        Ok(())
    }

    fn labels<'a>(
        &self,
        base: &Labels,
        found: impl Iterator<Item = &'a Labels>,
    ) -> Result<Labels, Error> {
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for label in found.flatten() {
            let (name, value) = (&*label.name, &*label.value);
            let is_asked = self.data.is_empty() || self.data.iter().any(|one| one.name == name);
            if name == METRIC_NAME || !is_asked {
                continue;
            }
            if added.get(name).is_some_and(|other| *other != value) {
                return Err(Error::execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.insert(name, value);
            }
        }
        let mut labels = LabelsBuilder::from(base);
        for (name, value) in added {
            labels.set(name, value);
        }
        Ok(labels.build())
    }
}

/// By info metric, then by identity: the info series at each step, by index.
type About = BTreeMap<String, HashMap<[String; 2], Vec<Option<usize>>>>;

fn identity(labels: &Labels) -> [String; 2] {
    IDENTIFYING.map(|name| labels.value(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(matchers: &[Matcher]) -> Vec<String> {
        matchers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_name_the_target_is_meant() {
        let data = Matcher::equal("data", "x");
        assert_eq!(names(&series_matchers(None)), ["__name__=\"target_info\""]);
        assert_eq!(
            names(&series_matchers(Some(&[data]))),
            ["data=\"x\"", "__name__=\"target_info\""]
        );
        let not = Matcher::new(METRIC_NAME, MatchOp::NotEqual, "a_info").unwrap();
        assert_eq!(
            names(&series_matchers(Some(&[not]))),
            ["__name__!=\"a_info\"", "__name__=~\".+_info\""]
        );
    }

    #[test]
    fn labels_that_are_there_stay() {
        let base = Labels::of("m", &[("job", "a"), ("data", "own")]);
        let info = Labels::of("target_info", &[("job", "a"), ("data", "b"), ("more", "c")]);
        let all = Info::of(None).labels(&base, [&info].into_iter()).unwrap();
        assert_eq!(all.to_string(), "m{data=\"own\",job=\"a\",more=\"c\"}");
        let asked = Info::of(Some(&[Matcher::equal("data", "b")]));
        let labels = asked.labels(&base, [&info].into_iter()).unwrap();
        assert_eq!(labels, base);
        let other = info.with("more", "d");
        let error = Info::of(None).labels(&base, [&info, &other].into_iter());
        assert_eq!(error.unwrap_err().to_string(), "conflicting label: more");
    }
}
