//! COCO's `instances.json`: images, annotations and their masks.

use std::collections::HashMap;
use std::path::Path;

use coco_mask::{MaskError, Rle};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::{self, WholeU32, whole};
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
    #[serde(deserialize_with = "whole")]
    pub(crate) id: i64,
    pub(crate) file_name: String,
    #[serde(deserialize_with = "whole")]
    pub(crate) height: u32,
    #[serde(deserialize_with = "whole")]
    pub(crate) width: u32,
}

#[derive(Deserialize)]
pub(crate) struct Annotation {
    id: AnnId,
    #[serde(deserialize_with = "whole")]
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
    size: [WholeU32; 2],
    counts: Counts,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Plain(Vec<WholeU32>),
    Compressed(String),
}

#[derive(Deserialize)]
struct Category {
    #[serde(deserialize_with = "whole")]
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

/// `iscrowd` is 0 or 1 in COCO, a boolean or null in some copies.
pub(crate) fn flag<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Number(f64),
        Bool(bool),
        Null(()),
    }
    Ok(match Flag::deserialize(d)? {
        Flag::Number(n) => n != 0.0,
        Flag::Bool(b) => b,
        Flag::Null(()) => false,
    })
}

impl Instances {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and field.
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = json::read(path)?;
        match serde_json::from_slice::<File>(&bytes) {
            Ok(file) => {
                let mut errors = duplicates(path, &file);
                if !errors.is_empty() {
                    return Err(errors.swap_remove(0));
                }
                Ok(Self::of(file))
            }
            Err(error) => {
                let (instances, errors) = Self::salvage(path, &bytes, &error);
                match errors.into_iter().next() {
                    Some(error) => Err(error),
                    None => instances.ok_or_else(|| DataError::Json { path: path.into(), reason: error.to_string() }),
                }
            }
        }
    }

    /// Reads what can be read, and names everything that cannot.
    pub(crate) fn read_all(path: &Path) -> (Option<Self>, Vec<DataError>) {
        let bytes = match json::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return (None, vec![error]),
        };
        match serde_json::from_slice::<File>(&bytes) {
            Ok(file) => {
                let errors = duplicates(path, &file);
                (Some(Self::of(file)), errors)
            }
            Err(error) => Self::salvage(path, &bytes, &error),
        }
    }

    fn of(file: File) -> Self {
        Self {
            images: file.images.into_iter().map(|i| (i.id, i)).collect(),
            annotations: file.annotations.into_iter().map(|a| (a.id.clone(), a)).collect(),
            categories: file.categories.into_iter().map(|c| (c.id, c.name)).collect(),
        }
    }

    /// The typed parser knows line and column and stops at the first fault; this second, slower look names every field and keeps the
    /// records that are whole.
    fn salvage(path: &Path, bytes: &[u8], error: &serde_json::Error) -> (Option<Self>, Vec<DataError>) {
        let json = |reason: String| vec![DataError::Json { path: path.into(), reason }];
        let plain = json::without_nan(bytes);
        let value: Value = match serde_json::from_slice(plain.as_deref().unwrap_or(bytes)) {
            Ok(value) => value,
            Err(e) => return (None, json(e.to_string())),
        };
        let mut errors = Vec::new();
        let file = File {
            images: records(path, &value, "images", true, inspect_image, &mut errors),
            annotations: records(path, &value, "annotations", true, inspect_annotation, &mut errors),
            categories: records(path, &value, "categories", false, inspect_category, &mut errors),
        };
        if errors.is_empty() && plain.is_none() {
            return (None, json(error.to_string()));
        }
        errors.extend(duplicates(path, &file));
        (Some(Self::of(file)), errors)
    }

    /// The mask of an annotation, as large as its image.
    pub(crate) fn mask(&self, path: &Path, id: &AnnId, image: &ImageRecord) -> Result<Rle, DataError> {
        let Some(annotation) = self.annotations.get(id) else {
            let field = format!("annotations[id={id}].segmentation");
            return Rle::empty(image.height, image.width).map_err(|e| mask_error(path, field, &e));
        };
        let field = || format!("annotations[id={id}].segmentation");
        segmentation_mask(path, field, &annotation.segmentation, (image.height, image.width))
    }
}

/// The mask of a segmentation, as large as its image, (height, width).
pub(crate) fn segmentation_mask(
    path: &Path,
    field: impl Fn() -> String,
    segmentation: &Segmentation,
    (height, width): (u32, u32),
) -> Result<Rle, DataError> {
    if segmentation.is_list_of_points() {
        let reason = "its points are lists of their own, [[x, y], ..]; a polygon is one flat list, [[x, y, x, y, ..]]".into();
        return Err(DataError::Mask { path: path.into(), field: field(), reason });
    }
    segmentation.mask(height, width).map_err(|e| mask_error(path, field(), &e))
}

