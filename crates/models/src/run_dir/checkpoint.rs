//! Checkpoints: written beside, synced, renamed; read back only when whole.
//!
//! Names below `checkpoints/`: `step-N` is a checkpoint; `step-N.partial` is being written; `step-N.old` is one that is being
//! replaced and still counts when `step-N` is not whole; `step-N.removed` is being deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CheckpointWriter, RunDir, RunDirError, io_error, same_config};
use crate::manifest::{MANIFEST, Manifest};
use run_config::RunConfig;

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest, verified.
    pub manifest: Manifest,
}

impl Checkpoint {
    /// Opens the checkpoint in the folder `path` and verifies all its files.
    ///
    /// # Errors
    /// [`RunDirError::Damaged`] when a file is missing, cut or changed.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        match Manifest::verify(path) {
            Ok(manifest) => Ok(Self { path: path.to_owned(), manifest }),
            Err(reason) => Err(RunDirError::Damaged { path: path.to_owned(), reason }),
        }
    }

    /// Path of one of its files.
    ///
    /// # Errors
    /// [`RunDirError::Damaged`] when the checkpoint has no such file.
    pub fn file(&self, name: &str) -> Result<PathBuf, RunDirError> {
        if self.manifest.files.contains_key(name) {
            return Ok(self.path.join(name));
        }
        let names: Vec<&str> = self.manifest.files.keys().map(String::as_str).collect();
        Err(RunDirError::Damaged { path: self.path.clone(), reason: format!("it has no file {name}, only {}", names.join(", ")) })
    }

    /// The config it was made by.
    ///
    /// # Errors
    /// [`RunDirError::Config`] when this version cannot read it.
    pub fn config(&self) -> Result<RunConfig, RunDirError> {
        let file = self.path.join(MANIFEST);
        Ok(RunConfig::resolve(&self.manifest.config, Some(&file), &[] as &[&str])?)
    }

    /// Refuses a checkpoint that another config made.
    ///
    /// # Errors
    /// [`RunDirError::OtherConfig`] with the differing keys.
    pub fn check_config(&self, run_config: &RunConfig) -> Result<(), RunDirError> {
        same_config(&self.path, run_config, &self.config()?)
    }
}

/// A checkpoint's folder that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its folder.
    pub path: PathBuf,
    /// Which file is wrong and how.
    pub reason: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped {}: {}", self.path.display(), self.reason)
    }
}

/// What a search for the newest whole checkpoint found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The newest whole one, if there is any.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are not whole, newest first. Unfinished ones do not count.
    pub damaged: Vec<Damaged>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Partial,
    Removed,
    Old,
    Whole,
}

impl Stage {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Partial, ".partial"), (Self::Removed, ".removed"), (Self::Old, ".old"), (Self::Whole, "")];
}

