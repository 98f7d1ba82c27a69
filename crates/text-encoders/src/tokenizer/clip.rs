//! CLIP's byte-level pair encoding (RISAM sec. 3.1).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::utils::{Lowercase, Sequence as Normalizers};
use tokenizers::normalizers::{NormalizerWrapper, Replace};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::{clean, merges};
use crate::error::{read_bytes, read_text, text_of};
use crate::{TextError, TextTokenizer};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const END_OF_WORD: &str = "</w>";
/// Contractions, runs of letters, single digits, runs of anything else but space.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// Merges that OpenAI's vocabulary of 49,408 uses; its file holds more.
const OPENAI_MERGES: usize = 49152 - 256 - 2;

/// How a text is cleaned before it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipCleaning {
    /// As Hugging Face's fast tokenizer: NFC, spaces collapsed, lower case.
    #[default]
    HuggingFace,
    /// As OpenAI's and OpenCLIP's code: HTML entities resolved twice and typographic characters straightened first.
    /// Mended are curly quotes, ligatures, full- and half-width forms and control characters, not text decoded wrongly.
    OpenAi,
}

/// CLIP's tokenizer. A text becomes `<|startoftext|> pieces <|endoftext|>`, filled up with id 0.
///
/// Id 0 is also a real token ("!"), so go by lengths or masks, not by ids.
#[derive(Debug, Clone)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    cleaning: ClipCleaning,
    size: usize,
    start: u32,
    end: u32,
}

