//! What an expression means: the union of its annotations, and their polygons for protocols that look at those.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use coco_mask::{MaskError, Merge, Rle, merge};
use refcoco_data::{AnnId, Dataset};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::RefereeError;
use crate::mask::MaskField;
use crate::resample::resize_nearest;

/// An annotation as the file has it.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Flat polygons of three points or more, in pixels.
    Polygons(Vec<Vec<f64>>),
    /// Anything else, as a mask of the image's size.
    Mask(Rle),
}

/// The mask that an expression means.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    union: Rle,
    shapes: Vec<Shape>,
}

impl Truth {
    /// A mask of which nothing else is known.
    #[must_use]
    pub fn new(mask: Rle) -> Self {
        Self { union: mask, shapes: Vec::new() }
    }

    /// From the polygons of annotations: per annotation a list of flat polygons, in pixels. Polygons of fewer than three points cover
    /// nothing, a last odd number is ignored.
    ///
    /// # Errors
    /// A size out of range, or coordinates that are not finite.
    pub fn from_polygons(height: u32, width: u32, annotations: &[Vec<Vec<f64>>]) -> Result<Self, MaskError> {
        let shapes: Vec<Shape> = annotations.iter().map(|polygons| Shape::Polygons(whole(polygons.clone()))).collect();
        let mut masks = vec![Rle::empty(height, width)?];
        for shape in &shapes {
            masks.push(shape.union(height, width)?);
        }
        Ok(Self { union: merge(&masks, Merge::Union)?, shapes })
    }

    /// The union of all polygons and annotations, as large as the image.
    #[must_use]
    pub fn union(&self) -> &Rle {
        &self.union
    }

    /// Pixels that exactly one polygon of an annotation covers: what is left where a reader adds polygons up and takes the sum for a
    /// class (LAVT, LISA, EVF-SAM). Of several annotations, the union.
    ///
    /// # Errors
    /// Coordinates that cannot be drawn.
    pub fn covered_once(&self) -> Result<Rle, MaskError> {
        let overlapping = |shape: &Shape| matches!(shape, Shape::Polygons(polygons) if polygons.len() > 1);
        if !self.shapes.iter().any(overlapping) {
            return Ok(self.union.clone());
        }
        let (height, width) = (self.union.height(), self.union.width());
        let mut masks = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            masks.push(match shape {
                Shape::Polygons(polygons) if polygons.len() > 1 => once(height, width, polygons)?,
                other => other.union(height, width)?,
            });
        }
        merge(&masks, Merge::Union)
    }

    /// The truth at another size: polygons are scaled and drawn there, but for those of an odd number of numbers (ReLA's filter); masks
    /// are taken by nearest pixels, a reading of ours.
    ///
    /// # Errors
    /// A size out of range, or coordinates that cannot be drawn.
    pub fn redrawn(&self, height: u32, width: u32) -> Result<Rle, MaskError> {
        if self.shapes.is_empty() {
            return resize_nearest(&self.union, height, width);
        }
        let scale = [f64::from(width) / f64::from(self.union.width()), f64::from(height) / f64::from(self.union.height())];
        let mut masks = Vec::with_capacity(self.shapes.len());
        for shape in &self.shapes {
            masks.push(match shape {
                Shape::Polygons(polygons) => {
                    let even = polygons.iter().filter(|p| p.len() % 2 == 0);
                    let scaled = even.map(|p| p.iter().enumerate().map(|(i, v)| v * scale[i % 2]).collect()).collect();
                    Shape::Polygons(scaled).union(height, width)?
                }
                Shape::Mask(mask) => resize_nearest(mask, height, width)?,
            });
        }
        merge(&masks, Merge::Union)
    }
}

impl Shape {
    fn union(&self, height: u32, width: u32) -> Result<Rle, MaskError> {
        match self {
            Self::Polygons(polygons) if polygons.is_empty() => Rle::empty(height, width),
            Self::Polygons(polygons) => Rle::from_polygons(height, width, polygons),
            Self::Mask(mask) => Ok(mask.clone()),
        }
    }
}

/// Polygons of three points or more; pycocotools stumbles over others.
fn whole(polygons: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    polygons.into_iter().filter(|p| p.len() >= 6).collect()
}

fn once(height: u32, width: u32, polygons: &[Vec<f64>]) -> Result<Rle, MaskError> {
    let mut sum = vec![0u16; height as usize * width as usize];
    for polygon in polygons {
        let mask = Rle::from_polygons(height, width, std::slice::from_ref(polygon))?;
        for (sum, on) in sum.iter_mut().zip(mask.to_column_major()) {
            *sum = sum.saturating_add(u16::from(on));
        }
    }
    let bytes: Vec<u8> = sum.into_iter().map(|n| u8::from(n == 1)).collect();
    Rle::from_column_major(height, width, &bytes)
}

