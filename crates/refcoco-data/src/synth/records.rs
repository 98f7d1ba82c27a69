//! COCO annotation files in the layouts of PartImageNet, PASCAL-Part and Objects365: halves of shapes, and shapes that occur once.

use std::path::{Path, PathBuf};

use coco_mask::Rle;
use serde_json::{Value, json};

use super::Sample;
use super::files::{ann_id, image_id, split, write};
use super::phrasecut::rectangles;
use super::scene::{Object, Scene, Shape};
use crate::DataError;
use crate::classes::{Files, Layout};

/// A set of annotation files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordSet {
    /// Upper and lower halves, "Circle Top"; polygons.
    Partimagenet,
    /// Left and right halves, "circle:left"; run lengths.
    PascalPart,
    /// Whole shapes that occur once in their image; a list of one run-length mask.
    Objects365,
}

/// The halves of an object.
const HALVES: usize = 2;

impl RecordSet {
    fn layout(self) -> &'static str {
        match self {
            Self::Partimagenet => "partimagenet",
            Self::PascalPart => "pascal_part",
            Self::Objects365 => "objects365",
        }
    }

    /// The set's folder below the root.
    fn folder(self) -> &'static str {
        Layout::find(self.layout()).map_or("", |layout| layout.folders[0])
    }

    /// The split of an image, if the set has it.
    fn part(self, index: usize, images: usize) -> Option<&'static str> {
        let part = match split(index, images) {
            "testA" | "testB" => "test",
            other => other,
        };
        Layout::find(self.layout())?.splits.iter().map(|(name, _)| *name).find(|name| *name == part)
    }

    fn image_name(self, index: usize) -> String {
        match self {
            Self::Partimagenet => format!("n00000001_{}.JPEG", index + 1),
            Self::PascalPart => format!("2008_{:06}.jpg", index + 1),
            Self::Objects365 => format!("obj365_train_{:012}.jpg", index + 1),
        }
    }

    pub(super) fn image(self, index: usize, images: usize) -> Option<PathBuf> {
        let part = self.part(index, images)?;
        let below = match self {
            Self::Partimagenet => Path::new("images").join(part),
            Self::PascalPart => PathBuf::from("VOCdevkit/VOC2010/JPEGImages"),
            Self::Objects365 => PathBuf::from(part),
        };
        Some(Path::new(self.folder()).join(below).join(self.image_name(index)))
    }

    /// PASCAL-Part's ids are the digits of the file's name.
    fn image_id(self, index: usize) -> i64 {
        if self == Self::PascalPart { 2_008_000_000 + image_id(index) } else { image_id(index) }
    }

    /// Id and name of each category.
    fn categories(self) -> Vec<Value> {
        let shapes = || Shape::ALL.iter().map(|s| s.name());
        let capital = |name: &str| name[..1].to_uppercase() + &name[1..];
        let row = |(id, name): (usize, String)| json!({"id": id, "name": name});
        match self {
            Self::Partimagenet => {
                let names = shapes().flat_map(|s| ["Top", "Bottom"].map(|half| format!("{} {half}", capital(s))));
                names.enumerate().map(row).collect()
            }
            Self::PascalPart => {
                let names = shapes().flat_map(|s| ["left", "right"].map(|half| format!("{s}:{half}")));
                names.enumerate().map(|(i, name)| row((i + 1, name))).collect()
            }
            Self::Objects365 => shapes().map(str::to_owned).enumerate().map(|(i, name)| row((i + 1, name))).collect(),
        }
    }

    /// What is annotated of a scene: category and mask.
    fn masks(self, scene: &Scene) -> Result<Vec<(i64, Rle)>, coco_mask::MaskError> {
        let objects = || scene.objects.iter();
        let mut out = Vec::new();
        for object in objects() {
            let shape = object.shape as i64;
            if self == Self::Objects365 {
                if objects().filter(|o| o.shape == object.shape).count() == 1 {
                    out.push((shape + 1, object.mask.clone()));
                }
                continue;
            }
            let first = i64::from(self == Self::PascalPart);
            for half in 0..HALVES {
                let mask = self.half(object, half)?;
                if !mask.is_empty() {
                    out.push((first + shape * HALVES as i64 + half as i64, mask));
                }
            }
        }
        Ok(out)
    }

    /// The visible pixels of an object on one side of its centre.
    fn half(self, object: &Object, half: usize) -> Result<Rle, coco_mask::MaskError> {
        let mut pixels = object.mask.to_row_major();
        let width = object.mask.width() as usize;
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let (x, y) = ((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
            let second = if self == Self::Partimagenet { y >= object.centre.1 } else { x >= object.centre.0 };
            if usize::from(second) != half {
                *pixel = 0;
            }
        }
        Rle::from_row_major(object.mask.height(), object.mask.width(), &pixels)
    }

    fn segmentation(self, mask: &Rle) -> Value {
        let runs = || json!({"size": [mask.height(), mask.width()], "counts": mask.to_compressed()});
        match self {
            // Corners of pixels, so that COCO's rasteriser fills exactly these.
            Self::Partimagenet => {
                let flat = |r: Vec<[f64; 2]>| {
                    let (a, b) = (r[0], r[2]);
                    json!([a[0], a[1], b[0] + 1.0, a[1], b[0] + 1.0, b[1] + 1.0, a[0], b[1] + 1.0])
                };
                rectangles(mask).into_iter().map(flat).collect()
            }
            Self::PascalPart => runs(),
            Self::Objects365 => json!([runs()]),
        }
    }

    /// Writes a file per split; how many classes there are, counted per image.
    pub(super) fn write(self, root: &Path, samples: &[Sample]) -> Result<Vec<(String, usize, usize)>, DataError> {
        let folder = root.join(self.folder());
        let Some(Layout { splits, files: Files::Records { json: pattern, .. }, .. }) = Layout::find(self.layout()) else {
            return Ok(Vec::new());
        };
        // Halves of six objects need more than ten ids per image.
        let most = samples.iter().map(|s| s.scene.objects.len() * HALVES).max().unwrap_or_default();
        let id_of = |i: usize, k: usize| if most > 10 { image_id(i) * 100 + k as i64 } else { ann_id(i, k) };
        let mut classes = 0;
        for (part, word) in *splits {
            let path = Layout::place(&folder, pattern, word);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above).map_err(|e| DataError::io(above, "create", e))?;
            }
            let (mut images, mut annotations) = (Vec::new(), Vec::new());
            for (i, sample) in samples.iter().enumerate().filter(|(i, _)| self.part(*i, samples.len()) == Some(part)) {
                let (scene, id) = (&sample.scene, self.image_id(i));
                let masks = self.masks(scene).map_err(|e| DataError::Mask {
                    path: path.clone(),
                    field: format!("images[id={id}]"),
                    reason: e.to_string(),
                })?;
                images.push(json!({"id": id, "file_name": self.image_name(i), "height": scene.height, "width": scene.width}));
                let mut named: Vec<i64> = masks.iter().map(|(category, _)| *category).collect();
                named.sort_unstable();
                named.dedup();
                classes += named.len();
                annotations.extend(masks.iter().enumerate().map(|(k, (category, mask))| {
                    json!({"id": id_of(i, k), "image_id": id, "category_id": category, "bbox": mask.bbox(), "area": mask.area(),
                        "iscrowd": 0, "segmentation": self.segmentation(mask)})
                }));
            }
            let file = json!({"images": images, "annotations": annotations, "categories": self.categories()});
            write(&path, file.to_string().as_bytes())?;
        }
        Ok(vec![(self.layout().to_owned(), classes, classes)])
    }
}
