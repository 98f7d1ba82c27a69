//! `cargo xtask test`: unit, integration and doc tests, then golden files on wgpu, the Python package and, in full, the browser's build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::handover::target;
use crate::tidy::root;

/// Golden files that a software driver runs within a minute. The others hold full-size text encoders, one of whose tables
/// is beyond the 128 MiB that the driver gives a buffer.
const SMALL_GOLDENS: &[&str] =
    &["tests/goldens/sam-tiny.safetensors", "tests/goldens/dit-tiny.safetensors", "tests/goldens/risam.safetensors"];

/// What `bindings/python/check.py` says where it cannot make a virtual environment.
const NO_ENVIRONMENT: i32 = 77;

/// Runs unit and integration tests, then the examples in the docs, small golden files through wgpu and the Python package without
/// its models. With `full` also tests that need much time or memory, and the browser's build, which compiles everything once more.
pub(crate) fn run(full: bool) -> Result<()> {
    let root = root()?;
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    let mut first: Vec<&str> =
        if nextest { vec!["nextest", "run", "--workspace"] } else { vec!["test", "--workspace", "--lib", "--bins", "--tests"] };
    let mpi = mpi_features();
    first.extend(mpi);
    if !mpi.is_empty() && !nextest {
        // What the tests of ranks start.
        first.push("--examples");
    }
    if full {
        first.extend(if nextest { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
    }
    cargo(&root, &first)?;
    cargo(&root, &[&["test", "--workspace", "--doc", "--quiet"], mpi].concat())?;
    wgpu(&root)?;
    python(false)?;
    if full {
        return crate::web::test(&root);
    }
    eprintln!("not run: heavy proofs and the browser's build (cargo xtask test --full)");
    Ok(())
}

/// Training and evaluation on several ranks are built where MPI and what reads its headers are installed. The rest of the build stays as
/// it is.
pub(crate) fn mpi_features() -> &'static [&'static str] {
    let runs = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if runs("mpicc") && runs("mpirun") && has_libclang() {
        return &["--features", "saymask/mpi"];
    }
    eprintln!("skipped: ranks that speak MPI; no MPI or no libclang here (Debian: openmpi-bin, libopenmpi-dev, libclang-dev)");
    &[]
}

/// Whether libclang lies where distributions put it.
fn has_libclang() -> bool {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libclang"));
    let below = |folder: PathBuf| entries(&folder).any(is);
    std::env::var_os("LIBCLANG_PATH").is_some()
        || below("/usr/lib64".into())
        || entries("/usr/lib".as_ref()).any(|folder| below(folder.clone()) || below(folder.join("lib")))
}

/// The Python package, built and tested in a virtual environment by its own script; with `all` also its models and its types.
pub(crate) fn python(all: bool) -> Result<()> {
    const READY: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";
    let ready = Command::new("python3").args(["-c", READY]).output().is_ok_and(|o| o.status.success());
    if !ready {
        eprintln!("skipped: the Python package; no python3 from 3.10 on with venv here (Debian: python3-venv)");
        return Ok(());
    }
    let mut command = Command::new("python3");
    command.arg(root()?.join("bindings/python/check.py")).args(all.then_some("--all")).env("CARGO_TARGET_DIR", target()?);
    let status = command.status().context("python3 could not be started")?;
    if status.code() == Some(NO_ENVIRONMENT) {
        eprintln!("skipped: the Python package; its tests' packages could not be installed, see above");
        return Ok(());
    }
    if !status.success() {
        bail!("`python3 bindings/python/check.py{}` failed", if all { " --all" } else { "" });
    }
    Ok(())
}

/// The same arithmetic in WGSL, on Mesa's software driver. It is built apart, so that the CPU's build stays as it is.
fn wgpu(root: &Path) -> Result<()> {
    let Some(driver) = software_driver() else {
        eprintln!("skipped: goldens on wgpu; no software Vulkan driver here (Debian: mesa-vulkan-drivers)");
        return Ok(());
    };
    eprintln!("goldens on wgpu, driver {}", driver.display());
    let folder = target()?.join("wgpu");
    let folder = folder.to_string_lossy();
    let mut step = vec!["run", "--quiet", "--package", "saymask", "--no-default-features", "--features", "webgpu"];
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

fn cargo(root: &Path, step: &[&str]) -> Result<()> {
    eprintln!("cargo {}", step.join(" "));
    let status = Command::new("cargo").args(step).current_dir(root).status().context("cargo could not be started")?;
    if !status.success() {
        bail!("`cargo {}` failed", step.join(" "));
    }
    Ok(())
}
