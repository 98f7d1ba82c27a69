//! PyTorch files whose tensors lie under the top-level key `model`, as training scripts save them.

use std::path::Path;

use super::{StateDict, WeightsError};

impl StateDict {
    /// As [`StateDict::open`]; where a PyTorch file has a dictionary of tensors under the key `model`, that dictionary alone.
    ///
    /// # Errors
    /// As [`StateDict::open`].
    pub fn open_model(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        match Self::open_at(&path, Some("model")) {
            Ok(nested) if !nested.is_empty() => Ok(nested),
            _ => Self::open(path),
        }
    }
}
