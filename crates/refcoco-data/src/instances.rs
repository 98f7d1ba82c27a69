use std::collections::HashMap;
use std::path::Path;

use coco_mask::{MaskError, Rle};
use serde::Deserialize;
use serde_json::Value;

use crate::value::At;
use crate::{AnnId, DataError};

/// The parts of an `instances.json` that matter here.
pub(crate) struct Instances {
    pub(crate) images: HashMap<i64, ImageRecord>,
    pub(crate) annotations: HashMap<AnnId, Annotation>,
    pub(crate) categories: HashMap<i64, String>,
}

#[derive(Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: i64,
    pub(crate) file_name: String,
    pub(crate) height: u32,
    pub(crate) width: u32,
}

#[derive(Deserialize)]
pub(crate) struct Annotation {
    id: AnnId,
    pub(crate) image_id: i64,
    pub(crate) bbox: [f64; 4],
    #[serde(default, deserialize_with = "flag")]
    pub(crate) iscrowd: bool,
    pub(crate) segmentation: Segmentation,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Segmentation {
    Polygons(Vec<Vec<f64>>),
    Runs(RunLength),
    /// RefCLEF: a list of compressed masks.
    RunsList(Vec<RunLength>),
}

#[derive(Deserialize)]
pub(crate) struct RunLength {
    size: [u32; 2],
    counts: Counts,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Plain(Vec<u32>),
    Compressed(String),
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct File {
    images: Vec<ImageRecord>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

/// `iscrowd` is 0 or 1 in COCO, a boolean in some copies.
fn flag<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Number(i64),
        Bool(bool),
    }
    Ok(match Flag::deserialize(d)? {
        Flag::Number(n) => n != 0,
        Flag::Bool(b) => b,
    })
}

impl Instances {
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path).map_err(|e| DataError::io(path, "read", e))?;
        let file: File = serde_json::from_slice(&bytes).map_err(|e| explain(path, &bytes, &e))?;
        Ok(Self {
            images: file.images.into_iter().map(|i| (i.id, i)).collect(),
            annotations: file.annotations.into_iter().map(|a| (a.id.clone(), a)).collect(),
            categories: file.categories.into_iter().map(|c| (c.id, c.name)).collect(),
        })
    }

    /// The mask of an annotation, as large as its image.
    pub(crate) fn mask(&self, path: &Path, id: &AnnId, image: &ImageRecord) -> Result<Rle, DataError> {
        let Some(annotation) = self.annotations.get(id) else {
            return Rle::empty(image.height, image.width).map_err(|e| mask_error(path, id, &e));
        };
        annotation.segmentation.mask(image.height, image.width).map_err(|e| mask_error(path, id, &e))
    }
}

fn mask_error(path: &Path, id: &AnnId, error: &MaskError) -> DataError {
    let reason = match error {
        MaskError::Mismatch { first, other } => format!(
            "the mask is {} x {} but its image is {} x {} (height x width); both must be equal",
            other.0, other.1, first.0, first.1
        ),
        other => other.to_string(),
    };
    DataError::Mask { path: path.into(), field: format!("annotations[id={id}].segmentation"), reason }
}

impl Segmentation {
    fn mask(&self, height: u32, width: u32) -> Result<Rle, MaskError> {
        let runs = |r: &RunLength| {
            if r.size != [height, width] {
                let other = (r.size[0], r.size[1]);
                return Err(MaskError::Mismatch { first: (height, width), other });
            }
            match &r.counts {
                Counts::Plain(counts) => Rle::from_counts(height, width, counts.clone()),
                Counts::Compressed(text) => Rle::from_compressed(height, width, text),
            }
        };
        match self {
            Self::Polygons(polygons) => {
                // One or two points cover nothing; pycocotools stumbles over them when they come first.
                let whole: Vec<&[f64]> = polygons.iter().map(Vec::as_slice).filter(|p| p.len() >= 6).collect();
                if whole.is_empty() {
                    return Rle::empty(height, width);
                }
                Rle::from_polygons(height, width, &whole)
            }
            Self::Runs(r) => runs(r),
            Self::RunsList(list) => {
                let parts = list.iter().map(runs).collect::<Result<Vec<_>, _>>()?;
                coco_mask::merge(&parts, coco_mask::Merge::Union)
            }
        }
    }
}

/// The typed parser knows line and column; this second, slower look names the field.
fn explain(path: &Path, bytes: &[u8], error: &serde_json::Error) -> DataError {
    let json = |reason: String| DataError::Json { path: path.into(), reason };
    if !error.is_data() {
        return json(error.to_string());
    }
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(e) => return json(e.to_string()),
    };
    match inspect(path, &value) {
        Err(e) => e,
        Ok(()) => json(error.to_string()),
    }
}

fn inspect(path: &Path, value: &Value) -> Result<(), DataError> {
    let Some(map) = value.as_object() else {
        return Err(At::new(path, "(top level)", value).wrong("a dictionary with `images`, `annotations` and `categories`"));
    };
    let table = |name: &str| match map.get(name) {
        Some(v) => At::new(path, name, v).items(),
        None => Err(DataError::field(path, name, "a list", "nothing (the key is missing)")),
    };
    let positive = |at: At<'_>| match at.value.as_u64() {
        Some(n) if n <= u64::from(u32::MAX) => Ok(()),
        _ => Err(at.wrong("a whole number of pixels")),
    };
    let integer = |at: At<'_>| at.value.as_i64().map(|_| ()).ok_or_else(|| at.wrong("a whole number"));
    for image in table("images")? {
        integer(image.key("id")?)?;
        image.key("file_name")?.text()?;
        positive(image.key("height")?)?;
        positive(image.key("width")?)?;
    }
    for ann in table("annotations")? {
        let id = ann.key("id")?;
        if id.value.as_i64().is_none() && !id.value.is_string() {
            return Err(id.wrong("a whole number or text"));
        }
        integer(ann.key("image_id")?)?;
        let bbox = ann.key("bbox")?;
        let numbers = bbox.items()?;
        if numbers.len() != 4 {
            return Err(bbox.wrong("four numbers [x, y, width, height]"));
        }
        for n in numbers {
            n.number()?;
        }
        if let Some(crowd) = ann.optional("iscrowd")?
            && crowd.value.as_i64().is_none()
            && !crowd.value.is_boolean()
        {
            return Err(crowd.wrong("0 or 1"));
        }
        let segmentation = ann.key("segmentation")?;
        if Segmentation::deserialize(segmentation.value).is_err() {
            return Err(segmentation.wrong("polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}"));
        }
    }
    if map.contains_key("categories") {
        for category in table("categories")? {
            integer(category.key("id")?)?;
            category.key("name")?.text()?;
        }
    }
    Ok(())
}
