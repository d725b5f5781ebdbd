//! Finding what is unusual, and saying why in one sentence.
//!
//! A [`watch`] is an expression evaluated every interval; each of its series is followed by a
//! [`monitor`], which shows every value to its detectors and turns their verdicts into an [`anomaly`]
//! that opens, is updated and closes. The [`engine`] steps all monitors and makes one batch of what came
//! of it; [`run`] is the loop around it and the only part that does I/O.
//!
//! The default detector is [`calibrated`], with nothing to configure. A watch can name others: [`ewma`],
//! [`zscore`], [`robust`], [`trend`], [`seasonal`], [`stall`], and [`threshold`] for a limit that was
//! agreed on. [`backtest`] shows recorded series to the default detector, and [`scenario`] makes up
//! series to measure it by.
//!
//! What callers may rely on: detectors learn only from samples that were accepted as normal; a missing
//! sample is not a zero; state is bounded per series and comes back after a restart; a score above 1
//! is anomalous for every detector alike.

pub mod anomaly;
pub mod backtest;
mod band;
pub mod calibrated;
pub mod calibration;
pub mod engine;
pub mod ewma;
pub mod monitor;
mod noise;
pub mod robust;
pub mod run;
pub mod scenario;
pub mod seasonal;
pub mod stall;
mod summary;
pub mod threshold;
pub mod trend;
pub mod verdict;
pub mod watch;
pub mod window;
pub mod zscore;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::model::unit;
use ewma::Chart;
use verdict::Terms;
use watch::{DetectorKind, Sides, Watch};

/// `[anomaly]` in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub enabled: bool,
    /// Whether an open anomaly of severity warning or critical is an alert without a rule file.
    pub notify: bool,
    /// The interval of watches that have none of their own.
    #[serde(with = "unit::duration_text")]
    pub every: Duration,
    /// How much stored history a watch without state is warmed up on; `0` none.
    #[serde(with = "unit::duration_text")]
    pub history: Duration,
    /// How far back "usual" reaches.
    #[serde(with = "unit::duration_text")]
    pub memory: Duration,
    /// Samples of a series before the first verdict on it.
    pub warmup_samples: u64,
    /// λ of the control chart: the weight of the newest sample.
    pub lambda: f64,
    /// Samples between two false alarms by the textbook; each series' own history widens the limits.
    pub run_length: f64,
    /// Series of one watch that are judged, unless the watch says otherwise.
    pub series_max: usize,
    /// Built-in watches that are not wanted.
    pub disable: Vec<String>,
    pub watch: Vec<watch::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            notify: true,
            every: Duration::from_secs(15),
            history: Duration::from_secs(2 * 3_600),
            memory: Duration::from_secs(3_600),
            warmup_samples: 100,
            lambda: 0.2,
            run_length: 500.0,
            series_max: 1_000,
            disable: Vec::new(),
            watch: Vec::new(),
        }
    }
}

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("watch {watch:?}: {reason}")]
    Watch { watch: String, reason: String },
    #[error("two watches are named {0:?}")]
    Duplicate(String),
    #[error("anomaly.disable: there is no built-in watch {0:?}")]
    Unknown(String),
    #[error("anomaly.{key}: {reason}")]
    Key { key: &'static str, reason: String },
}

/// Scores are written once an interval, and a query looks back five minutes for them.
const EVERY_MAX: Duration = Duration::from_secs(240);

/// A chart with the width of the textbook, where no detector asks for it.
fn any_chart(lambda: f64, _run_length: f64) -> Chart {
    Chart::new(lambda, 3.0)
}

impl Config {
    /// The watches that this section comes to, each checked. Takes milliseconds where one has a control
    /// chart, whose limits are searched for.
    pub fn watches(&self) -> Result<Vec<Watch>, Error> {
        let built_in = watch::built_in();
        let has_chart = built_in.iter().chain(&self.watch).any(|config| {
            let detectors = config.detectors.as_deref().unwrap_or_default();
            detectors.contains(&DetectorKind::Ewma)
        });
        self.resolve(if has_chart {
            Chart::for_run_length
        } else {
            any_chart
        })
    }

    /// The expression of each watch by its name, all of the section checked as for
    /// [`Config::watches`].
    pub fn expressions(&self) -> Result<BTreeMap<String, String>, Error> {
        let watches = self.resolve(any_chart)?.into_iter();
        Ok(watches.map(|watch| (watch.name, watch.expr)).collect())
    }

