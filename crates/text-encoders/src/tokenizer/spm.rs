//! SentencePiece model files: the protobuf, its normalizer and its unigram model.

use std::path::Path;

use prost::Message;
use tokenizers::Model;
use tokenizers::models::unigram::Unigram;

use crate::TextError;

/// `sentencepiece.ModelProto`, as far as unigram models need it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    pub(super) trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) normalizer_spec: Option<NormalizerSpec>,
}

/// `ModelProto.SentencePiece`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(string, tag = "1")]
    pub(super) piece: String,
    #[prost(float, tag = "2")]
    pub(super) score: f32,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    pub(super) kind: Option<i32>,
}

/// `ModelProto.SentencePiece.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// `TrainerSpec`: the kind of model.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TrainerSpec {
    /// 1 unigram, 2 byte pairs, 3 words, 4 characters.
    #[prost(int32, optional, tag = "3")]
    pub(super) model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    pub(super) treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub(super) byte_fallback: Option<bool>,
}

/// `NormalizerSpec`: what happens to a text before it is cut.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub(super) add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) escape_whitespaces: Option<bool>,
}

/// The escaped space.
const SPACE: char = '\u{2581}';

/// A SentencePiece unigram model.
#[derive(Debug, Clone)]
pub(super) struct SentencePiece {
    unigram: Unigram,
    /// Id in the file of each piece of `unigram`.
    ids: Vec<u32>,
    /// Number of pieces in the file.
    pub(super) size: usize,
    charsmap: Option<CharsMap>,
    dummy_prefix: bool,
    collapse: bool,
    escape: bool,
}

impl SentencePiece {
    /// Reads a `.spm` or `.model` file.
    pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, TextError> {
        let proto =
            ModelProto::decode(bytes).map_err(|error| TextError::format(path, format!("not a SentencePiece model: {error}")))?;
        Self::new(&proto).map_err(|what| TextError::format(path, what))
    }

    pub(super) fn new(proto: &ModelProto) -> Result<Self, String> {
        let trainer = proto.trainer_spec.clone().unwrap_or_default();
        match trainer.model_type.unwrap_or(1) {
            1 => {}
            other => return Err(format!("holds a model of type {other}; expected 1, a unigram model")),
        }
        if trainer.byte_fallback == Some(true) || trainer.treat_whitespace_as_suffix == Some(true) {
            return Err("uses byte fallback or spaces as suffix, which BEiT-3's model does not".into());
        }
        let kind = |piece: &Piece| piece.kind.map_or(Some(Kind::Normal), |kind| Kind::try_from(kind).ok());
        let unknown = proto.pieces.iter().position(|piece| kind(piece) == Some(Kind::Unknown));
        let Some(unknown) = unknown else {
            return Err(format!("none of its {} pieces stands for the unknown", proto.pieces.len()));
        };
        // Only normal and user-defined pieces may match text. The unknown piece gets a spelling that no text holds.
        let mut vocabulary = vec![("\u{fdd0}".to_owned(), 0.0)];
        let mut ids = vec![unknown as u32];
        let normal = || proto.pieces.iter().filter(|piece| kind(piece) == Some(Kind::Normal));
        let most = normal().map(|piece| f64::from(piece.score)).fold(f64::NEG_INFINITY, f64::max);
        let least = normal().map(|piece| f64::from(piece.score)).fold(f64::INFINITY, f64::min);
        if !least.is_finite() || !most.is_finite() {
            return Err("has no normal pieces with finite scores".into());
        }
        vocabulary[0].1 = least;
        for (id, piece) in proto.pieces.iter().enumerate() {
            let score = match kind(piece) {
                Some(Kind::Normal) => f64::from(piece.score),
                // As the reference scores them: always preferred to their parts.
                Some(Kind::UserDefined) => piece.piece.chars().count() as f64 * most - 0.1,
                _ => continue,
            };
            if piece.piece.is_empty() {
                return Err(format!("piece {id} is empty"));
            }
            vocabulary.push((piece.piece.clone(), score));
            ids.push(id as u32);
        }
        let unigram = Unigram::from(vocabulary, Some(0), false).map_err(|error| error.to_string())?;
        let rules = proto.normalizer_spec.clone().unwrap_or_default();
        let charsmap = match rules.precompiled_charsmap.as_deref() {
            None | Some([]) => None,
            Some(bytes) => Some(CharsMap::parse(bytes).ok_or("its character map is damaged")?),
        };
        Ok(Self {
            unigram,
            ids,
            size: proto.pieces.len(),
            charsmap,
            dummy_prefix: rules.add_dummy_prefix.unwrap_or(true),
            collapse: rules.remove_extra_whitespaces.unwrap_or(true),
            escape: rules.escape_whitespaces.unwrap_or(true),
        })
    }

    /// Ids in the file's own numbering; runs of unknown characters are one unknown piece.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let normalized = self.normalize(text);
        let tokens = self
            .unigram
            .tokenize(&normalized)
            .map_err(|error| TextError::Tokenize { text: text.to_owned(), reason: error.to_string() })?;
        Ok(tokens.iter().filter_map(|token| self.ids.get(token.id as usize).copied()).collect())
    }

    /// Characters mapped, spaces at the ends dropped and runs of them joined, one put in front, all of them escaped.
    fn normalize(&self, text: &str) -> String {
        let mut rest = text;
        let next = |rest: &mut &str| -> Option<String> {
            let (mapped, length) = match self.charsmap.as_ref().and_then(|map| map.longest(rest.as_bytes())) {
                Some((mapped, length)) => (mapped.to_owned(), length),
                None => {
                    let c = rest.chars().next()?;
                    (c.to_string(), c.len_utf8())
                }
            };
            *rest = rest.get(length..)?;
            Some(mapped)
        };
        let space = if self.escape { SPACE } else { ' ' };
        let mut out = String::with_capacity(text.len() + 3);
        // Nothing but leading spaces so far.
        let mut leading = self.collapse;
        let mut after_space = self.collapse;
        while let Some(mapped) = next(&mut rest) {
            let mut chunk = mapped.as_str();
            if leading {
                if chunk == " " {
                    continue;
                }
                leading = false;
            }
            if out.is_empty() && self.dummy_prefix {
                out.push(space);
            }
            while after_space && let Some(less) = chunk.strip_prefix(' ') {
                chunk = less;
            }
            if let Some(last) = chunk.chars().last() {
                out.extend(chunk.chars().map(|c| if c == ' ' { space } else { c }));
                after_space = self.collapse && last == ' ';
            }
        }
        if self.collapse {
            while out.ends_with(space) {
                out.pop();
            }
        }
        out
    }
}

/// A precompiled character map: a double-array trie of byte strings and what they become.
#[derive(Debug, Clone)]
struct CharsMap {
    units: Vec<u32>,
    texts: String,
}

impl CharsMap {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, texts) = rest.split_at_checked(size)?;
        let (units, ragged) = trie.as_chunks::<4>();
        if units.is_empty() || !ragged.is_empty() {
            return None;
        }
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Some(Self { units, texts: String::from_utf8(texts.to_vec()).ok()? })
    }

    /// What the longest known start of `text` becomes, and its length in bytes.
    fn longest(&self, text: &[u8]) -> Option<(&str, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (place, &byte) in text.iter().enumerate() {
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if unit & ((1 << 31) | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let Some(&leaf) = self.units.get(at) else { break };
                found = Some(((leaf & 0x7fff_ffff) as usize, place + 1));
            }
        }
        let (start, length) = found?;
        let text = self.texts.get(start..)?;
        Some((text.split('\0').next().unwrap_or(""), length))
    }
}
