//! Weights to use: those of a run, or a config with a weight file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use run_config::RunConfig;
use trainer::models::{self, Model};
use trainer::run_dir::{Checkpoint, RunDir};
use trainer::tokenizer::RunTokenizer;

use crate::origin::program;
use crate::{device, hub};

/// Where weights come from.
#[derive(Debug, Args)]
pub struct Source {
    /// Run folder, or one of its checkpoints; the newest run below `runs` if absent.
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

/// A model ready to judge and predict.
pub struct Session {
    /// Its config.
    pub run_config: RunConfig,
    /// Its run folder, if it comes from one.
    pub dir: Option<RunDir>,
    /// The method with its weights.
    pub model: Box<dyn Model>,
    /// What the weights are, in words.
    pub label: String,
}

impl Source {
    /// The device as it was asked for.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Opens config and weights.
    pub fn open(&self) -> Result<Session> {
        self.open_on(&self.device)
    }

    /// As [`Source::open`], on another device.
    pub fn open_on(&self, word: &str) -> Result<Session> {
        let device = device::open(word)?;
        if let Some(weights) = &self.weights {
            let run_config = self.published(weights)?;
            let Some(vocabulary) = run_config.text.vocabulary_file() else {
                bail!("text.vocabulary: released weights need their own vocabulary file; pass --set text.vocabulary=FILE");
            };
            let tokenizer = RunTokenizer::load(run_config.text.tokenizer, vocabulary)?;
            let model = models::open(&run_config, tokenizer, &device, None)?;
            return Ok(Session { run_config, dir: None, model, label: weights.clone() });
        }
        let (dir, checkpoint) = self.checkpoint()?;
        let run_config = checkpoint.config()?.with_overrides(&self.set)?;
        let model = models::open(&run_config, RunTokenizer::kept(&run_config, &checkpoint)?, &device, Some(&checkpoint))?;
        let label = checkpoint.path.display().to_string();
        Ok(Session { run_config, dir, model, label })
    }

    /// The config of weights that no run of ours made.
    fn published(&self, weights: &str) -> Result<RunConfig> {
        let folder = match weights.strip_prefix(hub::PREFIX) {
            Some(repository) => hub::folder(repository)?,
            None => PathBuf::from(weights),
        };
        match &self.config {
            Some(config) => {
                let mut set = self.set.clone();
                set.push(format!("model.init.method={}", folder.display()));
                Ok(RunConfig::load(config, &set)?)
            }
            None if folder.is_dir() => Ok(models::pretrained_config(&folder, &self.set)?),
            None => bail!("--weights {weights}: pass the model's config with --config, or a folder with config.json"),
        }
    }

    /// The best whole checkpoint of the run, or the newest one.
    fn checkpoint(&self) -> Result<(Option<RunDir>, Checkpoint)> {
        let folder = match &self.run {
            Some(folder) => folder.clone(),
            None => newest_run(Path::new("runs"))?,
        };
        if folder.join("manifest.json").exists() {
            return Ok((None, Checkpoint::open(&folder)?));
        }
        let dir = RunDir::at(&folder);
        dir.config()?;
        let found = dir.latest_whole()?;
        let Some(latest) = found.checkpoint else { bail!("{}: no whole checkpoint in this run yet", folder.display()) };
        let best = latest.manifest.state.best.as_ref().map(|b| dir.checkpoint_path(b.step)).filter(|p| p.exists());
        let checkpoint = match best {
            Some(path) => Checkpoint::open(&path)?,
            None => latest,
        };
        Ok((Some(dir), checkpoint))
    }
}

/// The run folder that was written to last.
fn newest_run(runs: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(runs)
        .with_context(|| format!("{}: no runs here; train first ({} train) or pass --run", runs.display(), program()))?;
    let newest = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.join("config.toml").exists())
        .max_by_key(|p| p.join("log.jsonl").metadata().and_then(|m| m.modified()).ok());
    newest.with_context(|| format!("{}: no run in this folder; train first ({} train) or pass --run", runs.display(), program()))
}
