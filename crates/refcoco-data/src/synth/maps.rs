//! Label maps in the layouts of ADE20K, Mapillary Vistas and human parsing: every visible pixel of an object has its class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::json;

use super::Sample;
use super::files::{split, write};
use super::scene::{Object, Scene, Shape};
use crate::DataError;
use crate::classes::{ATR_NAMES, Layout};

/// A set of label maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapSet {
    /// A class per shape, 0 elsewhere; greyscale.
    Ade20k,
    /// A class per shape and one for the rest; indices with a palette.
    Mapillary,
    /// Its own 18 classes, given to shapes; those with a left and a right go by the half of the image; greyscale.
    Humanparsing,
}

/// Colours of Mapillary's palette; readers must not look at them.
const PALETTE: [[u8; 3]; 9] = [
    [165, 42, 42],
    [0, 192, 0],
    [250, 170, 31],
    [196, 196, 196],
    [190, 153, 153],
    [180, 165, 180],
    [90, 120, 150],
    [102, 102, 156],
    [0, 0, 0],
];

impl MapSet {
    fn layout(self) -> &'static str {
        match self {
            Self::Ade20k => "ade20k",
            Self::Mapillary => "mapillary",
            Self::Humanparsing => "humanparsing",
        }
    }

    /// The set's folder below the root.
    fn folder(self) -> &'static str {
        Layout::find(self.layout()).map_or("", |layout| layout.folders[0])
    }

    /// Paths of an image and of its map below the root; none where the set has no such split.
    fn paths(self, index: usize, images: usize) -> Option<[PathBuf; 2]> {
        let folder = Path::new(self.folder());
        let number = index + 1;
        let part = split(index, images);
        let ([image, map], name) = match (self, part) {
            (Self::Ade20k, "train") => (["images/training", "annotations/training"], format!("ADE_train_{number:08}")),
            (Self::Ade20k, "val") => (["images/validation", "annotations/validation"], format!("ADE_val_{number:08}")),
            (Self::Mapillary, "train") => (["training/images", "training/v2.0/labels"], format!("street{number:08}x")),
            (Self::Mapillary, "val") => (["validation/images", "validation/v2.0/labels"], format!("street{number:08}x")),
            (Self::Humanparsing, "train") => (["JPEGImages", "SegmentationClassAug"], number.to_string()),
            _ => return None,
        };
        Some([folder.join(image).join(format!("{name}.jpg")), folder.join(map).join(format!("{name}.png"))])
    }

    pub(super) fn image(self, index: usize, images: usize) -> Option<PathBuf> {
        self.paths(index, images).map(|[image, _]| image)
    }

    /// The value of the pixels of no object.
    fn ground(self) -> u8 {
        match self {
            Self::Ade20k | Self::Humanparsing => 0,
            Self::Mapillary => Shape::ALL.len() as u8,
        }
    }

    fn value(self, scene: &Scene, object: &Object) -> u8 {
        let shape = object.shape as u8;
        match self {
            Self::Ade20k => shape + 1,
            Self::Mapillary => shape,
            Self::Humanparsing => {
                let left = object.centre.0 * 2.0 < f64::from(scene.width);
                let name = match (object.shape, left) {
                    (Shape::Circle, _) => "face",
                    (Shape::Square, _) => "upper clothes",
                    (Shape::Star, _) => "hat",
                    (Shape::Ring, _) => "sunglasses",
                    (Shape::Heart, _) => "scarf",
                    (Shape::Triangle, true) => "left shoe",
                    (Shape::Triangle, false) => "right shoe",
                    (Shape::Cross, true) => "left arm",
                    (Shape::Cross, false) => "right arm",
                    (Shape::Hexagon, true) => "left leg",
                    (Shape::Hexagon, false) => "right leg",
                };
                ATR_NAMES.iter().position(|n| *n == name).unwrap_or(0) as u8
            }
        }
    }

    /// A scene's map, row after row.
    pub(super) fn map(self, scene: &Scene) -> Vec<u8> {
        let mut map = vec![self.ground(); scene.width as usize * scene.height as usize];
        for object in &scene.objects {
            let value = self.value(scene, object);
            for (pixel, inside) in map.iter_mut().zip(object.mask.to_row_major()) {
                if inside != 0 {
                    *pixel = value;
                }
            }
        }
        map
    }

    /// Writes the maps and the names of their classes; how many classes there are, counted per image.
    pub(super) fn write(self, root: &Path, samples: &[Sample]) -> Result<Vec<(String, usize, usize)>, DataError> {
        let folder = root.join(self.folder());
        match self {
            Self::Ade20k => {
                let names: Vec<&str> = Shape::ALL.iter().map(|s| s.name()).collect();
                write(&folder.join("ade20k_classes.json"), json!(names).to_string().as_bytes())?;
            }
            Self::Mapillary => {
                let label = |(name, colour): (&str, &[u8; 3])| {
                    let readable = name[..1].to_uppercase() + &name[1..];
                    json!({"name": format!("object--{name}"), "readable": readable, "color": colour, "instances": true, "evaluate": true})
                };
                let names = Shape::ALL.iter().map(|s| s.name()).chain(["unlabeled"]);
                let labels: Vec<_> = names.zip(&PALETTE).map(label).collect();
                write(&folder.join("config_v2.0.json"), json!({"version": 2.0, "labels": labels}).to_string().as_bytes())?;
            }
            Self::Humanparsing => {}
        }
        let paths = (0..samples.len()).filter_map(|i| self.paths(i, samples.len()));
        let folders: BTreeSet<PathBuf> = paths.filter_map(|[_, map]| map.parent().map(|p| root.join(p))).collect();
        for folder in &folders {
            std::fs::create_dir_all(folder).map_err(|e| DataError::io(folder, "create", e))?;
        }
        let counts = samples.par_iter().enumerate().map(|(i, sample)| {
            let Some([_, path]) = self.paths(i, samples.len()) else { return Ok(0) };
            let (scene, map) = (&sample.scene, self.map(&sample.scene));
            let palette = (self == Self::Mapillary).then(|| PALETTE.concat());
            write_map(&root.join(path), (scene.width, scene.height), &map, palette)?;
            let mut values: Vec<u8> = map;
            values.sort_unstable();
            values.dedup();
            values.retain(|v| self != Self::Ade20k || *v != 0);
            Ok(values.len())
        });
        let classes: usize = counts.collect::<Result<Vec<usize>, DataError>>()?.into_iter().sum();
        Ok(vec![(self.layout().to_owned(), classes, classes)])
    }
}

/// Writes a PNG of bytes: greyscale, or indices of a palette.
fn write_map(path: &Path, (width, height): (u32, u32), map: &[u8], palette: Option<Vec<u8>>) -> Result<(), DataError> {
    let bad = |e: png::EncodingError| DataError::LabelMap { path: path.into(), reason: e.to_string() };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(if palette.is_some() { png::ColorType::Indexed } else { png::ColorType::Grayscale });
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    let mut writer = encoder.write_header().map_err(bad)?;
    writer.write_image_data(map).and_then(|()| writer.finish()).map_err(bad)?;
    write(path, &bytes)
}
