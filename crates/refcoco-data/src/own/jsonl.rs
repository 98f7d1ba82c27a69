//! JSON lines: a record per line with an image, sentences, and what they mean.
//!
//! ```text
//! {"image": "a.jpg", "sentences": ["the red mug", "mug on the left"], "mask": "masks/a-1.png"}
//! {"image": "a.jpg", "sentence": "the plate", "polygon": [[10, 10], [60, 10], [60, 40]], "split": "val"}
//! {"image": "b.jpg", "sentence": "both cats", "targets": [{"rle": {"size": [480, 640], "counts": ".."}}, {"box": [5, 5, 90, 60]}]}
//! {"image": "b.jpg", "sentence": "the unicorn", "targets": []}
//! ```

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{self, Place, files, find, split_name, split_word};
use super::sample::{Sample, Shape, bbox, polygons, texts};
use super::{Found, Root};
use crate::value::At;
use crate::{DataError, json};

/// Keys of a target.
const TARGETS: [&str; 4] = ["mask", "polygon", "rle", "box"];
/// Every key of a line.
const KEYS: [&str; 13] = [
    "image",
    "sentence",
    "sentences",
    "mask",
    "polygon",
    "rle",
    "box",
    "targets",
    "split",
    "category",
    "width",
    "height",
    "ref_id",
];

pub(crate) fn read(root: &Root, out: &mut Found) -> Result<(), DataError> {
    for path in files(&root.path, &["jsonl"])? {
        let bytes = json::read(&path)?;
        let of_file = split_word(&folder::stem(&path));
        let folders = [path.parent().unwrap_or(&root.path).to_owned(), root.path.clone(), root.path.join("images")];
        for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let field = format!("line {}", number + 1);
            match serde_json::from_slice::<Value>(line) {
                Ok(value) => out.push(sample(&At::new(&path, field, &value), of_file, &folders)),
                Err(e) => out.errors.push(DataError::Json { path: path.clone(), reason: format!("{field}: {e}") }),
            }
        }
    }
    Ok(())
}

fn sample(at: &At<'_>, of_file: Option<&str>, folders: &[PathBuf]) -> Result<Sample, DataError> {
    let map = at.value.as_object().ok_or_else(|| at.wrong("a dictionary with `image` and `sentences`"))?;
    if let Some(unknown) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(DataError::field(
            at.path,
            format!("{}.{unknown}", at.field),
            &format!("one of {}", KEYS.join(", ")),
            unknown,
        ));
    }
    let place = Place::new(at.path, &at.field);
    let image = at.key("image")?;
    let image = find(&place.below("image"), &image.text()?, "image", folders)?;
    let sentences = match (at.optional("sentences")?, at.optional("sentence")?) {
        (Some(_), Some(other)) => return Err(other.wrong("`sentence` or `sentences`, not both")),
        (Some(said), None) | (None, Some(said)) => texts(&said)?,
        (None, None) => {
            return Err(DataError::field(
                at.path,
                format!("{}.sentences", at.field),
                "text, or a list of texts",
                "nothing (the key is missing)",
            ));
        }
    };
    let split = match at.optional("split")? {
        Some(split) => Some(split_name(&split.text()?)),
        None => of_file.map(str::to_owned),
    };
    let category = at.optional("category")?.map(|c| c.text()).transpose()?.unwrap_or_default();
    let shapes = shapes(at, folders)?;
    Ok(Sample { place, image, image_id: None, size: size(at)?, split, sentences, category, shapes })
}

fn size(at: &At<'_>) -> Result<Option<(u32, u32)>, DataError> {
    let side = |key: &str| -> Result<Option<u32>, DataError> {
        let Some(side) = at.optional(key)? else { return Ok(None) };
        let whole = side.integer().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        whole.map(Some).ok_or_else(|| side.wrong("a number of pixels"))
    };
    Ok(side("width")?.zip(side("height")?))
}

fn shapes(at: &At<'_>, folders: &[PathBuf]) -> Result<Vec<(Place, Shape)>, DataError> {
    let mut keyed = Vec::new();
    for key in TARGETS.into_iter().chain(["targets"]) {
        keyed.extend(at.optional(key)?.map(|value| (key, value)));
    }
    let expected = "one of `mask`, `polygon`, `rle`, `box` and `targets`; `targets: []` where nothing is meant";
    match keyed.as_slice() {
        [("targets", list)] => {
            let mut out = Vec::new();
            for target in list.items()? {
                let mut of_target = Vec::new();
                for key in TARGETS {
                    of_target.extend(target.optional(key)?.map(|value| (key, value)));
                }
                match of_target.as_slice() {
                    [(key, value)] => out.extend(shape(key, value, folders)?),
                    _ => return Err(target.wrong("one of `mask`, `polygon`, `rle` and `box`")),
                }
            }
            Ok(out)
        }
        [(key, value)] => shape(key, value, folders),
        [] => Err(DataError::field(at.path, &at.field, expected, "none of them")),
        [.., (key, _)] => Err(DataError::field(at.path, &at.field, expected, format!("`{key}` beside another one"))),
    }
}

/// The shapes at one key: several for a list of mask files.
fn shape(key: &str, at: &At<'_>, folders: &[PathBuf]) -> Result<Vec<(Place, Shape)>, DataError> {
    let place = Place::new(at.path, &at.field);
    let file = |at: &At<'_>| -> Result<(Place, Shape), DataError> {
        let place = Place::new(at.path, &at.field);
        let path = find(&place, &at.text().map_err(|_| at.wrong("the path of a PNG, or a list of such"))?, "mask", folders)?;
        png_ending(&place, &path)?;
        Ok((place, Shape::File(path)))
    };
    match key {
        "mask" if at.value.is_array() => at.items()?.iter().map(file).collect(),
        "mask" => Ok(vec![file(at)?]),
        "polygon" => Ok(vec![(place, Shape::Polygons(polygons(at)?))]),
        "box" => Ok(vec![(place, Shape::Box(bbox(at)?))]),
        _ if at.value.is_object() => Ok(vec![(place, Shape::Coco(at.value.clone()))]),
        _ => Err(at.wrong("run lengths {size: [h, w], counts}")),
    }
}

/// Fails unless a mask's name says that it is a PNG.
pub(crate) fn png_ending(place: &Place, path: &Path) -> Result<(), DataError> {
    if folder::has_ending(path, &["png"]) {
        return Ok(());
    }
    Err(place.wrong("a PNG, which keeps the values of pixels", path.display().to_string()))
}
