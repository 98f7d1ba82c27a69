//! `cargo xtask bench`: figures with machine, commit and command, and the README blocks that show them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use metrics::Report;
use serde::{Deserialize, Serialize};

use crate::table;
use crate::tidy::root;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Figures and a picture of a finished demonstration run.
    Demo(DemoArgs),
    /// Training steps with and without kept features of the frozen image encoder.
    Cache(crate::bench_cache::CacheArgs),
    /// The time that `cargo xtask test` takes with everything built.
    Test(WriteArgs),
    /// Time of DIT's forward passes and memory of its training steps on the CPU, beside the paper's.
    Dit(crate::bench_dit::DitArgs),
}

/// Options of `bench demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The run.
    #[arg(long, value_name = "FOLDER", default_value = "runs/demo-dit")]
    run: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
}

/// Whether to write.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Write `docs/figures` and the blocks of README.md.
    #[arg(long)]
    pub(crate) write: bool,
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

    pub(crate) fn line(&self) -> String {
        format!("`{}` on {} at commit {}", self.command, self.machine, self.commit)
    }
}

/// What `train` leaves beside a finished run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunFigures {
    /// Where it ran.
    pub origin: Origin,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training and evaluation, building and generating not counted.
    pub seconds: f64,
    /// Figures, one a split.
    pub reports: Vec<Report>,
    /// Figures with sentences exchanged.
    pub shuffled: Option<Report>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TestFigures {
    origin: Origin,
    seconds: f64,
}

/// Runs the command.
pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Demo(args) => demo(args),
        BenchCommand::Cache(args) => crate::bench_cache::run(args),
        BenchCommand::Test(args) => test(args),
        BenchCommand::Dit(args) => crate::bench_dit::run(args),
    }
}

fn demo(args: &DemoArgs) -> Result<()> {
    let path = args.run.join("figures.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}: a finished run has this file", path.display()))?;
    let figures: RunFigures = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let block = format!(
        "```\n{}\n```\n\n{} steps in {:.0} s: {}.",
        table::reports(&figures.reports, figures.shuffled.as_ref()).trim_end(),
        figures.steps,
        figures.seconds,
        figures.origin.line()
    );
    println!("{block}");
    if args.write.write {
        let docs = root()?.join("docs");
        save(&docs.join("figures/demo.json"), text.as_bytes())?;
        let picture =
            args.run.join("pictures").join(format!("{}-1.png", figures.reports.first().map_or("val", |r| r.split.as_str())));
        let bytes = std::fs::read(&picture).with_context(|| format!("{}", picture.display()))?;
        save(&docs.join("demo.png"), &bytes)?;
        fill("demo", &block)?;
    }
    Ok(())
}

fn test(args: &WriteArgs) -> Result<()> {
    let begun = Instant::now();
    crate::test::run(&crate::test::TestArgs { full: false })?;
    let figures = TestFigures { origin: Origin::here("cargo xtask bench test --write"), seconds: begun.elapsed().as_secs_f64() };
    let block = format!("All tests take {:.0} s once built: {}.", figures.seconds, figures.origin.line());
    println!("{block}");
    if args.write {
        save(&root()?.join("docs/figures/test.json"), serde_json::to_string_pretty(&figures)?.as_bytes())?;
        fill("test", &block)?;
    }
    Ok(())
}

pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("{}", path.display()))
}

/// Replaces what stands between `<!-- figures:NAME -->` and `<!-- /figures -->` in README.md.
pub(crate) fn fill(name: &str, block: &str) -> Result<()> {
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
