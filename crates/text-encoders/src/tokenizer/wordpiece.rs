//! WordPiece as in `bert-base-uncased` (DIT sec. 3.2, ViLT).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece as WordPieceModel;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::tokenizer::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer,
};

use super::merges;
use crate::error::{read_bytes, text_of};
use crate::{TextError, TextTokenizer};

const PAD: &str = "[PAD]";
const UNK: &str = "[UNK]";
const CLS: &str = "[CLS]";
const SEP: &str = "[SEP]";
const MASK: &str = "[MASK]";
const SPECIALS: [&str; 5] = [PAD, UNK, CLS, SEP, MASK];
const CONTINUES: &str = "##";

/// Words, each with the ids that a vocabulary cuts it into.
pub type NewWords = Vec<(String, Vec<u32>)>;

/// BERT's tokenizer: control characters dropped, CJK spaced, lower case without accents, punctuation on its own, then
/// the longest known piece first. A text becomes `[CLS] pieces [SEP]`; DIT's 20 places hold 18 pieces.
///
/// Unassigned code points count as unknown words, as in Hugging Face's fast tokenizer; its slow one drops them.
///
/// ```
/// use text_encoders::{Padding, TextTokenizer, tokenizer::WordPiece};
///
/// let words = ["the red zebra", "the left zebra", "red car on the left"];
/// let tokenizer = WordPiece::train(words, 60)?;
/// let batch = tokenizer.encode_batch(&["The RED car!", "zebra"], 20, Padding::Max)?;
/// assert_eq!((batch.rows(), batch.width()), (2, 20));
/// assert_eq!(batch.lengths()[1], 3); // [CLS] zebra [SEP]
/// # Ok::<(), text_encoders::TextError>(())
/// ```
#[derive(Debug, Clone)]
pub struct WordPiece {
    tokens: Vec<String>,
    lowercase: bool,
    tokenizer: Tokenizer,
    pad: u32,
    cls: u32,
    sep: u32,
}

impl WordPiece {
    /// Reads `vocab.txt` (a token a line, its line number is its id, lower-casing assumed) or a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not UTF-8 or JSON of a WordPiece model, or lacks a special token.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let path = path.as_ref();
        Self::from_bytes(path, read_bytes(path)?)
    }

    /// As [`WordPiece::load`], from a file that is in memory; the ending of its `name` says of which form it is.
    ///
    /// # Errors
    /// As there.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, TextError> {
        let path = name.as_ref();
        let text = text_of(path, bytes)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            return from_json(path, &text);
        }
        let tokens: Vec<String> = text.lines().map(str::to_owned).collect();
        Self::new(tokens, true)
    }

    /// A tokenizer over `tokens`, whose places are their ids.
    ///
    /// # Errors
    /// When `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]` is missing.
    pub fn new(tokens: Vec<String>, lowercase: bool) -> Result<Self, TextError> {
        // A token listed twice keeps its last id, as in the reference.
        let vocab: Vocab = tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
        let id = |token: &str| {
            vocab.get(token).copied().ok_or_else(|| TextError::MissingToken { token: token.to_owned(), size: tokens.len() })
        };
        let (pad, cls, sep) = (id(PAD)?, id(CLS)?, id(SEP)?);
        id(UNK)?;
        let known: Vec<AddedToken> =
            SPECIALS.iter().filter(|token| vocab.contains_key(**token)).map(|token| AddedToken::from(*token, true)).collect();
        let model = WordPieceModel::builder().vocab(vocab).unk_token(UNK.to_owned()).build().map_err(|e| library("", e))?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(Some(normalizer(lowercase))).with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.add_special_tokens(&known);
        Ok(Self { tokens, lowercase, tokenizer, pad, cls, sep })
    }

    /// Learns a lower-case vocabulary of at most `vocab_size` tokens: the five special ones, the characters, then whole
    /// pieces by frequency. Meant for closed vocabularies (tests, the demonstration); equal input gives equal ids.
    ///
    /// # Errors
    /// When the characters alone exceed `vocab_size`.
    pub fn train<S: AsRef<str>>(sentences: impl IntoIterator<Item = S>, vocab_size: usize) -> Result<Self, TextError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for sentence in sentences {
            for word in split_words(sentence.as_ref(), true)? {
                *counts.entry(word).or_default() += 1;
            }
        }
        let mut words: Vec<merges::Word> = counts
            .into_iter()
            .map(|(word, count)| {
                let spell = |(at, c): (usize, char)| if at == 0 { c.to_string() } else { format!("{CONTINUES}{c}") };
                (word.chars().enumerate().map(spell).collect(), count)
            })
            .collect();
        let alphabet: BTreeSet<String> = words.iter().flat_map(|(symbols, _)| symbols.iter().cloned()).collect();
        let mut tokens: Vec<String> = SPECIALS.iter().map(|token| token.to_string()).collect();
        tokens.extend(alphabet.iter().cloned());
        let Some(budget) = vocab_size.checked_sub(tokens.len()) else {
            let expected = format!("at least {}, the special tokens and characters of these sentences", tokens.len());
            return Err(nn_ops::ConfigError::new("vocab_size", vocab_size, expected).into());
        };
        let join = |first: &str, second: &str| format!("{first}{}", second.strip_prefix(CONTINUES).unwrap_or(second));
        for (first, second) in merges::learn(&mut words, &alphabet, budget, join) {
            let token = join(&first, &second);
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Self::new(tokens, true)
    }

    /// This vocabulary followed by every word of `sentences` that is not one piece of it, in alphabetical order; and these words, each
    /// with the ids that it was cut into: where a new row of an embedding table may start from.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn with_words<S: AsRef<str>>(&self, sentences: impl IntoIterator<Item = S>) -> Result<(Self, NewWords), TextError> {
        let mut words = BTreeSet::new();
        for sentence in sentences {
            words.extend(split_words(sentence.as_ref(), self.lowercase)?);
        }
        let mut new = Vec::new();
        for word in words {
            let pieces = self.pieces(&word)?;
            if pieces.len() != 1 || self.tokens.get(pieces[0] as usize).is_some_and(|token| token == UNK) {
                new.push((word, pieces));
            }
        }
        let tokens = self.tokens.iter().cloned().chain(new.iter().map(|(word, _)| word.clone()));
        Ok((Self::new(tokens.collect(), self.lowercase)?, new))
    }

    /// Writes `vocab.txt`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TextError> {
        let path = path.as_ref();
        std::fs::write(path, self.vocabulary()).map_err(|source| TextError::io(path, source))
    }

    /// The text of `vocab.txt`: a token a line.
    #[must_use]
    pub fn vocabulary(&self) -> String {
        self.tokens.iter().flat_map(|token| [token.as_str(), "\n"]).collect()
    }

    /// The tokens in the order of their ids.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl TextTokenizer for WordPiece {
    fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    fn pad_id(&self) -> u32 {
        self.pad
    }

    fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| library(text, error))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn wrap(&self, pieces: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(pieces.len() + 2);
        ids.push(self.cls);
        ids.extend_from_slice(pieces);
        ids.push(self.sep);
        ids
    }
}

