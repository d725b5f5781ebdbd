//! What of a decoded request is passed on to the store, and what is refused, whichever way it came.
//!
//! A series that breaks a rule is refused alone and named; the rest of the request is stored. The rules
//! are those of Prometheus 3: a metric's name and all label names are any text but the empty one, each
//! label occurs once, the order does not matter. What a request may hold in all is limited, since a
//! short body can spell out many small things.

use std::fmt;

use crate::model::{METRIC_NAME, MetricMetadata, Sample, label};
use crate::store::Fill;

/// Samples and descriptions of metrics in one request.
pub const ITEMS_MAX: usize = 1 << 20;
/// Labels of one series.
pub const LABELS_MAX: usize = 512;
/// Bytes of the names and values of one series, and of what describes one metric.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// How much of a series' labels is shown in a message.
const SHOWN_CHARS_MAX: usize = 500;

/// A limit of a whole request: nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("more than {ITEMS_MAX} samples and metadata in one request: send fewer at once")]
    Items,
    #[error("more than {symbols_max} symbols in one request: send fewer series at once")]
    Symbols { symbols_max: usize },
}

/// Why what is said of one series or metric is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("there is no metric name (label {METRIC_NAME})")]
    NoMetricName,
    #[error(transparent)]
    Labels(#[from] label::Error),
    #[error("it has more than {LABELS_MAX} labels")]
    TooManyLabels,
    #[error("its labels have more than {TEXT_BYTES_MAX} bytes")]
    LabelsTooLong,
    #[error("native histograms are not stored")]
    NativeHistogram,
    #[error("its metadata have more than {TEXT_BYTES_MAX} bytes")]
    MetadataTooLong,
}

impl Reason {
    /// Its name as a label of our own metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoMetricName => "no_metric_name",
            Self::Labels(label::Error::Duplicate { .. }) => "duplicate_label",
            Self::Labels(label::Error::EmptyName) => "empty_label_name",
            Self::TooManyLabels => "too_many_labels",
            Self::LabelsTooLong => "labels_too_long",
            Self::NativeHistogram => "native_histogram",
            Self::MetadataTooLong => "metadata_too_long",
        }
    }
}

/// The first of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct Refusal {
    /// The series as it was sent, or the metric.
    pub subject: String,
    pub reason: Reason,
}

/// What was refused before it came to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub samples: u64,
    pub first: Option<Refusal>,
    /// Samples by the name of the reason.
    pub by_reason: Vec<(&'static str, u64)>,
}

/// Lets the series of one request through to the store.
#[derive(Debug)]
pub struct Admission<'a, 'f> {
    fill: &'a mut Fill<'f>,
    items: usize,
    refused: Refused,
    current: Current,
}

/// The series that was last gone to.
#[derive(Clone, Copy, Debug)]
enum Current {
    Admitted,
    /// With the name of the reason.
    Refused(&'static str),
}

impl<'a, 'f> Admission<'a, 'f> {
    pub fn new(fill: &'a mut Fill<'f>) -> Self {
        Self {
            fill,
            items: 0,
            refused: Refused::default(),
            current: Current::Admitted,
        }
    }

    /// What was refused in all.
    pub fn finish(self) -> Refused {
        self.refused
    }

    /// Goes to a series: what is pushed next is its samples, stored or refused with it.
    pub fn series(&mut self, pairs: &[(&str, &str)]) {
        let admitted = check(pairs).and_then(|()| Ok(self.fill.series(pairs)?));
        self.current = match admitted {
            Ok(()) => Current::Admitted,
            Err(reason) => {
                let name = reason.name();
                self.refuse(|| Shown(pairs).to_string(), reason);
                Current::Refused(name)
            }
        };
    }

    /// Adds a sample to the series that was last gone to.
    ///
    /// # Panics
    /// When there was none.
    pub fn push(&mut self, sample: Sample) -> Result<(), Exceeded> {
        self.count_item()?;
        match self.current {
            Current::Admitted => self.fill.push(sample),
            Current::Refused(reason) => self.count_refused(reason, 1),
        }
        Ok(())
    }

    /// Refuses the native histograms of a series.
    pub fn histograms(&mut self, pairs: &[(&str, &str)], count: u64) {
        let reason = Reason::NativeHistogram;
        self.count_refused(reason.name(), count);
        self.refuse(|| Shown(pairs).to_string(), reason);
    }

    pub fn metadata(&mut self, metric: &str, metadata: MetricMetadata) -> Result<(), Exceeded> {
        self.count_item()?;
        let bytes = metric.len() + metadata.help.len() + metadata.unit.len();
        if bytes > TEXT_BYTES_MAX {
            let subject = || metric.chars().take(SHOWN_CHARS_MAX).collect();
            self.refuse(subject, Reason::MetadataTooLong);
        } else {
            self.fill.metadata(metric.to_owned(), metadata);
        }
        Ok(())
    }

    fn count_item(&mut self) -> Result<(), Exceeded> {
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(Exceeded::Items);
        }
        Ok(())
    }

    fn count_refused(&mut self, reason: &'static str, samples: u64) {
        self.refused.samples += samples;
        let known = self.refused.by_reason.iter_mut();
        match known.into_iter().find(|(name, _)| *name == reason) {
            Some((_, count)) => *count += samples,
            None => self.refused.by_reason.push((reason, samples)),
        }
    }

    fn refuse(&mut self, subject: impl FnOnce() -> String, reason: Reason) {
        self.refused.first.get_or_insert_with(|| Refusal {
            subject: subject(),
            reason,
        });
    }
}

/// What the store does not check itself.
fn check(pairs: &[(&str, &str)]) -> Result<(), Reason> {
    if pairs.len() > LABELS_MAX {
        return Err(Reason::TooManyLabels);
    }
    let mut bytes = 0;
    let mut is_named = false;
    for (name, value) in pairs {
        bytes += name.len() + value.len();
        is_named |= *name == METRIC_NAME && !value.is_empty();
    }
    if bytes > TEXT_BYTES_MAX {
        Err(Reason::LabelsTooLong)
    } else if is_named {
        Ok(())
    } else {
        Err(Reason::NoMetricName)
    }
}

/// Labels that need not be a label set, as a person reads them.
struct Shown<'a>(&'a [(&'a str, &'a str)]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from("{");
        for (name, value) in self.0 {
            let separator = if text.len() > 1 { "," } else { "" };
            let name: String = name.chars().take(SHOWN_CHARS_MAX).collect();
            let value: String = value.chars().take(SHOWN_CHARS_MAX).collect();
            text.push_str(&format!("{separator}{name}={value:?}"));
            if text.len() > SHOWN_CHARS_MAX {
                break;
            }
        }
        text.push('}');
        if let Some((cut, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
            text.truncate(cut);
            text.push_str("...");
        }
        formatter.write_str(&text)
    }
}
