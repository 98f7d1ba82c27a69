//! `cargo xtask bench`: figures with machine, commit and command, and the README blocks that show them.

mod cache;
mod case;
mod child;
mod demo;
mod dit;
mod flops;
mod measure;
mod methods;
mod models;
mod sam;
mod steps;
mod torch;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

pub use cache::CacheArgs;
pub use demo::{DemoArgs, RunFigures};
pub use dit::DitArgs;
pub use methods::MethodsArgs;
pub use sam::SamArgs;
pub use steps::TrainBenchArgs;

use crate::device::{Kind, Word, driver, identity};
use crate::tidy::root;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Figures and a picture of a finished demonstration run.
    Demo(DemoArgs),
    /// Training steps with and without kept features of the frozen image encoder.
    Cache(CacheArgs),
    /// The time that `cargo xtask test` takes with everything built.
    Test(WriteArgs),
    /// Time of DIT's forward passes and memory of its training steps on the CPU, beside the paper's.
    Dit(DitArgs),
    /// Time and memory of Segment Anything on the CPU, also beside PyTorch.
    Sam(SamArgs),
    /// From an image and a sentence to a mask, for every method, on any device.
    Methods(MethodsArgs),
    /// Time and memory of a training step of every method, on any device.
    Train(TrainBenchArgs),
}

/// Whether to write.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Write `docs/figures` and the blocks of README.md.
    #[arg(long)]
    write: bool,
}

/// Where a table's numbers go.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

impl OutputArgs {
    /// Prints the table of README's block `name` and writes what was asked for.
    fn publish(&self, name: &str, figures: &impl Serialize, table: &str) -> Result<()> {
        println!("{table}");
        let text = serde_json::to_string_pretty(figures)? + "\n";
        if let Some(path) = &self.json {
            save(path, text.as_bytes())?;
        }
        if self.write.write {
            save(&root()?.join(format!("docs/figures/{name}.json")), text.as_bytes())?;
            fill(name, table)?;
        }
        Ok(())
    }
}

/// Where a figure comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    /// Processor and number of threads.
    pub machine: String,
    /// Commit, with a mark when the tree had changes.
    pub commit: String,
    /// The command that made it.
    pub command: String,
    /// What computed, where that is not the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its driver, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl Origin {
    /// This machine and this commit.
    pub fn here(command: &str) -> Self {
        let git = |args: &[&str]| {
            let out = Command::new("git").args(args).current_dir(root().ok()?).output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
        Self {
            machine: processor(),
            commit: if changed { format!("{commit} with changes") } else { commit },
            command: command.to_owned(),
            device: None,
            driver: None,
        }
    }

    /// The same, with the device that did the work where that is not the processor itself.
    pub fn on(word: &str, device: &Device, command: &str) -> Self {
        let kind = Word::parse(word).map_or(Kind::Cpu, |w| w.kind);
        let name = (kind != Kind::Cpu).then(|| format!("{word}: {}", identity(device).unwrap_or_else(|| "unnamed".into())));
        Self { driver: name.as_ref().and_then(|_| driver(kind)), device: name, ..Self::here(command) }
    }

    fn line(&self) -> String {
        let device = self.device.as_ref().map_or_else(String::new, |d| format!("{d} (host: "));
        let end = if device.is_empty() { "" } else { ")" };
        let driver = self.driver.as_ref().map_or_else(String::new, |d| format!(", driver {d}"));
        format!("`{}` on {device}{}{end}{driver} at commit {}", self.command, self.machine, self.commit)
    }
}

/// The command that runs, as a shell would take it again.
fn command_line() -> String {
    std::env::args().skip(1).fold("cargo xtask".to_owned(), |line, word| line + " " + &quoted(&word))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.,:=/+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The processor and its threads, in words.
pub fn processor() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {threads} threads", cpu.unwrap_or_else(|| std::env::consts::ARCH.into()))
}

/// Runs the command.
pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Demo(args) => demo::demo(args),
        BenchCommand::Cache(args) => cache::run(args),
        BenchCommand::Test(args) => demo::test(args),
        BenchCommand::Dit(args) => dit::run(args),
        BenchCommand::Sam(args) => sam::run(args),
        BenchCommand::Methods(args) => methods::run(args),
        BenchCommand::Train(args) => steps::run(args),
    }
}

fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("{}", path.display()))
}

/// Replaces what stands between `<!-- figures:NAME -->` and `<!-- /figures -->` in README.md.
fn fill(name: &str, block: &str) -> Result<()> {
    let path = root()?.join("README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let filled = replace(&text, name, block).with_context(|| format!("{}: no block `figures:{name}`", path.display()))?;
    save(&path, filled.as_bytes())
}

fn replace(text: &str, name: &str, block: &str) -> Option<String> {
    let open = format!("<!-- figures:{name} -->");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find("<!-- /figures -->")?;
    Some(format!("{}\n{block}\n{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let got = ["--size", "tiny", "--set", "a.b=[1, 2]", "", "it's"].map(quoted);
        assert_eq!(got, ["--size", "tiny", "--set", "'a.b=[1, 2]'", "''", r"'it'\''s'"]);
    }

    #[test]
    fn a_block_is_replaced_and_the_rest_stays() {
        let text = "a\n<!-- figures:x -->\nold\n<!-- /figures -->\nb\n<!-- figures:y -->\nkept\n<!-- /figures -->\n";
        let got = replace(text, "x", "new").unwrap();
        assert_eq!(got, "a\n<!-- figures:x -->\nnew\n<!-- /figures -->\nb\n<!-- figures:y -->\nkept\n<!-- /figures -->\n");
        assert!(replace(text, "z", "new").is_none());
    }
}
