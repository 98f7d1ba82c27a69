//! What a checkpoint holds: weights, their average, optimisers; written and read back whole.

use std::path::Path;

use burn::module::Module;

use crate::error::TrainError;
use crate::optimise::Optimisers;
use crate::segmenter::Segmenter;
use models::manifest::{Best, RunState, Skips};
use models::run_dir::{Checkpoint, RunDir, RunDirError};
use models::weights::{AVERAGE, MODEL, read_record};
use run_config::RunConfig;

/// Everything that changes while a run goes on.
pub struct Training<N> {
    /// Weights, on the training device.
    pub net: N,
    /// Their exponential moving average, on the plain device; absent when the config turns it off.
    pub average: Option<N>,
    /// Optimisers.
    pub optimisers: Optimisers,
    /// Optimiser steps done.
    pub step: u64,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Steps left out so far.
    pub skips: Skips,
}

impl<N: Module> Training<N> {
    /// The weights that are evaluated: the average if there is one, with adapters added to the weights that they belong to.
    pub fn evaluated(&self) -> N {
        self.average.clone().unwrap_or_else(|| self.net.valid()).materialize()
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// When the system refuses or a record cannot be made.
    pub fn save<S: Segmenter<Net = N>>(
        &self,
        dir: &RunDir,
        run_config: &RunConfig,
        segmenter: &S,
        epoch: u64,
    ) -> Result<Checkpoint, TrainError> {
        let mut writer = dir.checkpoint(self.step)?;
        // `valid` also writes the last update of batch norms' running statistics back.
        let record = |module: N, path: &Path| module.into_record().save(path).map_err(|e| state(path, e.to_string()));
        writer.at_path(MODEL, |path| record(self.net.valid(), path))?;
        if let Some(average) = &self.average {
            writer.at_path(AVERAGE, |path| record(average.clone(), path))?;
        }
        for (name, bytes) in self.optimisers.to_bytes().map_err(|e| state(dir.root(), e))? {
            writer.bytes(&name, &bytes)?;
        }
        for (name, bytes) in segmenter.files() {
            writer.bytes(&name, &bytes)?;
        }
        let run = RunState {
            step: self.step,
            epoch,
            sampler: serde_json::json!({ "step": self.step }),
            rng: serde_json::json!({ "seed": run_config.run.seed.to_string() }),
            best: self.best.clone(),
            skips: self.skips,
        };
        Ok(writer.finish(run, run_config)?)
    }

    /// Reads a checkpoint back into freshly built parts.
    ///
    /// # Errors
    /// A file that is missing or does not fit the model.
    pub fn restore(mut self, checkpoint: &Checkpoint) -> Result<Self, TrainError> {
        self.net = read_record(self.net, &checkpoint.file(MODEL)?)?;
        if let Some(average) = self.average.take() {
            self.average = Some(read_record(average, &checkpoint.file(AVERAGE)?)?);
        }
        let bytes = |name: &str| -> Result<Vec<u8>, String> {
            let path = checkpoint.file(name).map_err(|e: RunDirError| e.to_string())?;
            std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
        };
        self.optimisers.restore(bytes).map_err(|e| state(&checkpoint.path, e))?;
        self.step = checkpoint.manifest.state.step;
        self.best = checkpoint.manifest.state.best.clone();
        self.skips = checkpoint.manifest.state.skips;
        Ok(self)
    }
}

fn state(path: &Path, what: String) -> TrainError {
    TrainError::State { path: path.to_owned(), what }
}
