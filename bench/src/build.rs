//! `cargo xtask bench build`: what the two commands of README build from nothing, and how long that takes.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use saymask::origin::Origin;

use serde::Serialize;

use super::measure::load;
use super::{WriteArgs, command_line, fill, root, save};

/// Clock ticks per second of Linux's `/proc`.
const TICKS: f64 = 100.0;

#[derive(Serialize)]
struct Figures {
    origin: Origin,
    load: Option<f64>,
    steps: Vec<Step>,
}

/// One cargo command in an empty target folder, or behind the ones before it.
#[derive(Serialize)]
struct Step {
    what: String,
    command: String,
    /// Minutes on the wall.
    wall: f64,
    /// Minutes of CPU, all processes together.
    cpu: f64,
    /// Crates compiled.
    crates: usize,
}

/// Runs the command.
pub(crate) fn run(args: &WriteArgs) -> Result<()> {
    let load = load();
    let folder = std::env::temp_dir().join(format!("saymask-build-{}", std::process::id()));
    let steps = [
        ("first command: the program", &["build", "--package", "xtask", "--package", "saymask"][..]),
        ("the tests on top of it", &["test", "--workspace", "--no-run"]),
        ("`cargo xtask tidy` on top of both", &["clippy", "--workspace", "--all-targets"]),
    ];
    let steps = steps.iter().map(|(what, cargo)| step(what, cargo, &folder)).collect::<Result<Vec<_>>>();
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let figures = Figures { origin: Origin::here(&command_line()), load, steps: steps? };
    let mut block = String::from("| cold build | minutes | minutes of CPU | crates | command |\n|---|---|---|---|---|\n");
    for step in &figures.steps {
        block += &format!("| {} | {:.1} | {:.1} | {} | `{}` |\n", step.what, step.wall, step.cpu, step.crates, step.command);
    }
    let busy = figures.load.map_or(String::new(), |l| format!(" Load before it began: {l:.1}."));
    block += &format!("\nCrates were downloaded before.{busy} {}.", figures.origin.line());
    saymask::say!("{block}");
    if args.write {
        save(&root()?.join("docs/figures/build.json"), serde_json::to_string_pretty(&figures)?.as_bytes())?;
        fill("build", &block)?;
    }
    Ok(())
}

fn step(what: &str, cargo: &[&str], folder: &Path) -> Result<Step> {
    saymask::note!("{what} ...");
    let (begun, before) = (Instant::now(), children()?);
    let out = Command::new("cargo")
        .args(cargo)
        .arg("--target-dir")
        .arg(folder)
        .current_dir(root()?)
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .context("cargo could not be started")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "cargo {}: {}", cargo.join(" "), said.lines().last().unwrap_or_default());
    let crates =
        said.lines().filter(|l| l.trim_start().starts_with("Compiling") || l.trim_start().starts_with("Checking")).count();
    let (wall, cpu) = (begun.elapsed().as_secs_f64() / 60.0, (children()? - before) / 60.0);
    Ok(Step { what: what.into(), command: format!("cargo {}", cargo.join(" ")), wall, cpu, crates })
}

/// Seconds of CPU of all processes that this one has waited for, from Linux's `/proc/self/stat`.
fn children() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("CPU time is read from Linux's /proc/self/stat")?;
    // The name in brackets may hold spaces; user and system time of children are fields 16 and 17, from 1.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).context("/proc/self/stat has another form");
    Ok((ticks(13)? + ticks(14)?) / TICKS)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_child_is_counted() {
        let before = children().unwrap();
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", spin]).status().unwrap().success());
        assert!(children().unwrap() > before);
    }
}
