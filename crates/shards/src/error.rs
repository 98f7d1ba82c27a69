use std::path::{Path, PathBuf};

/// What keeps a shard from being worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// "read", "write", "claim", ...
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// A pattern that names no files.
    #[error("{pattern}: {what}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A part that is none.
    #[error("part {found}: {what}")]
    Part {
        /// What was given, or the variables that were found.
        found: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl ShardError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
