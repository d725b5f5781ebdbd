//! Prometheus' text formats, 0.0.4 and OpenMetrics 1.0: a body to series for the store.
//!
//! [`Parser`] reads line by line and hands out pieces borrowed from the body; [`decode`] passes them on
//! to the store. A syntax error anywhere refuses the whole body, with its line and column; the caller
//! then drops the append, and nothing is stored. Exemplars are read and passed over. The parser is a
//! little more generous than the formats: about blanks, empty lines, line ends with a carriage return
//! and a last line without an end.

mod line;
mod parse;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) use self::line::text_of;
pub use self::line::{Error, Fault};
pub use self::parse::{Entry, Parser};
use super::admission::{Admission, Exceeded};
use crate::model::{MetricKind, MetricMetadata, Sample, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4: timestamps in milliseconds.
    Text,
    /// OpenMetrics 1.0: timestamps in seconds, `# UNIT`, exemplars, and `# EOF` at the end.
    OpenMetrics,
}

/// Why nothing of a body is taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Syntax(#[from] Error),
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// Passes every sample of a body to the store; those without a time get that of the receipt.
///
/// After an error what was passed on is to be dropped.
pub fn decode(
    format: Format,
    body: &[u8],
    received: Timestamp,
    admission: &mut Admission<'_, '_>,
) -> Result<(), Refused> {
    let mut parser = Parser::new(format, text_of(body)?);
    let mut metadata = Metadata::default();
    while let Some(entry) = parser.next()? {
        if let Entry::Sample { value, timestamp } = entry {
            parser.with_labels(|pairs| admission.series(pairs));
            let sample = Sample::new(timestamp.unwrap_or(received), value);
            admission.push(sample)?;
        } else {
            metadata.take(entry);
        }
    }
    Ok(metadata.describe(admission)?)
}

/// What a body says of its metrics so far: the lines of one metric may stand apart.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a>(BTreeMap<Cow<'a, str>, MetricMetadata>);

impl<'a> Metadata<'a> {
    /// Takes what an entry says of a metric, if it does.
    pub(super) fn take(&mut self, entry: Entry<'a>) {
        match entry {
            Entry::Sample { .. } => {}
            Entry::Type { metric, kind } => self.of(metric).kind = kind,
            Entry::Help { metric, help } => self.of(metric).help = help.into_owned(),
            Entry::Unit { metric, unit } => unit.clone_into(&mut self.of(metric).unit),
        }
    }

    fn of(&mut self, metric: Cow<'a, str>) -> &mut MetricMetadata {
        self.0.entry(metric).or_insert_with(|| MetricMetadata {
            kind: MetricKind::Unknown,
            help: String::new(),
            unit: String::new(),
        })
    }

    /// Passes all of it on.
    pub(super) fn describe(self, admission: &mut Admission<'_, '_>) -> Result<(), Exceeded> {
        for (metric, metadata) in self.0 {
            admission.metadata(&metric, metadata)?;
        }
        Ok(())
    }
}
