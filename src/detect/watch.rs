//! Watches: which expressions are evaluated, and on what terms their series are judged.
//!
//! Owns the built-in watches, the form of a watch in the configuration, and the check that no watch
//! feeds on what detection itself writes. It evaluates nothing.

mod built_in;
mod check;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::anomaly::Severity;
use super::threshold::Limit;
use super::verdict::Terms;
use super::{Config as Detection, Error};
use crate::model::unit;
pub use built_in::built_in;

/// Which deviations are of interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sides {
    Low,
    High,
    #[default]
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    /// The default, see [`super::calibrated`].
    Calibrated,
    Ewma,
    ZScore,
    Robust,
    Trend,
    Seasonal,
    Stall,
    Threshold,
}

impl DetectorKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Calibrated => "calibrated",
            Self::Ewma => "ewma",
            Self::ZScore => "zscore",
            Self::Robust => "robust",
            Self::Trend => "trend",
            Self::Seasonal => "seasonal",
            Self::Stall => "stall",
            Self::Threshold => "threshold",
        }
    }
}

/// An expression evaluated every interval, whose series feed detectors.
///
/// Made by [`Detection::watches`], which checks it; not changed afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    pub name: String,
    pub expr: String,
    /// What is expected, as an expression whose series are found by their labels; else learned.
    pub expected: Option<String>,
    /// The first one's band is written back as `cutover_anomaly_expected`, `_lower` and `_upper`.
    pub detectors: Vec<DetectorKind>,
    pub limit: Option<Limit>,
    pub terms: Terms,
    /// How long a verdict has to hold before it is an anomaly.
    pub min_duration: Duration,
    /// An anomaly that lasted this long is accepted as the new normal; `None`: never.
    pub relearn_after: Option<Duration>,
    pub severity: Severity,
    /// Series beyond this many are not judged, and counted.
    pub series_max: usize,
    /// What is measured, in a sentence's words, such as `replication lag`.
    pub noun: String,
    /// The unit behind a number in a sentence, such as `s`; may be empty.
    pub unit: String,
}

/// A watch as the configuration has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Letters, digits and `_`. The name of a built-in watch replaces that watch.
    pub name: String,
    /// A PromQL expression that gives an instant vector.
    pub expr: String,
    /// The interval; that of the section unless set.
    #[serde(default, with = "optional_duration_text")]
    pub every: Option<Duration>,
    #[serde(default)]
    pub direction: Sides,
    /// `calibrated` unless set, `threshold` where a limit is set.
    #[serde(default)]
    pub detectors: Option<Vec<DetectorKind>>,
    #[serde(default)]
    pub limit: Option<f64>,
    /// The limit as a part of what is expected.
    #[serde(default)]
    pub limit_of_expected: Option<f64>,
    #[serde(default)]
    pub expected: Option<String>,
    #[serde(default, with = "unit::duration_text")]
    pub min_duration: Duration,
    #[serde(default)]
    pub min_deviation: f64,
    #[serde(default)]
    pub min_deviation_ratio: f64,
    /// One hour unless set; `0` never.
    #[serde(default, with = "optional_duration_text")]
    pub relearn_after: Option<Duration>,
    #[serde(default = "warning")]
    pub severity: Severity,
    #[serde(default)]
    pub series_max: Option<usize>,
    /// What is measured, in words; the name unless set.
    #[serde(default)]
    pub noun: Option<String>,
    #[serde(default)]
    pub unit: String,
}

