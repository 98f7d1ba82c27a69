//! A generated data set in RefCOCO's file formats, and the same scenes in those of other sets.

mod choose;
mod draw;
mod files;
mod maps;
mod meaning;
mod photo;
mod phrase;
mod phrasecut;
mod records;
mod scene;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::layout::{PHRASECUT, folder_name};
use crate::rng::Rng;
use choose::{Rules, Target};
use maps::MapSet;
use phrase::Style;
use records::RecordSet;
use scene::Scene;

/// In whose files a generated set is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SynthFormat {
    /// RefCOCO's: the sets `refcoco`, `refcoco+`, `refcocog`, and `grefcoco` with several targets or none.
    #[default]
    Refcoco,
    /// PhraseCut's: the set `phrasecut`.
    Phrasecut,
    /// ADE20K's: a label map per image, a class per shape.
    Ade20k,
    /// Mapillary Vistas': label maps with a palette, a class per shape and one for the rest.
    Mapillary,
    /// Human parsing's (ATR): label maps, its own classes given to shapes.
    Humanparsing,
    /// PartImageNet's: upper and lower halves of shapes, as polygons.
    Partimagenet,
    /// PASCAL-Part's as VLPart converted it: left and right halves of shapes, as run lengths.
    PascalPart,
    /// Objects365's with machine masks: shapes that occur once in their image.
    Objects365,
    /// RefCOCO's and the six above side by side, as EVF-SAM's multi-task data. An image serves the same split in all of them. Where several
    /// objects have a name, `refcoco` says it alone of the most central one, as people do of what a photograph is of.
    Multitask,
}

impl SynthFormat {
    /// What a format consists of.
    fn parts(self) -> Vec<Part> {
        match self {
            Self::Refcoco => vec![Part::Refcoco],
            Self::Phrasecut => vec![Part::Phrasecut],
            Self::Ade20k => vec![Part::Maps(MapSet::Ade20k)],
            Self::Mapillary => vec![Part::Maps(MapSet::Mapillary)],
            Self::Humanparsing => vec![Part::Maps(MapSet::Humanparsing)],
            Self::Partimagenet => vec![Part::Records(RecordSet::Partimagenet)],
            Self::PascalPart => vec![Part::Records(RecordSet::PascalPart)],
            Self::Objects365 => vec![Part::Records(RecordSet::Objects365)],
            Self::Multitask => [
                Self::Refcoco,
                Self::Ade20k,
                Self::Mapillary,
                Self::Humanparsing,
                Self::Partimagenet,
                Self::PascalPart,
                Self::Objects365,
            ]
            .into_iter()
            .flat_map(Self::parts)
            .collect(),
        }
    }
}

/// Files of one owner's layout.
#[derive(Debug, Clone, Copy)]
enum Part {
    Refcoco,
    Phrasecut,
    Maps(MapSet),
    Records(RecordSet),
}

impl Part {
    /// Where an image lies below the root; none where the set has no split for it.
    fn image(self, index: usize, images: usize) -> Option<PathBuf> {
        match self {
            Self::Refcoco => Some(Path::new("images/train2014").join(image_name(index))),
            Self::Phrasecut => Some(Path::new(folder_name(PHRASECUT)).join("images").join(phrasecut::image_name(index))),
            Self::Maps(set) => set.image(index, images),
            Self::Records(set) => set.image(index, images),
        }
    }

    /// Writes everything but the images.
    fn write(self, root: &Path, samples: &[Sample]) -> Result<Vec<(String, usize, usize)>, DataError> {
        match self {
            Self::Refcoco => files::write_sets(root, samples),
            Self::Phrasecut => phrasecut::write_set(root, samples),
            Self::Maps(set) => set.write(root, samples),
            Self::Records(set) => set.write(root, samples),
        }
    }
}

/// What generated images look like, and how people speak of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SynthStyle {
    /// Flat shapes, drawn on a muted ground; sentences of few words.
    #[default]
    Drawn,
    /// Pieces on a table as a camera sees them: textures, light, shadows, perspective, noise, JPEG files of quality 60 to 90. Up
    /// to six objects; sentences as long as RefCOCO's and RefCOCOg's, with synonyms, ordinals and relations of two steps.
    Photo,
}

impl SynthStyle {
    /// Most objects that an image may have.
    #[must_use]
    pub const fn most_objects(self) -> usize {
        match self {
            Self::Drawn => 5,
            Self::Photo => 6,
        }
    }