impl RunDir {
    /// Folder of the checkpoint at `step`.
    #[must_use]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.staged(step, Stage::Whole)
    }

    pub(super) fn staged(&self, step: u64, stage: Stage) -> PathBuf {
        let suffix = Stage::ALL.iter().find(|(s, _)| *s == stage).map_or("", |(_, suffix)| suffix);
        self.checkpoints().join(format!("step-{step}{suffix}"))
    }

    /// Every folder that belongs to a checkpoint, oldest first.
    fn all(&self) -> Result<Vec<(u64, Stage)>, RunDirError> {
        let dir = self.checkpoints();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &dir)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &dir))?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("step-")) else {
                continue;
            };
            for (stage, suffix) in Stage::ALL {
                let step = rest.strip_suffix(suffix).and_then(|n| n.parse::<u64>().ok());
                // `step-007` and `step-+7` are nobody's.
                if let Some(step) = step.filter(|step| format!("{step}{suffix}") == rest) {
                    found.push((step, stage));
                    break;
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Steps of the checkpoints, oldest first, whole or not.
    ///
    /// # Errors
    /// [`RunDirError::Io`] when the folder cannot be listed.
    pub fn steps(&self) -> Result<Vec<u64>, RunDirError> {
        let mut steps: Vec<u64> =
            self.all()?.into_iter().filter(|(_, stage)| *stage >= Stage::Old).map(|(step, _)| step).collect();
        steps.dedup();
        Ok(steps)
    }

    /// The newest checkpoint whose every file verifies, and the newer ones that had to be skipped. Changes nothing on disk.
    ///
    /// # Errors
    /// [`RunDirError::Io`] when the folder cannot be listed.
    pub fn latest_whole(&self) -> Result<Found, RunDirError> {
        let mut damaged = Vec::new();
        let candidates = self.all()?.into_iter().rev();
        for (step, stage) in candidates.filter(|(_, stage)| *stage >= Stage::Old) {
            let path = self.staged(step, stage);
            let reason = match Manifest::verify(&path) {
                Ok(manifest) if manifest.state.step == step => {
                    return Ok(Found { checkpoint: Some(Checkpoint { path, manifest }), damaged });
                }
                Ok(manifest) => format!("{MANIFEST}: says step {}, the folder's name says {step}", manifest.state.step),
                Err(reason) => reason,
            };
            damaged.push(Damaged { path, reason });
        }
        Ok(Found { checkpoint: None, damaged })
    }

    /// Begins the checkpoint after `step` optimiser steps.
    ///
    /// # Errors
    /// [`RunDirError::Io`] when the system refuses.
    pub fn checkpoint(&self, step: u64) -> Result<CheckpointWriter, RunDirError> {
        let partial = self.staged(step, Stage::Partial);
        remove(&partial)?;
        fs::create_dir_all(&partial).map_err(io_error("create", &partial))?;
        Ok(CheckpointWriter::new(self.clone(), step, partial))
    }

    /// Deletes all checkpoints up to `current` but the `keep` newest of them and the one at step `best`; also what unfinished
    /// writes and deletions have left. Returns the steps deleted. Checkpoints later than `current` are left alone.
    ///
    /// # Errors
    /// [`RunDirError::Io`] when the system refuses.
    pub fn prune(&self, current: u64, keep: usize, best: Option<u64>) -> Result<Vec<u64>, RunDirError> {
        self.sweep()?;
        let mut steps = self.steps()?;
        steps.retain(|&step| step <= current);
        let old = steps.len().saturating_sub(keep.max(1));
        let gone: Vec<u64> = steps.into_iter().take(old).filter(|&step| Some(step) != best).collect();
        self.delete(&gone)?;
        Ok(gone)
    }

    /// Deletes all checkpoints later than `step`, as a run that continues from an older one must. Returns the steps deleted.
    ///
    /// # Errors
    /// [`RunDirError::Io`] when the system refuses.
    pub fn discard_after(&self, step: u64) -> Result<Vec<u64>, RunDirError> {
        self.sweep()?;
        let mut gone = self.steps()?;
        gone.retain(|&later| later > step);
        self.delete(&gone)?;
        Ok(gone)
    }

    fn delete(&self, steps: &[u64]) -> Result<(), RunDirError> {
        for &step in steps {
            for stage in [Stage::Old, Stage::Whole] {
                let (from, to) = (self.staged(step, stage), self.staged(step, Stage::Removed));
                if from.exists() {
                    // Renamed first: a half-deleted folder must not look like a damaged checkpoint.
                    fs::rename(&from, &to).map_err(io_error("delete", &from))?;
                    remove(&to)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes what unfinished writes and deletions have left, and replaced checkpoints whose replacement is in place.
    fn sweep(&self) -> Result<(), RunDirError> {
        for (step, stage) in self.all()? {
            let left_over = match stage {
                Stage::Partial | Stage::Removed => true,
                Stage::Old => Manifest::verify(&self.staged(step, Stage::Whole)).is_ok(),
                Stage::Whole => false,
            };
            if left_over {
                remove(&self.staged(step, stage))?;
            }
        }
        Ok(())
    }
}

pub(super) fn remove(path: &Path) -> Result<(), RunDirError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("delete", path)(error)),
        _ => Ok(()),
    }
}