#[derive(Deserialize)]
struct Annotation {
    id: AnnId,
    segmentation: serde_json::Value,
    #[serde(default)]
    iscrowd: serde_json::Value,
}

/// The annotations that a split's referents mean; what else `instances.json` holds, two hundred thousand of them, is passed over.
struct Wanted<'a>(&'a HashSet<&'a AnnId>);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = HashMap<AnnId, Annotation>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a dictionary with `annotations`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "annotations" {
                found = map.next_value_seed(Self(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::with_capacity(self.0.len());
        while let Some(annotation) = list.next_element::<Annotation>()? {
            if self.0.contains(&annotation.id) {
                found.insert(annotation.id.clone(), annotation);
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = HashMap<AnnId, Annotation>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

/// The truths of a split's referents, in their order, and a line for what could not be read: protocols that look at polygons then
/// take the union instead.
pub(crate) fn truths(dataset: &Dataset) -> (Vec<Truth>, Option<String>) {
    let unions = || dataset.referents.iter().map(|r| Truth::new(r.mask.clone())).collect();
    // PhraseCut has polygons of its own kind, which only its own protocol draws.
    let path = dataset.spec.root.join(&dataset.spec.name).join("instances.json");
    if !path.is_file() {
        return (unions(), None);
    }
    match read(&path, dataset) {
        Ok(truths) => (truths, None),
        Err(error) => (unions(), Some(format!("{error}; protocols that look at polygons take their union instead"))),
    }
}

fn read(path: &Path, dataset: &Dataset) -> Result<Vec<Truth>, RefereeError> {
    let bytes = std::fs::read(path).map_err(|source| RefereeError::Read { path: path.into(), source })?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let wanted: HashSet<&AnnId> = dataset.referents.iter().flat_map(|r| &r.ann_ids).collect();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let by_id = Wanted(&wanted).deserialize(&mut json).map_err(|e| RefereeError::format(path, e))?;
    let truth = |referent: &refcoco_data::Referent| -> Result<Truth, RefereeError> {
        let (height, width) = (referent.mask.height(), referent.mask.width());
        let mut shapes = Vec::with_capacity(referent.ann_ids.len());
        for annotation in referent.ann_ids.iter().filter_map(|id| by_id.get(id)) {
            let crowd = annotation.iscrowd.as_i64() == Some(1) || annotation.iscrowd.as_bool() == Some(true);
            if crowd && referent.ann_ids.len() > 1 {
                continue;
            }
            let at = |what: String| RefereeError::Result {
                path: path.into(),
                place: format!("annotations[id={}].segmentation", annotation.id),
                what,
            };
            shapes.push(match MaskField::parse(&annotation.segmentation).map_err(at)? {
                MaskField::Polygons(polygons) => Shape::Polygons(whole(polygons)),
                other => Shape::Mask(other.mask(height, width).map_err(at)?),
            });
        }
        Ok(Truth { union: referent.mask.clone(), shapes })
    };
    dataset.referents.iter().map(truth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_left_out_and_redrawn_at_another_size() {
        let square = |x: f64| vec![x, 0.0, x + 4.0, 0.0, x + 4.0, 4.0, x, 4.0];
        let truth = Truth::from_polygons(8, 8, &[vec![square(0.0), square(2.0), vec![1.0, 1.0, 2.0, 2.0]]]).unwrap();
        assert_eq!(truth.union().area(), 24);
        assert_eq!(truth.covered_once().unwrap().area(), 16);
        assert_eq!(truth.redrawn(16, 16).unwrap().area(), 96);
        // Two annotations on each other do not take anything from each other.
        let two = Truth::from_polygons(8, 8, &[vec![square(0.0)], vec![square(2.0)]]).unwrap();
        assert_eq!(two.covered_once().unwrap().area(), 24);
        // ReLA drops what has half a point; the others ignore the half.
        let odd = Truth::from_polygons(8, 8, &[vec![[square(0.0), vec![9.0]].concat()]]).unwrap();
        assert_eq!((odd.union().area(), odd.covered_once().unwrap().area(), odd.redrawn(16, 16).unwrap().area()), (16, 16, 0));
        let nothing = Truth::from_polygons(8, 8, &[]).unwrap();
        assert_eq!((nothing.union().area(), nothing.covered_once().unwrap().area()), (0, 0));
        assert_eq!(nothing.redrawn(4, 4).unwrap().area(), 0);
    }
}
