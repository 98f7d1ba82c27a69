//! Errors of tokenizers, batches and encoders.

use std::path::{Path, PathBuf};

/// What can go wrong between a sentence and its features. Each variant says what was found, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A text holds no token at all.
    #[error("text {index} ({text:?}) holds no words; give at least one visible character")]
    EmptyText {
        /// Position in the batch.
        index: usize,
        /// The text as given.
        text: String,
    },
    /// A batch without rows, or a row without tokens.
    #[error("a batch needs at least one row and each row at least one token; row {row} has none")]
    EmptyBatch {
        /// First offending row.
        row: usize,
    },
    /// A row asks for fewer places than its special tokens need.
    #[error("a row of at most {max_len} tokens cannot hold the {least} that a text needs at least")]
    LimitTooSmall {
        /// The limit that was asked for.
        max_len: usize,
        /// The smallest one that works.
        least: usize,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A vocabulary file is not UTF-8.
    #[error("{}: byte {at} is not valid UTF-8; a vocabulary is a UTF-8 text file", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte.
        at: usize,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Found and expected.
        what: String,
    },
    /// A vocabulary lacks a token that its model needs.
    #[error("the vocabulary of {size} tokens lacks {token:?}")]
    MissingToken {
        /// The token.
        token: String,
        /// Size of the vocabulary.
        size: usize,
    },
    /// An id points behind the embedding table.
    #[error(
        "token id {id} (row {row}, place {place}) has no row in an embedding table of {rows}; tokenizer and checkpoint do not fit"
    )]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Row of the batch.
        row: usize,
        /// Place in the row.
        place: usize,
        /// Rows of the table.
        rows: usize,
    },
    /// A tokenizer and an encoder that cannot go together.
    #[error(
        "the tokenizer has {tokenizer} ids but the encoder's embedding table has {table} rows; take the tokenizer of the same checkpoint"
    )]
    Mismatch {
        /// One more than the tokenizer's largest id.
        tokenizer: usize,
        /// Rows of the embedding table.
        table: usize,
    },
    /// A sequence longer than the position table.
    #[error("a sequence of {len} tokens exceeds the encoder's {limit} positions; encode with a max_len of at most {limit}")]
    TooLong {
        /// Tokens in a row.
        len: usize,
        /// Positions of the encoder.
        limit: usize,
    },
    /// Tensors whose shapes do not fit the encoder.
    #[error("{what}: found {found:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that fits.
        expected: String,
    },
    /// A configuration that no model fits.
    #[error(transparent)]
    Config(#[from] nn_ops::ConfigError),
    /// A failure inside the tokenizers library.
    #[error("tokenizing {text:?}: {reason}")]
    Tokenize {
        /// The text.
        text: String,
        /// The library's words.
        reason: String,
    },
}

impl TextError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), what: what.into() }
    }
}

/// Reads a UTF-8 file; says where it is not one.
pub(crate) fn read_text(path: &Path) -> Result<String, TextError> {
    let bytes = std::fs::read(path).map_err(|source| TextError::io(path, source))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| TextError::Utf8 { path: path.to_path_buf(), at: error.utf8_error().valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
