//! `cargo xtask test`: every test, one command.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::tidy::root;

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Also run the tests that need much time or memory.
    #[arg(long)]
    pub full: bool,
}

/// Runs unit and integration tests, then the examples in the docs.
pub fn run(args: &TestArgs) -> Result<()> {
    let root = root()?;
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    let mut first: Vec<&str> =
        if nextest { vec!["nextest", "run", "--workspace"] } else { vec!["test", "--workspace", "--lib", "--bins", "--tests"] };
    if args.full {
        first.extend(if nextest { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
    }
    for step in [first, vec!["test", "--workspace", "--doc", "--quiet"]] {
        eprintln!("cargo {}", step.join(" "));
        let status = Command::new("cargo").args(&step).current_dir(&root).status().context("cargo could not be started")?;
        if !status.success() {
            bail!("`cargo {}` failed", step.join(" "));
        }
    }
    Ok(())
}
