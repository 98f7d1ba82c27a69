//! A run's tokenizer: made from the training sentences or read from a published vocabulary, and kept with the weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nn_ops::weights::PretrainedFolder;
use text_encoders::TextTokenizer;
use text_encoders::tokenizer::{Beit3Tokenizer, ClipTokenizer, NewWords, TokenizerKind, WordPiece};

use crate::ModelError;
use crate::run_dir::Checkpoint;
use run_config::{RunConfig, Tokenizer};

/// Most pieces of a vocabulary made from the training sentences.
const TRAINED_PIECES: usize = 1000;

/// A tokenizer of any kind, with the files it can be read from again.
#[derive(Clone)]
pub struct RunTokenizer {
    /// Its kind.
    pub kind: Tokenizer,
    tokenizer: Arc<dyn TextTokenizer>,
    files: Vec<(String, Vec<u8>)>,
}

impl RunTokenizer {
    /// The config's tokenizer: that of `resumed` if given, else that of the config's vocabulary file, else one made from the
    /// training sentences.
    ///
    /// # Errors
    /// A vocabulary file that cannot be read.
    pub fn open<'a>(
        run_config: &RunConfig,
        sentences: impl IntoIterator<Item = &'a str>,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, ModelError> {
        if let Some(checkpoint) = resumed {
            return Self::kept(run_config, checkpoint);
        }
        if let Some(published) = Self::published(run_config)? {
            return Ok(published);
        }
        let pieces = WordPiece::train(sentences, TRAINED_PIECES)?;
        let files = vec![(names(Tokenizer::Wordpiece)[0].to_owned(), pieces.vocabulary().into_bytes())];
        Ok(Self { kind: Tokenizer::Wordpiece, tokenizer: Arc::new(pieces), files })
    }

    /// The tokenizer of the config's vocabulary file, or of the one beside `model.init.method`; nothing where it is made from the
    /// training sentences.
    ///
    /// # Errors
    /// A vocabulary file that cannot be read, or none beside the weights.
    pub fn published(run_config: &RunConfig) -> Result<Option<Self>, ModelError> {
        let text = &run_config.text;
        let path = match (text.vocabulary_file(), &run_config.model.init.method) {
            (Some(file), _) => file.to_owned(),
            (None, Some(weights)) if text.vocabulary_from_weights() => Self::beside(run_config, weights)?,
            (None, _) => return Ok(None),
        };
        Self::load(text.tokenizer, &path)?.with_added(&text.added_tokens).map(Some)
    }

    /// The file of the config's kind of vocabulary in a folder of weights, or beside a file of them.
    fn beside(run_config: &RunConfig, weights: &str) -> Result<PathBuf, ModelError> {
        let found = PretrainedFolder::find(weights)?;
        let path = found.path();
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let names = names(run_config.text.tokenizer);
        names.iter().map(|name| folder.join(name)).find(|file| file.is_file()).ok_or_else(|| {
            let expected = format!("{} in {}, or the path of a vocabulary", names.join(" or "), folder.display());
            run_config.value_error("text.vocabulary", "\"from-weights\", but none lies there", expected).into()
        })
    }

    /// A tokenizer whose files are in memory, by name, as [`RunTokenizer::files`] gives them.
    ///
    /// # Errors
    /// No file of the config's kind, or one of another kind.
    pub fn from_bytes(run_config: &RunConfig, files: &[(String, Vec<u8>)]) -> Result<Self, ModelError> {
        let kind = run_config.text.tokenizer;
        let held = |name: &str| files.iter().find(|(n, _)| n == name).cloned();
        let names = names(kind);
        let Some((name, bytes)) = names.iter().find_map(|name| held(name)) else {
            let given: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
            let expected = format!("a tokenizer whose file is given: {}", names.join(" or "));
            return Err(run_config.value_error("text.tokenizer", format!("given {given:?}"), expected).into());
        };
        let added = held(ADDED).filter(|_| kind == Tokenizer::Sentencepiece);
        let of_kind = match kind {
            Tokenizer::Wordpiece => TokenizerKind::WordPiece,
            Tokenizer::Clip => TokenizerKind::Clip,
            Tokenizer::Sentencepiece => TokenizerKind::Beit3,
        };
        let tokenizer = of_kind.from_bytes(&name, bytes.clone(), added.clone().map(|(_, bytes)| bytes))?;
        Ok(Self { kind, tokenizer, files: std::iter::once((name, bytes)).chain(added).collect() })
    }

    /// The tokenizer that a checkpoint was trained with.
    ///
    /// # Errors
    /// A checkpoint without one.
    pub fn kept(run_config: &RunConfig, checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let names = names(run_config.text.tokenizer);
        let name = names.iter().find(|n| checkpoint.manifest.files.contains_key(**n)).unwrap_or(&names[0]);
        Self::load(run_config.text.tokenizer, &checkpoint.file(name)?)
    }

    /// A published vocabulary: `vocab.txt`; `merges.txt`, OpenAI's merges or `tokenizer.json`; `beit3.spm`, with
    /// `added_tokens.json` if it lies beside.
    ///
    /// # Errors
    /// A file that cannot be read or is of another kind.
    pub fn load(kind: Tokenizer, path: &Path) -> Result<Self, ModelError> {
        let bytes =
            |path: &Path| std::fs::read(path).map_err(|e| ModelError::File { path: path.to_owned(), what: e.to_string() });
        let json = path.extension().is_some_and(|e| e == "json");
        let (tokenizer, name): (Arc<dyn TextTokenizer>, usize) = match kind {
            Tokenizer::Wordpiece => (Arc::new(WordPiece::load(path)?), 0),
            Tokenizer::Clip => (Arc::new(ClipTokenizer::load(path)?), usize::from(json)),
            Tokenizer::Sentencepiece => (Arc::new(Beit3Tokenizer::load(path)?), 0),
        };
        let mut files = vec![(names(kind)[name].to_owned(), bytes(path)?)];
        let added = path.with_file_name(ADDED);
        if kind == Tokenizer::Sentencepiece && added.is_file() {
            files.push((ADDED.to_owned(), bytes(&added)?));
        }
        Ok(Self { kind, tokenizer, files })
    }

    /// Makes each text one token, with the ids that follow the vocabulary's; those that are tokens already stay as they are. They are
    /// kept as `added_tokens.json`, as Hugging Face does.
    fn with_added(self, texts: &[String]) -> Result<Self, ModelError> {
        let new = |files: &[(String, Vec<u8>)]| -> Result<Option<Vec<u8>>, serde_json::Error> {
            let mut tokens: BTreeMap<String, u32> = match files.iter().find(|(name, _)| name == ADDED) {
                Some((_, bytes)) => serde_json::from_slice(bytes)?,
                None => BTreeMap::new(),
            };
            let known = tokens.len();
            for text in texts {
                let next = (self.tokenizer.vocab_size() + tokens.len() - known) as u32;
                tokens.entry(text.clone()).or_insert(next);
            }
            if tokens.len() == known { Ok(None) } else { serde_json::to_vec(&tokens).map(Some) }
        };
        let unreadable = |e: serde_json::Error| ModelError::File { path: ADDED.into(), what: e.to_string() };
        let Some(added) = new(&self.files).map_err(unreadable)? else { return Ok(self) };
        let (name, bytes) = self.files[0].clone();
        let tokenizer = TokenizerKind::Beit3.from_bytes(&name, bytes.clone(), Some(added.clone()))?;
        Ok(Self { kind: self.kind, tokenizer, files: vec![(name, bytes), (ADDED.to_owned(), added)] })
    }

    /// This tokenizer with a token of its own for every word of `sentences` that is cut or unknown, and these words with the ids that they
    /// were cut into. Nothing for published vocabularies, whose pieces spell any word; they are told by their size.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn with_words<S: AsRef<str>>(&self, sentences: impl IntoIterator<Item = S>) -> Result<Option<Grown>, ModelError> {
        let [(name, bytes)] = &self.files[..] else { return Ok(None) };
        if self.kind != Tokenizer::Wordpiece || !name.ends_with(".txt") || self.tokenizer.vocab_size() > SMALL_VOCABULARY {
            return Ok(None);
        }
        let (pieces, words) = WordPiece::from_bytes(name, bytes.clone())?.with_words(sentences)?;
        let files = vec![(name.clone(), pieces.vocabulary().into_bytes())];
        let tokenizer = Self { kind: self.kind, tokenizer: Arc::new(pieces), files };
        Ok((!words.is_empty()).then_some(Grown { tokenizer, words }))
    }

    /// The words that are one piece of a small vocabulary, of two letters or more.
    ///
    /// # Errors
    /// A vocabulary that cannot be read.
    pub fn whole_words(&self) -> Result<Vec<String>, ModelError> {
        let [(name, bytes)] = &self.files[..] else { return Ok(Vec::new()) };
        let pieces = WordPiece::from_bytes(name, bytes.clone())?;
        let whole = |token: &&String| token.chars().all(char::is_alphanumeric) && token.chars().count() > 1;
        Ok(pieces.tokens().iter().filter(whole).cloned().collect())
    }

    /// Fails unless the kind is the one that a pretrained encoder's vocabulary was made with. Any kind serves an encoder that
    /// is trained from the beginning.
    ///
    /// # Errors
    /// `text.tokenizer`, with the kind that would be right.
    pub fn expect(&self, run_config: &RunConfig, kind: Tokenizer, encoder: &str, pretrained: bool) -> Result<(), ModelError> {
        if !pretrained || self.kind == kind {
            return Ok(());
        }
        let expected = format!("\"{}\", which {encoder} was trained with", kind.name());
        Err(run_config.value_error("text.tokenizer", format!("\"{}\"", self.kind.name()), expected).into())
    }

    /// Rows that an encoder's table needs: no more than there are pieces, but that BEiT-3's published table has some that
    /// no piece has.
    #[must_use]
    pub fn rows(&self, rows: usize) -> usize {
        if self.kind == Tokenizer::Sentencepiece { rows } else { rows.min(self.tokenizer.vocab_size()) }
    }

    /// How many of some sentences are longer than `text.max_tokens` and are cut, with the first of them; nothing where none is.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn truncated(
        &self,
        run_config: &RunConfig,
        sentences: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Option<String>, ModelError> {
        let (mut all, mut cut, mut first) = (0, 0, None);
        for sentence in sentences {
            let sentence = sentence.as_ref();
            all += 1;
            if let Some(truncation) = self.tokenizer.truncation(sentence, run_config.text.max_tokens)? {
                cut += 1;
                first.get_or_insert_with(|| format!("\"{sentence}\": {truncation}"));
            }
        }
        let limit = run_config.text.max_tokens;
        Ok(first.map(|first| {
            format!("{cut} of {all} sentences are longer than text.max_tokens = {limit} and are cut, first {first}")
        }))
    }

    /// As [`split_token`], of the first of some sentences that has one, with how many have.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn split_tokens(&self, sentences: impl IntoIterator<Item: AsRef<str>>) -> Result<Option<String>, ModelError> {
        let (mut count, mut first) = (0, None);
        for sentence in sentences {
            if let Some(warning) = split_token(self.tokenizer.as_ref(), sentence.as_ref())? {
                count += 1;
                first.get_or_insert_with(|| format!("\"{}\": {warning}", sentence.as_ref()));
            }
        }
        Ok(first.map(|first| format!("{count} sentences begin with a token that is none here, first {first}")))
    }

    /// The tokenizer.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn TextTokenizer> {
        self.tokenizer.clone()
    }

    /// Its files, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.files.clone()
    }
}

