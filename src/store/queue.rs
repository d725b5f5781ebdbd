//! The queue before the one writer: bounded by what waits in it, not by how many.
//!
//! Whoever has something to store waits for room without blocking a thread; what the store's own
//! threads report needs no room. Closing lets what is queued be taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::entry::Point;
use super::live::Live;
use super::{Error, Written, deletion};
use crate::model::{Batch, SeriesId};

/// Samples and records that may wait; a larger batch waits for all of the room.
const ROOM: u32 = 1 << 20;
/// Samples and records after which a group is large enough.
const GROUP: u32 = 1 << 17;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

#[derive(Debug)]
pub(crate) enum Request {
    Write(Intake, Reply<Written>),
    /// Seal what is published now.
    Seal(Reply<()>),
    /// Hide every sample stored before; answers how many series that concerns.
    Delete(deletion::Request, Reply<u64>),
    /// Merge, purge and rewrite until there is nothing more to gain.
    Settle(Reply<()>),
    /// Forget these series, whose ids rise, unless they have samples again.
    Forget(Vec<SeriesId>),
    /// The sealing thread is done with its job.
    Done(Result<(), Error>),
}

/// What is stored in one commit, or not at all.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Samples of series whose ids were found already.
    pub(crate) known: Option<Known>,
    pub(crate) batch: Batch,
}

/// Samples with the ids of their series, and where those were found.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) live: Arc<Live>,
    /// How often the index had forgotten series by then.
    pub(crate) forgets: u64,
    pub(crate) points: Vec<Point>,
}

impl Known {
    /// Whether the ids still mean the same.
    pub(crate) fn is_valid_in(&self, live: &Arc<Live>) -> bool {
        if !Arc::ptr_eq(&self.live, live) {
            return false;
        }
        let index = live.index();
        let mut points = self.points.iter();
        index.forgets() == self.forgets || points.all(|point| index.has(point.series))
    }
}

impl Intake {
    pub(crate) fn sample_count(&self) -> usize {
        self.batch.sample_count() + self.known.as_ref().map_or(0, |known| known.points.len())
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each with the room that it takes.
    requests: VecDeque<(Request, u32)>,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            room: Semaphore::new(ROOM as usize),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what is to be stored once there is room for it.
    pub(crate) async fn write(&self, intake: Intake, reply: Reply<Written>) -> Result<(), Error> {
        let batch = &intake.batch;
        let weight = intake.sample_count() + batch.mutations.len() + batch.metadata.len();
        let weight = u32::try_from(weight).unwrap_or(ROOM).clamp(1, ROOM);
        let permit = self
            .room
            .acquire_many(weight)
            .await
            .map_err(|_closed: tokio::sync::AcquireError| Error::Closed)?;
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Err(Error::Closed);
        }
        waiting
            .requests
            .push_back((Request::Write(intake, reply), weight));
        // Given back when the request is taken.
        permit.forget();
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues what needs no room; once the queue is closed, only reports are still heard.
    pub(crate) fn post(&self, request: Request) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if waiting.is_closed && !matches!(request, Request::Done(_)) {
            return Err(Error::Closed);
        }
        waiting.requests.push_back((request, 0));
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// Takes what is queued, up to a group's size; waits for the first at most so long. `None` once
    /// the queue is closed and empty, unless a report is still to come.
    pub(crate) fn take(&self, timeout: Duration, awaits_report: bool) -> Option<Vec<Request>> {
        let is_over =
            |waiting: &Waiting| waiting.is_closed && waiting.requests.is_empty() && !awaits_report;
        let idle = |waiting: &mut Waiting| waiting.requests.is_empty() && !is_over(waiting);
        let (mut waiting, _) = self
            .ready
            .wait_timeout_while(self.waiting(), timeout, idle)
            .unwrap_or_else(PoisonError::into_inner);
        if is_over(&waiting) {
            return None;
        }
        let mut taken = Vec::new();
        let mut total = 0;
        while total < GROUP
            && let Some((request, weight)) = waiting.requests.pop_front()
        {
            total += weight;
            taken.push(request);
        }
        drop(waiting);
        self.room.add_permits(total as usize);
        Some(taken)
    }

    /// Refuses what comes from now on.
    pub(crate) fn close(&self) {
        self.waiting().is_closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    /// Closes, and drops what is queued: whoever waits for an answer gets none.
    pub(crate) fn abandon(&self) {
        self.close();
        self.waiting().requests.clear();
    }
}
