//! Conditions on an alert's labels, as people write them: `severity=~"critical|warning"`.
//!
//! The same text is taken in the configuration, on the command line and in the store. A label that is
//! not there counts as the empty value, and a regular expression has to match the whole value.

use std::error::Error as _;

use serde::{Deserialize, Serialize};

use crate::alert::Pairs;
use crate::model::matcher::BadRegex;
use crate::model::{MatchOp, Matcher};

/// Conditions that all have to hold; without any, everything passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Matchers(Vec<Matcher>);

/// A text that is not a condition on a label.
#[derive(Debug, thiserror::Error)]
pub enum BadMatcher {
    #[error(
        "{text:?} is not a matcher: {reason}; write it as name=value, name!=value, name=~regex or name!~regex"
    )]
    Syntax { text: String, reason: &'static str },
    #[error("{text:?} has a regular expression that is none: {reason}")]
    Regex { text: String, reason: String },
}

/// The longer signs first: `=~` begins with `=`.
const SIGNS: [(&str, MatchOp); 4] = [
    ("=~", MatchOp::Regex),
    ("!~", MatchOp::NotRegex),
    ("!=", MatchOp::NotEqual),
    ("=", MatchOp::Equal),
];

/// Reads one condition. Quotes around the value may be left out, so that a shell needs none.
pub fn parse(text: &str) -> Result<Matcher, BadMatcher> {
    let wrong = |reason| BadMatcher::Syntax {
        text: text.to_owned(),
        reason,
    };
    let trimmed = text.trim();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let (name, rest) = trimmed.split_at(trimmed.bytes().take_while(is_name).count());
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(wrong("it does not begin with a label's name"));
    }
    let rest = rest.trim_start();
    let (op, value) = SIGNS
        .iter()
        .find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?.trim_start())))
        .ok_or_else(|| wrong("the name is not followed by =, !=, =~ or !~"))?;
    let value = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(quoted) => unquote(quoted).ok_or_else(|| wrong("its quotes do not fit"))?,
    };
    Matcher::new(name, op, value).map_err(|error| BadMatcher::Regex {
        text: text.to_owned(),
        reason: why(&error),
    })
}

/// What the expression's own error says; its last line, for the ones before draw an arrow.
fn why(error: &BadRegex) -> String {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let last = cause.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// The text up to the quote that ends it, which has to be the last character.
fn unquote(quoted: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return characters.next().is_none().then_some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\') => value.push(escaped),
                // `\d` and its kin are for the regular expression.
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// A condition so that [`parse`] reads the same.
pub fn format(matcher: &Matcher) -> String {
    let sign = SIGNS
        .iter()
        .find(|(_, op)| *op == matcher.op)
        .map_or("=", |(sign, _)| sign);
    let escaped = matcher
        .value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    format!("{}{sign}\"{escaped}\"", matcher.name)
}

impl Matchers {
    pub fn new(matchers: Vec<Matcher>) -> Self {
        Self(matchers)
    }

    pub fn matches(&self, labels: &Pairs) -> bool {
        self.0.iter().all(|matcher| {
            let value = labels.get(&matcher.name).map_or("", String::as_str);
            matcher.matches(value)
        })
    }

    /// Whether an alert without labels passes, as every alert then does or nearly so.
    pub fn matches_empty(&self) -> bool {
        self.0.iter().all(Matcher::matches_empty)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Matcher> {
        self.0.iter()
    }

    /// All of them in one line, for people.
    pub fn text(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(format).collect();
        texts.join(", ")
    }
}

impl TryFrom<Vec<String>> for Matchers {
    type Error = BadMatcher;

    fn try_from(texts: Vec<String>) -> Result<Self, BadMatcher> {
        let matchers = texts.iter().map(|text| parse(text));
        Ok(Self(matchers.collect::<Result<_, _>>()?))
    }
}

impl From<Matchers> for Vec<String> {
    fn from(matchers: Matchers) -> Self {
        matchers.0.iter().map(format).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Pairs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn matchers(texts: &[&str]) -> Matchers {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Matchers::try_from(texts).unwrap()
    }

    #[test]
    fn all_four_signs_are_read_with_and_without_quotes() {
        for (text, name, op, value) in [
            ("a=b", "a", MatchOp::Equal, "b"),
            ("a!=b", "a", MatchOp::NotEqual, "b"),
            ("a=~b|c", "a", MatchOp::Regex, "b|c"),
            (" a !~ \"b.*\" ", "a", MatchOp::NotRegex, "b.*"),
            ("a=", "a", MatchOp::Equal, ""),
            (r#"a="x\"y\\z""#, "a", MatchOp::Equal, r#"x"y\z"#),
            (r#"a=~"\d+""#, "a", MatchOp::Regex, r"\d+"),
            ("a=b=c", "a", MatchOp::Equal, "b=c"),
        ] {
            let matcher = parse(text).unwrap();
            let read = (matcher.name.as_str(), matcher.op, matcher.value.as_str());
            assert_eq!(read, (name, op, value), "{text}");
        }
    }

    #[test]
    fn what_is_no_matcher_says_why() {
        for (text, reason) in [
            ("", "does not begin with a label's name"),
            ("=b", "does not begin with a label's name"),
            ("1a=b", "does not begin with a label's name"),
            ("a", "not followed by ="),
            ("a b", "not followed by ="),
            ("a=\"b", "quotes do not fit"),
            ("a=\"b\"c", "quotes do not fit"),
            ("a=~(", "unclosed group"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn all_have_to_hold_and_an_absent_label_is_empty() {
        let alert = labels(&[("severity", "warning"), ("job", "a")]);
        assert!(matchers(&["severity=~warning|info", "job!=b"]).matches(&alert));
        assert!(!matchers(&["severity=warning", "job=b"]).matches(&alert));
        assert!(matchers(&["table="]).matches(&alert));
        assert!(matchers(&[]).matches(&alert));
        assert!(matchers(&["a=~.*", "b!=x"]).matches_empty());
        assert!(!matchers(&["a=~.+", "b!=x"]).matches_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,30}") {
            let _read = parse(&text);
        }

        #[test]
        fn what_is_written_reads_the_same(value in "[ab\"\\\\\n\t=~.]{0,8}") {
            let matcher = Matcher::equal("name", value);
            prop_assert_eq!(parse(&format(&matcher)).unwrap(), matcher);
        }
    }
}
