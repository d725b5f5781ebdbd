//! Label matchers: what a selector asks of one label.

use std::fmt;

use regex::Regex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

/// One condition on one label. An absent label counts as the empty value, and a regular expression
/// has to match the whole value, as in Prometheus.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    /// Anchored at both ends; present exactly for the two regex operators.
    regex: Option<Regex>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("bad regular expression for label {name:?}")]
pub struct BadRegex {
    name: String,
    #[source]
    source: regex::Error,
}

impl Matcher {
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Self, BadRegex> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            // (?s): Prometheus lets `.` match a line break.
            MatchOp::Regex | MatchOp::NotRegex => Some(
                Regex::new(&format!("^(?s:{value})$")).map_err(|source| BadRegex {
                    name: name.clone(),
                    source,
                })?,
            ),
        };
        Ok(Self {
            name,
            op,
            value,
            regex,
        })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: MatchOp::Equal,
            value: value.into(),
            regex: None,
        }
    }

    pub fn matches(&self, value: &str) -> bool {
        match (&self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => {
                unreachable!("a regex matcher is made with its regex")
            }
        }
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

/// Two matchers are equal when they ask the same; the compiled expression follows from that.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write!(formatter, "{}{op}{:?}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_the_whole_value() {
        let matcher = Matcher::new("job", MatchOp::Regex, "a|b").unwrap();
        assert!(matcher.matches("a") && matcher.matches("b"));
        assert!(!matcher.matches("ab") && !matcher.matches_empty());
    }

    #[test]
    fn an_absent_label_is_the_empty_value() {
        assert!(
            Matcher::new("job", MatchOp::NotEqual, "a")
                .unwrap()
                .matches_empty()
        );
        assert!(
            Matcher::new("job", MatchOp::Regex, ".*")
                .unwrap()
                .matches_empty()
        );
        assert!(
            !Matcher::new("job", MatchOp::NotRegex, "|a")
                .unwrap()
                .matches_empty()
        );
    }

    #[test]
    fn a_bad_expression_names_the_label() {
        let error = Matcher::new("job", MatchOp::Regex, "(").unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad regular expression for label \"job\""
        );
    }
}