/// What is wrong with a word in brackets that a sentence begins with, such as EVF-SAM's `[semantic]`: it changes what is asked for only
/// where it is one token. Nothing for a sentence without one, where it is, and for tokenizers that have no added tokens.
///
/// # Errors
/// When the tokenizer fails.
pub fn split_token(tokenizer: &dyn TextTokenizer, sentence: &str) -> Result<Option<String>, ModelError> {
    let Some((word, _)) = sentence.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return Ok(None) };
    if word.is_empty() || !word.chars().all(char::is_alphabetic) || !tokenizer.may_have_added_tokens() {
        return Ok(None);
    }
    let token = format!("[{word}]");
    let pieces = tokenizer.pieces(&token)?.len();
    Ok((pieces != 1).then(|| {
        format!(
            "{token} is no token of this model's tokenizer, which reads it as {pieces} pieces of text; weights that know it have {ADDED} beside them (text.added_tokens in training)"
        )
    }))
}

/// A tokenizer with new words, as [`RunTokenizer::with_words`] gives it.
#[derive(Clone)]
pub struct Grown {
    /// The tokenizer, in which each word is the token after the ones before it.
    pub tokenizer: RunTokenizer,
    /// The words, each with the ids that it was cut into.
    pub words: NewWords,
}

/// Pieces up to which a vocabulary is taken for one that was made from training sentences. BERT's has 30,522.
const SMALL_VOCABULARY: usize = 5_000;

