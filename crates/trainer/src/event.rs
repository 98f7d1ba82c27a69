//! What a run reports while it goes on, for progress bars and logs of whoever started it.

use metrics::Report;

/// Something that happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Training is about to begin.
    Start {
        /// Step to begin with.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Parameters in all, and those that are trained.
        parameters: (usize, usize),
        /// Referents and sentences of the training split.
        items: (usize, usize),
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its learning rate.
        lr: f64,
    },
    /// Features of a frozen image encoder are computed and kept.
    Caching {
        /// Images done.
        done: usize,
        /// Images in all.
        of: usize,
    },
    /// An evaluation goes on.
    Evaluating {
        /// Expressions judged.
        done: usize,
        /// Expressions in all.
        of: usize,
        /// Split.
        split: &'a str,
    },
    /// An evaluation is done.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Its figures.
        report: &'a Report,
        /// Whether it is the best so far.
        best: bool,
    },
    /// Something worth knowing.
    Note(String),
}

/// Receives the events of a run.
pub type OnEvent<'a> = dyn FnMut(Event<'_>) + 'a;
