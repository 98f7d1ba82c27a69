//! The folder of a run: `runs/NAME/`.
//!
//! ```text
//! config.toml            the resolved config
//! log.jsonl              a line per logged step and per evaluation
//! timing.jsonl           wall-clock values of the same steps
//! checkpoints/step-N/    files and manifest.json
//! eval/*.json            results
//! figures/*.png         examples
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

use run_config::{ConfigError, Difference, RunConfig};

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
    /// A run or checkpoint of another config.
    #[error(
        "{} belongs to another config; change these keys back or choose another `run.name`:\n{}",
        path.display(),
        list(differences)
    )]
    OtherConfig {
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
    /// A config that cannot be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    /// The folder that the config names, whether or not it exists.
    #[must_use]
    pub fn of(run_config: &RunConfig) -> Self {
        Self::at(run_config.run.dir.join(&run_config.run.name))
    }

    /// A folder by path, whether or not it exists.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The config's name, or with `-2`, `-3`, ... behind it the first one whose folder holds no run.
    #[must_use]
    pub fn free_name(run_config: &RunConfig) -> String {
        let name = &run_config.run.name;
        let taken = |name: &str| Self::at(run_config.run.dir.join(name)).config_path().exists();
        if !taken(name) {
            return name.clone();
        }
        (2u32..).map(|n| format!("{name}-{n}")).find(|name| !taken(name)).unwrap_or_else(|| name.clone())
    }

    /// Starts a new run: makes its folders and writes the resolved config.
    ///
    /// # Errors
    /// [`RunDirError::Exists`] when the folder already holds a run, [`RunDirError::Io`] when the system refuses.
    pub fn create(run_config: &RunConfig) -> Result<Self, RunDirError> {
        let dir = Self::of(run_config);
        if dir.config_path().exists() {
            return Err(RunDirError::Exists { path: dir.root });
        }
        let text = run_config.to_toml()?;
        for path in [dir.checkpoints(), dir.eval(), dir.figures()] {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        write_whole(&dir.config_path(), text.as_bytes())?;
        Ok(dir)
    }

    /// Opens the run that the config names, to continue it.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`] when there is none, [`RunDirError::OtherConfig`] with the differing keys when it was made by another
    /// config, [`RunDirError::Config`] when its own config cannot be read, [`RunDirError::Io`] when the system refuses.
    pub fn resume(run_config: &RunConfig) -> Result<Self, RunDirError> {
        let dir = Self::of(run_config);
        same_config(&dir.root, run_config, &dir.config()?)?;
        for path in [dir.checkpoints(), dir.eval(), dir.figures()] {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        Ok(dir)
    }

    /// The config kept with the run.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`] when there is none, [`RunDirError::Config`] when it cannot be read.
    pub fn config(&self) -> Result<RunConfig, RunDirError> {
        if !self.config_path().exists() {
            return Err(RunDirError::NoRun { path: self.root.clone() });
        }
        Ok(RunConfig::from_path(&self.config_path())?)
    }

    /// The run's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: the resolved config.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
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

    /// `figures/`: examples.
    #[must_use]
    pub fn figures(&self) -> PathBuf {
        self.root.join("figures")
    }

    /// `curves.svg`.
    #[must_use]
    pub fn curves(&self) -> PathBuf {
        self.root.join("curves.svg")
    }
}

/// Refuses `kept` when it differs from `wanted` in a key that decides what is computed.
fn same_config(path: &Path, wanted: &RunConfig, kept: &RunConfig) -> Result<(), RunDirError> {
    let differences = wanted.differences(kept)?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(RunDirError::OtherConfig { path: path.to_owned(), differences })
}

#[cfg(test)]
mod tests;
