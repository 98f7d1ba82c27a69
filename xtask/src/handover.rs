//! Builds a package of the workspace and runs its binary with the rest of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tidy::root;

/// Cargo features that this `xtask` was built with, and the alias that does so.
const BUILDS: [(bool, &str, &str); 5] = [
    (cfg!(feature = "cuda-nvrtc"), "cuda-nvrtc", "cargo xtask-cuda"),
    (cfg!(feature = "cuda"), "cuda", "cargo xtask-cuda"),
    (cfg!(feature = "vulkan"), "vulkan", "cargo xtask-vulkan"),
    (cfg!(feature = "metal"), "metal", "cargo xtask-metal"),
    (cfg!(feature = "webgpu"), "webgpu", "cargo xtask-webgpu"),
];

/// Runs the binary of `package` in the current folder; its exit code.
pub(crate) fn run(package: &str, args: &[OsString]) -> Result<i32> {
    let build = BUILDS.iter().find(|(built, ..)| *built);
    let mut command = Command::new("cargo");
    command.arg("run").arg("--manifest-path").arg(root()?.join("Cargo.toml")).args(["--package", package]);
    if cfg!(not(debug_assertions)) {
        command.arg("--release");
    }
    if let Some((_, feature, _)) = build {
        command.args(["--features", feature]);
    }
    // The first build takes minutes and shows what it does; later ones are silent.
    if binary(package)?.exists() {
        command.arg("--quiet");
    }
    command.arg("--").args(args).env("SAYMASK_INVOKED_AS", build.map_or("cargo xtask", |(_, _, alias)| alias));
    let status = command.status().context("cargo could not be started")?;
    Ok(status.code().unwrap_or(1))
}

/// Where Cargo puts the binary.
fn binary(package: &str) -> Result<PathBuf> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(target()?.join(profile).join(format!("{package}{}", std::env::consts::EXE_SUFFIX)))
}

/// Cargo's target folder.
pub(crate) fn target() -> Result<PathBuf> {
    let root = root()?;
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder)))
}
