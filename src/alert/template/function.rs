//! The functions of templates: which there are, how many arguments they take, what they answer.

use std::borrow::Cow;

use regex::Regex;

use super::value::Value;
use super::{Error, humanize, printf};

/// A function that templates can call; `and` and `or` are told apart for they leave arguments unevaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Index,
    Printf,
    Humanize,
    Humanize1024,
    HumanizeDuration,
    HumanizePercentage,
    HumanizeTimestamp,
    Title,
    ToUpper,
    ToLower,
    ReReplaceAll,
    Match,
    ExternalUrl,
}

/// How many arguments a function takes.
struct Arity {
    least: usize,
    most: usize,
    words: &'static str,
}

const fn arity(least: usize, most: usize, words: &'static str) -> Arity {
    Arity { least, most, words }
}

const FUNCTIONS: [(&str, Function, Arity); 22] = [
    (
        "and",
        Function::And,
        arity(1, usize::MAX, "at least 1 argument"),
    ),
    (
        "or",
        Function::Or,
        arity(1, usize::MAX, "at least 1 argument"),
    ),
    ("not", Function::Not, arity(1, 1, "1 argument")),
    (
        "eq",
        Function::Eq,
        arity(2, usize::MAX, "at least 2 arguments"),
    ),
    ("ne", Function::Ne, arity(2, 2, "2 arguments")),
    ("lt", Function::Lt, arity(2, 2, "2 arguments")),
    ("le", Function::Le, arity(2, 2, "2 arguments")),
    ("gt", Function::Gt, arity(2, 2, "2 arguments")),
    ("ge", Function::Ge, arity(2, 2, "2 arguments")),
    (
        "index",
        Function::Index,
        arity(2, 2, "labels and the name of one"),
    ),
    (
        "printf",
        Function::Printf,
        arity(1, usize::MAX, "a format and values"),
    ),
    ("humanize", Function::Humanize, arity(1, 1, "1 argument")),
    (
        "humanize1024",
        Function::Humanize1024,
        arity(1, 1, "1 argument"),
    ),
    (
        "humanizeDuration",
        Function::HumanizeDuration,
        arity(1, 1, "1 argument"),
    ),
    (
        "humanizePercentage",
        Function::HumanizePercentage,
        arity(1, 1, "1 argument"),
    ),
    (
        "humanizeTimestamp",
        Function::HumanizeTimestamp,
        arity(1, 1, "1 argument"),
    ),
    ("title", Function::Title, arity(1, 1, "1 argument")),
    ("toUpper", Function::ToUpper, arity(1, 1, "1 argument")),
    ("toLower", Function::ToLower, arity(1, 1, "1 argument")),
    (
        "reReplaceAll",
        Function::ReReplaceAll,
        arity(3, 3, "a pattern, a replacement and a text"),
    ),
    (
        "match",
        Function::Match,
        arity(2, 2, "a pattern and a text"),
    ),
    (
        "externalURL",
        Function::ExternalUrl,
        arity(0, 0, "no arguments"),
    ),
];

/// What Go and Prometheus have beyond that: refused by name.
const UNSUPPORTED: [&str; 38] = [
    "range",
    "with",
    "template",
    "define",
    "block",
    "break",
    "continue",
    "nil",
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "args",
    "sortByLabel",
    "tmpl",
    "safeHtml",
    "graphLink",
    "tableLink",
    "pathPrefix",
    "stripPort",
    "stripDomain",
    "toTime",
    "toDuration",
    "parseDuration",
    "now",
    "urlQueryEscape",
    "print",
    "println",
    "html",
    "js",
    "urlquery",
    "len",
    "slice",
    "call",
    "externalLabels",
    "toJson",
    "roundDuration",
];

impl Function {
    pub(super) fn find(name: &str) -> Result<Self, Error> {
        if let Some((_, function, _)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            return Ok(*function);
        }
        if UNSUPPORTED.contains(&name) {
            return Err(Error::Unsupported(name.to_owned()));
        }
        Err(Error::UnknownFunction(name.to_owned()))
    }

    /// Refuses a number of arguments that it does not take.
    pub(super) fn check_arity(self, found: usize) -> Result<(), Error> {
        let (name, arity) = FUNCTIONS
            .iter()
            .find(|(_, function, _)| *function == self)
            .map(|(name, _, arity)| (*name, arity))
            .expect("every function is in the table");
        if (arity.least..=arity.most).contains(&found) {
            return Ok(());
        }
        Err(Error::Arguments {
            function: name,
            wanted: arity.words,
            found,
        })
    }

