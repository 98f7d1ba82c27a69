//! Refs files: which sentences point at which annotations.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::value::At;
use crate::{DataError, json, pickle};

/// What a sentence needs to single its referent out. Only generated sets carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SentenceKind {
    /// "the red one"
    Colour,
    /// "the star"
    Shape,
    /// "the big circle"
    Size,
    /// "the striped square"
    Texture,
    /// "top left circle"
    Place,
    /// "the circle left of the star"
    Relation,
}

impl SentenceKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 6] = [Self::Colour, Self::Shape, Self::Size, Self::Texture, Self::Place, Self::Relation];

    /// The name in files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Colour => "colour",
            Self::Shape => "shape",
            Self::Size => "size",
            Self::Texture => "texture",
            Self::Place => "place",
            Self::Relation => "relation",
        }
    }
}

impl fmt::Display for SentenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One referring expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// `sent_id`.
    pub id: i64,
    /// `sent`: lower case, punctuation set apart, tokens joined by one space.
    pub text: String,
    /// `raw`: as typed; the same as `text` where a file has none.
    pub raw: String,
    /// The optional extra key `kind` of generated sets.
    pub kind: Option<SentenceKind>,
}

impl Sentence {
    /// Whether there is nothing to read: spaces and punctuation only.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        !self.text.chars().any(char::is_alphanumeric)
    }
}

/// An annotation id: a number, or text in RefCLEF.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum AnnId {
    /// COCO's.
    Number(i64),
    /// RefCLEF's.
    Text(String),
}

impl AnnId {
    /// Text that spells a whole number is that number, so that ids join however a file writes them.
    fn from_text(text: &str) -> Self {
        text.trim().parse().map_or_else(|_| Self::Text(text.into()), Self::Number)
    }
}

impl<'de> Deserialize<'de> for AnnId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        match (value.as_str(), At::new(Path::new(""), "id", &value).integer()) {
            (_, Ok(number)) => Ok(Self::Number(number)),
            (Some(text), _) => Ok(Self::from_text(text)),
            _ => Err(serde::de::Error::custom("an id must be a whole number or text")),
        }
    }
}

impl fmt::Display for AnnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => t.fmt(f),
        }
    }
}

/// One record of a refs file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RefRecord {
    pub(crate) ref_id: i64,
    pub(crate) image_id: i64,
    pub(crate) ann_ids: Vec<AnnId>,
    pub(crate) category_id: Option<i64>,
    pub(crate) split: String,
    pub(crate) sentences: Vec<Sentence>,
    /// Where the record stands, for messages: `refs[17]`.
    pub(crate) field: String,
}

impl RefRecord {
    /// Takes out sentences without words; a line for each.
    pub(crate) fn drop_blank(&mut self, path: &Path) -> Vec<String> {
        let (blank, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sentences).into_iter().partition(Sentence::is_blank);
        self.sentences = kept;
        let line = |sentence: Sentence| {
            format!(
                "{}: field `{}.sentences` (ref_id {}, sent_id {}): no word in {:?}; readers skip the sentence",
                path.display(),
                self.field,
                self.ref_id,
                sentence.id,
                sentence.text
            )
        };
        blank.into_iter().map(line).collect()
    }
}

/// The records of a refs file and the errors of those that cannot be used.
pub(crate) fn read(path: &Path) -> Result<(Vec<RefRecord>, Vec<DataError>), DataError> {
    let list = if path.extension().is_some_and(|e| e == "json") {
        match json::parse(path)? {
            serde_json::Value::Array(list) => list,
            other => return Err(At::new(path, "(top level)", &other).wrong("a list of records")),
        }
    } else {
        let bytes = std::fs::read(path).map_err(|e| DataError::io(path, "read", e))?;
        if let Some(what) = json::other_kind(&bytes) {
            return Err(DataError::Pickle { path: path.into(), reason: what.into() });
        }
        pickle::read_pickle(path, &bytes)?
    };
    let (mut records, mut errors) = (Vec::with_capacity(list.len()), Vec::new());
    for (i, value) in list.iter().enumerate() {
        match record(&At::new(path, format!("refs[{i}]"), value)) {
            Ok(r) => records.push(r),
            Err(e) => errors.push(e),
        }
    }
    Ok((records, errors))
}

fn record(at: &At<'_>) -> Result<RefRecord, DataError> {
    let ann = at.key("ann_id")?;
    let ann_ids =
        if ann.value.is_array() { ann.items()?.iter().map(ann_id).collect::<Result<Vec<_>, _>>()? } else { vec![ann_id(&ann)?] };
    let category_id = match at.optional("category_id")? {
        Some(c) if c.value.is_array() => c.items()?.first().map(At::integer).transpose()?,
        Some(c) => Some(c.integer()?),
        None => None,
    };
    Ok(RefRecord {
        ref_id: at.key("ref_id")?.integer()?,
        image_id: at.key("image_id")?.integer()?,
        // [-1] is gRefCOCO's way to say that nothing is meant.
        ann_ids: ann_ids.into_iter().filter(|id| *id != AnnId::Number(-1)).collect(),
        category_id,
        split: at.key("split")?.text()?,
        sentences: at.key("sentences")?.items()?.iter().map(sentence).collect::<Result<_, _>>()?,
        field: at.field.clone(),
    })
}

fn ann_id(at: &At<'_>) -> Result<AnnId, DataError> {
    match at.value.as_str() {
        Some(text) => Ok(AnnId::from_text(text)),
        None => at.integer().map(AnnId::Number),
    }
}

fn sentence(at: &At<'_>) -> Result<Sentence, DataError> {
    let text = at.key("sent")?.text()?;
    let kind = match at.optional("kind")? {
        Some(k) => {
            let name = k.text()?;
            let known = SentenceKind::ALL.into_iter().find(|kind| kind.name() == name);
            Some(known.ok_or_else(|| k.wrong("colour, shape, size, texture, place or relation"))?)
        }
        None => None,
    };
    Ok(Sentence {
        id: at.key("sent_id")?.integer()?,
        raw: at.optional("raw")?.map(|r| r.text()).transpose()?.unwrap_or_else(|| text.clone()),
        text,
        kind,
    })
}
