//! BEiT-3's tokenizer: XLM-R's numbering around a SentencePiece model (EVF-SAM).

use std::collections::BTreeMap;
use std::path::Path;

use super::spm::SentencePiece;
use crate::error::{read_bytes, text_of};
use crate::{TextError, TextTokenizer};

/// File of the tokens that a checkpoint adds to its SentencePiece model.
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";

const START: u32 = 0;
const PAD: u32 = 1;
const END: u32 = 2;
const UNKNOWN: u32 = 3;
/// Ids of the file from 3 on move up by one, because `<pad>` was put in.
const SHIFT: u32 = 1;

/// BEiT-3's tokenizer. A text becomes `<s> pieces </s>`, filled up with `<pad>` = 1.
///
/// Multitask checkpoints of EVF-SAM add `[semantic]`; without [`Self::with_added_tokens`] it would be cut like any text.
#[derive(Debug, Clone)]
pub struct Beit3Tokenizer {
    model: SentencePiece,
    /// Texts that are tokens as they stand, longest first.
    added: Vec<(String, u32)>,
}

impl Beit3Tokenizer {
    /// Reads `beit3.spm` / `sentencepiece.bpe.model`, and `added_tokens.json` if it lies in the same folder.
    ///
    /// # Errors
    /// When a file cannot be read or is of another kind.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        let tokenizer = Self::from_bytes(path, read_bytes(path)?)?;
        let beside = path.with_file_name(ADDED_TOKENS);
        if beside.is_file() { tokenizer.with_added_tokens(beside) } else { Ok(tokenizer) }
    }

    /// Reads the SentencePiece model from a file that is in memory; `name` stands for it in messages.
    ///
    /// # Errors
    /// Bytes of another kind.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, TextError> {
        let model = SentencePiece::from_bytes(name.as_ref(), &bytes)?;
        let mask = model.size as u32 + SHIFT;
        let added = [("<s>", START), ("<pad>", PAD), ("</s>", END), ("<unk>", UNKNOWN), ("<mask>", mask)];
        Ok(Self { model, added: Vec::new() }.extended(added.map(|(token, id)| (token.to_owned(), id))))
    }

    /// Adds the tokens of a Hugging Face `added_tokens.json`, an object of texts and ids.
    ///
    /// # Errors
    /// When the file cannot be read, is not such an object, or an id belongs to another token.
    pub fn with_added_tokens(self, path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        self.with_added_tokens_bytes(path, read_bytes(path)?)
    }

    /// As [`Beit3Tokenizer::with_added_tokens`], from a file that is in memory.
    ///
    /// # Errors
    /// As there.
    pub fn with_added_tokens_bytes(self, name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, TextError> {
        let path = name.as_ref();
        let tokens: BTreeMap<String, u32> = serde_json::from_str(&text_of(path, bytes)?)
            .map_err(|error| TextError::format(path, format!("not a JSON object of tokens and ids: {error}")))?;
        self.with_tokens(tokens).map_err(|what| TextError::format(path, what))
    }

    /// Adds `[semantic]` with the id behind all others, as EVF-SAM's multitask checkpoints have it (64002).
    pub fn with_semantic(self) -> Self {
        let id = self.vocab_size() as u32;
        if self.added.iter().any(|(token, _)| token == SEMANTIC) { self } else { self.extended([(SEMANTIC.to_owned(), id)]) }
    }

    fn with_tokens(self, tokens: BTreeMap<String, u32>) -> Result<Self, String> {
        for (token, id) in &tokens {
            if token.is_empty() {
                return Err("holds an empty token".into());
            }
            let taken = self.added.iter().find(|(other, known)| (other == token) != (known == id));
            let piece = (*id as usize) < self.model.size + SHIFT as usize && self.added.iter().all(|(_, known)| known != id);
            if let Some((other, known)) = taken {
                return Err(format!("gives {token:?} the id {id}, but {other:?} has {known}"));
            }
            if piece {
                return Err(format!(
                    "gives {token:?} the id {id}, which belongs to a piece; ids from {} on are free",
                    self.vocab_size()
                ));
            }
        }
        let new: Vec<_> = tokens.into_iter().filter(|(token, _)| self.added.iter().all(|(known, _)| known != token)).collect();
        Ok(self.extended(new))
    }

    fn extended(mut self, tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        self.added.extend(tokens);
        self.added.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
        self
    }
}

const SEMANTIC: &str = "[semantic]";

impl TextTokenizer for Beit3Tokenizer {
    fn vocab_size(&self) -> usize {
        self.added.iter().map(|(_, id)| *id as usize + 1).max().unwrap_or(0).max(self.model.size + SHIFT as usize)
    }

    fn pad_id(&self) -> u32 {
        PAD
    }

    fn may_have_added_tokens(&self) -> bool {
        true
    }

    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        let plain = |part: &str, ids: &mut Vec<u32>| -> Result<(), TextError> {
            let shifted = self.model.encode(part)?.into_iter().map(|id| if id == 0 { UNKNOWN } else { id + SHIFT });
            ids.extend(shifted);
            Ok(())
        };
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            match self.added.iter().find(|(token, _)| text[at..].starts_with(token.as_str())) {
                Some((token, id)) => {
                    plain(&text[from..at], &mut ids)?;
                    ids.push(*id);
                    at += token.len();
                    from = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        plain(&text[from..], &mut ids)?;
        Ok(ids)
    }

    fn wrap(&self, pieces: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(pieces.len() + 2);
        ids.push(START);
        ids.extend_from_slice(pieces);
        ids.push(END);
        ids
    }
}
