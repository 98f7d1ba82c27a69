//! Learning rate as a pure function of the step, so that resuming needs no state.
//!
//! Step 0 is the first optimiser step. A rate of exactly 0 (the first step of "warmup-step" and of EVF-SAM's config) is
//! returned as it is: the step then changes nothing but the optimiser's moments.

use run_config::{RunConfig, ScheduleKind};

/// A schedule that does not fit the length of its run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is nothing to train on.
    #[error(
        "an epoch has no steps: the training split has fewer than `train.batch_size` x `optim.accumulate` = {items} items; \
         lower one of them"
    )]
    EmptyEpoch {
        /// Items that one optimiser step needs.
        items: u64,
    },
    /// The warm-up does not end before the run does.
    #[error(
        "`schedule.{key}` makes a warm-up of {warmup} steps, but the run has only {total} steps of {steps_per_epoch} an epoch; \
         set a shorter `schedule.warmup_steps`"
    )]
    WarmupTooLong {
        /// Which of the two keys gave the length.
        key: &'static str,
        /// Steps of the warm-up.
        warmup: u64,
        /// Steps of the run.
        total: u64,
        /// Optimiser steps an epoch.
        steps_per_epoch: u64,
    },
}

/// Up in a straight line from `from` (step 0) to `lr` (step `warmup`), then half a cosine down to `min` at step `total`.
///
/// DIT's `wcosine`: with `t = warmup` and `T = total`, `from + step (lr - from) / t` below `t`, then
/// `min + (lr - min) (1 + cos(pi (step - t) / (T - t))) / 2`.
#[must_use]
pub fn warmup_cosine(step: u64, warmup: u64, total: u64, from: f64, lr: f64, min: f64) -> f64 {
    if step < warmup {
        return rise(step, warmup, from, lr);
    }
    let done = fraction(step, warmup, total);
    min + 0.5 * (lr - min) * (1.0 + (std::f64::consts::PI * done).cos())
}

/// Up in a straight line from `from` (step 0) to `lr` (step `warmup`), then straight down to `min` at step `total` (EVF-SAM).
#[must_use]
pub fn warmup_linear(step: u64, warmup: u64, total: u64, from: f64, lr: f64, min: f64) -> f64 {
    if step < warmup {
        return rise(step, warmup, from, lr);
    }
    lr + (min - lr) * fraction(step, warmup, total)
}

/// Up from 0 as `lr step / (warmup + 1)` through step `warmup`, then [`multi_step`] (DIT's `step`).
#[must_use]
pub fn warmup_step(step: u64, warmup: u64, milestones: &[u64], lr: f64, rate: f64) -> f64 {
    if warmup > 0 && step <= warmup {
        return lr * step as f64 / (warmup as f64 + 1.0);
    }
    multi_step(step, milestones, lr, rate)
}

/// `lr` times `rate` for every milestone reached: the step equal to a milestone is already lowered (RISAM).
#[must_use]
pub fn multi_step(step: u64, milestones: &[u64], lr: f64, rate: f64) -> f64 {
    milestones.iter().filter(|&&milestone| step >= milestone).fold(lr, |lr, _| lr * rate)
}

fn rise(step: u64, warmup: u64, from: f64, lr: f64) -> f64 {
    from + step as f64 * (lr - from) / warmup as f64
}

/// How much of the way from step `start` to step `end` is done, at most 1.
fn fraction(step: u64, start: u64, end: u64) -> f64 {
    if end <= start {
        return 1.0;
    }
    (step.saturating_sub(start) as f64 / (end - start) as f64).min(1.0)
}

/// The learning rate of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    lr: f64,
    warmup_lr: f64,
    min_lr: f64,
    decay_rate: f64,
    warmup: u64,
    total: u64,
    milestones: Vec<u64>,
}

impl Schedule {
    /// The config's schedule, once it is known how many optimiser steps an epoch has.
    ///
    /// # Errors
    /// [`ScheduleError`] when an epoch has no steps or the warm-up fills the run.
    pub fn new(run_config: &RunConfig, steps_per_epoch: u64) -> Result<Self, ScheduleError> {
        if steps_per_epoch == 0 {
            let items = run_config.train.batch_size as u64;
            return Err(ScheduleError::EmptyEpoch { items: items.saturating_mul(run_config.optim.accumulate as u64) });
        }
        let section = &run_config.schedule;
        let total = run_config.train.total_steps(steps_per_epoch);
        let (key, warmup) = match (section.warmup_steps, section.warmup_epochs) {
            (Some(steps), _) => ("warmup_steps", steps),
            (None, epochs) => ("warmup_epochs", epochs.unwrap_or(0).saturating_mul(steps_per_epoch)),
        };
        if warmup > 0 && warmup >= total {
            return Err(ScheduleError::WarmupTooLong { key, warmup, total, steps_per_epoch });
        }
        Ok(Self {
            kind: section.kind,
            lr: run_config.optim.lr,
            warmup_lr: section.warmup_lr,
            min_lr: section.min_lr,
            decay_rate: section.decay_rate,
            warmup,
            total,
            milestones: section.decay_epochs.iter().map(|epoch| epoch.saturating_mul(steps_per_epoch)).collect(),
        })
    }

