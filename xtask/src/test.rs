//! `cargo xtask test`: every test, one command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::tidy::root;

/// Golden files that a software driver runs within a minute. The others hold full-size text encoders, one of whose tables
/// is beyond the 128 MiB that the driver gives a buffer.
const SMALL_GOLDENS: &[&str] =
    &["tests/goldens/sam-tiny.safetensors", "tests/goldens/dit-tiny.safetensors", "tests/goldens/risam.safetensors"];

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Also run the tests that need much time or memory.
    #[arg(long)]
    pub full: bool,
}

/// Runs unit and integration tests, then the examples in the docs, then small goldens through wgpu.
pub fn run(args: &TestArgs) -> Result<()> {
    let root = root()?;
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    let mut first: Vec<&str> =
        if nextest { vec!["nextest", "run", "--workspace"] } else { vec!["test", "--workspace", "--lib", "--bins", "--tests"] };
    if args.full {
        first.extend(if nextest { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
    }
    cargo(&root, &first)?;
    cargo(&root, &["test", "--workspace", "--doc", "--quiet"])?;
    wgpu(&root)
}

/// The same arithmetic in WGSL, on Mesa's software driver. It is built apart, so that the CPU's build stays as it is.
fn wgpu(root: &Path) -> Result<()> {
    let Some(driver) = software_driver() else {
        eprintln!("skipped: goldens on wgpu; no software Vulkan driver here (Debian: mesa-vulkan-drivers)");
        return Ok(());
    };
    eprintln!("goldens on wgpu, driver {}", driver.display());
    let folder = target(root).join("wgpu");
    let folder = folder.to_string_lossy();
    let mut step = vec!["run", "--quiet", "--package", "xtask", "--no-default-features", "--features", "webgpu"];
    // The driver does the work; optimising our side of it would only take time.
    step.extend(["--config", "profile.dev.package.\"*\".opt-level=1", "--target-dir", &folder]);
    step.extend(["--", "check", "--device", "wgpu:cpu"]);
    step.extend(SMALL_GOLDENS);
    cargo(root, &step)
}

/// The manifest of Mesa's lavapipe, where Vulkan's loader looks for it.
fn software_driver() -> Option<PathBuf> {
    ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn cargo(root: &Path, step: &[&str]) -> Result<()> {
    eprintln!("cargo {}", step.join(" "));
    let status = Command::new("cargo").args(step).current_dir(root).status().context("cargo could not be started")?;
    if !status.success() {
        bail!("`cargo {}` failed", step.join(" "));
    }
    Ok(())
}
