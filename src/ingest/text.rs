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
    let mut parser = Parser::new(format, line::text_of(body)?);
    let mut described = BTreeMap::new();
    while let Some(entry) = parser.next()? {
        match entry {
            Entry::Sample { value, timestamp } => {
                parser.with_labels(|pairs| admission.series(pairs));
                let sample = Sample::new(timestamp.unwrap_or(received), value);
                admission.push(sample)?;
            }
            Entry::Type { metric, kind } => describe(&mut described, metric).kind = kind,
            Entry::Help { metric, help } => {
                describe(&mut described, metric).help = help.into_owned();
            }
            Entry::Unit { metric, unit } => {
                unit.clone_into(&mut describe(&mut described, metric).unit);
            }
        }
    }
    for (metric, metadata) in described {
        admission.metadata(&metric, metadata)?;
    }
    Ok(())
}

/// What is known so far of a metric: its lines may stand apart.
fn describe<'a, 'm>(
    described: &'m mut BTreeMap<Cow<'a, str>, MetricMetadata>,
    metric: Cow<'a, str>,
) -> &'m mut MetricMetadata {
    described.entry(metric).or_insert_with(|| MetricMetadata {
        kind: MetricKind::Unknown,
        help: String::new(),
        unit: String::new(),
    })
}
