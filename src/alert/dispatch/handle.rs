//! The way to a running dispatcher: alerts, silences, and what it knows.

use tokio::sync::{mpsc, oneshot};

use super::overview::Overview;
use super::silence::{self, Silence, Wish};
use crate::alert::Alert;
use crate::store;

/// Requests that wait for the dispatcher.
const REQUESTS_MAX: usize = 64;

/// Why the dispatcher did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Silence(#[from] silence::Error),
    #[error("there is no room for {refused} of {of} alerts: at most {max} are kept")]
    Full {
        refused: usize,
        of: usize,
        max: usize,
    },
    /// It is in force, but not durable yet; that is tried again.
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the dispatcher of alerts is stopping")]
    Stopped,
}

/// A question with the way for its answer.
#[derive(Debug)]
pub(super) enum Request {
    Post(Vec<Alert>, oneshot::Sender<Result<(), Error>>),
    Silence(Wish, oneshot::Sender<Result<String, Error>>),
    Expire(String, oneshot::Sender<Result<(), Error>>),
    Silences(oneshot::Sender<Vec<Silence>>),
    Overview(oneshot::Sender<Overview>),
}

/// Asks the dispatcher. Cloning is cheap. Every call that changes something answers once that is durable.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// A handle and the dispatcher's end of it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self(sender), receiver)
    }

    /// The handle of a dispatcher that has stopped, for a server in which alerts play no part.
    pub fn stopped() -> Self {
        Self::new().0
    }

    /// Says alerts, as [`super::super::Inbox`] does, and waits until they are taken in.
    pub async fn post(&self, alerts: Vec<Alert>) -> Result<(), Error> {
        self.ask(|answer| Request::Post(alerts, answer)).await?
    }

    /// Makes or changes a silence; answers its id.
    pub async fn silence(&self, wish: Wish) -> Result<String, Error> {
        self.ask(|answer| Request::Silence(wish, answer)).await?
    }

    /// Ends a silence now; one that has ended stays as it is.
    pub async fn expire(&self, id: String) -> Result<(), Error> {
        self.ask(|answer| Request::Expire(id, answer)).await?
    }

    /// Every silence, those that expired within five days included.
    pub async fn silences(&self) -> Result<Vec<Silence>, Error> {
        self.ask(Request::Silences).await
    }

    pub async fn overview(&self) -> Result<Overview, Error> {
        self.ask(Request::Overview).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        let sent = self.0.send(request(sender)).await;
        sent.map_err(|_closed| Error::Stopped)?;
        answer.await.map_err(|_dropped| Error::Stopped)
    }
}
