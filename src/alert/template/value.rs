//! The values that templates work with, and how Go prints and judges them.

use std::borrow::Cow;

use super::float;
use crate::model::Labels;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Labels(Cow<'a, Labels>),
}

impl Value<'_> {
    /// The name of the type in Go, which shows in what `printf` makes of a wrong verb.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Bool(_) => "bool",
            Self::Labels(_) => "map[string]string",
        }
    }

    /// What `if` goes by: everything but false, zero and what is empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Bool(bool) => *bool,
            Self::Labels(labels) => !labels.is_empty(),
        }
    }

    /// The value as an action prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Int(int) => int.to_string(),
            Self::Float(float) => float::format(*float, 'g', None),
            Self::Bool(bool) => bool.to_string(),
            Self::Labels(labels) => {
                let pairs = labels.iter();
                let pairs: Vec<_> = pairs
                    .map(|label| format!("{}:{}", label.name, label.value))
                    .collect();
                format!("map[{}]", pairs.join(" "))
            }
        }
    }
}
