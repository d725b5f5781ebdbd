//! `prometheus.WriteRequest`, the message of remote write 1.0.
//!
//! ```text
//! WriteRequest   1 timeseries, 3 metadata
//! TimeSeries     1 labels {1 name, 2 value}, 2 samples, 3 exemplars, 4 histograms
//! MetricMetadata 1 type, 2 metric_family_name, 4 help, 5 unit
//! ```

use super::protobuf::Message;
use super::{Admission, Contents, Error, decode_kind, decode_sample};
use crate::ingest::admission::LABELS_MAX;
use crate::model::{MetricKind, MetricMetadata};

/// The number of the labels among the fields of a series.
const LABELS: u8 = 1;

pub(super) fn decode(body: &[u8], admission: &mut Admission<'_, '_>) -> Result<(), Error> {
    let mut pairs = Vec::new();
    let mut series = 0;
    let mut request = Message::new(body);
    while let Some(field) = request.next()? {
        match field.number {
            1 => {
                decode_series(field.message()?, &mut pairs, admission)
                    .map_err(|error| error.in_series(series))?;
                series += 1;
            }
            3 => decode_metadata(field.message()?, admission)?,
            _ => {}
        }
    }
    Ok(())
}

/// Walks a series twice: its labels may stand behind its samples.
fn decode_series<'a>(
    series: Message<'a>,
    pairs: &mut Vec<(&'a str, &'a str)>,
    admission: &mut Admission<'_, '_>,
) -> Result<(), Error> {
    pairs.clear();
    let after_labels = series.leading_pairs(LABELS, LABELS_MAX, pairs);
    let mut contents = Contents::default();
    let mut fields = after_labels;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => {
                let pair = decode_label(field.message()?)?;
                // One more than may be, so that it is seen.
                if pairs.len() <= LABELS_MAX {
                    pairs.push(pair);
                }
            }
            2 => contents.samples += 1,
            4 => contents.histograms += 1,
            _ => {}
        }
    }
    if contents.samples > 0 {
        admission.series(pairs);
        let mut fields = after_labels;
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                admission.push(decode_sample(field.message()?)?)?;
            }
        }
    }
    if contents.histograms > 0 {
        admission.histograms(pairs, contents.histograms);
    }
    Ok(())
}

fn decode_label(mut label: Message<'_>) -> Result<(&str, &str), Error> {
    let mut pair = ("", "");
    while let Some(field) = label.next()? {
        match field.number {
            1 => pair.0 = field.message()?.text()?,
            2 => pair.1 = field.message()?.text()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn decode_metadata(
    mut message: Message<'_>,
    admission: &mut Admission<'_, '_>,
) -> Result<(), Error> {
    let (mut metric, mut help, mut unit) = ("", "", "");
    let mut kind = MetricKind::Unknown;
    while let Some(field) = message.next()? {
        match field.number {
            1 => kind = decode_kind(field)?,
            2 => metric = field.message()?.text()?,
            4 => help = field.message()?.text()?,
            5 => unit = field.message()?.text()?,
            _ => {}
        }
    }
    if metric.is_empty() {
        return Ok(());
    }
    let metadata = MetricMetadata {
        kind,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    Ok(admission.metadata(metric, metadata)?)
}
