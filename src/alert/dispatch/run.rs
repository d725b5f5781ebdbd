//! The loop around the dispatcher: takes in, lets time pass, commits, hands out, answers.
//!
//! The only part with I/O. What was decided is written before anything is sent. Where the store does not
//! take it, it is sent all the same and written later: an alert that nobody is told of is worse than one
//! that a restart tells twice.

mod own_metrics;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use super::dispatcher::{ALERTS_MAX, Dispatcher, Event};
use super::handle::{Error, Handle, Request};
use super::outbox::Outbox;
use super::outlet::Outlet;
use super::{Config, silence};
use crate::alert::{Posted, channel};
use crate::model::unit::human_duration;
use crate::model::{Batch, Clock, Timestamp};
use crate::shutdown::Shutdown;
use crate::store::{self, Reader, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::health::{Health, State};
use own_metrics::{Outcome, OwnMetrics};
use worker::{Report, Worker};

/// The loop looks at everything this often, if nothing happens before.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A difference between the wall clock and the monotonic one that counts as the clock having been set.
const STEP_MIN_MS: i64 = 5_000;

/// How long what is being sent when the process stops may take: cut off, it would be sent again.
const LAST_SENDS: Duration = Duration::from_secs(5);

const PART: &str = "alert";

/// What the dispatcher works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub reader: Reader,
    pub writer: Writer,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub health: Health,
}

/// Takes over what was stored and starts; without outlets the log is told.
pub fn start(
    config: Config,
    mut outlets: Vec<Outlet>,
    inbox: mpsc::Receiver<Posted>,
    parts: Parts,
    shutdown: &Shutdown,
) -> Result<Handle, store::Error> {
    // The log keeps what it was told; to repeat it there helps nobody.
    let repeats = !outlets.is_empty();
    if outlets.is_empty() {
        outlets.push(Outlet::log());
    }
    let channels = outlets
        .iter()
        .map(|outlet| (outlet.name.clone(), outlet.route.clone()));
    let mut dispatcher = Dispatcher::new(config, channels.collect(), repeats);
    dispatcher.restore(&parts.reader.snapshot()?, parts.clock.now())?;
    let (handle, requests) = Handle::new();
    let (reports, reported) = mpsc::channel(outlets.len());
    let workers = (0..).zip(outlets);
    let workers = workers
        .map(|(place, outlet)| Worker::start(place, outlet, &reports, &parts.clock, shutdown));
    let dispatch = Dispatch {
        own: OwnMetrics::new(&parts.metrics),
        workers: workers.collect(),
        dispatcher,
        requests,
        inbox,
        reported,
        clocks: (parts.clock.now(), parts.clock.monotonic()),
        is_durable: true,
        parts,
    };
    shutdown.spawn("alerts", dispatch.run(shutdown.clone()));
    Ok(handle)
}

struct Dispatch {
    dispatcher: Dispatcher,
    workers: Vec<Worker>,
    requests: mpsc::Receiver<Request>,
    inbox: mpsc::Receiver<Posted>,
    reported: mpsc::Receiver<Report>,
    parts: Parts,
    own: OwnMetrics,
    /// Both clocks at the last look.
    clocks: (Timestamp, Duration),
    /// Whether the last commit succeeded.
    is_durable: bool,
}