fn mask_error(path: &Path, field: String, error: &MaskError) -> DataError {
    let reason = match error {
        MaskError::Mismatch { first, other } => format!(
            "the mask is {} x {} but its image is {} x {} (height x width); both must be equal",
            other.0, other.1, first.0, first.1
        ),
        other => other.to_string(),
    };
    DataError::Mask { path: path.into(), field, reason }
}

impl Segmentation {
    /// Whether the points of a polygon are lists of their own, `[[x, y], [x, y], ..]`: read as polygons they would be an empty mask.
    fn is_list_of_points(&self) -> bool {
        matches!(self, Self::Polygons(polygons) if polygons.len() > 1 && polygons.iter().all(|p| p.len() == 2))
    }

    fn mask(&self, height: u32, width: u32) -> Result<Rle, MaskError> {
        let runs = |r: &RunLength| {
            let size = (r.size[0].0, r.size[1].0);
            if size != (height, width) {
                let other = size;
                return Err(MaskError::Mismatch { first: (height, width), other });
            }
            match &r.counts {
                Counts::Plain(counts) => Rle::from_counts(height, width, counts.iter().map(|c| c.0).collect()),
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

/// Ids of images and annotations that occur again.
fn duplicates(path: &Path, file: &File) -> Vec<DataError> {
    let images = repeated(path, "images", file.images.iter().map(|i| i.id.to_string()));
    images.into_iter().chain(repeated(path, "annotations", file.annotations.iter().map(|a| a.id.to_string()))).collect()
}

/// Ids of a table that occur again, each with the place where it did first.
pub(crate) fn repeated(path: &Path, table: &str, ids: impl Iterator<Item = String>) -> Vec<DataError> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (at, id) in ids.enumerate() {
        match first.get(&id) {
            Some(before) => {
                let [first, second] = [*before, at].map(|at| format!("{table}[{at}].id"));
                found.push(DataError::Duplicate { path: path.into(), first, second, id });
            }
            None => {
                first.insert(id, at);
            }
        }
    }
    found
}

/// The whole records of a table; what is wrong with the others goes to `errors`.
fn records<T: DeserializeOwned>(
    path: &Path,
    value: &Value,
    table: &str,
    required: bool,
    inspect: fn(&At<'_>) -> Result<(), DataError>,
    errors: &mut Vec<DataError>,
) -> Vec<T> {
    let Some(map) = value.as_object() else {
        // One fault, not one per table.
        if table == "images" {
            let expected = "a dictionary with `images`, `annotations` and `categories`";
            errors.push(At::new(path, "(top level)", value).wrong(expected));
        }
        return Vec::new();
    };
    let rows = match map.get(table) {
        Some(v) => At::new(path, table, v).items(),
        None if required => Err(DataError::field(path, table, "a list", "nothing (the key is missing)")),
        None => Ok(Vec::new()),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            errors.push(error);
            return Vec::new();
        }
    };
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        match inspect(&row).and_then(|()| T::deserialize(row.value).map_err(|e| row.wrong(&e.to_string()))) {
            Ok(record) => kept.push(record),
            Err(error) => errors.push(error),
        }
    }
    kept
}

fn pixels(at: &At<'_>) -> Result<(), DataError> {
    match at.integer() {
        Ok(n) if u32::try_from(n).is_ok() => Ok(()),
        _ => Err(at.wrong("a whole number of pixels")),
    }
}

pub(crate) fn inspect_image(image: &At<'_>) -> Result<(), DataError> {
    image.key("id")?.integer()?;
    image.key("file_name")?.text()?;
    pixels(&image.key("height")?)?;
    pixels(&image.key("width")?)
}

fn inspect_annotation(ann: &At<'_>) -> Result<(), DataError> {
    let id = ann.key("id")?;
    if id.integer().is_err() && !id.value.is_string() {
        return Err(id.wrong("a whole number or text"));
    }
    ann.key("image_id")?.integer()?;
    let bbox = ann.key("bbox")?;
    let numbers = bbox.items()?;
    if numbers.len() != 4 {
        return Err(bbox.wrong("four numbers [x, y, width, height]"));
    }
    for n in numbers {
        n.number()?;
    }
    if let Some(crowd) = ann.optional("iscrowd")?
        && crowd.value.as_f64().is_none()
        && !crowd.value.is_boolean()
    {
        return Err(crowd.wrong("0 or 1"));
    }
    let segmentation = ann.key("segmentation")?;
    match Segmentation::deserialize(segmentation.value) {
        Ok(_) => Ok(()),
        Err(_) => Err(segmentation.wrong("polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}")),
    }
}

pub(crate) fn inspect_category(category: &At<'_>) -> Result<(), DataError> {
    category.key("id")?.integer()?;
    category.key("name")?.text()?;
    Ok(())
}
