//! Long work beside the interpreter: without the GIL, ended by Ctrl-C, and in a forked process with threads of its own.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// How often signals are looked at.
const POLL: Duration = Duration::from_millis(50);

/// Whether the caller has given up.
#[derive(Clone, Default)]
pub(crate) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Asked between two images.
    #[cfg(feature = "models")]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `work` on a thread of its own while this one waits without the GIL. On Ctrl-C the exception is raised at once; `work` ends at
/// its next look at [`Cancelled`], and nobody sees its result.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&Cancelled) -> T + Send + 'static,
) -> PyResult<T> {
    let cancelled = Cancelled::default();
    let seen = cancelled.clone();
    let (send, mut receive) = channel();
    let run = move || {
        // The receiver is gone where the caller gave up.
        let _ = send.send(in_pool(|| work(&seen)));
    };
    let thread = std::thread::Builder::new().name("saymask".into()).spawn(run)?;
    loop {
        let (back, got) = py.detach(move || {
            let got = receive.recv_timeout(POLL);
            (receive, got)
        });
        receive = back;
        match got {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = py.check_signals() {
                    cancelled.0.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => return Err(PyRuntimeError::new_err("a thread ended without a result")),
            },
        }
    }
}

/// Process whose threads rayon's global pool consists of; 0 before its first use here.
static HOME: AtomicU32 = AtomicU32::new(0);

/// The pool of a process that was forked from [`HOME`], by its number.
static FORKED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Runs work that uses rayon. A forked process inherits the global pool without its threads and would wait for them for ever, so it
/// gets a pool of its own.
pub(crate) fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let here = std::process::id();
    let home = HOME.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|home| home);
    if home == 0 || home == here {
        return work();
    }
    match forked_pool(here) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn forked_pool(here: u32) -> Option<Arc<ThreadPool>> {
    let build = || ThreadPoolBuilder::new().build().ok().map(Arc::new);
    // Another thread may have held the lock at the moment of the fork; then nobody here will ever release it.
    let Ok(mut held) = FORKED.try_lock() else { return build() };
    match held.as_ref() {
        Some((owner, pool)) if *owner == here => Some(pool.clone()),
        _ => {
            let pool = build()?;
            // An older pool lost its threads in the fork: ending it would wait for them.
            std::mem::forget(held.replace((here, pool.clone())));
            Some(pool)
        }
    }
}