fn normalizer(lowercase: bool) -> BertNormalizer {
    BertNormalizer::new(true, true, None, lowercase)
}

fn library(text: &str, error: tokenizers::Error) -> TextError {
    TextError::Tokenize { text: text.to_owned(), reason: error.to_string() }
}

fn split_words(sentence: &str, lowercase: bool) -> Result<Vec<String>, TextError> {
    let mut normalized = NormalizedString::from(sentence);
    normalizer(lowercase).normalize(&mut normalized).map_err(|error| library(sentence, error))?;
    let mut pre = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut pre).map_err(|error| library(sentence, error))?;
    let splits = pre.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).filter(|word| !word.is_empty()).collect())
}

fn from_json(path: &Path, text: &str) -> Result<WordPiece, TextError> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| TextError::format(path, format!("not JSON: {error}")))?;
    let vocab = json.pointer("/model/vocab").and_then(serde_json::Value::as_object).ok_or_else(|| {
        TextError::format(path, "has no model.vocab object; expected the tokenizer.json of a WordPiece model or a vocab.txt")
    })?;
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, id) in vocab {
        let slot = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        *slot.ok_or_else(|| {
            TextError::format(
                path,
                format!("token {token:?} has id {id}; ids of {} tokens must be 0 to {}", vocab.len(), vocab.len() - 1),
            )
        })? = token.clone();
    }
    let lowercase = json.pointer("/normalizer/lowercase").and_then(serde_json::Value::as_bool).unwrap_or(true);
    WordPiece::new(tokens, lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Padding;

    fn tiny() -> WordPiece {
        let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ze", "##bra", "left", "!", "cafe", "中", "国", "top"];
        WordPiece::new(tokens.map(str::to_owned).to_vec(), true).unwrap()
    }

    #[test]
    fn lower_case_accents_cjk_and_unknown_words() {
        let ids = |text: &str| tiny().encode(text, 20).unwrap().ids;
        assert_eq!(ids("Zebra LEFT!"), [2, 5, 6, 7, 8, 3]);
        assert_eq!(ids("  café\t中国 "), [2, 9, 10, 11, 3]);
        assert_eq!(ids("giraffe top"), [2, 1, 12, 3]);
        assert_eq!(ids("top [MASK]"), [2, 12, 4, 3]);
    }

    #[test]
    fn words_that_are_cut_or_unknown_become_tokens_after_the_others() {
        let (grown, new) = tiny().with_words(["The zebra, LEFT!", "top giraffe"]).unwrap();
        let named = |(word, pieces): &(String, Vec<u32>)| (word.clone(), pieces.clone());
        let expected = [(",", vec![1]), ("giraffe", vec![1]), ("the", vec![1]), ("zebra", vec![5, 6])];
        assert_eq!(new.iter().map(named).collect::<Vec<_>>(), expected.map(|(word, pieces)| (word.to_owned(), pieces)));
        assert_eq!(grown.encode("the zebra left giraffe", 20).unwrap().ids, [2, 15, 16, 7, 14, 3]);
        assert_eq!(grown.tokens()[..13], *tiny().tokens());
        assert!(grown.with_words(["zebra the giraffe"]).unwrap().1.is_empty());
    }

    #[test]
    fn dit_keeps_eighteen_pieces_and_says_so() {
        let long = vec!["top"; 19].join(" ");
        let batch = tiny().encode_batch(&[&long, "left"], 20, Padding::Max).unwrap();
        assert_eq!((batch.lengths(), batch.truncated()), (&[20, 3][..], &[true, false][..]));
        assert_eq!((batch.row(0)[0], batch.row(0)[18], batch.row(0)[19]), (2, 12, 3));
        assert_eq!(&batch.row(1)[..4], [2, 7, 3, 0]);
    }

    #[test]
    fn what_is_not_read_is_told_from_its_first_word_on() {
        let text = format!("{} \t zebra left ", vec!["top"; 17].join(" "));
        assert_eq!(tiny().truncation(&text[..text.len() - 12], 20).unwrap(), None);
        let truncation = tiny().truncation(&text, 20).unwrap().unwrap();
        // "zebra" is two pieces, of which one has a place.
        assert_eq!((truncation.kept, truncation.pieces, truncation.dropped.as_str()), (18, 20, "zebra left"));
        assert_eq!(truncation.to_string(), "18 of 20 tokens are read; not read: \"zebra left\"");
    }

    #[test]
    fn empty_text_and_small_limits_are_errors() {
        let error = tiny().encode_batch(&["left", " \t\u{200d} "], 20, Padding::Max).unwrap_err();
        assert!(matches!(error, TextError::EmptyText { index: 1, .. }), "{error}");
        assert!(matches!(tiny().encode("left", 2), Err(TextError::LimitTooSmall { max_len: 2, least: 3 })));
    }

    #[test]
    fn training_is_deterministic_and_survives_the_disk() {
        let sentences = ["the zebra on the left", "zebra behind the tree", "red car, left of the tree"];
        let first = WordPiece::train(sentences, 80).unwrap();
        assert_eq!(first.tokens(), WordPiece::train(sentences, 80).unwrap().tokens());
        assert!(first.tokens().contains(&"the".to_owned()) && first.tokens().contains(&"zebra".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        first.save(&path).unwrap();
        let second = WordPiece::load(&path).unwrap();
        assert_eq!(second.tokens(), first.tokens());
        assert_eq!(second.encode("the red zebra", 9).unwrap(), first.encode("the red zebra", 9).unwrap());
        assert!(matches!(WordPiece::train(sentences, 6), Err(TextError::Config(error)) if error.key == "vocab_size"));
    }

    #[test]
    fn reads_tokenizer_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let vocab = r###"{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"Top":4,"##per":5}"###;
        std::fs::write(&path, format!(r#"{{"normalizer":{{"lowercase":false}},"model":{{"vocab":{vocab}}}}}"#)).unwrap();
        let cased = WordPiece::load(&path).unwrap();
        assert_eq!(cased.encode("Topper top", 9).unwrap().ids, [2, 4, 5, 1, 3]);
        std::fs::write(&path, r#"{"model":{"vocab":{"[PAD]":7}}}"#).unwrap();
        assert!(matches!(WordPiece::load(&path), Err(TextError::Format { .. })));
    }

    #[test]
    fn bad_vocabularies_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, b"[PAD]\n[UNK]\nca\xff\xfe\n").unwrap();
        assert!(matches!(WordPiece::load(&path), Err(TextError::Utf8 { at: 14, .. })));
        std::fs::write(&path, "[PAD]\n[UNK]\n[CLS]\n").unwrap();
        assert!(matches!(WordPiece::load(&path), Err(TextError::MissingToken { ref token, size: 3 }) if token == "[SEP]"));
        assert!(matches!(WordPiece::load(folder.path().join("none.txt")), Err(TextError::Io { .. })));
    }
}
