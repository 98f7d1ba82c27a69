//! `TokenizerKind`: which files a model's tokenizer is kept in, found in a folder and read from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Beit3Tokenizer, ClipTokenizer, WordPiece};
use crate::{TextError, TextTokenizer};

/// Name of WordPiece's vocabulary.
const VOCAB: &str = "vocab.txt";

/// The tokenizer of a published encoder.
///
/// An encoder that was trained from the beginning may have a small [`WordPiece`] of its own instead, so a folder's
/// `vocab.txt` is read for any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// BERT's and ViLT's.
    WordPiece,
    /// CLIP's.
    Clip,
    /// BEiT-3's.
    Beit3,
}

impl TokenizerKind {
    /// Names of the file, the usual one first. `added_tokens.json` beside BEiT-3's belongs to it.
    pub fn file_names(self) -> &'static [&'static str] {
        match self {
            Self::WordPiece => &[VOCAB, "tokenizer.json"],
            Self::Clip => &["tokenizer.json", "merges.txt", VOCAB],
            Self::Beit3 => &["sentencepiece.bpe.model", "beit3.spm", VOCAB],
        }
    }

    /// The file in a folder.
    ///
    /// # Errors
    /// A folder without one.
    pub fn find(self, folder: impl AsRef<Path>) -> Result<PathBuf, TextError> {
        let (folder, names) = (folder.as_ref(), self.file_names());
        let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| TextError::format(folder, format!("has no tokenizer: none of {}", names.join(", "))))
    }

    /// Reads one of the files.
    ///
    /// # Errors
    /// A file of another kind than its name says.
    pub fn load(self, path: impl AsRef<Path>) -> Result<Arc<dyn TextTokenizer>, TextError> {
        let path = path.as_ref();
        Ok(match self {
            _ if path.file_name().is_some_and(|name| name == VOCAB) => Arc::new(WordPiece::load(path)?),
            Self::WordPiece => Arc::new(WordPiece::load(path)?),
            Self::Clip => Arc::new(ClipTokenizer::load(path)?),
            Self::Beit3 => Arc::new(Beit3Tokenizer::load(path)?),
        })
    }

    /// [`TokenizerKind::find`], then [`TokenizerKind::load`].
    ///
    /// # Errors
    /// As both.
    pub fn open(self, folder: impl AsRef<Path>) -> Result<Arc<dyn TextTokenizer>, TextError> {
        self.load(self.find(folder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_hold_a_tokenizer_or_say_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, name) in
            [(TokenizerKind::WordPiece, "vocab.txt"), (TokenizerKind::Clip, "merges.txt"), (TokenizerKind::Beit3, "beit3.spm")]
        {
            let error = kind.open(folder.path()).err().unwrap().to_string();
            assert!(error.contains("has no tokenizer") && error.contains(name), "{error}");
        }
        let words = WordPiece::train(["the red zebra"], 40).unwrap();
        words.save(folder.path().join("vocab.txt")).unwrap();
        for kind in [TokenizerKind::WordPiece, TokenizerKind::Clip, TokenizerKind::Beit3] {
            assert_eq!(kind.open(folder.path()).unwrap().vocab_size(), words.vocab_size());
        }
        std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\nr e\nre d</w>\n").unwrap();
        assert_eq!(TokenizerKind::Clip.open(folder.path()).unwrap().vocab_size(), 516);
        std::fs::write(folder.path().join("beit3.spm"), "no protobuf").unwrap();
        assert!(TokenizerKind::Beit3.open(folder.path()).is_err());
    }
}
