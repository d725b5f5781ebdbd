//! `label_replace` and `label_join`: new labels from old ones.

use regex::Regex;

use crate::model::METRIC_NAME;
use crate::promql::error::Error;
use crate::promql::value::{Series, merge};

/// Sets a label from the groups of a regex that another label matches.
#[derive(Clone, Debug)]
pub(in crate::promql) struct LabelReplace {
    target: String,
    replacement: String,
    source: String,
    /// Anchored at both ends.
    regex: Regex,
}

/// Sets a label to other labels' values, with a separator between.
#[derive(Clone, Debug)]
pub(in crate::promql) struct LabelJoin {
    target: String,
    separator: String,
    sources: Vec<String>,
}

fn check_target(function: &str, target: &str) -> Result<(), Error> {
    if target.is_empty() {
        return Err(Error::execution(format!(
            "invalid destination label name in {function}(): {target}"
        )));
    }
    Ok(())
}

impl LabelReplace {
    pub(super) fn of(texts: &[String]) -> Result<Self, Error> {
        let [target, replacement, source, pattern] = texts else {
            return Err(Error::bad_data(
                "parse error: label_replace takes four strings",
            ));
        };
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| {
            Error::execution(format!(
                "invalid regular expression in label_replace(): {pattern}: {error}"
            ))
        })?;
        check_target("label_replace", target)?;
        Ok(Self {
            target: target.clone(),
            replacement: replacement.clone(),
            source: source.clone(),
            regex,
        })
    }

    pub(super) fn evaluate(&self, mut series: Vec<Series>) -> Result<Vec<Series>, Error> {
        for one in &mut series {
            let Some(captures) = self.regex.captures(one.labels.value(&self.source)) else {
                continue;
            };
            let mut value = String::new();
            captures.expand(&self.replacement, &mut value);
            set(one, &self.target, &value);
        }
        merge(series)
    }
}

impl LabelJoin {
    pub(super) fn of(texts: &[String]) -> Result<Self, Error> {
        let [target, separator, sources @ ..] = texts else {
            return Err(Error::bad_data(
                "parse error: label_join takes at least two strings",
            ));
        };
        check_target("label_join", target)?;
        if sources.iter().any(String::is_empty) {
            return Err(Error::execution(
                "invalid source label name in label_join(): ",
            ));
        }
        Ok(Self {
            target: target.clone(),
            separator: separator.clone(),
            sources: sources.to_vec(),
        })
    }

    pub(super) fn evaluate(&self, mut series: Vec<Series>) -> Result<Vec<Series>, Error> {
        for one in &mut series {
            let values: Vec<_> = self
                .sources
                .iter()
                .map(|source| one.labels.value(source))
                .collect();
            let value = values.join(&self.separator);
            set(one, &self.target, &value);
        }
        merge(series)
    }
}

/// A name that is set on purpose stays, also after a function that drops names.
fn set(series: &mut Series, target: &str, value: &str) {
    series.labels = series.labels.with(target, value);
    if target == METRIC_NAME {
        series.drop_name = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn series(drop_name: bool) -> Vec<Series> {
        vec![Series {
            labels: Labels::of("rows_total", &[("table", "public.users")]),
            drop_name,
            values: vec![1.0],
        }]
    }

    fn replace(texts: [&str; 4], drop_name: bool) -> Series {
        let texts = texts.map(str::to_owned);
        let replace = LabelReplace::of(&texts).expect("a regex that compiles");
        replace
            .evaluate(series(drop_name))
            .expect("one series stays one")
            .remove(0)
    }

    #[test]
    fn the_whole_value_has_to_match() {
        let partial = replace(["schema", "$1", "table", "(public)"], false);
        assert_eq!(partial.labels.get("schema"), None);
        let whole = replace(["schema", "$1-${1}", "table", "(.*)[.].*"], false);
        assert_eq!(whole.labels.get("schema"), Some("public-public"));
    }

    #[test]
    fn a_name_set_on_purpose_is_kept() {
        let named = replace(["__name__", "$1:rate", "__name__", "(.*)_total"], true);
        assert_eq!(
            (named.labels.metric(), named.drop_name),
            ("rows:rate", false)
        );
        assert!(replace(["x", "y", "", ""], true).drop_name);
    }
}