    /// Learning rate of optimiser step `step`, counted from 0.
    #[must_use]
    pub fn lr(&self, step: u64) -> f64 {
        let (warmup, total) = (self.warmup, self.total);
        match self.kind {
            ScheduleKind::WarmupCosine => warmup_cosine(step, warmup, total, self.warmup_lr, self.lr, self.min_lr),
            ScheduleKind::WarmupLinear => warmup_linear(step, warmup, total, self.warmup_lr, self.lr, self.min_lr),
            ScheduleKind::WarmupStep => warmup_step(step, warmup, &self.milestones, self.lr, self.decay_rate),
            ScheduleKind::Step => multi_step(step, &self.milestones, self.lr, self.decay_rate),
            ScheduleKind::Constant => self.lr,
        }
    }

    /// Optimiser steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Optimiser steps of the warm-up.
    #[must_use]
    pub fn warmup_steps(&self) -> u64 {
        self.warmup
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// f64 round-off of a handful of operations on values near 1e-4.
    const TOL: f64 = 1e-15;

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < TOL, "got {got:e}, want {want:e}");
    }

    fn schedule(text: &str, steps_per_epoch: u64) -> Schedule {
        Schedule::new(&RunConfig::from_toml_str(text).unwrap(), steps_per_epoch).unwrap()
    }

    /// DIT on RefCOCO: 42,404 referents, batch 64, 662 steps an epoch, 40 epochs.
    #[test]
    fn dit_warmup_cosine() {
        let s = schedule("[train]\nepochs = 40\nbatch_size = 64", 662);
        assert_eq!((s.warmup_steps(), s.total_steps()), (1986, 26480));
        close(s.lr(0), 1e-7);
        assert_eq!(format!("{:.3e}", s.lr(1)), "1.503e-7");
        close(s.lr(1986), 1e-4);
        close(s.lr(1986 + (26480 - 1986) / 2), 1e-6 + 0.5 * (1e-4 - 1e-6));
        close(s.lr(26480), 1e-6);
        close(s.lr(99_999), 1e-6);
        assert!((0..1986).all(|i| s.lr(i) < s.lr(i + 1)));
        assert!((1986..26479).all(|i| s.lr(i) > s.lr(i + 1)));
    }

    #[test]
    fn dit_step() {
        let s = schedule("[train]\nepochs = 40\n[schedule]\nkind = \"warmup-step\"\ndecay_epochs = [30, 35, 37]", 662);
        assert_eq!(s.lr(0), 0.0);
        close(s.lr(1), 1e-4 / 1987.0);
        close(s.lr(1986), 1e-4 * 1986.0 / 1987.0);
        close(s.lr(1987), 1e-4);
        close(s.lr(30 * 662 - 1), 1e-4);
        close(s.lr(30 * 662), 2e-5);
        close(s.lr(35 * 662), 4e-6);
        close(s.lr(37 * 662), 8e-7);
    }

    #[test]
    fn evf_linear() {
        let s = schedule(
            "[train]\nsteps = 15000\n[schedule]\nkind = \"warmup-linear\"\nwarmup_steps = 100\nwarmup_lr = 0\nmin_lr = 0",
            1000,
        );
        assert_eq!(s.lr(0), 0.0);
        close(s.lr(50), 0.5e-4);
        close(s.lr(100), 1e-4);
        close(s.lr(7550), 1e-4 * (15000.0 - 7550.0) / 14900.0);
        close(s.lr(14_999), 1e-4 / 14900.0);
        close(s.lr(15_000), 0.0);
    }

    /// RISAM: epochs 0 to 29, 30 to 41, 42 to 49, with 1,325 steps each.
    #[test]
    fn risam_step() {
        let s = schedule(
            "[train]\nepochs = 50\nbatch_size = 32\n[schedule]\nkind = \"step\"\ndecay_epochs = [30, 42]\ndecay_rate = 0.1",
            1325,
        );
        close(s.lr(0), 1e-4);
        close(s.lr(30 * 1325 - 1), 1e-4);
        close(s.lr(30 * 1325), 1e-5);
        close(s.lr(42 * 1325 - 1), 1e-5);
        close(s.lr(42 * 1325), 1e-6);
        close(s.lr(50 * 1325 - 1), 1e-6);
    }

    #[test]
    fn constant() {
        let s = schedule("[train]\nsteps = 7\n[schedule]\nkind = \"constant\"", 3);
        assert!((0..9).all(|step| s.lr(step) == 1e-4));
    }

    #[test]
    fn a_run_without_warmup_starts_at_the_top() {
        for kind in ["warmup-cosine", "warmup-linear", "warmup-step\"\ndecay_epochs = [2]\n#"] {
            let text = format!("[train]\nepochs = 4\n[schedule]\nwarmup_steps = 0\nkind = \"{kind}\"");
            close(schedule(&text, 5).lr(0), 1e-4);
        }
    }

    #[test]
    fn lengths_that_do_not_fit() {
        let run_config = RunConfig::from_toml_str("[train]\nsteps = 40\n[schedule]\nwarmup_epochs = 3").unwrap();
        let error = Schedule::new(&run_config, 20).unwrap_err();
        assert!(error.to_string().contains("a warm-up of 60 steps, but the run has only 40"), "{error}");
        assert!(Schedule::new(&run_config, 13).is_ok());
        assert_eq!(Schedule::new(&run_config, 0), Err(ScheduleError::EmptyEpoch { items: 8 }));
    }
}
