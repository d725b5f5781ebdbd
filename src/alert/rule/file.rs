//! From YAML to what was written, each value with its line. What it means is checked elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::check::Problem;

/// The distance beyond which a name is another word, not a misspelling.
const SIMILARITY_MIN: f64 = 0.7;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) groups: Option<Vec<Spanned<Group>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) name: Option<Spanned<String>>,
    pub(super) interval: Option<Spanned<String>>,
    pub(super) query_offset: Option<Spanned<String>>,
    pub(super) limit: Option<Spanned<i64>>,
    pub(super) labels: Option<Texts>,
    pub(super) rules: Option<Vec<Spanned<Rule>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) record: Option<Spanned<String>>,
    pub(super) alert: Option<Spanned<String>>,
    pub(super) expr: Option<Spanned<String>>,
    #[serde(rename = "for")]
    pub(super) hold: Option<Spanned<String>>,
    pub(super) keep_firing_for: Option<Spanned<String>>,
    pub(super) labels: Option<Texts>,
    pub(super) annotations: Option<Texts>,
}

pub(super) type Texts = BTreeMap<String, Spanned<String>>;

/// Reads one document. The error has the line where it cannot be read on.
pub(super) fn read(text: &str) -> Result<File, Problem> {
    // The snippet would break the one line that a problem is told on.
    let options = serde_saphyr::options! { with_snippet: false };
    let is_empty = text
        .lines()
        .all(|line| matches!(line.trim_start().chars().next(), None | Some('#')));
    if is_empty {
        return Ok(File::default());
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Problem {
        line: error.location().map_or(1, |at| at.line().max(1)),
        reason: explain(&error),
    })
}

/// The reason on one line, with the nearest right name for an unknown key.
fn explain(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => unknown_key(field, expected),
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key `{key}` is there twice")
        }
        other => {
            let message = UserMessageFormatter.format_message(other);
            message.lines().next().unwrap_or("not YAML").to_owned()
        }
    }
}

fn unknown_key(unknown: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (similarity(unknown, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    match nearest {
        Some((_, name)) => format!("unknown key `{unknown}`, did you mean `{name}`?"),
        None => format!("unknown key `{unknown}`, known are: {}", known.join(", ")),
    }
}

/// One letter too many, too few, wrong or misplaced is a misspelling also of a short name.
fn similarity(unknown: &str, known: &str) -> f64 {
    if strsim::damerau_levenshtein(unknown, known) <= 1 {
        return 1.0;
    }
    strsim::jaro_winkler(unknown, known)
}
