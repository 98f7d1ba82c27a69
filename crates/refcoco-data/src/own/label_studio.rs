//! Label Studio's JSON export: polygons, brush masks, boxes and ellipses, with sentences written to regions or their labels.
//!
//! A text area of a region (the same `id`) holds its sentences; regions of an image without one are meant by their label, all of
//! a label together. Where regions have texts, those of the same texts are one referent. Regions are in per cent of the image.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::PathBuf;

use serde_json::Value;

use super::folder::{IMAGES, Place, files, inside};
use super::sample::{Sample, Shape, texts};
use super::{Found, Root};
use crate::value::At;
use crate::{DataError, json};

/// Points of an ellipse.
const ROUND: u32 = 64;
/// Results that have a shape.
const SHAPES: [&str; 8] =
    ["polygonlabels", "polygon", "brushlabels", "brush", "rectanglelabels", "rectangle", "ellipselabels", "ellipse"];

/// Whether a JSON file is such an export.
pub(crate) fn is_export(value: &Value) -> bool {
    value
        .as_array()
        .and_then(|list| list.first())
        .is_some_and(|task| task.get("data").is_some() && task.get("annotations").is_some())
}

pub(crate) fn read(root: &Root, out: &mut Found) -> Result<(), DataError> {
    let images = files(&root.path, &IMAGES)?;
    for path in files(&root.path, &["json"])? {
        let value = json::parse(&path)?;
        if !is_export(&value) {
            continue;
        }
        for (i, task) in value.as_array().into_iter().flatten().enumerate() {
            let at = At::new(&path, format!("tasks[{i}]"), task);
            match of_task(&at, &images, &mut out.warnings) {
                Ok(samples) if samples.is_empty() => out.unsaid += 1,
                Ok(samples) => out.samples.extend(samples),
                Err(error) => out.errors.push(error),
            }
        }
    }
    Ok(())
}

/// What a region says.
struct Region {
    place: Place,
    shape: Shape,
    labels: Vec<String>,
    said: Vec<String>,
    size: (u32, u32),
}

fn of_task(at: &At<'_>, images: &[PathBuf], warnings: &mut Vec<String>) -> Result<Vec<Sample>, DataError> {
    let mut annotations = Vec::new();
    for annotation in at.key("annotations")?.items()? {
        let cancelled = annotation.optional("was_cancelled")?.is_some_and(|c| c.value == &Value::Bool(true));
        if !cancelled {
            annotations.push(annotation);
        }
    }
    let truth = |a: &&At<'_>| a.value.get("ground_truth") == Some(&Value::Bool(true));
    let Some(annotation) = annotations.iter().find(truth).or(annotations.first()) else { return Ok(Vec::new()) };
    if annotations.len() > 1 {
        let (path, field, count) = (at.path.display(), &at.field, annotations.len());
        warnings.push(format!("{path}: field `{field}`: {count} annotations; readers take {}", annotation.field));
    }
    let image = image(at, images)?;
    let split = at.key("data")?.optional("split")?.map(|s| s.text()).transpose()?.map(|s| super::folder::split_name(&s));
    let regions = regions(annotation, warnings)?;
    let mut groups: BTreeMap<(bool, Vec<String>), Vec<Region>> = BTreeMap::new();
    for region in regions {
        match (&region.said, &region.labels) {
            (said, _) if !said.is_empty() => groups.entry((true, said.clone())).or_default().push(region),
            (_, labels) if !labels.is_empty() => groups.entry((false, labels.clone())).or_default().push(region),
            _ => {
                let expected = "a label, or a text area with a sentence for this region";
                return Err(region.place.wrong(expected, "neither"));
            }
        }
    }
    let sample = |((_, sentences), regions): ((bool, Vec<String>), Vec<Region>)| Sample {
        place: regions[0].place.clone(),
        image: image.clone(),
        image_id: None,
        size: Some(regions[0].size),
        split: split.clone(),
        category: regions[0].labels.first().cloned().unwrap_or_default(),
        sentences,
        shapes: regions.into_iter().map(|r| (r.place, r.shape)).collect(),
    };
    Ok(groups.into_iter().map(sample).collect())
}