    fn is_drawn(&self) -> bool {
        *self == Self::Drawn
    }
}

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SynthConfig {
    /// Images, 4 to 1,000,000.
    pub images: usize,
    /// Longer side in pixels, 48 to 2048.
    pub size: u32,
    /// Equal seeds give equal bytes.
    pub seed: u64,
    /// Least ratio of the shorter to the longer side, 0.7 to 1.
    pub min_aspect: f64,
    /// Most objects in an image, 2 to 5; to 6 in photographs.
    pub max_objects: usize,
    /// Factor on the size of all objects, 0.8 to 1.4.
    pub scale: f64,
    /// How often an object is placed on top of another, 0 to 1.
    pub occlusion: f64,
    /// JPEG quality, 50 to 100; of photographs the highest, down to 60.
    pub quality: u8,
    /// The files. The images are the same in all.
    pub format: SynthFormat,
    /// Drawings or photographs.
    #[serde(skip_serializing_if = "SynthStyle::is_drawn")]
    pub style: SynthStyle,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            images: 1000,
            size: 128,
            seed: 0,
            min_aspect: 0.8,
            max_objects: 5,
            scale: 1.0,
            occlusion: 0.35,
            quality: 90,
            format: SynthFormat::default(),
            style: SynthStyle::default(),
        }
    }
}

impl SynthConfig {
    fn check(&self) -> Result<(), DataError> {
        let wrong = |key, found: String, expected| Err(DataError::Setting { key, found, expected });
        if !(4..=1_000_000).contains(&self.images) {
            return wrong("images", self.images.to_string(), "must be 4 to 1000000, one for each split at least");
        }
        if !(48..=2048).contains(&self.size) {
            return wrong("size", self.size.to_string(), "must be 48 to 2048 pixels");
        }
        if !(0.7..=1.0).contains(&self.min_aspect) {
            return wrong("min_aspect", self.min_aspect.to_string(), "must be 0.7 to 1");
        }
        if !(2..=self.style.most_objects()).contains(&self.max_objects) {
            let expected = match self.style {
                SynthStyle::Drawn => "must be 2 to 5",
                SynthStyle::Photo => "must be 2 to 6",
            };
            return wrong("max_objects", self.max_objects.to_string(), expected);
        }
        if !(0.8..=1.4).contains(&self.scale) {
            return wrong("scale", self.scale.to_string(), "must be 0.8 to 1.4");
        }
        if !(0.0..=1.0).contains(&self.occlusion) {
            return wrong("occlusion", self.occlusion.to_string(), "must be 0 to 1");
        }
        if !(50..=100).contains(&self.quality) {
            return wrong("quality", self.quality.to_string(), "must be 50 to 100");
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SynthSummary {
    /// The folder.
    pub path: PathBuf,
    /// Images.
    pub images: usize,
    /// Objects.
    pub objects: usize,
    /// (set, referents, sentences), splits by UNC or UMD only; in sets of classes, classes counted per image.
    pub sets: Vec<(String, usize, usize)>,
}

/// An image's content and everything said about it.
pub(crate) struct Sample {
    pub(crate) scene: Scene,
    pub(crate) refcoco: Vec<Target>,
    pub(crate) plus: Vec<Target>,
    pub(crate) long: Vec<Target>,
    pub(crate) general: Vec<Target>,
    pub(crate) phrases: Vec<phrasecut::Phrase>,
    /// How a photograph's objects lie, until it is rendered.
    pub(crate) arrangement: Option<photo::Arrangement>,
}

/// Streams of the generator: one for each thing drawn, so that a change in one leaves the others as they are.
#[derive(Clone, Copy)]
enum Stream {
    Scene,
    Pixels,
    Refcoco,
    Plus,
    Long,
    General,
    Phrases,
    Bare,
}

fn stream(cfg: &SynthConfig, index: usize, stream: Stream) -> Rng {
    Rng::keyed(&[cfg.seed, index as u64, stream as u64])
}

pub(crate) fn sample(cfg: &SynthConfig, index: usize) -> Result<Sample, coco_mask::MaskError> {
    let mut sample = match cfg.style {
        SynthStyle::Drawn => drawn(cfg, index)?,
        SynthStyle::Photo => photo::sample(cfg, index)?,
    };
    if cfg.format == SynthFormat::Multitask {
        choose::add_bare_names(&sample.scene, &mut sample.refcoco, &mut stream(cfg, index, Stream::Bare));
    }
    Ok(sample)
}

fn drawn(cfg: &SynthConfig, index: usize) -> Result<Sample, coco_mask::MaskError> {
    let scene = Scene::random(cfg, &mut stream(cfg, index, Stream::Scene))?;
    let rules = |style, places| Rules { style, places };
    let said = |r: Rules, s: Stream| choose::singles(&scene, r, &mut stream(cfg, index, s));
    Ok(Sample {
        refcoco: said(rules(Style::Short, true), Stream::Refcoco),
        plus: said(rules(Style::Short, false), Stream::Plus),
        long: said(rules(Style::Long, true), Stream::Long),
        general: choose::generalised(&scene, &mut stream(cfg, index, Stream::General)),
        phrases: phrasecut::phrases(&scene, &mut stream(cfg, index, Stream::Phrases)),
        arrangement: None,
        scene,
    })
}

/// The file name of an image, as COCO's 2014 training images are named.
pub(crate) fn image_name(index: usize) -> String {
    format!("COCO_train2014_{:012}.jpg", index + 1)
}

/// Writes `images/train2014`, `refcoco`, `refcoco+`, `refcocog` and `grefcoco` below `out`, or the folders of the format asked for.
///
/// Scenes hold two objects or more; sentences are kept only when exactly the intended objects satisfy them with a
/// margin. Bytes depend on the configuration alone, not on threads. Everything is written beside `out` and renamed at
/// the end, so `out` is either whole or absent.
///
/// # Errors
/// If a setting is out of range, `out` exists and is not an empty folder, or a file cannot be written.
pub fn generate(cfg: &SynthConfig, out: &Path) -> Result<SynthSummary, DataError> {
    cfg.check()?;
    let occupied = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.exists(),
    };
    if occupied {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is not an empty folder");
        return Err(DataError::io(out, "write to", source));
    }
    let Some(name) = out.file_name().map(|n| n.to_string_lossy().into_owned()) else {
        let expected = "must be a path that ends in a name";
        return Err(DataError::Setting { key: "out", found: out.display().to_string(), expected });
    };
    let part = out.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    let guard = Partial(&part);
    let summary = write(cfg, &part, out)?;
    if out.exists() {
        std::fs::remove_dir(out).map_err(|e| DataError::io(out, "replace", e))?;
    }
    std::fs::rename(&part, out).map_err(|e| DataError::io(out, "create", e))?;
    drop(guard);
    Ok(summary)
}

/// The file that says how a set was generated.
const NOTE: &str = "synth.json";

/// How the set in a folder was generated; `None` for a set that was not.
///
/// # Errors
/// A note that cannot be read.
pub fn generated_by(folder: &Path) -> Result<Option<SynthConfig>, DataError> {
    let path = folder.join(NOTE);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| DataError::io(&path, "read", e.into())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DataError::io(&path, "read", e)),
    }
}

