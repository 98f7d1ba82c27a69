//! PyTorch's side of the benches: `tools/bench_torch.py` on the same case, on the same machine, in the same run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::child::figures;
use super::measure::Memory;
use crate::root;

const SCRIPT: &str = "tools/bench_torch.py";

/// Whether and how to time PyTorch.
#[derive(Debug, Clone, Args)]
pub(crate) struct TorchArgs {
    /// Also time PyTorch on the same shapes: eager, in the same precision, with as many threads.
    #[arg(long)]
    pub torch: bool,
    /// A Python that has what tools/requirements-bench.txt names.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
    /// Options for tools/bench_torch.py, such as "--attention sdpa --compile". Repeatable where a method is measured: each
    /// of them is timed.
    #[arg(long, value_name = "OPTIONS", default_values = [""], allow_hyphen_values = true)]
    pub torch_options: Vec<String>,
}

/// What PyTorch needed for one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Torch {
    /// Attention, precision and what else was chosen.
    pub label: String,
    /// Of PyTorch and of the packages that models come from.
    pub versions: String,
    /// Parameters in all and those that are trained.
    pub parameters: (usize, usize),
    /// Seconds of each pass.
    #[serde(flatten)]
    pub passes: Passes,
    #[serde(flatten)]
    pub memory: Memory,
}

/// Seconds of each pass, by what was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Passes {
    /// From an image and one sentence to its mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<f64>,
    /// Each further sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<f64>,
    /// A training step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
}

impl TorchArgs {
    /// The script with options; those of the command line come last, so that they count.
    pub(crate) fn command(&self, bench: &str, args: &[&str], options: &str) -> Result<Command> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut command = Command::new(&self.python);
        command.arg(root()?.join(SCRIPT)).arg(bench).args(args).args(["--threads", &threads]).args(options.split_whitespace());
        Ok(command)
    }

    /// PyTorch's figures of a described case, one a `--torch-options`; none without `--torch`.
    pub(crate) fn figures(&self, bench: &str, args: &[&str], case: &serde_json::Value) -> Result<Vec<Torch>> {
        if !self.torch {
            return Ok(Vec::new());
        }
        let one = |options: &String| {
            figures(&mut self.command(bench, args, options)?, &case.to_string())
                .with_context(|| format!("{SCRIPT} {bench} {options}").trim_end().to_owned())
        };
        self.torch_options.iter().map(one).collect()
    }
}

impl Torch {
    /// Fails where PyTorch's model is another than ours: as many parameters, all and (where they are known) trained.
    pub(crate) fn expect(&self, of: &str, all: usize, trained: Option<usize>) -> Result<()> {
        let (theirs, theirs_trained) = self.parameters;
        if theirs != all {
            bail!("{of}: PyTorch's model has {theirs} parameters and ours {all}; times of other models are not compared");
        }
        match trained {
            Some(ours) if ours != theirs_trained => {
                bail!("{of}: PyTorch's model trains {theirs_trained} parameters and ours {ours}; other steps are not compared")
            }
            _ => Ok(()),
        }
    }
}

/// The head of a table's columns for PyTorch, and the line of dashes under it, each with its closing bar.
pub(crate) fn heads(of: &[Torch], columns: &[&str]) -> (String, String) {
    let head = |torch: &Torch| format!(" PyTorch ({}): {} |", torch.label, columns.join(" | "));
    (of.iter().map(head).collect(), "---|".repeat(of.len() * columns.len()))
}

/// What was compared with, for the line under a table.
pub(crate) fn says(of: &[Torch]) -> String {
    let Some(first) = of.first() else { return String::new() };
    format!(" {}, as many threads, sentences as our tokenizer cuts them, models with as many parameters.", first.versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"seconds": [0.5], "parameters": [90, 20], "label": "eager, f32", "versions": "PyTorch 2", "host_bytes": 7}"#;

    #[test]
    fn figures_are_read_and_other_models_refused() {
        let torch: Torch = serde_json::from_str(LINE).unwrap();
        assert_eq!((torch.passes.seconds.as_slice(), torch.passes.first.len()), ([0.5].as_slice(), 0));
        assert_eq!(torch.memory, Memory { host_bytes: Some(7), device_bytes: None });
        assert!(torch.expect("dit", 90, Some(20)).is_ok() && torch.expect("dit", 90, None).is_ok());
        let other = torch.expect("dit ViT-B", 91, Some(20)).unwrap_err().to_string();
        assert!(other.contains("dit ViT-B") && other.contains("90") && other.contains("91"), "{other}");
        let frozen = torch.expect("dit", 90, Some(21)).unwrap_err().to_string();
        assert!(frozen.contains("20") && frozen.contains("21"), "{frozen}");
    }

    #[test]
    fn the_command_lines_options_come_last() {
        let args = TorchArgs { torch: true, python: "python3".into(), torch_options: vec!["--dtype bf16".into()] };
        let command = args.command("train", &["--dtype", "f32"], &args.torch_options[0]).unwrap();
        let words: Vec<String> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert!(words[0].ends_with(SCRIPT) && words[1] == "train", "{words:?}");
        assert_eq!(words.iter().rposition(|w| w == "bf16"), Some(words.len() - 1), "{words:?}");
    }
}
