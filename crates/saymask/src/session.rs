//! The options that say which weights a command uses, and on which device.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use models::Found;

use crate::device;
use crate::origin::program;

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

impl Source {
    /// The device as it was asked for.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Changes to the config.
    pub fn changes(&self) -> &[String] {
        &self.set
    }

    /// Finds config, tokenizer and weights, and says on stderr what the weights are.
    pub fn find(&self) -> Result<Found> {
        let source = match (&self.weights, &self.run) {
            (Some(weights), _) => models::Source::Weights { weights: weights.clone(), config: self.config.clone() },
            (None, Some(folder)) => models::Source::Run(folder.clone()),
            (None, None) => models::Source::NewestRun("runs".into()),
        };
        let newest = matches!(source, models::Source::NewestRun(_));
        let found = source.find(&self.set).map_err(|error| {
            let hint = if newest { format!(" ({} train)", program()) } else { String::new() };
            anyhow::anyhow!("{error}{hint}")
        })?;
        crate::note!("weights: {}", found.label);
        Ok(found)
    }
}
