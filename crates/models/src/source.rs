//! Where a model comes from: a run, a weight file with its config, a folder, a repository of the hub.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use nn_ops::weights::{Allow, KeyMap, PretrainedFolder, StateDict, export, load};
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
    /// The small model that comes with this crate: [`crate::shipped`].
    #[cfg(feature = "shipped")]
    Shipped,
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
    /// Where its weights are.
    pub weights: FoundWeights,
    /// Its run folder, if it comes from one.
    pub dir: Option<RunDir>,
    /// What the weights are, in words.
    pub label: String,
}

/// Where the weights of a model are.
#[derive(Debug, Clone)]
pub enum FoundWeights {
    /// In the files that the config's `model.init` names, if it names any.
    Initial,
    /// In a checkpoint.
    Checkpoint(Checkpoint),
    /// In memory, under the method's official names.
    Memory(StateDict),
}

impl FoundWeights {
    /// Whether `model.init` of the config says where they are.
    pub fn are_initial(&self) -> bool {
        matches!(self, Self::Initial)
    }

    /// A net of the config's method, which already holds what `model.init` names, with these weights; `names` are its official names.
    ///
    /// # Errors
    /// Weights that are missing or do not fit.
    pub fn fill<N: Module>(&self, net: N, names: &KeyMap) -> Result<N, ModelError> {
        Ok(match self {
            Self::Initial => net,
            Self::Checkpoint(checkpoint) => evaluated_weights(net, names, checkpoint)?,
            Self::Memory(state_dict) => load(net, state_dict, names, &Allow { missing: &[], unused: &[] })?.0,
        })
    }
}

impl Source {
    /// The newest run below a folder; without one, the small model that comes with this crate.
    #[cfg(feature = "shipped")]
    #[must_use]
    pub fn newest_run_or_shipped(runs: &Path) -> Self {
        if newest_run(runs).is_ok() { Self::NewestRun(runs.to_owned()) } else { Self::Shipped }
    }

    /// Finds config, tokenizer and weights; `set` changes the config (`eval.profile=dit`).
    ///
    /// # Errors
    /// Folders and files that are missing, damaged, or of another kind.
    pub fn find<S: AsRef<str>>(&self, set: &[S]) -> Result<Found, ModelError> {
        match self {
            Self::Run(folder) => of_run(folder, set),
            Self::NewestRun(runs) => of_run(&newest_run(runs)?, set),
            #[cfg(feature = "shipped")]
            Self::Shipped => crate::shipped::find(set),
            Self::Weights { weights, config } => of_weights(weights, config.as_deref(), set),
        }
    }
}

fn of_run<S: AsRef<str>>(folder: &Path, set: &[S]) -> Result<Found, ModelError> {
    let (dir, checkpoint) = checkpoint(folder)?;
    let run_config = checkpoint.config()?.with_overrides(set)?;
    let tokenizer = RunTokenizer::kept(&run_config, &checkpoint)?;
    let label = checkpoint.path.display().to_string();
    Ok(Found { run_config, tokenizer, weights: FoundWeights::Checkpoint(checkpoint), dir, label })
}

fn of_weights<S: AsRef<str>>(weights: &str, config: Option<&Path>, set: &[S]) -> Result<Found, ModelError> {
    let path = PretrainedFolder::find(weights)?.path().to_owned();
    let run_config = match config {
        Some(config) => {
            let mut set: Vec<String> = set.iter().map(|s| s.as_ref().to_owned()).collect();
            set.push(format!("model.init.method={}", path.display()));
            let mut run_config = RunConfig::load(config, &set)?;
            // What was made from training sentences lies beside the weights.
            if run_config.text.vocabulary_file().is_none() {
                run_config = run_config.with_overrides(&["text.vocabulary=from-weights"])?;
            }
            run_config
        }
        None if path.is_dir() => pretrained_config(&path, set)?,
        None => return Err(ModelError::Unnamed { weights: weights.to_owned() }),
    };
    let Some(tokenizer) = RunTokenizer::published(&run_config)? else {
        let expected = "a file, or \"from-weights\" where it lies beside them: released weights need their own vocabulary \
                        (--set text.vocabulary=FILE)";
        return Err(run_config.value_error("text.vocabulary", "none", expected).into());
    };
    Ok(Found { run_config, tokenizer, weights: FoundWeights::Initial, dir: None, label: weights.to_owned() })
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
        AnyModel::open(&self.run_config, self.tokenizer.clone(), device, &self.weights)
    }

    /// All parameters under their official names.
    ///
    /// # Errors
    /// As [`Found::model`].
    pub fn state_dict(&self, device: &Device) -> Result<StateDict, ModelError> {
        let method = AnyMethod::for_weights(&self.run_config, self.tokenizer.clone(), &self.weights)?;
        with_method!(method, method => {
            Ok(export(&method.open(device, &self.weights)?, &method.names(), "export"))
        })
    }

    /// Files that belong beside exported weights, by name: the tokenizer and `config.json`, and what the authors' scripts look for
    /// besides.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
        let method = AnyMethod::new(&self.run_config, self.tokenizer.clone())?;
        let files = with_method!(&method, method => method.files());
        let published = match &method {
            AnyMethod::Evf(method) => method.published_files(),
            AnyMethod::Dit(_) | AnyMethod::Risam(_) => Vec::new(),
        };
        Ok(files.into_iter().chain(published).collect())
    }

    /// Fails unless the scripts of the method's authors can read an exported folder.
    ///
    /// # Errors
    /// The config's key for which they have no form, and what would be right.
    pub fn check_published(&self) -> Result<(), ModelError> {
        match AnyMethod::new(&self.run_config, self.tokenizer.clone())? {
            AnyMethod::Evf(method) => method.check_published(&self.run_config),
            AnyMethod::Dit(_) | AnyMethod::Risam(_) => {
                let found = format!("\"{}\"", self.run_config.model.method.name());
                let expected = "\"evf\": the authors of the other methods publish no such folder";
                Err(self.run_config.value_error("model.method", found, expected).into())
            }
        }
    }
}
