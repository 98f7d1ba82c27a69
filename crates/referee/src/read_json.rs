//! Records in JSON and JSONL.

use std::path::Path;

use refcoco_data::AnnId;
use serde_json::{Map, Value};

use crate::RefereeError;
use crate::mask::{Levels, MaskField, short};
use crate::results::{ImageKey, MaskSource, Record};
use crate::split::stem;

const SENT_ID: &[&str] = &["sent_id", "sentence_id", "expression_id"];
const REF_ID: &[&str] = &["ref_id"];
const ANN_ID: &[&str] = &["ann_id", "annotation_id"];
const IMAGE: &[&str] = &["image_id", "img_id", "image", "file_name", "image_file", "img_name", "image_path"];
const SENTENCE: &[&str] = &["sentence", "sent", "text", "phrase", "expression", "caption", "query"];
const MASK: &[&str] = &["segmentation", "mask", "pred_mask", "rle"];
const NO_TARGET: &[&str] = &["no_target", "pred_nt"];
/// A record per image: its sentences, and their masks in the same order.
const SENTENCES: &[&str] = &["sentences", "sents"];
const MASKS: &[&str] = &["masks", "pred_masks", "segmentations"];

pub(crate) fn read(path: &Path, levels: Levels) -> Result<(&'static str, Vec<Record>), RefereeError> {
    let bytes = std::fs::read(path).map_err(|source| RefereeError::Read { path: path.into(), source })?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x80]) {
        let what = "is a torch or pickle file, which may run programs when it is read: write the masks as JSON, JSONL or PNG";
        return Err(RefereeError::format(path, what));
    }
    let from = path.parent().unwrap_or(Path::new(""));
    let reader = Reader { path, folder: from, levels };
    let start = bytes.iter().find(|b| !b.is_ascii_whitespace()).copied();
    let jsonl = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl"));
    match start {
        None => Err(RefereeError::format(path, "is empty")),
        Some(0x1f) => Err(RefereeError::format(path, "is compressed with gzip: unpack it first (gunzip)")),
        Some(b'[' | b'{') if !jsonl => match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Array(list)) => Ok(("COCO results", reader.list(&list, "results")?)),
            Ok(Value::Object(map)) => reader.wrapped(&map),
            Ok(_) => Err(RefereeError::format(path, "must hold a list of results")),
            // Lines of their own look like one value with something behind it.
            Err(e) if start == Some(b'{') && !e.is_eof() => reader.lines(bytes),
            Err(e) => {
                let nan = bytes.windows(3).any(|w| w == b"NaN");
                let hint = if nan { "; it holds NaN, which Python writes and JSON does not know" } else { "" };
                Err(RefereeError::format(path, fault(&e) + hint))
            }
        },
        Some(b'{') => reader.lines(bytes),
        Some(_) => Err(RefereeError::format(path, "is neither JSON nor JSONL: expected a list of results, or one per line")),
    }
}

/// Records that are in memory already; the paths of image files are taken from the working folder on.
pub(crate) fn records(name: &Path, levels: Levels, list: &[Value]) -> Result<Vec<Record>, RefereeError> {
    Reader { path: name, folder: Path::new(""), levels }.list(list, "record")
}

fn fault(error: &serde_json::Error) -> String {
    if error.is_eof() {
        format!("is cut short: the JSON ends in the middle, at line {} column {}", error.line(), error.column())
    } else {
        format!("is no JSON: {error}")
    }
}

struct Reader<'a> {
    path: &'a Path,
    folder: &'a Path,
    levels: Levels,
}

