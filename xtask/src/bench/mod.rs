//! `cargo xtask bench`: figures with machine, commit and command, and the README blocks that show them.

mod cache;
mod demo;
mod dit;
mod sam;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

pub use cache::CacheArgs;
pub use demo::{DemoArgs, RunFigures};
pub use dit::DitArgs;
pub use sam::SamArgs;

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
}

/// Whether to write.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Write `docs/figures` and the blocks of README.md.
    #[arg(long)]
    write: bool,
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
}

impl Origin {
    /// This machine and this commit.
    pub fn here(command: &str) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let git = |args: &[&str]| {
            let out = Command::new("git").args(args).current_dir(root().ok()?).output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
        Self {
            machine: format!("{}, {threads} threads", cpu.unwrap_or_else(|| std::env::consts::ARCH.into())),
            commit: if changed { format!("{commit} with changes") } else { commit },
            command: command.to_owned(),
        }
    }

    fn line(&self) -> String {
        format!("`{}` on {} at commit {}", self.command, self.machine, self.commit)
    }
}

/// Runs the command.
pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Demo(args) => demo::demo(args),
        BenchCommand::Cache(args) => cache::run(args),
        BenchCommand::Test(args) => demo::test(args),
        BenchCommand::Dit(args) => dit::run(args),
        BenchCommand::Sam(args) => sam::run(args),
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
    fn a_block_is_replaced_and_the_rest_stays() {
        let text = "a\n<!-- figures:x -->\nold\n<!-- /figures -->\nb\n<!-- figures:y -->\nkept\n<!-- /figures -->\n";
        let got = replace(text, "x", "new").unwrap();
        assert_eq!(got, "a\n<!-- figures:x -->\nnew\n<!-- /figures -->\nb\n<!-- figures:y -->\nkept\n<!-- /figures -->\n");
        assert!(replace(text, "z", "new").is_none());
    }
}
