use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::DataError;

/// Batches made ahead of time on a worker thread, through a bounded queue.
///
/// The worker calls a closure for batch 0, 1, 2, ... and stops when it returns `None` or an error, or when this value is
/// dropped; dropping waits for the batch in the making. What is made does not depend on timing, only on the closure.
///
/// ```
/// use refcoco_data::{DataError, Prefetcher};
///
/// let batches = Prefetcher::spawn(2, |i| Ok((i < 3).then_some(i * 10)));
/// let made: Result<Vec<u64>, DataError> = batches.collect();
/// assert_eq!(made?, [0, 10, 20]);
/// # Ok::<(), DataError>(())
/// ```
#[derive(Debug)]
pub struct Prefetcher<T> {
    // Options only so that drop can let go of the queue before it waits for the thread.
    queue: Option<Receiver<Result<T, DataError>>>,
    worker: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetcher<T> {
    /// Starts the worker; at most `ahead` finished batches wait in the queue (at least 1).
    pub fn spawn(ahead: usize, mut make: impl FnMut(u64) -> Result<Option<T>, DataError> + Send + 'static) -> Self {
        let (sender, queue) = sync_channel(ahead.max(1));
        let worker = std::thread::spawn(move || {
            for i in 0.. {
                let Some(made) = make(i).transpose() else {
                    return;
                };
                let failed = made.is_err();
                // The other side hanging up is the sign to stop.
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        });
        Self { queue: Some(queue), worker: Some(worker) }
    }
}

impl<T> Iterator for Prefetcher<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(made) = self.queue.as_ref()?.recv() {
            return Some(made);
        }
        // No more batches: either the end, or the worker panicked. The second must not look like the first.
        self.queue = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Err(_)) => Some(Err(DataError::LoaderGone)),
            _ => None,
        }
    }
}

impl<T> Drop for Prefetcher<T> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take() {
            // A panic there was reported, if anybody still asked.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn bounded_and_stops_on_drop() {
        let made = Arc::new(AtomicU64::new(0));
        let count = made.clone();
        let mut batches = Prefetcher::spawn(2, move |i| {
            count.store(i + 1, Ordering::SeqCst);
            Ok(Some(i))
        });
        assert_eq!(batches.next().unwrap().unwrap(), 0);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(made.load(Ordering::SeqCst) <= 4, "one taken, two waiting, one in hand");
        drop(batches);
        let after = made.load(Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), after);
    }

    #[test]
    fn errors_pass_and_end_it() {
        let mut batches = Prefetcher::spawn(1, |i| {
            if i == 1 { Err(DataError::Setting { key: "x", found: "1".into(), expected: "2" }) } else { Ok(Some(i)) }
        });
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }

    #[test]
    fn a_panic_is_not_an_end() {
        let mut batches: Prefetcher<u64> = Prefetcher::spawn(1, |_| panic!("on purpose"));
        assert!(matches!(batches.next(), Some(Err(DataError::LoaderGone))));
        assert!(batches.next().is_none());
    }
}
