//! The lines of the formats and what they say.
//!
//! ```text
//! # HELP name text          # TYPE name type          # UNIT name unit          # EOF
//! name{label="value",...} value [timestamp]           {"name","label"="value",...} value [timestamp]
//! ```

use std::borrow::Cow;
use std::str::Lines;

use super::Format;
use super::line::{Error, Fault, Line, Quoted, shown, unescape};
use crate::model::{METRIC_NAME, MetricKind, Timestamp};

/// The bits that Prometheus gives every NaN that it reads from text.
const NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    Help {
        metric: Cow<'a, str>,
        help: Cow<'a, str>,
    },
    Type {
        metric: Cow<'a, str>,
        kind: MetricKind,
    },
    Unit {
        metric: Cow<'a, str>,
        unit: &'a str,
    },
    /// A sample of the series whose labels [`Parser::with_labels`] shows.
    Sample {
        value: f64,
        timestamp: Option<Timestamp>,
    },
}

/// Reads a body entry by entry.
#[derive(Debug)]
pub struct Parser<'a> {
    format: Format,
    lines: Lines<'a>,
    line_number: usize,
    labels: Labels<'a>,
    has_ended: bool,
}

/// The labels of one sample, the metric's name among them, as they stand in the text.
#[derive(Debug, Default)]
struct Labels<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    has_escapes: bool,
}

impl<'a> Parser<'a> {
    pub fn new(format: Format, text: &'a str) -> Self {
        Self {
            format,
            lines: text.lines(),
            line_number: 0,
            labels: Labels::default(),
            has_ended: false,
        }
    }

