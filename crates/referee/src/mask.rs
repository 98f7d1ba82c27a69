//! Masks as files spell them: run lengths, polygons, the path of an image; and maps of probabilities.

use std::path::Path;

use coco_mask::Rle;
use pil_ops::Image;
use serde_json::Value;

/// A mask or a map of probabilities, of whatever size.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Foreground or not.
    Mask(Rle),
    /// Probabilities in steps of 1/255, row after row.
    Soft(SoftMap),
}

/// A map of probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftMap {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `height * width` probabilities times 255, row after row.
    pub levels: Vec<u8>,
}

impl SoftMap {
    /// The probabilities, row after row.
    #[must_use]
    pub fn probabilities(&self) -> Vec<f32> {
        self.levels.iter().map(|&v| f32::from(v) / 255.0).collect()
    }
}

impl Answer {
    /// (height, width).
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Mask(mask) => (mask.height(), mask.width()),
            Self::Soft(map) => (map.height, map.width),
        }
    }
}

/// A mask in a JSON file.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskField {
    /// `{size: [h, w], counts}`.
    Runs(Rle),
    /// Flat polygons, in pixels of the image.
    Polygons(Vec<Vec<f64>>),
    /// The path of an image file.
    Path(String),
    /// `null` or an empty list: nothing.
    Nothing,
}

impl MaskField {
    /// Reads COCO's forms: run lengths compressed or not, a list of those, polygons, one polygon; text is a path.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::Nothing),
            Value::String(path) => Ok(Self::Path(path.clone())),
            Value::Object(_) => runs(value).map(Self::Runs),
            Value::Array(list) if list.is_empty() => Ok(Self::Nothing),
            Value::Array(list) if list.iter().all(Value::is_object) => {
                let masks = list.iter().map(runs).collect::<Result<Vec<_>, _>>()?;
                coco_mask::merge(&masks, coco_mask::Merge::Union).map(Self::Runs).map_err(|e| e.to_string())
            }
            Value::Array(list) if list.iter().all(Value::is_number) => Ok(Self::Polygons(vec![numbers(list)?])),
            Value::Array(list) if list.iter().all(Value::is_array) => {
                let polygons = list.iter().filter_map(Value::as_array).map(|p| numbers(p)).collect::<Result<_, _>>()?;
                Ok(Self::Polygons(polygons))
            }
            other => {
                let what = "run lengths {size: [h, w], counts}, polygons [[x, y, ..], ..], the path of an image, or null";
                Err(format!("must be {what}, not {}", short(other)))
            }
        }
    }

    /// The mask; polygons are drawn at the size given, which nothing else looks at.
    ///
    /// # Errors
    /// Coordinates that cannot be drawn, or a path.
    pub fn mask(&self, height: u32, width: u32) -> Result<Rle, String> {
        let mask = match self {
            Self::Runs(mask) => Ok(mask.clone()),
            Self::Polygons(polygons) => {
                // One or two points cover nothing.
                let whole: Vec<&[f64]> = polygons.iter().map(Vec::as_slice).filter(|p| p.len() >= 6).collect();
                if whole.is_empty() { Rle::empty(height, width) } else { Rle::from_polygons(height, width, &whole) }
            }
            Self::Nothing => Rle::empty(height, width),
            Self::Path(path) => return Err(format!("{path}: a path stands where a mask is needed")),
        };
        mask.map_err(|e| e.to_string())
    }
}

fn runs(value: &Value) -> Result<Rle, String> {
    let side = |i: usize| value.get("size").and_then(|s| s.get(i)).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let (Some(height), Some(width)) = (side(0), side(1)) else {
        return Err("run lengths need `size`: [height, width]".into());
    };
    let mask = match value.get("counts") {
        Some(Value::String(text)) => Rle::from_compressed(height, width, text),
        Some(Value::Array(list)) => {
            let counts = list.iter().map(|n| n.as_u64().and_then(|n| u32::try_from(n).ok())).collect::<Option<Vec<_>>>();
            Rle::from_counts(height, width, counts.ok_or("`counts` must be whole numbers from 0 on")?)
        }
        _ => return Err("run lengths need `counts`: a text or a list of whole numbers".into()),
    };
    mask.map_err(|e| e.to_string())
}

fn numbers(list: &[Value]) -> Result<Vec<f64>, String> {
    let flat = list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>();
    flat.ok_or_else(|| "a polygon must be one flat list of numbers, [x, y, x, y, ..]".into())
}

