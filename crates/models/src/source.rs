//! Where a model comes from: a run, a weight file with its config, a folder, a repository of the hub.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use nn_ops::weights::{KeyMap, PretrainedFolder, StateDict, export};
use run_config::RunConfig;

use crate::any::AnyModel;
use crate::methods::{AnyMethod, pretrained_config};
use crate::run_dir::{Checkpoint, RunDir};
use crate::tokenizer::RunTokenizer;
use crate::weights::evaluated_weights;
use crate::{ModelError, with_method};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A run's folder, or one of its checkpoints. Of a run the best whole checkpoint counts, else the newest.
    Run(PathBuf),
    /// The run below this folder that was written to last.
    NewestRun(PathBuf),
    /// Weights that no run of ours made.
    Weights {
        /// A file (with `config`), a folder with `config.json`, or `hf:OWNER/REPO`.
        weights: String,
        /// The model's config, for a file.
        config: Option<PathBuf>,
    },
}

/// A model's config, tokenizer and weights, found and checked but not on a device yet.
#[derive(Clone)]
pub struct Found {
    /// Its config.
    pub run_config: RunConfig,
    /// Its tokenizer.
    pub tokenizer: RunTokenizer,
    /// The checkpoint that holds its weights; none where the config's `model.init` names them.
    pub checkpoint: Option<Checkpoint>,
    /// Its run folder, if it comes from one.
    pub dir: Option<RunDir>,
    /// What the weights are, in words.
    pub label: String,
}

impl Source {
    /// Finds config, tokenizer and weights; `set` changes the config (`eval.profile=dit`).
    ///
    /// # Errors
    /// Folders and files that are missing, damaged, or of another kind.
    pub fn find<S: AsRef<str>>(&self, set: &[S]) -> Result<Found, ModelError> {
        match self {
            Self::Run(folder) => of_run(folder, set),
            Self::NewestRun(runs) => of_run(&newest_run(runs)?, set),
            Self::Weights { weights, config } => of_weights(weights, config.as_deref(), set),
        }
    }
}

fn of_run<S: AsRef<str>>(folder: &Path, set: &[S]) -> Result<Found, ModelError> {
    let (dir, checkpoint) = checkpoint(folder)?;
    let run_config = checkpoint.config()?.with_overrides(set)?;
    let tokenizer = RunTokenizer::kept(&run_config, &checkpoint)?;
    let label = checkpoint.path.display().to_string();
    Ok(Found { run_config, tokenizer, checkpoint: Some(checkpoint), dir, label })
}

fn of_weights<S: AsRef<str>>(weights: &str, config: Option<&Path>, set: &[S]) -> Result<Found, ModelError> {
    let path = PretrainedFolder::find(weights)?.path().to_owned();
    let run_config = match config {
        Some(config) => {
            let mut set: Vec<String> = set.iter().map(|s| s.as_ref().to_owned()).collect();
            set.push(format!("model.init.method={}", path.display()));
            RunConfig::load(config, &set)?
        }
        None if path.is_dir() => pretrained_config(&path, set)?,
        None => return Err(ModelError::Unnamed { weights: weights.to_owned() }),
    };
    let Some(tokenizer) = RunTokenizer::published(&run_config)? else {
        let expected = "a file, or \"from-weights\" where it lies beside them: released weights need their own vocabulary \
                        (--set text.vocabulary=FILE)";
        return Err(run_config.value_error("text.vocabulary", "none", expected).into());
    };
    Ok(Found { run_config, tokenizer, checkpoint: None, dir: None, label: weights.to_owned() })
}

/// The best whole checkpoint of a run, or the newest one; or the checkpoint itself.
fn checkpoint(folder: &Path) -> Result<(Option<RunDir>, Checkpoint), ModelError> {
    if folder.join(crate::manifest::MANIFEST).exists() {
        return Ok((None, Checkpoint::open(folder)?));
    }
    let dir = RunDir::at(folder);
    dir.config()?;
    let Some(latest) = dir.latest_whole()?.checkpoint else {
        let what = "no whole checkpoint in this run yet".to_owned();
        return Err(ModelError::File { path: folder.to_owned(), what });
    };
    let best = latest.manifest.state.best.as_ref().map(|b| dir.checkpoint_path(b.step)).filter(|p| p.exists());
    let checkpoint = match best {
        Some(path) => Checkpoint::open(&path)?,
        None => latest,
    };
    Ok((Some(dir), checkpoint))
}

/// The run folder that was written to last.
fn newest_run(runs: &Path) -> Result<PathBuf, ModelError> {
    let none = |what: &str| ModelError::File { path: runs.to_owned(), what: format!("{what}; train first or pass --run") };
    let entries = std::fs::read_dir(runs).map_err(|_| none("no runs here"))?;
    let newest = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.join("config.toml").exists())
        .max_by_key(|p| p.join("log.jsonl").metadata().and_then(|m| m.modified()).ok());
    newest.ok_or_else(|| none("no run in this folder"))
}

impl Found {
    /// The model, ready to be asked, on a device and in the precision of `eval.precision`.
    ///
    /// # Errors
    /// Settings that contradict each other, weights that do not fit, a precision that the device does not have.
    pub fn model(&self, device: &Device) -> Result<AnyModel, ModelError> {
        AnyModel::open(&self.run_config, self.tokenizer.clone(), device, self.checkpoint.as_ref())
    }

    /// All parameters under their official names.
    ///
    /// # Errors
    /// As [`Found::model`].
    pub fn state_dict(&self, device: &Device) -> Result<StateDict, ModelError> {
        let method = AnyMethod::for_checkpoint(&self.run_config, self.tokenizer.clone(), self.checkpoint.as_ref())?;
        with_method!(method, method => self.exported(method.build(device)?, &method.names()))
    }

    fn exported<N: Module>(&self, net: N, names: &KeyMap) -> Result<StateDict, ModelError> {
        let net = match &self.checkpoint {
            Some(checkpoint) => evaluated_weights(net, names, checkpoint)?,
            None => net,
        };
        Ok(export(&net, names, "export"))
    }

    /// Files that belong beside exported weights, by name: the tokenizer and `config.json`.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
        let method = AnyMethod::new(&self.run_config, self.tokenizer.clone())?;
        Ok(with_method!(method, method => method.files()))
    }
}
