//! Errors of weight files: unreadable, damaged, or not of the model.

use std::path::PathBuf;

/// Why weights could not be read, matched or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is not what its name says, or is damaged.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// One tensor of the file cannot be used.
    #[error("{path}: tensor `{name}`: {what}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A repository of the Hugging Face hub.
    #[error("hf:{repository}: {what}")]
    Hub {
        /// OWNER/REPO as it was asked for.
        repository: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The file and the model do not fit each other.
    #[error("{path} does not fit the model: {summary}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Shapes that differ, keys that are missing, keys that nothing uses.
        summary: String,
    },
}

/// Lists at most `most` names, then says how many more there are.
pub(crate) fn few(names: &[String], most: usize) -> String {
    let shown = names.iter().take(most).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}
