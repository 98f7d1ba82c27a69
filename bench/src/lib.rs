//! `cargo xtask bench`: figures of record with machine, commit and command, and the blocks in the docs that show them.

mod ablate;
mod build;
mod cache;
mod case;
mod child;
mod demo;
mod dit;
mod flops;
mod measure;
mod methods;
mod models;
mod reliability;
mod sam;
mod scaling;
mod serve;
mod sets;
mod steps;
mod torch;
mod web;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

pub use ablate::AblateArgs;
pub use cache::CacheArgs;
pub use demo::DemoArgs;
pub use dit::DitArgs;
pub use methods::MethodsArgs;
pub use reliability::{ReliabilityArgs, SoakArgs};
pub use sam::SamArgs;
pub use scaling::ScalingArgs;
pub use serve::ServeBenchArgs;
pub use sets::SetsArgs;
pub use steps::TrainBenchArgs;
pub use web::WebArgs;

use saymask::origin::Origin;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Rows of a paper's tables at toy size, beside the paper's figures; `cargo xtask ablate` is the same.
    Ablate(AblateArgs),
    /// Figures and an image of a finished demonstration run.
    Demo(DemoArgs),
    /// Training steps with and without kept features of the frozen image encoder.
    Cache(CacheArgs),
    /// README's table of the demonstrations, from docs/figures.
    Demos(WriteArgs),
    /// Cold builds of README's two commands: takes as long as they do.
    Build(WriteArgs),
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
    /// Commands that are killed or meet a full disk, and what they lose.
    Reliability(ReliabilityArgs),
    /// What training on 1 to 64 GPUs would cost, computed from the figures of `train`; nothing is run.
    Scaling(ScalingArgs),
    /// What `serve` adds to `predict`, and thousands of mixed requests.
    Serve(ServeBenchArgs),
    /// Opening multi-task sets of their published sizes: time and memory.
    Sets(SetsArgs),
    /// Memory and pace of finished runs, early and late.
    Soak(SoakArgs),
    /// Sizes, times and memory of the page without a server, in Node.
    Web(WebArgs),
}

/// Whether to write.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Write `docs/figures` and the blocks of README.md and docs/performance.md.
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
    /// Prints the table of the block `name` and writes what was asked for.
    fn publish(&self, name: &str, figures: &impl Serialize, table: &str) -> Result<()> {
        saymask::say!("{table}");
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

/// Runs the command.
pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Ablate(args) => ablate::run(args),
        BenchCommand::Demo(args) => demo::demo(args),
        BenchCommand::Cache(args) => cache::run(args),
        BenchCommand::Demos(args) => demo::demos(args),
        BenchCommand::Build(args) => build::run(args),
        BenchCommand::Test(args) => demo::test(args),
        BenchCommand::Dit(args) => dit::run(args),
        BenchCommand::Sam(args) => sam::run(args),
        BenchCommand::Methods(args) => methods::run(args),
        BenchCommand::Train(args) => steps::run(args),
        BenchCommand::Reliability(args) => reliability::run(args),
        BenchCommand::Scaling(args) => scaling::run(args),
        BenchCommand::Serve(args) => serve::run(args),
        BenchCommand::Sets(args) => sets::run(args),
        BenchCommand::Soak(args) => reliability::soak(args),
        BenchCommand::Web(args) => web::run(args),
    }
}

/// The repository's root folder.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("the workspace has no root")?.to_owned())
}

fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("{}", path.display()))
}

/// The command that runs, as a shell would take it again; `ablate` has a name of its own in `cargo xtask`.
fn command_line() -> String {
    let words = saymask::origin::command_line();
    let program = saymask::origin::program();
    match words.strip_prefix(&program) {
        Some(rest) if !rest.trim_start().starts_with("ablate") => format!("{program} bench{rest}"),
        _ => words,
    }
}

/// Pages with blocks.
const PAGES: [&str; 8] = [
    "README.md",
    "docs/ablations.md",
    "docs/clusters.md",
    "docs/data.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/serve.md",
    "docs/web.md",
];

/// Replaces what stands between `<!-- figures:NAME -->` and `<!-- /figures -->` on the page that has this block.
fn fill(name: &str, block: &str) -> Result<()> {
    for page in PAGES {
        let path = root()?.join(page);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        if let Some(filled) = replace(&text, name, block) {
            return save(&path, filled.as_bytes());
        }
    }
    bail!("no block `figures:{name}` in {}", PAGES.join(" or "))
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
