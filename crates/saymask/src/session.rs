//! The options that say which weights a command uses, and on which device.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use models::{AnyModel, Found};

use crate::device;

/// Where weights come from.
#[derive(Debug, Args)]
pub struct Source {
    /// Run folder, or one of its checkpoints; if absent, the newest run below `runs`, and without one the small model that comes with
    /// the program.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "weights"])]
    run: Option<PathBuf>,
    /// Config of a model whose weights are in --weights.
    #[arg(long, value_name = "FILE", requires = "weights")]
    config: Option<PathBuf>,
    /// Weights: a file (.pth, .pt, .bin, .safetensors, a sharded index; with --config), an EVF-SAM folder with config.json,
    /// or hf:OWNER/REPO, such a folder in the Hugging Face cache.
    #[arg(long, value_name = "PATH")]
    weights: Option<String>,
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = device::HELP)]
    device: String,
    /// Changes to the config, such as `eval.profile=dit`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Whether weights are kept in half precision.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct HalfWeights {
    /// Keep the encoders' matrices in half precision: about half the memory; arithmetic stays in single.
    #[arg(long)]
    pub half_weights: bool,
}

/// Says on stderr what of a sentence is not read, or not as it is meant.
pub fn warn_unread(model: &AnyModel, sentence: &str) -> Result<()> {
    if let Some(warning) = model.split_token(sentence)? {
        crate::note!("warning: \"{sentence}\": {warning}");
    }
    if let Some(truncation) = model.truncation(sentence)? {
        crate::note!("warning: \"{sentence}\": {truncation}");
    }
    Ok(())
}

/// Keys of a config that decide what a model answers, by how they begin.
pub const ANSWERING: &[&str] =
    &["model.", "text.", "data.image_size", "data.fit", "eval.precision", "eval.half_weights", "eval.threshold"];
/// Keys that decide how a set is judged.
pub const JUDGING: &[&str] = &["model.", "text.", "data.", "eval.", "run.seed", "train.feature_cache"];

impl Source {
    /// The device as it was asked for.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Finds config, tokenizer and weights, and says on stderr what the weights are. `used` are the keys that the command
    /// `name` reads, by how they begin.
    pub fn find(&self, name: &str, used: &[&str]) -> Result<Found> {
        self.find_kept(name, used, HalfWeights::default())
    }

    /// As [`Source::find`], with weights kept as `half` says.
    pub fn find_kept(&self, name: &str, used: &[&str], half: HalfWeights) -> Result<Found> {
        for setting in &self.set {
            let key = setting.split('=').next().unwrap_or_default().trim();
            if !used.iter().any(|prefix| key.starts_with(prefix)) {
                bail!("--set {setting}: `{name}` does not use {key}; what it uses is {}", used.join(", "));
            }
        }
        let source = match (&self.weights, &self.run) {
            (Some(weights), _) => models::Source::Weights { weights: weights.clone(), config: self.config.clone() },
            (None, Some(folder)) => models::Source::Run(folder.clone()),
            (None, None) => models::Source::newest_run_or_shipped("runs".as_ref()),
        };
        let mut set = self.set.clone();
        if half.half_weights {
            set.push("eval.half_weights=true".to_owned());
        }
        let found = source.find(&set)?;
        crate::note!("weights: {}", found.label);
        Ok(found)
    }
}

/// What `eval --from` and `track` read, which may look for no weights.
impl Source {
    /// The run folder, where one was named.
    pub fn run(&self) -> Option<&std::path::Path> {
        self.run.as_deref()
    }

    /// The file of weights that come without a config.
    pub fn weight_file(&self) -> Option<&std::path::Path> {
        let path = self.weights.as_deref().filter(|_| self.config.is_none())?;
        Some(std::path::Path::new(path)).filter(|path| path.is_file())
    }

    /// Changes to the config.
    pub fn set(&self) -> &[String] {
        &self.set
    }
}
