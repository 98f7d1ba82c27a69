//! Writing a checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::checkpoint::{Stage, remove};
use super::{Checkpoint, RunDir, RunDirError, io_error, sync_dir};
use crate::manifest::{FileRecord, MANIFEST, Manifest, RunState, hex};
use run_config::RunConfig;

/// A checkpoint that is being written. Dropped without [`CheckpointWriter::finish`], it leaves only a `.partial` folder, which
/// nobody reads and the next [`RunDir::prune`] deletes.
#[derive(Debug)]
pub struct CheckpointWriter {
    dir: RunDir,
    step: u64,
    partial: PathBuf,
    files: BTreeMap<String, FileRecord>,
}

impl CheckpointWriter {
    pub(super) fn new(dir: RunDir, step: u64, partial: PathBuf) -> Self {
        Self { dir, step, partial, files: BTreeMap::new() }
    }

    fn place(&self, name: &str) -> Result<PathBuf, RunDirError> {
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !plain || name == MANIFEST || self.files.contains_key(name) {
            return Err(RunDirError::FileName { name: name.to_owned() });
        }
        Ok(self.partial.join(name))
    }

    /// Writes a file from bytes.
    ///
    /// # Errors
    /// [`RunDirError::FileName`] for a name that is taken or not plain, [`RunDirError::Io`] when the system refuses.
    pub fn bytes(&mut self, name: &str, contents: &[u8]) -> Result<(), RunDirError> {
        self.stream(name, |out| out.write_all(contents))
    }

    /// Writes a file through a closure.
    ///
    /// # Errors
    /// As [`CheckpointWriter::bytes`].
    pub fn stream(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), RunDirError> {
        let path = self.place(name)?;
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), bytes: 0 };
        write(&mut out)
            .and_then(|()| out.inner.flush())
            .and_then(|()| out.inner.get_ref().sync_all())
            .map_err(io_error("write", &path))?;
        let record = FileRecord { bytes: out.bytes, sha256: hex(&out.hash.finalize()) };
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// Lets someone else write the file at the path handed to the closure.
    ///
    /// # Errors
    /// The closure's own, or as [`CheckpointWriter::bytes`].
    pub fn at_path<E: From<RunDirError>>(&mut self, name: &str, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        let path = self.place(name)?;
        write(&path)?;
        let record = File::open(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| FileRecord::of(&path))
            .map_err(io_error("read", &path))?;
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// Writes the manifest and puts the checkpoint in its place.
    ///
    /// # Errors
    /// [`RunDirError::Manifest`] when `state` is of another step or has no JSON form, [`RunDirError::Io`] when the system
    /// refuses.
    pub fn finish(self, state: RunState, run_config: &RunConfig) -> Result<Checkpoint, RunDirError> {
        let refuse = |reason: String| RunDirError::Manifest { path: self.partial.clone(), reason };
        if state.step != self.step {
            let reason = format!("the state is of step {}, not {}", state.step, self.step);
            return Err(refuse(reason));
        }
        let manifest = Manifest::new(state, run_config.to_toml()?, run_config.hash()?, self.files.clone());
        let text = manifest.to_json().map_err(refuse)?;
        let path = self.partial.join(MANIFEST);
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(io_error("write", &path))?;
        sync_dir(&self.partial)?;

        let place = self.dir.staged(self.step, Stage::Whole);
        let old = self.dir.staged(self.step, Stage::Old);
        if place.exists() {
            // Only one of the two can be the last whole state, and it must stay readable: a whole `.old` outlives a damaged
            // `step-N`.
            if Manifest::verify(&place).is_ok() || !old.exists() {
                remove(&old)?;
                fs::rename(&place, &old).map_err(io_error("replace", &place))?;
            } else {
                remove(&place)?;
            }
        }
        fs::rename(&self.partial, &place).map_err(io_error("write", &place))?;
        sync_dir(&self.dir.checkpoints())?;
        remove(&old)?;
        let manifest = Manifest::from_json(&text).map_err(|reason| RunDirError::Damaged { path: place.clone(), reason })?;
        Ok(Checkpoint { path: place, manifest })
    }
}

struct Hashing {
    inner: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