    fn resolve(&self, chart: impl FnOnce(f64, f64) -> Chart) -> Result<Vec<Watch>, Error> {
        let terms = self.terms(chart)?;
        let mut configs = watch::built_in();
        for name in &self.disable {
            let known = configs.len();
            configs.retain(|config| config.name != *name);
            if configs.len() == known {
                return Err(Error::Unknown(name.clone()));
            }
        }
        for (at, config) in self.watch.iter().enumerate() {
            let before = self.watch.get(..at).unwrap_or_default();
            if before.iter().any(|other| other.name == config.name) {
                return Err(Error::Duplicate(config.name.clone()));
            }
            match configs
                .iter_mut()
                .find(|built_in| built_in.name == config.name)
            {
                Some(built_in) => *built_in = config.clone(),
                None => configs.push(config.clone()),
            }
        }
        configs
            .iter()
            .map(|config| config.resolve(self, &terms))
            .collect()
    }

    fn terms(&self, chart: impl FnOnce(f64, f64) -> Chart) -> Result<Terms, Error> {
        let wrong = |key, reason: &str| Error::Key {
            key,
            reason: reason.to_owned(),
        };
        self.check_every(self.every).map_err(|reason| Error::Key {
            key: "every",
            reason,
        })?;
        if self.memory < self.every * 20 {
            return Err(wrong(
                "memory",
                "shorter than 20 intervals, too few to know what is usual",
            ));
        }
        if self.warmup_samples < 20 {
            return Err(wrong("warmup_samples", "fewer than 20 samples say nothing"));
        }
        if !(0.01..=1.0).contains(&self.lambda) {
            return Err(wrong("lambda", "not between 0.01 and 1"));
        }
        if !(50.0..=1e6).contains(&self.run_length) {
            return Err(wrong("run_length", "not between 50 and 1000000 samples"));
        }
        Ok(Terms {
            sides: Sides::Both,
            deviation_min: 0.0,
            deviation_min_ratio: 0.0,
            memory: self.memory,
            warmup_samples: self.warmup_samples,
            every: self.every,
            chart: chart(self.lambda, self.run_length),
            // Two-sided: half of the chance lies on either side.
            zscore_width: Normal::standard().inverse_cdf(1.0 - 0.5 / self.run_length),
        })
    }

    /// Whether an interval is one that watches can have; the error is the reason why not.
    fn check_every(&self, every: Duration) -> Result<(), String> {
        if every < Duration::from_secs(1) || every > EVERY_MAX {
            return Err(format!(
                "every = {} is not between 1s and {}",
                unit::format_duration(every),
                unit::format_duration(EVERY_MAX)
            ));
        }
        if self.memory < every * 20 {
            return Err(format!(
                "every = {} leaves fewer than 20 samples in anomaly.memory = {}",
                unit::format_duration(every),
                unit::format_duration(self.memory)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn default_limits_are_those_of_the_published_design() {
        let charted = "[[watch]]\nname = \"charted\"\nexpr = \"x\"\ndetectors = [\"ewma\"]";
        let config: Config = toml::from_str(charted).unwrap();
        let watches = config.watches().unwrap();
        let terms = &watches[0].terms;
        // λ 0.2 and L 2.962 for a run length of 499; 3.09 standard deviations for one in 500.
        assert!((terms.chart.limit(u32::MAX) - 2.962 / 3.0).abs() < 0.002);
        assert!((terms.zscore_width - 3.090).abs() < 0.001);
    }

    #[test]
    fn a_wrong_section_names_its_key() {
        let error = |text: &str| {
            let section: Config = toml::from_str(text).unwrap();
            section.watches().unwrap_err().to_string()
        };
        assert!(error("every = \"10ms\"").starts_with("anomaly.every: every = 10ms"));
        assert!(error("memory = \"1m\"").starts_with("anomaly."));
        assert!(error("warmup_samples = 1").starts_with("anomaly.warmup_samples"));
        assert!(error("lambda = 0.0").starts_with("anomaly.lambda"));
        assert!(error("run_length = 1.0").starts_with("anomaly.run_length"));
        assert!(error("disable = [\"lags\"]").contains("\"lags\""));
        let twice =
            "[[watch]]\nname = \"a\"\nexpr = \"up\"\n[[watch]]\nname = \"a\"\nexpr = \"up\"";
        assert_eq!(error(twice), "two watches are named \"a\"");
        assert!(toml::from_str::<Config>("evry = \"1s\"").is_err());
    }
}
