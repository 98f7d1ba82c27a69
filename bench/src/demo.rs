//! Figures of the demonstration and of the tests.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use metrics::Report;
use models::run_dir::RunDir;
use serde::{Deserialize, Serialize};

use saymask::origin::{Origin, RunFigures};
use saymask::table;

use super::{WriteArgs, fill, root, save};

/// Options of `bench demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The run.
    #[arg(long, value_name = "FOLDER", default_value = "runs/demo-dit")]
    run: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Debug, Serialize, Deserialize)]
struct TestFigures {
    origin: Origin,
    seconds: f64,
}

pub(crate) fn demo(args: &DemoArgs) -> Result<()> {
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
    saymask::say!("{block}");
    if args.write.write {
        let (docs, run_config) = (root()?.join("docs"), RunDir::at(&args.run).config()?);
        // The first demonstration's block is the demonstration.
        let name = if run_config.run.name == "demo-dit" { "demo".to_owned() } else { run_config.run.name };
        // A run without a block in README leaves no files behind.
        fill(&name, &block)?;
        save(&docs.join(format!("figures/{name}.json")), text.as_bytes())?;
        let stem = figures.reports.first().context("the run was not judged")?.stem();
        let figure = args.run.join("figures").join(format!("{stem}-1.png"));
        let bytes = std::fs::read(&figure).with_context(|| format!("{}", figure.display()))?;
        save(&docs.join(format!("{name}.png")), &bytes)?;
    }
    Ok(())
}

/// Methods and the names of their demonstrations' figures.
const DEMOS: [(&str, &str); 3] = [("dit", "demo"), ("evf", "demo-evf"), ("risam", "demo-risam")];

/// The first split's figures of all demonstrations, as README shows them.
pub(crate) fn demos(args: &WriteArgs) -> Result<()> {
    let mut block = String::from("| `cargo xtask train` | mIoU | text shuffled | time |\n|---|---|---|---|\n");
    for (method, name) in DEMOS {
        let path = root()?.join(format!("docs/figures/{name}.json"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let figures: RunFigures = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let percent = |r: Option<&Report>| r.map_or("-".to_owned(), |r| format!("{:.1}", 100.0 * r.miou));
        let (own, shuffled) = (percent(figures.reports.first()), percent(figures.shuffled.as_ref()));
        block += &format!("| `--method {method}` | {own} | {shuffled} | {:.0} s |\n", figures.seconds);
    }
    block += "\n\"Text shuffled\" gives every sentence to another expression: what is left is what the model knows without its text. From \
              scratch at this size, runs of EVF-SAM and RISAM end far apart from start to start (crates/saymask/demos/evf.toml). The whole tables, with machine and commit: [docs/performance.md](docs/performance.md).";
    saymask::say!("{block}");
    if args.write { fill("demos", &block) } else { Ok(()) }
}

pub(crate) fn test(args: &WriteArgs) -> Result<()> {
    let begun = Instant::now();
    let status =
        Command::new("cargo").args(["xtask", "test"]).current_dir(root()?).status().context("cargo could not be started")?;
    ensure!(status.success(), "`cargo xtask test` failed, so its time says nothing");
    let figures = TestFigures { origin: Origin::here("cargo xtask bench test --write"), seconds: begun.elapsed().as_secs_f64() };
    let block = format!("All tests take {:.0} s once built: {}.", figures.seconds, figures.origin.line());
    saymask::say!("{block}");
    if args.write {
        save(&root()?.join("docs/figures/test.json"), serde_json::to_string_pretty(&figures)?.as_bytes())?;
        fill("test", &block)?;
    }
    Ok(())
}
