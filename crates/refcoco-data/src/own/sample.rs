//! What every format's reader makes of a record: an image, sentences, and the shapes that they mean.

use std::path::PathBuf;

use coco_mask::{MaskError, Merge, Rle, merge};
use serde::Deserialize;
use serde_json::{Value, json};

use super::folder::Place;
use super::{brush, mask_file};
use crate::DataError;
use crate::instances::{Segmentation, segmentation_mask};
use crate::value::At;

/// A record.
pub(crate) struct Sample {
    pub(crate) place: Place,
    pub(crate) image: PathBuf,
    /// The image's own number, where its file has numbers.
    pub(crate) image_id: Option<i64>,
    /// Columns and rows, where the record says them.
    pub(crate) size: Option<(u32, u32)>,
    pub(crate) split: Option<String>,
    pub(crate) sentences: Vec<String>,
    /// Empty where there is none.
    pub(crate) category: String,
    /// One per target; none where nothing is meant.
    pub(crate) shapes: Vec<(Place, Shape)>,
}

/// A target, not drawn yet.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// COCO's polygons or run lengths.
    Coco(Value),
    /// Polygons in pixels.
    Polygons(Vec<Vec<f64>>),
    /// Polygons in shares of width and height.
    Shares(Vec<Vec<f64>>),
    /// `[x, y, width, height]` in pixels.
    Box([f64; 4]),
    /// A PNG.
    File(PathBuf),
    /// Label Studio's run lengths, with their own size, (width, height).
    Brush(Vec<u8>, (u32, u32)),
}

/// A mask that is read when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadMask(Unread);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unread {
    File(PathBuf),
    Brush(Place, Vec<u8>),
}

impl UnreadMask {
    /// Reads the mask of an image of this size, (width, height).
    ///
    /// # Errors
    /// A file that cannot be read, or a mask of another size.
    pub(crate) fn read(&self, size: (u32, u32)) -> Result<Rle, DataError> {
        match &self.0 {
            Unread::File(path) => {
                let mask = mask_file::read(path)?;
                same_size(path, (mask.width(), mask.height()), size)?;
                Ok(mask)
            }
            Unread::Brush(place, bytes) => brush::from_brush_rle(bytes, size).map_err(|reason| mask_error(place, reason)),
        }
    }
}

/// A mask of one target, or where it will be read.
pub(crate) enum Target {
    Drawn(Rle),
    Unread(UnreadMask),
}

fn mask_error(place: &Place, reason: impl ToString) -> DataError {
    DataError::Mask { path: place.path.clone(), field: place.field.clone(), reason: reason.to_string() }
}

/// Fails unless a mask file is as large as its image, both as (width, height).
fn same_size(path: &std::path::Path, mask: (u32, u32), image: (u32, u32)) -> Result<(), DataError> {
    if mask == image {
        return Ok(());
    }
    let reason =
        format!("it is {} x {} but its image is {} x {} (width x height); both must be equal", mask.0, mask.1, image.0, image.1);
    Err(DataError::MaskFile { path: path.into(), reason })
}

impl Shape {
    /// Draws the target in an image of this size, (width, height). Files are looked at, but not decoded.
    pub(crate) fn target(&self, place: &Place, (width, height): (u32, u32)) -> Result<Target, DataError> {
        let bad = |e: MaskError| mask_error(place, e);
        let polygons = |polygons: &[Vec<f64>]| {
            // Two points cover nothing, as everywhere.
            let parts: Vec<&Vec<f64>> = polygons.iter().filter(|p| p.len() >= 6).collect();
            if parts.is_empty() { Rle::empty(height, width) } else { Rle::from_polygons(height, width, &parts) }
        };
        Ok(Target::Drawn(match self {
            Self::Coco(value) => {
                let segmentation = Segmentation::deserialize(value).map_err(|_| {
                    place.wrong("polygons [[x, y, ..], ..] or run lengths {size: [h, w], counts}", crate::value::describe(value))
                })?;
                segmentation_mask(&place.path, || place.field.clone(), &segmentation, (height, width))?
            }
            Self::Polygons(all) => polygons(all).map_err(bad)?,
            Self::Shares(all) => {
                let scale = |(i, v): (usize, &f64)| v * f64::from(if i % 2 == 0 { width } else { height });
                let scaled: Vec<Vec<f64>> = all.iter().map(|p| p.iter().enumerate().map(scale).collect()).collect();
                polygons(&scaled).map_err(bad)?
            }
            Self::Box(of) => Rle::from_box(height, width, *of).map_err(bad)?,
            Self::File(path) => {
                same_size(path, mask_file::size(path)?, (width, height))?;
                return Ok(Target::Unread(UnreadMask(Unread::File(path.clone()))));
            }
            Self::Brush(bytes, of) => {
                if *of != (width, height) {
                    let reason = format!(
                        "the mask is {} x {} but its image is {width} x {height} (width x height); both must be equal",
                        of.0, of.1
                    );
                    return Err(mask_error(place, reason));
                }
                return Ok(Target::Unread(UnreadMask(Unread::Brush(place.clone(), bytes.clone()))));
            }
        }))
    }
}