    /// The next entry; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "a sample's labels are lent by the parser, which an iterator cannot do"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>, Error> {
        while let Some(text) = self.lines.next() {
            self.line_number += 1;
            let mut line = Line::new(self.line_number, text);
            if line.is_at_end() {
                continue;
            }
            if self.has_ended {
                return Err(line.error(Fault::AfterEnd));
            }
            let entry = if line.eat('#') {
                self.comment(line)?
            } else {
                Some(self.sample(line)?)
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
        if self.format == Format::OpenMetrics && !self.has_ended {
            return Err(Line::new(self.line_number + 1, "").error(Fault::NoEnd));
        }
        Ok(None)
    }

    /// Shows the labels of the sample that was read last, sorted by name.
    pub fn with_labels<T>(&self, look: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        if !self.labels.has_escapes {
            return look(&self.labels.pairs);
        }
        let pairs = self.labels.pairs.iter();
        let texts: Vec<_> = pairs
            .map(|(name, value)| (unescape(name, true), unescape(value, true)))
            .collect();
        let mut pairs: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        pairs.sort_unstable();
        look(&pairs)
    }

    fn comment(&mut self, mut line: Line<'a>) -> Result<Option<Entry<'a>>, Error> {
        let is_open_metrics = self.format == Format::OpenMetrics;
        line.skip_blanks();
        match line.word() {
            "HELP" => {
                let metric = described(&mut line)?;
                let help = unescape(line.skip_blanks().rest(), is_open_metrics);
                Ok(Some(Entry::Help { metric, help }))
            }
            "TYPE" => {
                let metric = described(&mut line)?;
                let kind = kind(&mut line)?;
                end(&mut line)?;
                Ok(Some(Entry::Type { metric, kind }))
            }
            "UNIT" if is_open_metrics => {
                let metric = described(&mut line)?;
                let unit = line.skip_blanks().word();
                end(&mut line)?;
                Ok(Some(Entry::Unit { metric, unit }))
            }
            "EOF" if is_open_metrics => {
                end(&mut line)?;
                self.has_ended = true;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn sample(&mut self, mut line: Line<'a>) -> Result<Entry<'a>, Error> {
        let begin = line;
        self.labels.clear();
        let metric = line.name(true);
        if !metric.is_empty() {
            self.labels.pairs.push((METRIC_NAME, metric));
        } else if !line.rest().starts_with('{') {
            return Err(line.expected("a metric's name or a brace"));
        }
        if line.skip_blanks().eat('{') {
            self.labels.read(&mut line)?;
        }
        if !self.labels.is_named() {
            return Err(begin.error(Fault::NoName));
        }
        // Client libraries write `le` and `quantile` last; the store looks sorted labels up faster.
        self.labels.pairs.sort_unstable();
        let value = value(&mut line)?;
        let timestamp = self.timestamp(&mut line)?;
        if self.format == Format::OpenMetrics && line.skip_blanks().eat('#') {
            self.exemplar(&mut line)?;
        }
        end(&mut line)?;
        Ok(Entry::Sample { value, timestamp })
    }

    fn timestamp(&self, line: &mut Line<'a>) -> Result<Option<Timestamp>, Error> {
        let begin = *line.skip_blanks();
        let text = line.word();
        if text.is_empty() || text == "#" {
            *line = begin;
            return Ok(None);
        }
        let (timestamp, unit) = match self.format {
            Format::Text => (text.parse().ok().map(Timestamp::from_ms), "milliseconds"),
            Format::OpenMetrics => {
                let seconds = number(text);
                (seconds.and_then(Timestamp::from_seconds), "seconds")
            }
        };
        timestamp.map(Some).ok_or_else(|| {
            let text = shown(text);
            begin.error(Fault::Timestamp { text, unit })
        })
    }

    /// Reads over an exemplar: labels, a value and perhaps a timestamp.
    fn exemplar(&self, line: &mut Line<'a>) -> Result<(), Error> {
        if !line.skip_blanks().eat('{') {
            return Err(line.expected("the labels of an exemplar in braces"));
        }
        let mut labels = Labels::default();
        labels.read(line)?;
        value(line)?;
        self.timestamp(line)?;
        Ok(())
    }
}

impl<'a> Labels<'a> {
    fn clear(&mut self) {
        self.pairs.clear();
        self.has_escapes = false;
    }

    fn is_named(&self) -> bool {
        let mut pairs = self.pairs.iter();
        pairs.any(|(name, value)| *name == METRIC_NAME && !value.is_empty())
    }

    /// Reads from behind the opening brace to behind the closing one.
    fn read(&mut self, line: &mut Line<'a>) -> Result<(), Error> {
        loop {
            if line.skip_blanks().eat('}') {
                return Ok(());
            }
            self.read_pair(line)?;
            if line.skip_blanks().eat(',') {
                continue;
            }
            if line.eat('}') {
                return Ok(());
            }
            return Err(line.expected("a comma or a closing brace"));
        }
    }

    /// Reads a label, or the metric's name in quotes.
    fn read_pair(&mut self, line: &mut Line<'a>) -> Result<(), Error> {
        let begin = *line;
        let quoted = line.quoted()?;
        let name = quoted.map_or_else(|| line.name(false), |quoted| quoted.raw);
        if quoted.is_none() && name.is_empty() {
            return Err(line.expected("a label's name"));
        }
        self.has_escapes |= quoted.is_some_and(|quoted| quoted.has_escapes);
        if line.skip_blanks().eat('=') {
            let Some(Quoted { raw, has_escapes }) = line.skip_blanks().quoted()? else {
                return Err(line.expected("a value in quotes"));
            };
            self.has_escapes |= has_escapes;
            self.pairs.push((name, raw));
            return Ok(());
        }
        if quoted.is_none() {
            return Err(line.expected("an equals sign"));
        }
        if self.is_named() {
            return Err(begin.error(Fault::TwoNames));
        }
        self.pairs.push((METRIC_NAME, name));
        Ok(())
    }
}

/// The metric that a comment is about.
fn described<'a>(line: &mut Line<'a>) -> Result<Cow<'a, str>, Error> {
    let begin = *line.skip_blanks();
    let metric = match line.quoted()? {
        Some(quoted) => quoted.text(),
        None => Cow::Borrowed(line.name(true)),
    };
    if metric.is_empty() {
        return Err(begin.expected("a metric's name"));
    }
    if !line.rest().is_empty() && !line.rest().starts_with([' ', '\t']) {
        return Err(line.expected("a blank"));
    }
    Ok(metric)
}

fn kind(line: &mut Line<'_>) -> Result<MetricKind, Error> {
    let begin = *line.skip_blanks();
    match line.word() {
        "counter" => Ok(MetricKind::Counter),
        "gauge" => Ok(MetricKind::Gauge),
        "histogram" => Ok(MetricKind::Histogram),
        "summary" => Ok(MetricKind::Summary),
        // Those of OpenMetrics have no name of their own here.
        "untyped" | "unknown" | "gaugehistogram" | "info" | "stateset" => Ok(MetricKind::Unknown),
        text => Err(begin.error(Fault::Kind { text: shown(text) })),
    }
}

fn value(line: &mut Line<'_>) -> Result<f64, Error> {
    let begin = *line.skip_blanks();
    let text = line.word();
    if text.is_empty() {
        return Err(begin.expected("a value"));
    }
    number(text).ok_or_else(|| begin.error(Fault::Number { text: shown(text) }))
}

fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    Some(if number.is_nan() { NAN } else { number })
}

fn end(line: &mut Line<'_>) -> Result<(), Error> {
    if line.is_at_end() {
        Ok(())
    } else {
        Err(line.expected("the end of the line"))
    }
}
