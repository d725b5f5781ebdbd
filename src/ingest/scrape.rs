//! Scraping: the metrics of other programs, fetched from them on an interval.
//!
//! As Prometheus does it, without its discovery and relabelling: `job` and `instance`, `exported_` before
//! labels that clash, `up` and the series beside it, stale markers when a series vanishes, when a
//! scrape fails, but not when we stop. A scrape is stored in one commit with what we say of it, or not
//! at all. Each target has a task of its own; one that is slow or broken holds up no other.

mod config;
mod fetch;
mod series;
mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use self::config::{Config, Error as ConfigError, Fallback, Scheme, Values, check};
use self::fetch::{Client, Fetched};
use self::series::{Counts, Rules, Series, report};
use self::target::{Schedule, Target};
pub use self::target::{TargetHealth, TargetStatus, Targets};
use super::admission::{Admission, Exceeded, Refused};
use super::counters::{Counters, Source};
use crate::model::{Clock, Sample, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::{self, Append, Writer};
use crate::telemetry::health::{Health, State};

/// The part of the health that scraping is.
const PART: &str = "scrape";
/// Smaller answers are decoded where they are received: going elsewhere costs more.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// What scraping works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub writer: Writer,
    pub clock: Arc<dyn Clock>,
    pub counters: Counters,
    pub health: Health,
    pub targets: Targets,
}

/// Starts a task for each target.
pub fn start(configs: Vec<Config>, parts: &Parts, shutdown: &Shutdown) -> Result<(), ConfigError> {
    check(&configs)?;
    for config in configs {
        let config = Arc::new(config);
        let targets = config.targets()?;
        let client = Client::new(&config, &targets).map_err(|error| ConfigError::Job {
            job: config.job.clone(),
            reason: told(&error),
        })?;
        let client = Arc::new(client);
        for target in targets {
            let scraper = Scraper {
                at: parts.targets.add(&config, &target),
                rules: Rules::new(&config, &target.labels),
                schedule: Schedule::new(&target, config.interval),
                series: Series::default(),
                last: None,
                config: config.clone(),
                client: client.clone(),
                parts: parts.clone(),
                target,
            };
            shutdown.spawn("scrape", scraper.run(shutdown.clone()));
        }
    }
    if !parts.targets.list().is_empty() {
        parts.health.set(PART, State::Ok, "");
    }
    Ok(())
}

/// An error with what caused it.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}

/// Scrapes one target.
#[derive(Debug)]
struct Scraper {
    config: Arc<Config>,
    client: Arc<Client>,
    target: Target,
    rules: Rules,
    schedule: Schedule,
    series: Series,
    /// The time of the samples written last.
    last: Option<Timestamp>,
    /// Where its status is.
    at: usize,
    parts: Parts,
}

/// What was made of an answer.
struct Decoded {
    append: Append,
    refused: Refused,
    counts: Counts,
    /// Why nothing of it is stored but the end of what there was.
    error: Option<String>,
}

