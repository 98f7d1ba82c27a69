//! COCO's `images`, `annotations` and `categories`, with sentences in the annotations or the names of categories in their place.
//!
//! An annotation's sentences are at `sentences`, `sentence`, `expression`, `phrase` or `caption`. Annotations of an image with the
//! same `ref_id`, or the same sentences, are one referent with several targets; one whose `segmentation` is `[]` and whose box is
//! empty says that nothing is meant. Where no annotation has a sentence, everything of a category in an image is meant by its name.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{self, Place, files, find, split_name, split_word};
use super::sample::{Sample, Shape, texts};
use super::{Found, Root};
use crate::instances::{inspect_category, inspect_image, repeated};
use crate::value::At;
use crate::{DataError, json};

/// Keys that hold sentences.
const SAID: [&str; 6] = ["sentences", "sentence", "expression", "phrase", "caption", "captions"];

/// Whether a JSON file's beginning and keys are those of COCO.
pub(crate) fn is_coco(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.contains_key("images") && map.contains_key("annotations"))
}

pub(crate) fn read(root: &Root, out: &mut Found) -> Result<(), DataError> {
    for path in files(&root.path, &["json"])? {
        let value = json::parse(&path)?;
        if is_coco(&value) {
            read_file(root, &path, &value, out);
        }
    }
    Ok(())
}

struct Picture {
    path: PathBuf,
    id: i64,
    size: (u32, u32),
    split: Option<String>,
}

fn read_file(root: &Root, path: &Path, value: &Value, out: &mut Found) {
    let top = At::new(path, "(top level)", value);
    let rows = |key: &str| -> Result<Vec<At<'_>>, DataError> {
        match value.get(key) {
            Some(list) => At::new(path, key, list).items(),
            None => Ok(Vec::new()),
        }
    };
    let of_file = split_word(&folder::stem(path)).or_else(|| {
        let parent = path.parent().filter(|p| *p != root.path)?;
        split_word(&parent.file_name()?.to_string_lossy())
    });
    let folders = image_folders(root, path, of_file);
    let (images, annotations, categories) = match (rows("images"), rows("annotations"), rows("categories")) {
        (Ok(images), Ok(annotations), Ok(categories)) => (images, annotations, categories),
        (Err(e), _, _) | (_, Err(e), _) | (_, _, Err(e)) => {
            out.errors.push(e);
            return;
        }
    };
    out.errors.extend(repeated(
        path,
        "images",
        images.iter().filter_map(|i| Some(i.key("id").ok()?.integer().ok()?.to_string())),
    ));
    let mut pictures: HashMap<i64, Result<Picture, ()>> = HashMap::new();
    for image in &images {
        let id = image.key("id").and_then(|id| id.integer());
        match (picture(image, of_file, &folders), id) {
            (Ok(picture), _) => {
                pictures.insert(picture.id, Ok(picture));
            }
            (Err(error), id) => {
                out.errors.push(error);
                // What points at it is not an error of its own.
                id.into_iter().for_each(|id| drop(pictures.insert(id, Err(()))));
            }
        }
    }
    let mut names: HashMap<i64, String> = HashMap::new();
    for category in &categories {
        match inspect_category(category).and_then(|()| Ok((category.key("id")?.integer()?, category.key("name")?.text()?))) {
            Ok((id, name)) => drop(names.insert(id, name)),
            Err(error) => out.errors.push(error),
        }
    }
    let said = annotations.iter().any(|a| SAID.iter().any(|key| a.value.get(key).is_some()));
    if annotations.is_empty() {
        out.errors.push(top.wrong("annotations"));
    }
    let mut groups: BTreeMap<(i64, String), usize> = BTreeMap::new();
    let mut read: Vec<Sample> = Vec::new();
    for annotation in &annotations {
        match one(annotation, &pictures, &names, said) {
            Ok(None) => {}
            Ok(Some((image, key, sample))) => match groups.get(&(image, key.clone())) {
                Some(&at) => read[at].shapes.extend(sample.shapes),
                None => {
                    groups.insert((image, key), read.len());
                    read.push(sample);
                }
            },
            Err(error) => out.errors.push(error),
        }
    }
    out.samples.extend(read);
}

