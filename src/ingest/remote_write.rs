//! Prometheus' remote write, versions 1.0 and 2.0: a decompressed body to series for the store.
//!
//! The hot path of the product. A body is walked where it stands: names and values are borrowed from
//! it, one list of pairs is used for all series, and a series that the store knows costs no
//! allocation. A body that is malformed anywhere is refused as a whole; the caller then drops the
//! append, and nothing is stored. Native histograms are refused by name; exemplars are passed over.

pub(crate) mod protobuf;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use self::protobuf::{Field, Message};
use super::admission::{Admission, Exceeded};
use crate::model::{MetricKind, Sample, Timestamp};

/// The message that a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("malformed protobuf at byte {at}{}: {fault}", in_series(*series))]
    Malformed {
        /// Counted from 0 in the decompressed body.
        at: usize,
        /// Counted from 0 in the request.
        series: Option<usize>,
        fault: Fault,
    },
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// What is wrong at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it is cut off")]
    CutOff,
    #[error("a length of {length} goes beyond the end")]
    Length { length: u64 },
    #[error("a number has more than 64 bits")]
    LongNumber,
    #[error("a field has no valid number")]
    FieldNumber,
    #[error("a field has wire type {kind}, which it cannot have")]
    WireType { kind: u8 },
    #[error("text is not UTF-8")]
    Utf8,
    #[error("reference {reference} into a table of {symbols} symbols")]
    Reference { reference: u64, symbols: usize },
    #[error("a label name without a value in labels_refs")]
    OddReferences,
}

impl Error {
    fn at(at: usize, fault: Fault) -> Self {
        Self::Malformed {
            at,
            series: None,
            fault,
        }
    }

    /// The same with the number of its series.
    fn in_series(self, number: usize) -> Self {
        match self {
            Self::Malformed { at, fault, .. } => Self::Malformed {
                at,
                series: Some(number),
                fault,
            },
            limit @ Self::Limit(_) => limit,
        }
    }
}

fn in_series(series: Option<usize>) -> String {
    series.map_or_else(String::new, |number| format!(" in series {number}"))
}

/// Passes every series of a body to the store.
///
/// After an error what was passed on is to be dropped.
pub fn decode(
    version: Version,
    body: &[u8],
    admission: &mut Admission<'_, '_>,
) -> Result<(), Error> {
    match version {
        Version::V1 => v1::decode(body, admission),
        Version::V2 => v2::decode(body, admission),
    }
}

/// A sample, which both versions write alike: value in field 1, milliseconds in field 2.
#[inline]
fn decode_sample(mut message: Message<'_>) -> Result<Sample, Error> {
    if let Some((value, timestamp_ms)) = message.double_and_number() {
        return Ok(Sample::new(Timestamp::from_ms(timestamp_ms as i64), value));
    }
    let mut sample = Sample::new(Timestamp::EPOCH, 0.0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp = Timestamp::from_ms(field.number()? as i64),
            _ => {}
        }
    }
    Ok(sample)
}

/// The type of a metric, numbered alike in both versions.
fn decode_kind(field: Field<'_>) -> Result<MetricKind, Error> {
    Ok(match field.number()? {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        5 => MetricKind::Summary,
        // Gauge histograms, infos and state sets have no name of their own here.
        _ => MetricKind::Unknown,
    })
}

/// What a series holds besides its labels; the first walk over it counts.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    samples: usize,
    histograms: u64,
}
