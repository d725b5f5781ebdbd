//! One way to stop: a token that everyone watches, a tracker that waits for everyone.
//!
//! Every task of the process is spawned through [`Shutdown::spawn`] with a name, so that what had to be
//! cut at the end of the grace time can be named in the log. Threads watch the token themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// How long a stopping process may take to drain.
pub const GRACE: Duration = Duration::from_secs(10);

/// Cloning is cheap; all clones stop together.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    /// The tasks that still run, by name; two of one name are counted.
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Shutdown {
    /// Tells everyone to stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ready once the process is to stop.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// The token, for what wants to own one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task that [`Shutdown::wait`] waits for. The task itself watches [`Shutdown::begun`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::enter(&self.running, name);
        self.tracker.spawn(async move {
            let _running = running;
            task.await;
        });
    }

    /// Waits until all tasks have ended; after `grace` it names those that did not.
    pub async fn wait(&self, grace: Duration) -> Result<(), Vec<&'static str>> {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .map_err(|_elapsed| {
                let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.keys().copied().collect()
            })
    }
}

/// A running task's entry, removed when the task ends or is dropped.
struct Running {
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    name: &'static str,
}

impl Running {
    fn enter(running: &Arc<Mutex<BTreeMap<&'static str, usize>>>, name: &'static str) -> Self {
        *running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
        Self {
            running: running.clone(),
            name,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named() {
        let shutdown = Shutdown::default();
        shutdown.spawn("stubborn", std::future::pending());
        let token = shutdown.token();
        shutdown.spawn("polite", async move { token.cancelled().await });
        shutdown.begin();
        assert_eq!(shutdown.wait(GRACE).await, Err(vec!["stubborn"]));
    }
}