impl Dispatch {
    async fn run(mut self, shutdown: Shutdown) {
        loop {
            let now = self.now();
            self.dispatcher.advance(now);
            if self.commit().await.is_err() && shutdown.has_begun() {
                return;
            }
            self.hand_out(now);
            self.tell(now);
            let wait = self.until_next();
            tokio::select! {
                // Stopping comes first, then what was sent: each outcome that is written is one
                // notification less that a crash would repeat.
                biased;
                () = shutdown.begun() => break,
                Some(report) = self.reported.recv() => self.take_report(report),
                Some(request) = self.requests.recv() => self.answer(request).await,
                Some(alerts) = self.inbox.recv() => {
                    // What there was no room for is counted, and said again by whoever found it.
                    self.post(alerts);
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.finish().await;
    }

    /// The wall clock. When it was set, what is planned moves along: a machine that slept, or whose clock
    /// was wrong, must not take every alert for over.
    fn now(&mut self) -> Timestamp {
        let (now, monotonic) = (self.parts.clock.now(), self.parts.clock.monotonic());
        let (then, before) = self.clocks;
        let expected = then.after(monotonic.saturating_sub(before));
        let step_ms = now.ms_since(expected);
        if step_ms.saturating_abs() >= STEP_MIN_MS {
            tracing::warn!(
                step_ms,
                "the clock was set: what alerts are due moves along"
            );
            self.dispatcher.shift(step_ms);
        }
        self.clocks = (now, monotonic);
        now
    }

    fn until_next(&self) -> Duration {
        let now = self.parts.clock.now();
        let next_at = self.dispatcher.next_at().unwrap_or(Timestamp::MAX);
        next_at.since(now).min(PAUSE_MAX)
    }

    /// Writes what changed since the last commit. What could not be written is written with the next.
    async fn commit(&mut self) -> Result<(), store::Error> {
        let mutations = self.dispatcher.mutations();
        if mutations.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            mutations,
            ..Batch::default()
        };
        match self.parts.writer.write(batch).await {
            Ok(_) => {
                self.dispatcher.committed();
                self.is_durable = true;
                Ok(())
            }
            Err(error) => {
                if std::mem::replace(&mut self.is_durable, false) {
                    tracing::error!(%error, "alerts are not durable: a restart may repeat them");
                }
                Err(error)
            }
        }
    }

    /// Gives every channel that is free the next notification.
    fn hand_out(&mut self, now: Timestamp) {
        for place in 0..self.workers.len() {
            if let Some(notification) = self.dispatcher.take(now, place) {
                self.workers[place].send(notification);
            }
        }
    }

    fn post(&mut self, alerts: Posted) -> usize {
        let now = self.now();
        let refused = self.dispatcher.post(now, alerts);
        self.own.refused(refused);
        refused
    }

    async fn answer(&mut self, request: Request) {
        let now = self.now();
        // Whoever has gone does not miss the answer.
        match request {
            Request::Post(alerts, answer) => {
                let of = alerts.len();
                let refused = self.post(alerts);
                let taken = self.commit().await.map_err(Error::from);
                let max = ALERTS_MAX;
                let full = Error::Full { refused, of, max };
                let taken = taken.and(if refused == 0 { Ok(()) } else { Err(full) });
                drop(answer.send(taken));
            }
            Request::Silence(wish, answer) => {
                let set = self.dispatcher.set_silence(now, wish, fresh_id());
                drop(answer.send(self.durable(set).await));
            }
            Request::Expire(id, answer) => {
                let expired = self.dispatcher.expire_silence(now, &id);
                drop(answer.send(self.durable(expired).await));
            }
            Request::Silences(answer) => {
                let silences = self.dispatcher.silences().iter().cloned();
                drop(answer.send(silences.collect()));
            }
            Request::Overview(answer) => drop(answer.send(self.dispatcher.overview(now))),
        }
    }

    async fn durable<T>(&mut self, done: Result<T, silence::Error>) -> Result<T, Error> {
        let value = done?;
        self.commit().await?;
        Ok(value)
    }

    fn take_report(&mut self, report: Report) {
        let now = self.now();
        let (place, dispatcher) = (report.outlet, &mut self.dispatcher);
        let channel = dispatcher.outboxes()[place].name.clone();
        self.own.attempt(&channel, report.took);
        let outcome = match report.result {
            Ok(answer) => {
                tracing::debug!(channel, answer, "a notification was delivered");
                dispatcher.delivered(now, place);
                Outcome::Delivered
            }
            Err(channel::Error::Later {
                reason,
                retry_after,
            }) => {
                if dispatcher.outboxes()[place].failures() == 0 {
                    tracing::warn!(channel, reason, "a notification has to wait");
                }
                dispatcher.delayed(now, place, reason, retry_after, jitter());
                Outcome::Delayed
            }
            Err(channel::Error::Never { reason }) => {
                tracing::error!(channel, reason, "a notification is refused for good");
                dispatcher.refused(now, place, reason);
                Outcome::Refused
            }
        };
        self.own.count(&channel, outcome, 1);
    }

    /// Counts and logs what happened, and says how the channels are.
    fn tell(&mut self, now: Timestamp) {
        for event in self.dispatcher.take_events() {
            match event {
                Event::Superseded { outbox, count } => {
                    let channel = &self.dispatcher.outboxes()[outbox].name;
                    self.own.count(channel, Outcome::Superseded, count);
                }
                Event::PassedOver { outbox, count } => {
                    let channel = &self.dispatcher.outboxes()[outbox].name;
                    self.own.count(channel, Outcome::PassedOver, count);
                }
                Event::Fired(alert) => self.log(alert, "an alert begins"),
                Event::Ended(alert) => self.log(alert, "an alert ends"),
                Event::Flaps(alert) => self.log(alert, "an alert flaps and is held firing"),
                Event::Steady(alert) => self.log(alert, "an alert no longer flaps"),
            }
        }
        self.own.state(&self.dispatcher);
        self.report_health(now);
    }

    fn log(&self, alert: u64, what: &str) {
        let labels = self
            .dispatcher
            .alert(alert)
            .map(|known| &known.alert.labels);
        tracing::debug!(?labels, "{what}");
    }

    fn report_health(&self, now: Timestamp) {
        let health = &self.parts.health;
        for outbox in self.dispatcher.outboxes() {
            let part = format!("{PART} channel {}", outbox.name);
            match &outbox.last_error {
                None => health.set(part, State::Ok, ""),
                Some((at, error)) => {
                    let waiting = outbox.waiting().count();
                    let ago = human_duration(now.since(*at));
                    let message = format!("{waiting} waiting; {ago} ago: {error}");
                    health.set(part, State::Degraded, message);
                }
            }
        }
        let is_full = self.dispatcher.alerts().count() >= ALERTS_MAX;
        let trouble = if !self.is_durable {
            "what is told is not durable: a restart may repeat it".to_owned()
        } else if is_full {
            format!("{ALERTS_MAX} alerts are kept; there is no room for more")
        } else {
            return health.set(PART, State::Ok, "");
        };
        health.set(PART, State::Degraded, trouble);
    }

    /// Waits a little for what is being sent, and writes what came of it.
    async fn finish(mut self) {
        let sends = async {
            while self.dispatcher.outboxes().iter().any(Outbox::is_sending) {
                let Some(report) = self.reported.recv().await else {
                    return;
                };
                self.take_report(report);
            }
        };
        if tokio::time::timeout(LAST_SENDS, sends).await.is_err() {
            tracing::warn!(
                "a notification is cut off while it is sent; it is sent again after the start"
            );
        }
        // A failure was logged; after the start it is sent again.
        drop(self.commit().await);
    }
}

/// Random, from 0 up to 1.
fn jitter() -> f64 {
    f64::from(u32::from_le_bytes(random())) / (f64::from(u32::MAX) + 1.0)
}

/// An id that no other silence has, in the form of a UUID.
fn fresh_id() -> String {
    let number = u128::from_be_bytes(random());
    let hex = format!("{number:032x}");
    let mut rest = hex.as_str();
    let parts = [8, 4, 4, 4, 12].map(|length| {
        let (part, tail) = rest.split_at(length);
        rest = tail;
        part
    });
    parts.join("-")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has randomness");
    bytes
}

#[cfg(test)]
mod tests;