/// Removes what was written so far when the work ends early; after the rename there is nothing left to remove.
struct Partial<'a>(&'a Path);

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        // A failure to clean up must not hide the error that led here.
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// An image's file. How a photograph's objects lie is not needed any longer.
fn photograph(cfg: &SynthConfig, index: usize, sample: &mut Sample) -> Result<Vec<u8>, String> {
    let rng = &mut stream(cfg, index, Stream::Pixels);
    let (pixels, quality) = match sample.arrangement.take() {
        None => (draw::render(&sample.scene, rng), cfg.quality),
        Some(arrangement) => (photo::render(&sample.scene, &arrangement, rng), photo::quality(cfg.quality, rng)),
    };
    files::jpeg(&sample.scene, &pixels, quality)
}

fn write(cfg: &SynthConfig, part: &Path, out: &Path) -> Result<SynthSummary, DataError> {
    let parts = cfg.format.parts();
    let paths = |i: usize| parts.iter().filter_map(move |p| p.image(i, cfg.images)).map(|below| part.join(below));
    let folders: BTreeSet<PathBuf> = (0..cfg.images).flat_map(paths).filter_map(|p| p.parent().map(Path::to_path_buf)).collect();
    for folder in &folders {
        std::fs::create_dir_all(folder).map_err(|e| DataError::io(folder, "create", e))?;
    }
    let samples = (0..cfg.images)
        .into_par_iter()
        .map(|i| {
            let bad = |e: coco_mask::MaskError| DataError::Image { path: part.join(image_name(i)), reason: e.to_string() };
            let mut sample = sample(cfg, i).map_err(bad)?;
            let bytes =
                photograph(cfg, i, &mut sample).map_err(|reason| DataError::Image { path: part.join(image_name(i)), reason })?;
            paths(i).try_for_each(|path| files::write(&path, &bytes))?;
            Ok(sample)
        })
        .collect::<Result<Vec<_>, DataError>>()?;
    let mut sets = Vec::new();
    for format in &parts {
        sets.append(&mut format.write(part, &samples)?);
    }
    let note = part.join(NOTE);
    let text = serde_json::to_string_pretty(cfg).unwrap_or_default();
    std::fs::write(&note, text).map_err(|e| DataError::io(&note, "write", e))?;
    Ok(SynthSummary {
        path: out.into(),
        images: samples.len(),
        objects: samples.iter().map(|p| p.scene.objects.len()).sum(),
        sets,
    })
}