impl Scraper {
    async fn run(mut self, shutdown: Shutdown) {
        let mut done = None;
        loop {
            let now = self.parts.clock.now();
            let mut due = self.schedule.next(now);
            // What began a moment early is not due again.
            if done == Some(due) {
                due = self.schedule.next(due);
            }
            done = Some(due);
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(due.since(now)) => {}
            }
            let began = self.parts.clock.now();
            let begun = self.parts.clock.monotonic();
            let fetched = tokio::select! {
                // Nobody waits for a slow target to say that it is one.
                () = shutdown.begun() => return,
                fetched = self.client.fetch(&self.config, &self.target.url) => fetched,
            };
            let fetched = fetched.map_err(|error| told(&error));
            let at = self.schedule.time(due, began);
            let at = self.time(at);
            self.take(fetched, at, began, begun).await;
        }
    }

    /// A time that no samples have yet, also when the clock stepped back.
    fn time(&mut self, at: Timestamp) -> Timestamp {
        let after_last = self.last.map(|last| last.offset_ms(1));
        let at = at.max(after_last.unwrap_or(Timestamp::MIN));
        self.last = Some(at);
        at
    }

    /// Stores what a target answered, or that it did not.
    async fn take(
        &mut self,
        fetched: Result<Fetched, String>,
        at: Timestamp,
        began: Timestamp,
        begun: Duration,
    ) {
        let decoded = self.decode(fetched, at).await;
        let duration = self.parts.clock.monotonic().saturating_sub(begun);
        let error = match decoded {
            Ok(decoded) => {
                let error = decoded.error.clone();
                match self.store(decoded, at, duration).await {
                    Ok(()) => error,
                    Err(failure) => Some(failure.to_string()),
                }
            }
            Err(failure) => Some(failure),
        };
        let error = error.unwrap_or_default();
        if !error.is_empty() {
            tracing::debug!(job = %self.config.job, url = %self.target.url, error, "scrape failed");
        }
        let targets = &self.parts.targets;
        targets.report(self.at, began, duration, error);
        let complaint = targets.complaint();
        let state = if complaint.is_empty() {
            State::Ok
        } else {
            State::Degraded
        };
        self.parts.health.set(PART, state, complaint);
    }

    /// Decodes an answer; the error is ours, not the target's.
    async fn decode(
        &mut self,
        fetched: Result<Fetched, String>,
        at: Timestamp,
    ) -> Result<Decoded, String> {
        let is_small = fetched
            .as_ref()
            .map_or(true, |fetched| fetched.body.len() < INLINE_BYTES_MAX);
        let mut series = std::mem::take(&mut self.series);
        let (rules, writer) = (self.rules.clone(), self.parts.writer.clone());
        let work = move || {
            let decoded = decode(&mut series, &rules, &writer, fetched, at);
            (series, decoded)
        };
        let (series, decoded) = if is_small {
            work()
        } else {
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| format!("the scrape broke off: {error}"))?
        };
        self.series = series;
        decoded.map_err(|error| error.to_string())
    }

    /// Adds what we say of a scrape and stores all of it in one commit.
    async fn store(
        &self,
        mut decoded: Decoded,
        at: Timestamp,
        duration: Duration,
    ) -> Result<(), store::Error> {
        decoded.report(&self.target, at, duration);
        let Decoded {
            append, refused, ..
        } = decoded;
        let written = append.commit().await?;
        self.parts
            .counters
            .count(Source::Scrape, &refused, &written);
        if let Some(first) = &written.first_rejection {
            tracing::warn!(
                job = %self.config.job,
                url = %self.target.url,
                rejected = written.rejected,
                series = %first.labels,
                reason = %first.reason,
                "scraped samples were refused"
            );
        }
        Ok(())
    }
}

impl Decoded {
    /// Adds the series about the scrape itself.
    fn report(&mut self, target: &Target, at: Timestamp, duration: Duration) {
        let is_up = self.error.is_none();
        let added = if is_up { self.counts.added } else { 0 };
        let mut fill = self.append.fill();
        let mut admission = Admission::new(&mut fill);
        let scraped = self.counts.scraped as f64;
        for (metric, value) in [
            ("up", f64::from(u8::from(is_up))),
            ("scrape_duration_seconds", duration.as_secs_f64()),
            ("scrape_samples_scraped", scraped),
            // The same, since there is no relabelling.
            ("scrape_samples_post_metric_relabeling", scraped),
            ("scrape_series_added", added as f64),
        ] {
            report(
                metric,
                &target.labels,
                Sample::new(at, value),
                &mut admission,
            )
            .expect("five samples are within every limit");
        }
    }
}

/// Fills an append with what a target answered; or, when that is nothing that can be stored, with the
/// end of every series that it had.
fn decode(
    series: &mut Series,
    rules: &Rules,
    writer: &Writer,
    fetched: Result<Fetched, String>,
    at: Timestamp,
) -> Result<Decoded, Exceeded> {
    let mut counts = Counts::default();
    let error = match fetched {
        Err(error) => error,
        Ok(Fetched { format, body }) => {
            let mut append = writer.append();
            let mut fill = append.fill();
            let mut admission = Admission::new(&mut fill);
            let (found, result) = series.decode(rules, format, &body, at, &mut admission);
            counts = found;
            let refused = admission.finish();
            drop(fill);
            match (result, &refused.first) {
                (Ok(()), None) => {
                    return Ok(Decoded {
                        append,
                        refused,
                        counts,
                        error: None,
                    });
                }
                (Err(error), _) => error.to_string(),
                (Ok(()), Some(refusal)) => refusal.to_string(),
            }
        }
    };
    let mut append = writer.append();
    let mut fill = append.fill();
    let mut admission = Admission::new(&mut fill);
    series.end(at, &mut admission)?;
    let refused = admission.finish();
    drop(fill);
    Ok(Decoded {
        append,
        refused,
        counts,
        error: Some(error),
    })
}