/// The image of a task, by the name at the end of whatever address its data hold: `/data/upload/3/1f2e3d4c-cup.jpg`,
/// `/data/local-files/?d=photos/cup.jpg`, `s3://bucket/cup.jpg`.
fn image(at: &At<'_>, images: &[PathBuf]) -> Result<PathBuf, DataError> {
    let data = at.key("data")?;
    let map = data.value.as_object().ok_or_else(|| data.wrong("a dictionary with the image"))?;
    let ends = |text: &str| {
        let path = text.split_once("?d=").map_or(text, |(_, path)| path);
        let path = path.split(['?', '#']).next().unwrap_or(path).to_owned();
        super::folder::has_ending(path.as_ref(), &IMAGES).then_some(path)
    };
    let named = map.get("image").into_iter().chain(map.values()).find_map(|value| Some((value, ends(value.as_str()?)?)));
    let Some((value, address)) = named else {
        return Err(data.wrong("the address of an image that ends in .jpg, .png or .webp"));
    };
    let name = address.rsplit(['/', '\\']).next().unwrap_or(&address);
    let name = percent_decoded(name);
    let place = Place::new(at.path, format!("{}.data", at.field));
    inside(&place, &name)?;
    // Uploads get eight hexadecimal digits before their names.
    let short =
        name.split_once('-').filter(|(hash, _)| hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit())).map(|s| s.1);
    for wanted in std::iter::once(name.as_str()).chain(short) {
        let mut fits = images.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy() == wanted));
        match (fits.next(), fits.next()) {
            (Some(one), None) => return Ok(one.clone()),
            (Some(one), Some(other)) => {
                let found = format!("{} and {}", one.display(), other.display());
                return Err(place.wrong("one image of this name in the folder", found));
            }
            (None, _) => {}
        }
    }
    let hint = format!("{} names it as {value}; put the images into the export's folder", at.path.display());
    Err(DataError::Missing { path: name.into(), what: "image", hint })
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn regions(annotation: &At<'_>, warnings: &mut Vec<String>) -> Result<Vec<Region>, DataError> {
    let results = annotation.key("result")?.items()?;
    let kind = |r: &At<'_>| r.key("type")?.text();
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for result in &results {
        if kind(result)? == "textarea"
            && let Some(id) = result.optional("id")?
        {
            said.entry(id.text()?).or_default().extend(texts(&result.key("value")?.key("text")?)?);
        }
    }
    let mut out = Vec::new();
    let mut passed = 0;
    for result in &results {
        let kind = kind(result)?;
        if kind == "textarea" {
            continue;
        }
        if !SHAPES.contains(&kind.as_str()) {
            passed += 1;
            continue;
        }
        let id = result.optional("id")?.map(|id| id.text()).transpose()?.unwrap_or_default();
        let value = result.key("value")?;
        let size = (side(result, "original_width")?, side(result, "original_height")?);
        let labels = value.optional(&kind)?.map(|l| texts(&l)).transpose()?.unwrap_or_default();
        let shape = shape(&value, &kind, size)?;
        let place = Place::new(result.path, &result.field);
        out.push(Region { place, shape, labels, said: said.remove(&id).unwrap_or_default(), size });
    }
    if passed > 0 || !said.is_empty() {
        let (path, field, texts) = (annotation.path.display(), &annotation.field, said.len());
        warnings.push(format!(
            "{path}: field `{field}`: {passed} results without a mask and {texts} texts of no region are passed over"
        ));
    }
    Ok(out)
}

fn side(at: &At<'_>, key: &str) -> Result<u32, DataError> {
    let side = at.key(key)?;
    let whole = side.integer().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    whole.ok_or_else(|| side.wrong("a number of pixels"))
}

fn shape(value: &At<'_>, kind: &str, (width, height): (u32, u32)) -> Result<Shape, DataError> {
    let scale = [f64::from(width) / 100.0, f64::from(height) / 100.0];
    let number = |key: &str| value.key(key)?.number();
    // Turned clockwise about a point, in pixels: percents of the two sides are not alike.
    let turned = |points: Vec<[f64; 2]>, [cx, cy]: [f64; 2]| -> Result<Shape, DataError> {
        let angle = value.optional("rotation")?.map(|r| r.number()).transpose()?.unwrap_or(0.0).to_radians();
        let (sin, cos) = angle.sin_cos();
        let turn = |[x, y]: [f64; 2]| [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos];
        Ok(Shape::Polygons(vec![points.into_iter().flat_map(turn).collect()]))
    };
    match kind.trim_end_matches("labels") {
        "polygon" => {
            let mut out = Vec::new();
            for point in value.key("points")?.items()? {
                match point.items()?.as_slice() {
                    [x, y] => out.extend([x.number()? * scale[0], y.number()? * scale[1]]),
                    _ => return Err(point.wrong("a point [x, y] in per cent")),
                }
            }
            Ok(Shape::Polygons(vec![out]))
        }
        "brush" => {
            let rle = value.key("rle")?;
            let byte =
                |at: &At<'_>| at.integer().ok().and_then(|n| u8::try_from(n).ok()).ok_or_else(|| at.wrong("a byte, 0 to 255"));
            Ok(Shape::Brush(rle.items()?.iter().map(byte).collect::<Result<_, _>>()?, (width, height)))
        }
        "rectangle" => {
            let (x, y) = (number("x")? * scale[0], number("y")? * scale[1]);
            let (w, h) = (number("width")? * scale[0], number("height")? * scale[1]);
            turned(vec![[x, y], [x, y + h], [x + w, y + h], [x + w, y]], [x, y])
        }
        _ => {
            let centre = [number("x")? * scale[0], number("y")? * scale[1]];
            let (rx, ry) = (number("radiusX")? * scale[0], number("radiusY")? * scale[1]);
            let point = |i: u32| {
                let (sin, cos) = (TAU * f64::from(i) / f64::from(ROUND)).sin_cos();
                [centre[0] + rx * cos, centre[1] + ry * sin]
            };
            turned((0..ROUND).map(point).collect(), centre)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_end_in_names() {
        assert_eq!(percent_decoded("my%20cup%2.jpg"), "my cup%2.jpg");
    }
}