/// A duration that may be left out.
mod optional_duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::unit;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        span.map(unit::format_duration).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| unit::parse_duration(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

fn warning() -> Severity {
    Severity::Warning
}

const RELEARN_AFTER: Duration = Duration::from_secs(3_600);

impl Config {
    fn new(name: &str, expr: &str, noun: &str, unit: &str) -> Self {
        Self {
            name: name.into(),
            expr: expr.into(),
            every: None,
            direction: Sides::Both,
            detectors: None,
            limit: None,
            limit_of_expected: None,
            expected: None,
            min_duration: Duration::ZERO,
            min_deviation: 0.0,
            min_deviation_ratio: 0.0,
            relearn_after: None,
            severity: Severity::Warning,
            series_max: None,
            noun: Some(noun.into()),
            unit: unit.into(),
        }
    }

    /// Checks the watch and fills in what the section's settings decide.
    pub(super) fn resolve(&self, section: &Detection, terms: &Terms) -> Result<Watch, Error> {
        let wrong = |reason: String| Error::Watch {
            watch: self.name.clone(),
            reason,
        };
        let well_named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if self.name.is_empty() || !self.name.bytes().all(well_named) {
            return Err(wrong(
                "its name is not made of letters, digits and _".into(),
            ));
        }
        for expr in [Some(&self.expr), self.expected.as_ref()]
            .into_iter()
            .flatten()
        {
            check::check_expr(expr).map_err(wrong)?;
        }
        let limit = match (self.limit, self.limit_of_expected) {
            (None, None) => None,
            (Some(value), None) => Some(Limit::Value(value)),
            (None, Some(part)) => Some(Limit::OfExpected(part)),
            _ => {
                return Err(wrong(
                    "limit and limit_of_expected exclude each other".into(),
                ));
            }
        };
        let detectors = match (&self.detectors, limit) {
            (Some(detectors), _) => detectors.clone(),
            (None, Some(_)) => vec![DetectorKind::Threshold],
            (None, None) => vec![DetectorKind::Calibrated],
        };
        let has_threshold = detectors.contains(&DetectorKind::Threshold);
        if detectors.is_empty() {
            return Err(wrong("it has no detectors".into()));
        }
        if has_threshold != limit.is_some() {
            return Err(wrong(
                "a threshold detector needs limit or limit_of_expected, and no other takes one"
                    .into(),
            ));
        }
        if has_threshold && self.direction == Sides::Both {
            return Err(wrong(
                "a limit needs direction = \"low\" or \"high\"".into(),
            ));
        }
        for (key, value) in [
            ("limit", self.limit.unwrap_or(0.0)),
            ("limit_of_expected", self.limit_of_expected.unwrap_or(0.0)),
            ("min_deviation", self.min_deviation),
            ("min_deviation_ratio", self.min_deviation_ratio),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(wrong(format!(
                    "{key} = {value} is not a number of 0 or more"
                )));
            }
        }
        let every = self.every.unwrap_or(section.every);
        section.check_every(every).map_err(wrong)?;
        Ok(Watch {
            name: self.name.clone(),
            expr: self.expr.clone(),
            expected: self.expected.clone(),
            detectors,
            limit,
            terms: Terms {
                sides: self.direction,
                deviation_min: self.min_deviation,
                deviation_min_ratio: self.min_deviation_ratio,
                every,
                ..terms.clone()
            },
            min_duration: self.min_duration,
            relearn_after: Some(self.relearn_after.unwrap_or(RELEARN_AFTER))
                .filter(|span| !span.is_zero()),
            severity: self.severity,
            series_max: self.series_max.unwrap_or(section.series_max),
            noun: self
                .noun
                .clone()
                .unwrap_or_else(|| self.name.replace('_', " ")),
            unit: self.unit.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let watch: Config = toml::from_str(text).unwrap();
        let section = Detection {
            watch: vec![watch],
            ..Detection::default()
        };
        section.watches().unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_watch_is_refused_by_name_and_reason() {
        for (text, reason) in [
            ("name = \"a b\"\nexpr = \"up\"", "name"),
            ("name = \"a\"\nexpr = \"up{\"", "up{"),
            ("name = \"a\"\nexpr = \"up\"\nevery = \"1h\"", "every = 1h"),
            ("name = \"a\"\nexpr = \"up\"\nlimit = 1.0", "direction"),
            (
                "name = \"a\"\nexpr = \"up\"\ndetectors = []",
                "no detectors",
            ),
            (
                "name = \"a\"\nexpr = \"up\"\ndetectors = [\"threshold\"]",
                "limit",
            ),
            (
                "name = \"a\"\nexpr = \"up\"\nlimit = 1.0\nlimit_of_expected = 0.5",
                "exclude each other",
            ),
            (
                "name = \"a\"\nexpr = \"up\"\nmin_deviation = -1.0",
                "min_deviation = -1",
            ),
        ] {
            let error = refusal(text);
            assert!(
                error.starts_with("watch \"a") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn a_configured_watch_replaces_the_built_in_one_of_its_name() {
        let watch: Config =
            toml::from_str("name = \"data_lag\"\nexpr = \"my_lag\"\nrelearn_after = \"0\"")
                .unwrap();
        let section = Detection {
            watch: vec![watch],
            ..Detection::default()
        };
        let watches = section.watches().unwrap();
        assert_eq!(watches.len(), built_in().len());
        let found = watches
            .iter()
            .find(|watch| watch.name == "data_lag")
            .unwrap();
        assert_eq!((found.expr.as_str(), found.relearn_after), ("my_lag", None));
    }
}
