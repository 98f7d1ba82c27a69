//! What can be wrong with a run config.

use std::path::PathBuf;

/// A run config that cannot be used. Every variant names the key, where it was written, what was found and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the run config {}: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// The file, or "the run config".
        origin: String,
        /// Line, column and reason.
        message: String,
    },
    /// An override that is not `key=value`.
    #[error("the override `{text}` {problem}; write it as section.key=value, for example train.batch_size=8")]
    Override {
        /// The override as given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {origin}; {hint}")]
    UnknownKey {
        /// Full dotted key.
        key: String,
        /// The file or the command line.
        origin: String,
        /// The nearest right key, or all keys of the section.
        hint: String,
    },
    /// A required key is not there.
    #[error("`{key}` is missing in {origin}; it has no default, so give it a value")]
    MissingKey {
        /// Full dotted key.
        key: String,
        /// The file or the command line.
        origin: String,
    },
    /// A value of the wrong type, outside its range or not among the choices.
    #[error("`{key}` in {origin} is {found}; it must be {expected}")]
    Value {
        /// Full dotted key.
        key: String,
        /// The file or the command line.
        origin: String,
        /// The value as read.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Two values that exclude each other.
    #[error("`{first}` and `{second}` in {origin} contradict each other: {problem}")]
    Contradiction {
        /// Full dotted key.
        first: String,
        /// Full dotted key.
        second: String,
        /// The file or the command line.
        origin: String,
        /// Why they cannot both hold, and what to change.
        problem: String,
    },
    /// The resolved config cannot be written as TOML.
    #[error("the run config cannot be written as TOML: {message}")]
    Write {
        /// Why.
        message: String,
    },
}
