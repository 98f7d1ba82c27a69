//! Where a figure comes from: machine, device, commit and command.

use std::process::Command;

use burn::tensor::Device;
use metrics::Report;
use serde::{Deserialize, Serialize};

use crate::device::{Kind, Word, driver, identity};

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
            let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
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

    /// Command, machine and commit as a sentence of a table's caption.
    pub fn line(&self) -> String {
        let device = self.device.as_ref().map_or_else(String::new, |d| format!("{d} (host: "));
        let end = if device.is_empty() { "" } else { ")" };
        let driver = self.driver.as_ref().map_or_else(String::new, |d| format!(", driver {d}"));
        format!("`{}` on {device}{}{end}{driver} at commit {}", self.command, self.machine, self.commit)
    }
}

/// How the program was called: `saymask`, or `cargo xtask` and its like, which say so in `SAYMASK_INVOKED_AS`.
pub fn program() -> String {
    std::env::var("SAYMASK_INVOKED_AS").unwrap_or_else(|_| "saymask".into())
}

/// The command that runs, as a shell would take it again.
pub fn command_line() -> String {
    std::env::args().skip(1).fold(program(), |line, word| line + " " + &quoted(&word))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let got = ["--size", "tiny", "--set", "a.b=[1, 2]", "", "it's"].map(quoted);
        assert_eq!(got, ["--size", "tiny", "--set", "'a.b=[1, 2]'", "''", r"'it'\''s'"]);
    }
}
