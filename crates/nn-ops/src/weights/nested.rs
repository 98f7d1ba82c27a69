//! Weights as their owners keep them: files of training scripts, folders, repositories of the hub.

use std::path::Path;

use super::folder::PretrainedFolder;
use super::{StateDict, WeightsError};

/// Keys under which training scripts put the state dict beside their optimiser's: DIT's, Segment Anything's and BEiT-3's.
const NESTED: [&str; 2] = ["state_dict", "model"];
/// What PyTorch's data-parallel wrapper puts in front of every name.
const WRAPPER: &str = "module.";

impl StateDict {
    /// The weights of a model from a file, from a folder with `config.json` beside them, or from a repository of the Hugging
    /// Face hub (`hf:OWNER/REPO`, see [`PretrainedFolder::find`]).
    ///
    /// Of a PyTorch file that keeps the weights under the key `state_dict` or `model`, that dictionary alone is taken:
    /// optimiser, schedule and epoch are left behind. Where every name begins with `module.`, that prefix goes.
    ///
    /// # Errors
    /// As [`StateDict::open`], or a folder without weights, or a repository that cannot be had.
    pub fn open_model(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let folder = PretrainedFolder::find(path)?;
        let path = if folder.path().is_dir() { folder.weights()? } else { folder.path().to_owned() };
        let nested = NESTED.iter().find_map(|key| Self::open_at(&path, Some(key)).ok().filter(|nested| !nested.is_empty()));
        let state_dict = match nested {
            Some(nested) => nested,
            None => Self::open(&path)?,
        };
        let wrapped = !state_dict.is_empty() && state_dict.names().all(|name| name.starts_with(WRAPPER));
        if wrapped { state_dict.strip_prefix(WRAPPER) } else { Ok(state_dict) }
    }
}
