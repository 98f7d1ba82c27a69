//! The folder of a run: `runs/NAME/`.
//!
//! ```text
//! config.toml            the resolved plan
//! log.jsonl              a line per logged step and per evaluation
//! timing.jsonl           wall-clock values of the same steps
//! checkpoints/step-N/    files and manifest.json
//! eval/*.json            results
//! pictures/*.png         examples
//! curves.svg             loss, learning rate, metrics
//! ```
//!
//! A checkpoint is written to `step-N.partial`, synced and renamed, so a run killed at any moment has its older checkpoints, and
//! the new one either whole or not at all.

mod checkpoint;
mod writer;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::plan::{Difference, PlanError, RunPlan};

pub use checkpoint::{Checkpoint, Damaged, Found};
pub use writer::CheckpointWriter;

/// A run's folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused to read or write.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why the system refused.
        source: io::Error,
    },
    /// The folder already holds a run.
    #[error(
        "{} already holds a run; continue it with --resume, or choose another `run.name`",
        path.display()
    )]
    Exists {
        /// The run's folder.
        path: PathBuf,
    },
    /// There is no run to resume.
    #[error("{} holds no run (it has no config.toml); check `run.dir` and `run.name`", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run or checkpoint of another plan.
    #[error(
        "{} belongs to another plan; change these keys back or choose another `run.name`:\n{}",
        path.display(),
        list(differences)
    )]
    OtherPlan {
        /// The run's folder or the checkpoint.
        path: PathBuf,
        /// The keys: wanted now (here) and kept with the run (there).
        differences: Vec<Difference>,
    },
    /// A file's name in a checkpoint that is not a plain one.
    #[error("{name:?} cannot be a file of a checkpoint; use a plain name other than manifest.json, once")]
    FileName {
        /// The name given.
        name: String,
    },
    /// A checkpoint named by the user is damaged.
    #[error("the checkpoint {} is damaged: {reason}", path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// Which file is wrong and how.
        reason: String,
    },
    /// The state cannot be written.
    #[error("the manifest of {} cannot be written: {reason}", path.display())]
    Manifest {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A plan that cannot be read or written.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(|d| format!("  {d}")).collect();
    lines.join("\n")
}

/// Adds what was tried, and on what, to the system's error.
pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| RunDirError::Io { what, path, source }
}

/// Makes the entries of a folder durable, where the system has a way to.
pub(crate) fn sync_dir(path: &Path) -> Result<(), RunDirError> {
    if cfg!(unix) {
        File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", path))?;
    }
    Ok(())
}

/// Writes a file so that a reader, or a crash, sees either the old contents or the new ones.
///
/// # Errors
/// [`RunDirError::Io`] when the system refuses.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), RunDirError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = File::create(&partial).map_err(io_error("create", &partial))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(io_error("write", &partial))?;
    drop(file);
    fs::rename(&partial, path).map_err(io_error("write", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The folder that the plan names, whether or not it exists.
    #[must_use]
    pub fn of(plan: &RunPlan) -> Self {
        Self::at(plan.run.dir.join(&plan.run.name))
    }

    /// A folder by path, whether or not it exists.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The plan's name, or with `-2`, `-3`, ... behind it the first one whose folder holds no run.
    #[must_use]
    pub fn free_name(plan: &RunPlan) -> String {
        let name = &plan.run.name;
        let taken = |name: &str| Self::at(plan.run.dir.join(name)).config().exists();
        if !taken(name) {
            return name.clone();
        }
        (2u32..).map(|n| format!("{name}-{n}")).find(|name| !taken(name)).unwrap_or_else(|| name.clone())
    }

    /// Starts a new run: makes its folders and writes the resolved plan.
    ///
    /// # Errors
    /// [`RunDirError::Exists`] when the folder already holds a run, [`RunDirError::Io`] when the system refuses.
    pub fn create(plan: &RunPlan) -> Result<Self, RunDirError> {
        let dir = Self::of(plan);
        if dir.config().exists() {
            return Err(RunDirError::Exists { path: dir.root });
        }
        let text = plan.to_toml()?;
        for path in [dir.checkpoints(), dir.eval(), dir.pictures()] {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        write_whole(&dir.config(), text.as_bytes())?;
        Ok(dir)
    }

    /// Opens the run that the plan names, to continue it.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`] when there is none, [`RunDirError::OtherPlan`] with the differing keys when it was made by another
    /// plan, [`RunDirError::Plan`] when its own plan cannot be read, [`RunDirError::Io`] when the system refuses.
    pub fn resume(plan: &RunPlan) -> Result<Self, RunDirError> {
        let dir = Self::of(plan);
        same_plan(&dir.root, plan, &dir.plan()?)?;
        for path in [dir.checkpoints(), dir.eval(), dir.pictures()] {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        Ok(dir)
    }

    /// The plan kept with the run.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`] when there is none, [`RunDirError::Plan`] when it cannot be read.
    pub fn plan(&self) -> Result<RunPlan, RunDirError> {
        if !self.config().exists() {
            return Err(RunDirError::NoRun { path: self.root.clone() });
        }
        Ok(RunPlan::from_path(&self.config())?)
    }

    /// The run's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: the resolved plan.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `log.jsonl`: a line per logged step and per evaluation.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// `timing.jsonl`: wall-clock values.
    #[must_use]
    pub fn timing(&self) -> PathBuf {
        self.root.join("timing.jsonl")
    }

    /// `checkpoints/`: one folder per checkpoint.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `eval/`: results.
    #[must_use]
    pub fn eval(&self) -> PathBuf {
        self.root.join("eval")
    }

    /// `pictures/`: examples.
    #[must_use]
    pub fn pictures(&self) -> PathBuf {
        self.root.join("pictures")
    }

    /// `curves.svg`.
    #[must_use]
    pub fn curves(&self) -> PathBuf {
        self.root.join("curves.svg")
    }
}

/// Refuses `kept` when it differs from `wanted` in a key that decides what is computed.
fn same_plan(path: &Path, wanted: &RunPlan, kept: &RunPlan) -> Result<(), RunDirError> {
    let differences = wanted.differences(kept)?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(RunDirError::OtherPlan { path: path.to_owned(), differences })
}

#[cfg(test)]
mod tests;
