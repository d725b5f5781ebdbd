//! Work over many series split between the cores.
//!
//! Each part is a run of neighbours and the results come in the order of the parts, so that what is
//! made of them does not depend on how many there were. Threads are started for the one piece of work:
//! that costs some tens of microseconds, so it has to be worth it, and a machine that is busy with other
//! queries gets no more threads than it has cores.

use std::num::NonZero;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Cores, which are also the most parts.
static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
/// Threads that are at work here, beside those that asked.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// Helpers that were taken, given back when dropped.
struct Taken(usize);

impl Taken {
    /// As many as there are idle, at most `wanted`.
    fn up_to(wanted: usize) -> Self {
        let mut taken = 0;
        let take = |busy: usize| {
            taken = wanted.min((*CORES - 1).saturating_sub(busy));
            Some(busy + taken)
        };
        let updated = HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        debug_assert!(updated.is_ok(), "it always gives a number");
        Self(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        HELPERS.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Applies `work` to runs of `items`, which are worth so many threads at most.
pub(crate) fn split<I: Sync, R: Send>(
    items: &[I],
    threads_max: usize,
    work: impl Fn(&[I]) -> R + Sync,
) -> Vec<R> {
    let wanted = threads_max.min(items.len()).saturating_sub(1);
    let taken = Taken::up_to(wanted);
    if taken.0 == 0 {
        return vec![work(items)];
    }
    let length = items.len().div_ceil(taken.0 + 1);
    let work = &work;
    thread::scope(|scope| {
        let mut parts = items.chunks(length);
        let own = parts.next().unwrap_or_default();
        let spawn = |part| {
            let thread = thread::Builder::new().name("query".into());
            // Without a thread to be had, the work is done here.
            thread
                .spawn_scoped(scope, move || work(part))
                .map_err(|_cause: std::io::Error| part)
        };
        let others: Vec<_> = parts.map(spawn).collect();
        let mut results = vec![work(own)];
        results.extend(others.into_iter().map(|other| match other {
            Ok(thread) => match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(part) => work(part),
        }));
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 3, 64] {
            let parts = split(&items, threads, <[usize]>::to_vec);
            assert_eq!(parts.concat(), items);
            assert!(parts.len() <= threads.max(1));
        }
        assert_eq!(split(&[0_u8; 0], 4, <[u8]>::len), [0]);
    }
}