/// Where a file's images may lie: beside it, below the folder, in its split's folder.
fn image_folders(root: &Root, path: &Path, split: Option<&str>) -> Vec<PathBuf> {
    let mut out = vec![path.parent().unwrap_or(&root.path).to_owned(), root.path.clone(), root.path.join("images")];
    let stem = folder::stem(path);
    // `annotations/instances_val2017.json` is of `val2017`.
    let words = stem.split('_').map(str::to_owned).chain(split.map(str::to_owned));
    for word in words {
        out.extend([root.path.join(&word), root.path.join("images").join(&word)]);
    }
    out.retain(|folder| folder.is_dir());
    out.dedup();
    out
}

fn picture(at: &At<'_>, of_file: Option<&str>, folders: &[PathBuf]) -> Result<Picture, DataError> {
    inspect_image(at)?;
    let side = |key: &str| at.key(key)?.integer().map(|n| n as u32);
    let place = Place::new(at.path, format!("{}.file_name", at.field));
    let split = at.optional("split")?.map(|s| s.text()).transpose()?.map(|s| split_name(&s));
    Ok(Picture {
        path: find(&place, &at.key("file_name")?.text()?, "image", folders)?,
        id: at.key("id")?.integer()?,
        size: (side("width")?, side("height")?),
        split: split.or_else(|| of_file.map(str::to_owned)),
    })
}

/// The sample of an annotation, with its image's number and what makes annotations one referent; none where its image is unusable.
fn one(
    at: &At<'_>,
    pictures: &HashMap<i64, Result<Picture, ()>>,
    names: &HashMap<i64, String>,
    said: bool,
) -> Result<Option<(i64, String, Sample)>, DataError> {
    let place = Place::new(at.path, &at.field);
    let image = at.key("image_id")?;
    let id = image.integer()?;
    let dangling = |field: String, id: i64, table| DataError::Dangling { path: at.path.into(), field, id: id.to_string(), table };
    let picture = match pictures.get(&id) {
        Some(Ok(picture)) => picture,
        Some(Err(())) => return Ok(None),
        None => return Err(dangling(image.field, id, "images")),
    };
    let category = match at.optional("category_id")? {
        None => String::new(),
        Some(category) => {
            let id = category.integer()?;
            names.get(&id).cloned().ok_or_else(|| dangling(category.field, id, "categories"))?
        }
    };
    let mut sentences = Vec::new();
    for key in SAID {
        if let Some(found) = at.optional(key)? {
            sentences = texts(&found)?;
            break;
        }
    }
    if sentences.is_empty() && !said {
        if category.is_empty() {
            return Err(place.below("category_id").wrong("a sentence in some annotation, or a category in each", "neither"));
        }
        sentences = vec![category.clone()];
    }
    let key = match at.optional("ref_id")? {
        Some(id) => format!("ref {}", id.integer()?),
        None => format!("said {}", sentences.join("\n")),
    };
    let shapes = shape(at)?.into_iter().collect();
    let (image, size, split) = (picture.path.clone(), Some(picture.size), picture.split.clone());
    Ok(Some((id, key, Sample { place, image, image_id: Some(id), size, split, sentences, category, shapes })))
}

/// Segmentation, or box; none where both are empty.
fn shape(at: &At<'_>) -> Result<Option<(Place, Shape)>, DataError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    if let Some(found) = at.optional("segmentation")?.filter(|s| !empty(s.value)) {
        return Ok(Some((Place::new(at.path, &found.field), Shape::Coco(found.value.clone()))));
    }
    let Some(found) = at.optional("bbox")? else { return Ok(None) };
    let sides = found.items()?.iter().map(At::number).collect::<Result<Vec<f64>, _>>()?;
    match sides.as_slice() {
        [x, y, w, h] if *w > 0.0 && *h > 0.0 => Ok(Some((Place::new(at.path, &found.field), Shape::Box([*x, *y, *w, *h])))),
        [_, _, _, _] => Ok(None),
        _ => Err(found.wrong("four numbers [x, y, width, height]")),
    }
}
