//! Templates in labels and annotations: the part of Go's language that alerting rules are written in.
//!
//! Values and results are those of Prometheus' template package, down to how Go prints a number. What is
//! left out (`query` and what follows from it, `range`, `with`, `define`, variables of one's own) is
//! refused by name when a rule file is read, so that no alert tells half a sentence.
//!
//! A template is bounded in text, nesting and output; any text can be parsed, none makes it panic.

mod exec;
mod float;
mod function;
mod humanize;
mod lex;
mod parse;
mod printf;
mod value;

#[cfg(test)]
mod tests;

pub use float::scientific;

use crate::model::Labels;
use parse::Node;

/// Longer than any sentence that tells of an alert.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Nesting of `if` and of parentheses.
const DEPTH_MAX: usize = 64;

/// What a template sees of an alert.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// The labels of the sample, the metric's name among them.
    pub labels: &'a Labels,
    pub value: f64,
    pub external_url: &'a str,
}

/// A template that was read. It can be expanded any number of times.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    text: String,
    nodes: Vec<Node>,
}

/// What is wrong with a template, or came out wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Syntax(String),
    /// A part of Go's language, or a function, that exists but not here.
    #[error("{0:?} is not supported in templates")]
    Unsupported(String),
    #[error("function {0:?} is not defined")]
    UnknownFunction(String),
    #[error("variable {0:?} is not defined")]
    UnknownVariable(String),
    #[error("{function} takes {wanted}, got {found}")]
    Arguments {
        function: &'static str,
        wanted: &'static str,
        found: usize,
    },
    /// Values of kinds that do not go together, whatever the alert: the template is wrong.
    #[error("{0}")]
    Kinds(String),
    /// This alert's values do not go through the template.
    #[error("{0}")]
    Values(String),
    #[error("the text is longer than {0} bytes")]
    TooLong(usize),
    #[error("nested deeper than {0}")]
    TooDeep(usize),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(Error::TooLong(TEMPLATE_BYTES_MAX));
        }
        let nodes = parse::parse(text)?;
        exec::check_kinds(&nodes)?;
        Ok(Self {
            text: text.to_owned(),
            nodes,
        })
    }

    /// The text that was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn expand(&self, data: Data<'_>) -> Result<String, Error> {
        exec::expand(&self.nodes, data)
    }

    /// The text that an alert gets in any case: an error stands where the text would.
    pub fn expand_or_tell(&self, data: Data<'_>) -> String {
        self.expand(data)
            .unwrap_or_else(|error| format!("<error expanding template: {error}>"))
    }
}