    /// Calls it with as many arguments as it takes.
    pub(super) fn call<'a>(
        self,
        args: &[Value<'a>],
        external_url: &'a str,
    ) -> Result<Value<'a>, Error> {
        let text = |text: String| Value::Text(Cow::Owned(text));
        Ok(match (self, args) {
            (Self::And, args) => pick(args, |value| !value.is_true()),
            (Self::Or, args) => pick(args, Value::is_true),
            (Self::Not, [value]) => Value::Bool(!value.is_true()),
            (Self::Eq, [left, others @ ..]) => {
                let mut found = false;
                for other in others {
                    if equal(left, other)? {
                        found = true;
                        break;
                    }
                }
                Value::Bool(found)
            }
            (Self::Ne, [left, right]) => Value::Bool(!equal(left, right)?),
            (Self::Lt, [left, right]) => Value::Bool(less(left, right)?),
            (Self::Le, [left, right]) => Value::Bool(less(left, right)? || equal(left, right)?),
            // Not "greater": with a NaN both are true, as in Go.
            (Self::Gt, [left, right]) => Value::Bool(!(less(left, right)? || equal(left, right)?)),
            (Self::Ge, [left, right]) => Value::Bool(!less(left, right)?),
            (Self::Index, [Value::Labels(labels), name]) => {
                text(labels.value(text_of(name)?).to_owned())
            }
            (Self::Index, [other, _]) => {
                return Err(Error::Kinds(format!(
                    "index takes labels, not a {}",
                    other.kind()
                )));
            }
            (Self::Printf, [format, values @ ..]) => {
                text(printf::sprintf(text_of(format)?, values)?)
            }
            (Self::Humanize, [value]) => text(humanize::number(number_of(value)?)),
            (Self::Humanize1024, [value]) => text(humanize::binary(number_of(value)?)),
            (Self::HumanizeDuration, [value]) => text(humanize::duration(number_of(value)?)),
            (Self::HumanizePercentage, [value]) => text(humanize::percentage(number_of(value)?)),
            (Self::HumanizeTimestamp, [value]) => text(humanize::timestamp(number_of(value)?)?),
            (Self::Title, [value]) => text(title(text_of(value)?)),
            (Self::ToUpper, [value]) => text(text_of(value)?.to_uppercase()),
            (Self::ToLower, [value]) => text(text_of(value)?.to_lowercase()),
            (Self::ReReplaceAll, [pattern, replacement, value]) => {
                let replacement = text_of(replacement)?;
                let replaced = regex(pattern)?.replace_all(text_of(value)?, replacement);
                text(replaced.into_owned())
            }
            (Self::Match, [pattern, value]) => {
                Value::Bool(regex(pattern)?.is_match(text_of(value)?))
            }
            (Self::ExternalUrl, _) => Value::Text(Cow::Borrowed(external_url)),
            (_, args) => {
                self.check_arity(args.len())?;
                unreachable!("every number of arguments that is taken is handled above")
            }
        })
    }
}

/// The first argument that decides, else the last.
fn pick<'a>(args: &[Value<'a>], decides: impl Fn(&Value<'a>) -> bool) -> Value<'a> {
    let first = args.iter().find(|value| decides(value));
    let picked = first.or(args.last());
    picked.cloned().unwrap_or(Value::Bool(false))
}

fn incomparable(left: &Value<'_>, right: &Value<'_>) -> Error {
    let hint = match (left, right) {
        (Value::Float(_), Value::Int(_)) | (Value::Int(_), Value::Float(_)) => {
            "; a value is a float, so write 10.0 instead of 10"
        }
        _ => "",
    };
    let (left, right) = (left.kind(), right.kind());
    Error::Kinds(format!(
        "incompatible types for comparison: {left} and {right}{hint}"
    ))
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Error> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(left == right),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        _ => Err(incomparable(left, right)),
    }
}

fn less(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Error> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(left < right),
        (Value::Int(left), Value::Int(right)) => Ok(left < right),
        (Value::Float(left), Value::Float(right)) => Ok(left < right),
        _ => Err(incomparable(left, right)),
    }
}

fn text_of<'v>(value: &'v Value<'_>) -> Result<&'v str, Error> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(Error::Kinds(format!(
            "expected a string, found a {}",
            other.kind()
        ))),
    }
}

/// A number, also one that a label spells.
fn number_of(value: &Value<'_>) -> Result<f64, Error> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Text(text) => text.parse().map_err(|_error: std::num::ParseFloatError| {
            Error::Values(format!("{text:?} is not a number"))
        }),
        other => Err(Error::Kinds(format!(
            "expected a number, found a {}",
            other.kind()
        ))),
    }
}

fn regex(pattern: &Value<'_>) -> Result<Regex, Error> {
    let pattern = text_of(pattern)?;
    Regex::new(pattern).map_err(|error| Error::Syntax(format!("bad pattern {pattern:?}: {error}")))
}

/// The first letter of each word large.
fn title(text: &str) -> String {
    let mut within = false;
    let mut titled = String::with_capacity(text.len());
    for character in text.chars() {
        if within {
            titled.push(character);
        } else {
            titled.extend(character.to_uppercase());
        }
        within = character.is_alphanumeric() || matches!(character, '_' | '\'' | '\u{2019}');
    }
    titled
}
