//! `io.prometheus.write.v2.Request`, the message of remote write 2.0.
//!
//! ```text
//! Request    4 symbols, 5 timeseries
//! TimeSeries 1 labels_refs (packed), 2 samples, 3 histograms, 4 exemplars, 5 metadata,
//!            6 created_timestamp
//! Metadata   1 type, 3 help_ref, 4 unit_ref
//! ```
//!
//! Every text stands once in the table of symbols; the rest refers to it by number, where 0 is the
//! empty text.

use std::collections::HashMap;

use super::protobuf::{Field, Message};
use super::{Admission, Contents, Error, Fault, decode_kind, decode_sample};
use crate::ingest::admission::{Exceeded, LABELS_MAX};
use crate::model::{METRIC_NAME, MetricKind, MetricMetadata};

/// Texts of one request.
const SYMBOLS_MAX: usize = 1 << 20;

pub(super) fn decode(body: &[u8], admission: &mut Admission<'_, '_>) -> Result<(), Error> {
    let mut decoder = Decoder {
        symbols: Symbols::decode(body)?,
        pairs: Vec::new(),
        metadata: HashMap::new(),
        admission,
    };
    let mut series = 0;
    let mut request = Message::new(body);
    while let Some(field) = request.next()? {
        if field.number == 5 {
            let message = field.message()?;
            let decoded = decoder.decode_series(message);
            decoded.map_err(|error| error.in_series(series))?;
            series += 1;
        }
    }
    Ok(())
}

/// The texts of a request by their numbers.
struct Symbols<'a>(Vec<&'a str>);

impl<'a> Symbols<'a> {
    /// Walks the whole request: the table may stand behind what refers to it.
    fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut symbols = Vec::new();
        let mut request = Message::new(body);
        while let Some(field) = request.next()? {
            if field.number == 4 {
                if symbols.len() == SYMBOLS_MAX {
                    let symbols_max = SYMBOLS_MAX;
                    return Err(Exceeded::Symbols { symbols_max }.into());
                }
                symbols.push(field.message()?.text()?);
            }
        }
        Ok(Self(symbols))
    }

    #[inline]
    fn get(&self, reference: u64, at: usize) -> Result<&'a str, Error> {
        let found = usize::try_from(reference)
            .ok()
            .and_then(|number| self.0.get(number));
        found.copied().ok_or_else(|| {
            let symbols = self.0.len();
            Error::at(at, Fault::Reference { reference, symbols })
        })
    }

    /// What may be left out: 0 is nothing, whatever the table begins with.
    fn get_optional(&self, reference: u64, at: usize) -> Result<&'a str, Error> {
        if reference == 0 {
            return Ok("");
        }
        self.get(reference, at)
    }
}

/// What is said of a metric, repeated with each of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Metadata<'a> {
    kind: MetricKind,
    help: &'a str,
    unit: &'a str,
}

struct Decoder<'a, 'r, 'b, 'f> {
    symbols: Symbols<'a>,
    /// The labels of the series at hand.
    pairs: Vec<(&'a str, &'a str)>,
    /// What was passed on of each metric.
    metadata: HashMap<&'a str, Metadata<'a>>,
    admission: &'r mut Admission<'b, 'f>,
}

impl<'a> Decoder<'a, '_, '_, '_> {
    /// Walks a series twice: its labels may stand behind its samples.
    fn decode_series(&mut self, series: Message<'a>) -> Result<(), Error> {
        self.pairs.clear();
        let mut name = None;
        let mut contents = Contents::default();
        let mut metadata = None;
        let mut fields = series;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => self.decode_references(field, &mut name)?,
                2 => contents.samples += 1,
                3 => contents.histograms += 1,
                5 => metadata = Some(self.decode_metadata(field.message()?)?),
                _ => {}
            }
        }
        if name.is_some() {
            return Err(Error::at(series.at(), Fault::OddReferences));
        }
        if contents.samples > 0 {
            self.admission.series(&self.pairs);
            let mut fields = series;
            while let Some(field) = fields.next()? {
                if field.number == 2 {
                    self.admission.push(decode_sample(field.message()?)?)?;
                }
            }
        }
        if contents.histograms > 0 {
            self.admission.histograms(&self.pairs, contents.histograms);
        }
        match metadata {
            Some(metadata) => self.describe(metadata),
            None => Ok(()),
        }
    }

    /// `name` is the name whose value comes next.
    #[inline]
    fn decode_references(
        &mut self,
        field: Field<'a>,
        name: &mut Option<&'a str>,
    ) -> Result<(), Error> {
        if !field.is_packed() {
            return self.refer(field.number()?, field.at, name);
        }
        let mut references = field.message()?;
        let mut at = references.at();
        while let Some(reference) = references.next_packed()? {
            self.refer(reference, at, name)?;
            at = references.at();
        }
        Ok(())
    }

    #[inline]
    fn refer(
        &mut self,
        reference: u64,
        at: usize,
        name: &mut Option<&'a str>,
    ) -> Result<(), Error> {
        let text = self.symbols.get(reference, at)?;
        match name.take() {
            None => *name = Some(text),
            // One more than may be, so that it is seen.
            Some(name) if self.pairs.len() <= LABELS_MAX => self.pairs.push((name, text)),
            Some(_) => {}
        }
        Ok(())
    }

    fn decode_metadata(&self, mut message: Message<'a>) -> Result<Metadata<'a>, Error> {
        let mut metadata = Metadata {
            kind: MetricKind::Unknown,
            help: "",
            unit: "",
        };
        while let Some(field) = message.next()? {
            match field.number {
                1 => metadata.kind = decode_kind(field)?,
                3 => metadata.help = self.symbols.get_optional(field.number()?, field.at)?,
                4 => metadata.unit = self.symbols.get_optional(field.number()?, field.at)?,
                _ => {}
            }
        }
        Ok(metadata)
    }

    /// Passes on what was not said of the metric before.
    fn describe(&mut self, metadata: Metadata<'a>) -> Result<(), Error> {
        let nothing = Metadata {
            kind: MetricKind::Unknown,
            help: "",
            unit: "",
        };
        let named = self.pairs.iter().find(|(name, _)| *name == METRIC_NAME);
        let Some(&(_, metric)) = named.filter(|(_, metric)| !metric.is_empty()) else {
            return Ok(());
        };
        if metadata == nothing || self.metadata.get(metric) == Some(&metadata) {
            return Ok(());
        }
        self.metadata.insert(metric, metadata);
        let metadata = MetricMetadata {
            kind: metadata.kind,
            help: metadata.help.to_owned(),
            unit: metadata.unit.to_owned(),
        };
        Ok(self.admission.metadata(metric, metadata)?)
    }
}