/// A value in a few characters, for messages.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

/// How an image file becomes a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Any colour but black is foreground; there may be one beside it.
    Two,
    /// Grey levels are probabilities times 255.
    Soft,
    /// Levels above 50 are foreground: LISA's scripts write 0 and 100 as JPEG, which blurs them.
    Above50,
}

/// A mask from an image file.
///
/// # Errors
/// A file that is no whole image, or has more levels than `levels` allows.
pub(crate) fn open(path: &Path, levels: Levels) -> Result<Answer, String> {
    let image = Image::open(path).map_err(|e| e.to_string())?;
    let (height, width) = (image.height() as u32, image.width() as u32);
    let pixels = || image.data().chunks_exact(image.channels());
    let bytes: Vec<u8> = match levels {
        Levels::Soft => return Ok(Answer::Soft(SoftMap { height, width, levels: pixels().map(|p| p[0]).collect() })),
        Levels::Above50 => pixels().map(|p| u8::from(p[0] > 50)).collect(),
        Levels::Two => {
            let mut on: Option<&[u8]> = None;
            for pixel in pixels().filter(|p| p.iter().any(|&v| v != 0)) {
                if *on.get_or_insert(pixel) != pixel {
                    return Err(
                        "has more colours than black and one other: a mask has two; if its grey levels are probabilities, \
                                say so (--soft)"
                            .into(),
                    );
                }
            }
            pixels().map(|p| u8::from(p.iter().any(|&v| v != 0))).collect()
        }
    };
    Rle::from_row_major(height, width, &bytes).map(Answer::Mask).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form() {
        let square = Rle::from_row_major(2, 2, &[1, 0, 0, 0]).unwrap();
        let mask = |value: Value| MaskField::parse(&value).and_then(|f| f.mask(2, 2));
        assert_eq!(mask(json!({"size": [2, 2], "counts": [0, 1, 3]})).unwrap(), square);
        assert_eq!(mask(json!({"size": [2, 2], "counts": square.to_compressed()})).unwrap(), square);
        assert_eq!(mask(json!([{"size": [2, 2], "counts": [0, 1, 3]}, {"size": [2, 2], "counts": [4]}])).unwrap(), square);
        assert_eq!(mask(json!([[0, 0, 1, 0, 1, 1, 0, 1]])).unwrap(), square);
        assert_eq!(mask(json!([0, 0, 1, 0, 1, 1, 0, 1])).unwrap(), square);
        assert_eq!(mask(Value::Null).unwrap().area(), 0);
        assert_eq!(mask(json!([])).unwrap().area(), 0);
        assert_eq!(mask(json!([[1, 1, 2, 2]])).unwrap().area(), 0);
        assert_eq!(MaskField::parse(&json!("a.png")).unwrap(), MaskField::Path("a.png".into()));
        for (wrong, word) in [
            (json!(7), "must be run lengths"),
            (json!({"counts": [4]}), "size"),
            (json!({"size": [2, 2]}), "counts"),
            (json!({"size": [2, 2], "counts": [3]}), "add up"),
            (json!({"size": [2, 2], "counts": [-1, 5]}), "whole numbers"),
            (json!({"size": [0, 2], "counts": [0]}), "mask size"),
            (json!([[[0, 0], [1, 1]]]), "flat list"),
        ] {
            let said = mask(wrong.clone()).unwrap_err();
            assert!(said.contains(word), "{wrong}: {said}");
        }
    }

    #[test]
    fn image_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let save = |levels: [u8; 4]| image::GrayImage::from_raw(2, 2, levels.to_vec()).unwrap().save(&path).unwrap();
        save([0, 255, 0, 0]);
        assert_eq!(open(&path, Levels::Two).unwrap(), Answer::Mask(Rle::from_row_major(2, 2, &[0, 1, 0, 0]).unwrap()));
        save([0, 128, 1, 0]);
        assert!(open(&path, Levels::Two).unwrap_err().contains("--soft"));
        assert_eq!(open(&path, Levels::Soft).unwrap(), Answer::Soft(SoftMap { height: 2, width: 2, levels: vec![0, 128, 1, 0] }));
        std::fs::write(&path, b"no image").unwrap();
        assert!(open(&path, Levels::Two).is_err());
    }
}