impl ClipTokenizer {
    /// Reads `merges.txt` or OpenAI's unpacked `bpe_simple_vocab_16e6.txt` (the vocabulary follows from the merges), or
    /// a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not UTF-8, or is not of that form.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        Self::from_bytes(path, read_bytes(path)?)
    }

    /// As [`ClipTokenizer::load`], from a file that is in memory; the ending of its `name` says of which form it is.
    ///
    /// # Errors
    /// As there.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, TextError> {
        let path = name.as_ref();
        let text = text_of(path, bytes)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            return from_json(path, &text);
        }
        let mut merges = parse_merges(path, &text)?;
        merges.truncate(OPENAI_MERGES);
        Self::from_merges(merges)
    }

    /// Reads Hugging Face's pair `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// When a file cannot be read, is not UTF-8, or is not of that form.
    pub fn load_pair(vocab: impl AsRef<Path>, merges: impl AsRef<Path>) -> Result<Self, TextError> {
        let (vocab, merges) = (vocab.as_ref(), merges.as_ref());
        let text = read_text(vocab)?;
        let ids: BTreeMap<String, u32> = serde_json::from_str(&text)
            .map_err(|e| TextError::format(vocab, format!("not a JSON object of tokens and ids: {e}")))?;
        Self::new(ids, parse_merges(merges, &read_text(merges)?)?)
    }

    /// The vocabulary that follows from merges in OpenAI's order: 256 byte symbols, the same ending a word, a token a
    /// merge, start and end of text.
    ///
    /// # Errors
    /// When a merge joins symbols that do not exist.
    pub fn from_merges(merges: Merges) -> Result<Self, TextError> {
        let mut tokens: Vec<String> = byte_symbols().iter().map(|c| c.to_string()).collect();
        tokens.extend(byte_symbols().iter().map(|c| format!("{c}{END_OF_WORD}")));
        tokens.extend(merges.iter().map(|(first, second)| format!("{first}{second}")));
        tokens.extend([START.to_owned(), END.to_owned()]);
        Self::new(tokens.into_iter().zip(0..).collect(), merges)
    }

    /// A tokenizer over tokens with their ids.
    ///
    /// # Errors
    /// When the start or end of text is missing, or a merge joins tokens that do not exist.
    pub fn new(ids: BTreeMap<String, u32>, merges: Merges) -> Result<Self, TextError> {
        let id = |token: &str| {
            ids.get(token).copied().ok_or_else(|| TextError::MissingToken { token: token.to_owned(), size: ids.len() })
        };
        let (start, end) = (id(START)?, id(END)?);
        let size = ids.values().max().map_or(0, |most| *most as usize + 1);
        let vocab: Vocab = ids.iter().map(|(token, id)| (token.clone(), *id)).collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .unk_token(END.to_owned())
            .build()
            .map_err(|error| library("", error))?;
        let mut tokenizer = Tokenizer::new(model);
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(|error| library("", error))?;
        let words = SplitPattern::Regex(WORDS.to_owned());
        let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(|error| library("", error))?;
        tokenizer
            .with_normalizer(Some(Normalizers::new(vec![
                NormalizerWrapper::NFC(NFC),
                NormalizerWrapper::Replace(spaces),
                NormalizerWrapper::Lowercase(Lowercase),
            ])))
            .with_pre_tokenizer(Some(PreTokenizers::new(vec![
                PreTokenizerWrapper::Split(words),
                PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
            ])));
        tokenizer.add_special_tokens(&[AddedToken::from(START, true), AddedToken::from(END, true)]);
        Ok(Self { tokenizer, cleaning: ClipCleaning::default(), size, start, end })
    }

    /// The same tokenizer with another cleaning.
    pub fn with_cleaning(mut self, cleaning: ClipCleaning) -> Self {
        self.cleaning = cleaning;
        self
    }

    /// Learns at most `budget` merges from sentences; the vocabulary has 514 tokens more. Meant for tests and closed
    /// vocabularies; equal input gives equal ids.
    ///
    /// # Errors
    /// When the underlying library fails.
    pub fn train<S: AsRef<str>>(sentences: impl IntoIterator<Item = S>, budget: usize) -> Result<Self, TextError> {
        let splitter = Self::from_merges(Vec::new())?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for sentence in sentences {
            // Without merges every byte is a piece, so words end where a piece carries the end-of-word mark.
            let text = sentence.as_ref();
            let encoding = splitter.tokenizer.encode(text, false).map_err(|error| library(text, error))?;
            let mut word = String::new();
            for piece in encoding.get_tokens() {
                match piece.strip_suffix(END_OF_WORD) {
                    Some(last) => {
                        word.push_str(last);
                        *counts.entry(std::mem::take(&mut word)).or_default() += 1;
                    }
                    None => word.push_str(piece),
                }
            }
        }
        let mut words: Vec<merges::Word> = counts
            .into_iter()
            .map(|(word, count)| {
                let mut symbols: Vec<String> = word.chars().map(String::from).collect();
                if let Some(last) = symbols.last_mut() {
                    last.push_str(END_OF_WORD);
                }
                (symbols, count)
            })
            .collect();
        Self::from_merges(merges::learn(&mut words, &BTreeSet::new(), budget, |a, b| format!("{a}{b}")))
    }
}

impl TextTokenizer for ClipTokenizer {
    fn vocab_size(&self) -> usize {
        self.size
    }

    fn pad_id(&self) -> u32 {
        0
    }

    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let cleaned = match self.cleaning {
            ClipCleaning::HuggingFace => None,
            ClipCleaning::OpenAi => Some(clean::openai(text)),
        };
        let encoding = self.tokenizer.encode_fast(cleaned.as_deref().unwrap_or(text), false);
        Ok(encoding.map_err(|error| library(text, error))?.get_ids().to_vec())
    }

    fn wrap(&self, pieces: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(pieces.len() + 2);
        ids.push(self.start);
        ids.extend_from_slice(pieces);
        ids.push(self.end);
        ids
    }
}

/// The printable characters that stand for bytes: printable Latin-1 first, the rest from U+0100 on.
fn byte_symbols() -> Vec<char> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let shown = (0..=u8::MAX).filter(printable).map(char::from);
    let others = (0..=u8::MAX).filter(|b| !printable(b)).zip(0x100..).filter_map(|(_, code)| char::from_u32(code));
    shown.chain(others).collect()
}

