//! Folders in Hugging Face's layout: `config.json`, `model.safetensors` and the tokenizer's files, read and written.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::WeightsError;
use super::hub;
use super::state_dict::StateDict;

/// Name of the configuration.
const CONFIG: &str = "config.json";
/// Name of the weights that are written.
const WEIGHTS: &str = "model.safetensors";
/// Names of weights that are read; the first one that exists counts.
const READABLE: [&str; 3] = ["model.safetensors.index.json", WEIGHTS, "pytorch_model.bin"];
/// A file of more bytes is no `config.json`.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A folder with a configuration, weights and what the tokenizer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PretrainedFolder {
    path: PathBuf,
}

impl PretrainedFolder {
    /// The folder at `path`; nothing is read yet.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// The folder that `source` names: a path, or `hf:OWNER/REPO` for the newest version of a repository of the Hugging Face
    /// hub in the local cache, fetched first where the feature `hub` is built in.
    ///
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub` is the cache; with `HF_HUB_OFFLINE=1` nothing is
    /// downloaded. This is the one place of the libraries that reads the environment, and only when it is asked for a repository.
    ///
    /// # Errors
    /// [`WeightsError::Hub`] for a name that is none, a repository that is not in the cache, a download that fails.
    pub fn find(source: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let source = source.as_ref();
        match source.to_str().and_then(|name| name.strip_prefix(hub::PREFIX)) {
            Some(repository) => Ok(Self::new(hub::folder(repository)?)),
            None => Ok(Self::new(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about its `config.json`.
    pub fn config_error(&self, what: impl ToString) -> WeightsError {
        WeightsError::Format { path: self.path.join(CONFIG), what: what.to_string() }
    }

    /// `config.json`.
    ///
    /// # Errors
    /// A file that is missing or is no JSON.
    pub fn config(&self) -> Result<Value, WeightsError> {
        let path = self.path.join(CONFIG);
        let io = |source| WeightsError::Io { path: path.clone(), source };
        if path.metadata().map_err(io)?.len() > LARGEST_CONFIG {
            return Err(self.config_error("is no configuration: it has more than a million bytes"));
        }
        let text = std::fs::read_to_string(&path).map_err(io)?;
        serde_json::from_str(&text).map_err(|e| self.config_error(format!("is not JSON: {e}")))
    }

    /// `config.json` without its `model_type`, which has to be `model_type`.
    ///
    /// # Errors
    /// As [`PretrainedFolder::config`], or the configuration of another model.
    pub fn config_of(&self, model_type: &str) -> Result<Value, WeightsError> {
        let mut config = self.config()?;
        let found = config.as_object_mut().and_then(|keys| keys.remove("model_type")).unwrap_or(Value::Null);
        if found != model_type {
            return Err(self.config_error(format!("model_type is {found}: must be \"{model_type}\"")));
        }
        Ok(config)
    }

    /// The weights: safetensors, their sharded index, or `pytorch_model.bin`.
    ///
    /// # Errors
    /// A folder without any.
    pub fn weights(&self) -> Result<PathBuf, WeightsError> {
        self.file(&READABLE, "weights")
    }

    /// The first of `names` that exists.
    ///
    /// # Errors
    /// None of them: `what` says what the folder lacks.
    pub fn file(&self, names: &[&str], what: &str) -> Result<PathBuf, WeightsError> {
        let found = names.iter().map(|name| self.path.join(name)).find(|path| path.is_file());
        let what = || format!("has no {what}: none of {}", names.join(", "));
        found.ok_or_else(|| WeightsError::Format { path: self.path.clone(), what: what() })
    }

    /// Writes `config.json`, `model.safetensors` (in half precision if asked) and further files by name. Each is written
    /// beside its place and renamed over it; the folder is made where it is missing.
    ///
    /// # Errors
    /// A file's name that is a path, or a refusal of the system.
    pub fn save(&self, config: &Value, weights: &StateDict, half: bool, files: &[(String, Vec<u8>)]) -> Result<(), WeightsError> {
        if let Some((name, _)) = files.iter().find(|(name, _)| Path::new(name).file_name() != Some(name.as_ref())) {
            let what = format!("cannot take a file called {name:?}; give its name without a folder");
            return Err(WeightsError::Format { path: self.path.clone(), what });
        }
        std::fs::create_dir_all(&self.path).map_err(|source| WeightsError::Io { path: self.path.clone(), source })?;
        for (name, bytes) in files {
            self.write(name, bytes)?;
        }
        let (path, says) = (self.path.join(WEIGHTS), [("format", "pt")]);
        if half {
            weights.save_half(path, &says)?
        } else {
            weights.save(path, &says)?
        }
        self.write(CONFIG, format!("{config:#}\n").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WeightsError> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.partial")));
        let written = std::fs::File::create(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&beside, &path)).map_err(|source| WeightsError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_folder_is_written_and_read_back() {
        let place = tempfile::tempdir().unwrap();
        let folder = PretrainedFolder::new(place.path().join("new"));
        let mut weights = StateDict::empty("toy");
        weights.insert("a", &[2], vec![1.0, 2.0]);
        let files = [("vocab.txt".to_owned(), b"[PAD]".to_vec())];
        folder.save(&json!({ "model_type": "toy", "width": 3 }), &weights, false, &files).unwrap();
        assert_eq!(folder.config_of("toy").unwrap(), json!({ "width": 3 }));
        assert_eq!(StateDict::open(folder.weights().unwrap()).unwrap().read("a").unwrap(), [1.0, 2.0]);
        assert_eq!(std::fs::read(folder.file(&["vocab.txt"], "tokenizer").unwrap()).unwrap(), b"[PAD]");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside");

        let error = folder.config_of("other").unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("\"toy\": must be \"other\""), "{error}");
        let error = folder.file(&["merges.txt", "tokenizer.json"], "tokenizer").unwrap_err().to_string();
        assert!(error.contains("has no tokenizer: none of merges.txt, tokenizer.json"), "{error}");
        for name in ["../vocab.txt", "a/b", ""] {
            assert!(folder.save(&Value::Null, &weights, false, &[(name.to_owned(), Vec::new())]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn configurations_that_are_none() {
        let place = tempfile::tempdir().unwrap();
        let folder = PretrainedFolder::new(place.path());
        assert!(folder.config().unwrap_err().to_string().contains("config.json"));
        for (text, says) in [("{", "not JSON"), ("[1]", "model_type is null"), (" ".repeat(1 << 21).as_str(), "million")] {
            std::fs::write(place.path().join("config.json"), text).unwrap();
            let error = folder.config_of("toy").unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(folder.weights().unwrap_err().to_string().contains("has no weights"));
    }
}