/// Tokens that a checkpoint adds to a SentencePiece model.
const ADDED: &str = "added_tokens.json";

/// Names under which vocabularies are kept.
fn names(kind: Tokenizer) -> &'static [&'static str] {
    match kind {
        Tokenizer::Wordpiece => &["vocab.txt"],
        Tokenizer::Clip => &["merges.txt", "tokenizer.json"],
        Tokenizer::Sentencepiece => &["sentencepiece.bpe.model"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, tokens: &str) -> RunConfig {
        let text = format!(
            "[text]\ntokenizer = \"sentencepiece\"\nvocabulary = {:?}\nadded_tokens = {tokens}\n",
            folder.join("beit3.spm").display().to_string()
        );
        RunConfig::from_toml_str(&text).unwrap()
    }

    #[test]
    fn the_vocabulary_beside_the_weights_comes_along() {
        let temp = tempfile::tempdir().unwrap();
        let weights = temp.path().join("model.safetensors");
        let text = format!("[text]\nvocabulary = \"from-weights\"\n[model.init]\nmethod = {:?}\n", weights.display().to_string());
        let config = RunConfig::from_toml_str(&text).unwrap();
        std::fs::write(&weights, "").unwrap();
        let missing = RunTokenizer::open(&config, [], None).err().unwrap().to_string();
        assert!(missing.contains("text.vocabulary") && missing.contains("vocab.txt in"), "{missing}");
        std::fs::write(temp.path().join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ncircle\n").unwrap();
        for source in [weights.clone(), temp.path().to_owned()] {
            let config = config.with_overrides(&[format!("model.init.method={}", source.display())]).unwrap();
            assert_eq!(opened(&config).shared().pieces("red circle").unwrap(), [5, 6]);
        }
    }

    fn opened(config: &RunConfig) -> RunTokenizer {
        RunTokenizer::open(config, [], None).unwrap()
    }

    #[test]
    fn added_tokens_follow_the_vocabulary_and_are_kept_beside_it() {
        let published = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../text-encoders/tests/data/tokenizers/beit3.spm");
        let temp = tempfile::tempdir().unwrap();
        std::fs::copy(published, temp.path().join("beit3.spm")).unwrap();
        let ids = |t: &RunTokenizer, text: &str| t.shared().pieces(text).unwrap();
        let plain = opened(&config(temp.path(), "[]"));
        let next = plain.shared().vocab_size() as u32;
        assert_eq!(plain.files().len(), 1);
        let semantic = config(temp.path(), "[\"[semantic]\"]");
        let one = opened(&semantic);
        assert_eq!(ids(&one, "[semantic] hair"), [vec![next], ids(&plain, "hair")].concat());
        assert_eq!(ids(&one, "hair"), ids(&plain, "hair"));
        assert_ne!(ids(&plain, "[semantic] hair")[0], next);
        let warning = plain.split_tokens(["hair", "[semantic] hair", "[0] hair", "[semantic] cat"]).unwrap().unwrap();
        assert!(warning.contains("2 sentences") && warning.contains("\"[semantic] hair\": [semantic] is no token"), "{warning}");
        assert_eq!(one.split_tokens(["[semantic] hair"]).unwrap(), None);
        // The files alone give the same tokenizer, and what is a token already stays.
        let again = RunTokenizer::from_bytes(&semantic, &one.files()).unwrap();
        assert_eq!(ids(&again, "[semantic] hair"), ids(&one, "[semantic] hair"));
        let (_, added) = &one.files()[1];
        assert_eq!(String::from_utf8_lossy(added), format!("{{\"[semantic]\":{next}}}"));
        std::fs::write(temp.path().join(ADDED), added).unwrap();
        assert_eq!(opened(&semantic).files(), one.files());
        let two = opened(&config(temp.path(), "[\"[part]\", \"[semantic]\"]"));
        assert_eq!(ids(&two, "[part][semantic]"), [next + 1, next]);
        let taken = RunTokenizer::open(&config(temp.path(), "[\"<pad>\"]"), [], None).map(|_| ());
        assert!(taken.unwrap_err().to_string().contains("<pad>"));
    }
}