fn parse_merges(path: &Path, text: &str) -> Result<Merges, TextError> {
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // The first line of both files names the format.
        if line.trim().is_empty() || (number == 0 && (line.starts_with("#version") || line.contains("bpe_simple_vocab"))) {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [first, second] => merges.push((first.to_owned(), second.to_owned())),
            _ => {
                let what = format!("line {} is {line:?}; expected two symbols to merge", number + 1);
                return Err(TextError::format(path, what));
            }
        }
    }
    Ok(merges)
}

fn from_json(path: &Path, text: &str) -> Result<ClipTokenizer, TextError> {
    let json: Value = serde_json::from_str(text).map_err(|e| TextError::format(path, format!("not JSON: {e}")))?;
    let (Some(vocab), Some(merges)) = (json.pointer("/model/vocab"), json.pointer("/model/merges").and_then(Value::as_array))
    else {
        return Err(TextError::format(path, "has no model.vocab and model.merges; expected a byte-level BPE's tokenizer.json"));
    };
    let ids: BTreeMap<String, u32> = serde_json::from_value(vocab.clone())
        .map_err(|e| TextError::format(path, format!("model.vocab: {e}; expected tokens with ids")))?;
    let pair = |merge: &Value| match merge {
        Value::String(both) => both.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        Value::Array(both) => match both.as_slice() {
            [Value::String(a), Value::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    };
    let merges = merges
        .iter()
        .map(|merge| pair(merge).ok_or_else(|| TextError::format(path, format!("merge {merge} is not a pair of symbols"))))
        .collect::<Result<_, _>>()?;
    ClipTokenizer::new(ids, merges)
}

fn library(text: &str, error: tokenizers::Error) -> TextError {
    TextError::Tokenize { text: text.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Padding;

    fn trained() -> ClipTokenizer {
        ClipTokenizer::train(["a photo of a cat", "a photo of a dog", "the cat's photo"], 40).unwrap()
    }

    #[test]
    fn byte_symbols_start_like_the_published_vocabulary() {
        let symbols = byte_symbols();
        assert_eq!((symbols.len(), symbols[0], symbols[93], symbols[94]), (256, '!', '~', '¡'));
        assert_eq!((symbols[188], symbols[255]), ('Ā', 'Ń'));
    }

    #[test]
    fn words_and_padding() {
        let tokenizer = trained();
        assert!((515..=554).contains(&tokenizer.vocab_size()));
        let batch = tokenizer.encode_batch(&["A  photo of a CAT", "dog"], 9, Padding::Max).unwrap();
        let (start, end) = (tokenizer.vocab_size() as u32 - 2, tokenizer.vocab_size() as u32 - 1);
        assert_eq!((batch.row(0)[0], batch.row(0)[6], batch.lengths()), (start, end, &[7, 3][..]));
        assert_eq!(batch.row(1)[3..], [0; 6]);
        assert_eq!(tokenizer.pieces("cat").unwrap(), tokenizer.pieces("CAT ").unwrap());
    }

    #[test]
    fn end_of_text_stays_when_a_text_is_cut() {
        let tokenizer = trained();
        let encoding = tokenizer.encode("a photo of a cat", 4).unwrap();
        assert!(encoding.truncated);
        assert_eq!((encoding.ids.len(), encoding.ids[3]), (4, tokenizer.vocab_size() as u32 - 1));
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("merges.txt");
        std::fs::write(&path, "#version: 0.2\na b\nthree are many\n").unwrap();
        assert!(matches!(ClipTokenizer::load(&path), Err(TextError::Format { ref what, .. }) if what.starts_with("line 3")));
        std::fs::write(&path, b"#version: 0.2\n\xff b\n").unwrap();
        assert!(matches!(ClipTokenizer::load(&path), Err(TextError::Utf8 { at: 14, .. })));
        std::fs::write(&path, "#version: 0.2\nab c\n").unwrap();
        assert!(ClipTokenizer::load(&path).is_err());
        let json = folder.path().join("vocab.json");
        std::fs::write(&json, "[1]").unwrap();
        assert!(matches!(ClipTokenizer::load_pair(&json, &path), Err(TextError::Format { .. })));
    }
}