/// The union of what is drawn and what is not read yet.
pub(crate) fn union(drawn: &Rle, unread: &[UnreadMask], size: (u32, u32)) -> Result<Rle, DataError> {
    let read = unread.iter().map(|mask| mask.read(size));
    let all: Vec<Rle> = std::iter::once(Ok(drawn.clone())).chain(read).collect::<Result<_, _>>()?;
    // All are as large as the image.
    merge(&all, Merge::Union).map_err(|e| DataError::Setting { key: "mask", found: e.to_string(), expected: "masks of one size" })
}

/// A polygon, or several that are one target, in any of the usual spellings: `[x, y, ..]`, `[[x, y], ..]`, `[[x, y, ..], ..]` and
/// `[[[x, y], ..], ..]`.
pub(crate) fn polygons(at: &At<'_>) -> Result<Vec<Vec<f64>>, DataError> {
    let expected = "a polygon of at least three points, [[x, y], ..] or [x, y, ..], or a list of such";
    let flat = |at: &At<'_>| -> Result<Vec<f64>, DataError> {
        let items = at.items()?;
        let points = items.first().is_some_and(|first| first.value.is_array());
        let numbers: Vec<f64> = if points {
            let mut out = Vec::with_capacity(items.len() * 2);
            for point in items {
                match point.items()?.as_slice() {
                    [x, y] => out.extend([x.number()?, y.number()?]),
                    _ => return Err(point.wrong("a point [x, y]")),
                }
            }
            out
        } else {
            items.iter().map(At::number).collect::<Result<_, _>>()?
        };
        if numbers.len() < 6 || numbers.len() % 2 == 1 { Err(at.wrong(expected)) } else { Ok(numbers) }
    };
    let list = at.items()?;
    let Some(first) = list.first() else { return Err(at.wrong(expected)) };
    let deeper = |value: &Value| value.as_array().and_then(|inner| inner.first()).map(Value::is_array);
    match deeper(first.value) {
        // [x, y, ..]
        None => Ok(vec![flat(at)?]),
        // [[[x, y], ..], ..]
        Some(true) => list.iter().map(flat).collect(),
        // [[x, y], ..], or [[x, y, x, y, ..], ..]
        Some(false) if list.iter().all(|p| p.value.as_array().is_some_and(|p| p.len() == 2)) => Ok(vec![flat(at)?]),
        Some(false) => list.iter().map(flat).collect(),
    }
}

/// `[x, y, width, height]`.
pub(crate) fn bbox(at: &At<'_>) -> Result<[f64; 4], DataError> {
    let numbers = at.items()?.iter().map(At::number).collect::<Result<Vec<f64>, _>>()?;
    match numbers.as_slice() {
        [x, y, w, h] if *w > 0.0 && *h > 0.0 => Ok([*x, *y, *w, *h]),
        _ => Err(at.wrong("a box of four numbers, [x, y, width, height], with sides above 0")),
    }
}

/// A mask as COCO's compressed run lengths.
pub(crate) fn run_lengths(mask: &Rle) -> Value {
    json!({ "size": [mask.height(), mask.width()], "counts": mask.to_compressed() })
}

/// One text or a list of texts, spaces around them taken away.
pub(crate) fn texts(at: &At<'_>) -> Result<Vec<String>, DataError> {
    let clean = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    if at.value.is_array() {
        return at.items()?.iter().map(|t| t.text().map(clean)).collect();
    }
    Ok(vec![clean(at.text().map_err(|_| at.wrong("text, or a list of texts"))?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn polygons_in_every_spelling() {
        let read = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            polygons(&At::new(Path::new("a.jsonl"), "line 1.polygon", &value)).map_err(|e| e.to_string())
        };
        let one = Ok(vec![vec![0.0, 0.0, 4.0, 0.0, 4.0, 4.0]]);
        assert_eq!(read("[0, 0, 4, 0, 4, 4]"), one);
        assert_eq!(read("[[0, 0], [4, 0], [4, 4]]"), one);
        assert_eq!(read("[[0, 0, 4, 0, 4, 4]]"), one);
        assert_eq!(read("[[[0, 0], [4, 0], [4, 4]]]"), one);
        assert_eq!(read("[[0, 0, 4, 0, 4, 4], [1, 1, 2, 1, 2, 2, 1, 2]]").unwrap().len(), 2);
        for wrong in ["[]", "[0, 0, 4, 0]", "[0, 0, 4, 0, 4]", "[[0, 0], [4, 0]]", "[[0, 0], [4, \"a\"], [4, 4]]", "3"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("a.jsonl") && error.contains("line 1.polygon"), "{wrong}: {error}");
        }
    }
}