impl Reader<'_> {
    fn wrapped(&self, map: &Map<String, Value>) -> Result<(&'static str, Vec<Record>), RefereeError> {
        for key in ["annotations", "results", "predictions"] {
            if let Some(Value::Array(list)) = map.get(key) {
                return Ok(("COCO results", self.list(list, key)?));
            }
        }
        if first(map, MASK).is_some() || first(map, MASKS).is_some() {
            return Ok(("one result", self.record(map, "result")?));
        }
        let what = "must hold a list of results, at the top or under `annotations`, `results` or `predictions`";
        Err(RefereeError::format(self.path, what))
    }

    fn list(&self, list: &[Value], name: &str) -> Result<Vec<Record>, RefereeError> {
        let mut out = Vec::with_capacity(list.len());
        for (i, value) in list.iter().enumerate() {
            let place = format!("{name}[{i}]");
            let Value::Object(map) = value else {
                return Err(self.wrong(&place, format!("must be a record, not {}", short(value))));
            };
            out.extend(self.record(map, &place)?);
        }
        Ok(out)
    }

    fn lines(&self, bytes: &[u8]) -> Result<(&'static str, Vec<Record>), RefereeError> {
        let mut out = Vec::new();
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let place = format!("line {}", i + 1);
            let map: Map<String, Value> = serde_json::from_slice(line).map_err(|e| self.wrong(&place, fault(&e)))?;
            out.extend(self.record(&map, &place)?);
        }
        Ok(("JSONL", out))
    }

    fn wrong(&self, place: &str, what: String) -> RefereeError {
        RefereeError::Result { path: self.path.into(), place: place.to_owned(), what }
    }

    /// One record, or one per mask where it holds an image's.
    fn record(&self, map: &Map<String, Value>, place: &str) -> Result<Vec<Record>, RefereeError> {
        let Some((key, masks)) = first(map, MASKS) else {
            let Some((key, mask)) = first(map, MASK) else {
                let what = "has no mask: expected `segmentation` (or `mask`, `pred_mask`, `rle`)";
                return Err(self.wrong(place, what.into()));
            };
            let mut record = Record::new(place.to_owned(), self.mask(mask, &format!("{place}.{key}"))?);
            self.keys(map, &mut record)?;
            return Ok(vec![record]);
        };
        let Some(list) = masks.as_array() else {
            return Err(self.wrong(&format!("{place}.{key}"), "must be a list of masks, one per sentence".into()));
        };
        let sentences = first(map, SENTENCES).and_then(|(_, s)| s.as_array());
        if let Some(sentences) = sentences.filter(|s| s.len() != list.len()) {
            return Err(self.wrong(place, format!("has {} masks for {} sentences", list.len(), sentences.len())));
        }
        let mut out = Vec::with_capacity(list.len());
        for (i, mask) in list.iter().enumerate() {
            let mut record = Record::new(format!("{place}.{key}[{i}]"), self.mask(mask, &format!("{place}.{key}[{i}]"))?);
            self.keys(map, &mut record)?;
            match sentences.and_then(|s| s.get(i)).and_then(Value::as_str) {
                Some(text) => record.sentence = Some(text.to_owned()),
                None => record.nth = Some(i),
            }
            out.push(record);
        }
        Ok(out)
    }

    fn mask(&self, value: &Value, place: &str) -> Result<MaskSource, RefereeError> {
        Ok(match MaskField::parse(value).map_err(|what| self.wrong(place, what))? {
            MaskField::Path(path) => MaskSource::File(self.folder.join(path), self.levels),
            field => MaskSource::Field(field),
        })
    }

    fn keys(&self, map: &Map<String, Value>, record: &mut Record) -> Result<(), RefereeError> {
        let place = record.place.clone();
        let id = |keys: &[&str]| -> Result<Option<i64>, RefereeError> {
            let Some((key, value)) = first(map, keys) else { return Ok(None) };
            let number = whole(value);
            number.map(Some).ok_or_else(|| self.wrong(&format!("{place}.{key}"), "must be a whole number".into()))
        };
        (record.sent_id, record.ref_id) = (id(SENT_ID)?, id(REF_ID)?);
        record.ann_id = first(map, ANN_ID).and_then(|(_, v)| serde_json::from_value::<AnnId>(v.clone()).ok());
        record.image = first(map, IMAGE).and_then(|(_, value)| match (whole(value), value.as_str()) {
            (Some(id), _) => Some(ImageKey::Id(id)),
            (None, Some(name)) => Some(ImageKey::Stem(stem(name).to_owned())),
            _ => None,
        });
        record.sentence = first(map, SENTENCE).and_then(|(_, v)| v.as_str()).map(str::to_owned);
        record.no_target = first(map, NO_TARGET).and_then(|(_, v)| v.as_bool().or_else(|| whole(v).map(|n| n != 0)));
        Ok(())
    }
}

/// The first of several names that a record has with something in it. A mask may be null: nothing was found.
fn first<'a>(map: &'a Map<String, Value>, names: &[&'a str]) -> Option<(&'a str, &'a Value)> {
    let found = |null: bool| names.iter().find_map(|name| map.get(*name).filter(|v| null || !v.is_null()).map(|v| (*name, v)));
    found(false).or_else(|| found(names == MASK))
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
