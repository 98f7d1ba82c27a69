//! `Dataset`: images, referents and their sentences of one split.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coco_mask::Rle;
use pil_ops::Image;
use serde::{Deserialize, Serialize};

use crate::classes::{self, ClassImage, ClassSet, LAYOUTS};
use crate::layout;
use crate::own::{self, UnreadMask};
use crate::{AnnId, DataError, Sentence, loader};

/// Which set to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The folder that holds the sets and `images`.
    pub root: PathBuf,
    /// `refcoco`, `refcoco+`, `refcocog`, `grefcoco`, `refclef` or `phrasecut`; or a set whose masks belong to classes: `ade20k`,
    /// `mapillary`, `humanparsing`, `partimagenet`, `pascal_part` or `objects365`; or data of one's own: `coco`, `jsonl`, `masks`,
    /// `label-studio` or `yolo-seg`.
    pub name: String,
    /// Who made the splits: `unc`, `google`, `umd`, `berkeley`; or the one version of sets that have one: `vg` for PhraseCut,
    /// `challenge` for ADE20K, `v2.0` for Mapillary Vistas, `atr` for human parsing, `seg` for PartImageNet, `vlpart` for
    /// PASCAL-Part, `v1` for Objects365; `own` for data of one's own.
    pub split_by: String,
}

impl DatasetSpec {
    /// A set with its usual splits (`umd` for RefCOCOg, the only ones of sets that have one version, `unc` otherwise).
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, name: &str) -> Self {
        let split_by = match name {
            "refcocog" => "umd",
            layout::PHRASECUT => "vg",
            name if own::OwnFormat::named(name).is_some() => own::BY,
            name => LAYOUTS.iter().find(|layout| layout.name == name).map_or("unc", |layout| layout.by),
        };
        Self { root: root.into(), name: name.into(), split_by: split_by.into() }
    }
}

/// Whose photographs a set shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// COCO's, by their ids: RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO, and what PhraseCut has of them.
    Coco,
    /// SAIAPR TC-12: RefCLEF.
    Saiapr,
    /// Visual Genome's that COCO does not have: PhraseCut.
    VisualGenome,
    /// ADE20K's.
    Ade20k,
    /// Mapillary Vistas'.
    Mapillary,
    /// ATR's: human parsing.
    Atr,
    /// ImageNet's: PartImageNet.
    ImageNet,
    /// PASCAL VOC's: PASCAL-Part.
    Voc,
    /// Objects365's.
    Objects365,
    /// Whoever uses this: images of their own, by a hash.
    Own,
}

/// Which photograph an image is, so that sets which share some can be kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Photo {
    /// Whose it is.
    pub collection: Collection,
    /// Its number there; a hash of its name (FNV-1a of 64 bits) where numbers are not the collection's own.
    pub number: u64,
}

impl Photo {
    /// A photograph with a number.
    #[must_use]
    pub fn numbered(collection: Collection, id: i64) -> Self {
        Self { collection, number: id.cast_unsigned() }
    }

    /// A photograph known by its file name, folders and extension aside.
    #[must_use]
    pub fn named(collection: Collection, file_name: &str) -> Self {
        let stem = Path::new(file_name).file_stem().and_then(|s| s.to_str()).unwrap_or(file_name);
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self { collection, number: stem.bytes().fold(0xcbf2_9ce4_8422_2325, fnv) }
    }
}

/// An image of the set; nothing is decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// `images[].id`; the number in the file's name, or its place in the split, where a set has no table of images.
    pub id: i64,
    /// Which photograph it is.
    pub photo: Photo,
    /// `images[].file_name` (the `file_name` of a refs record is another thing).
    pub file_name: String,
    /// Where the file lies.
    pub path: PathBuf,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl ImageInfo {
    /// Decodes the image: of published sets its pixels as they are stored, for annotations were drawn on them; of one's own data
    /// upright, as people see them.
    ///
    /// # Errors
    /// If the file cannot be read or decoded.
    pub fn decode(&self) -> Result<Image, DataError> {
        match self.photo.collection {
            Collection::Own => loader::decode_upright(&self.path),
            _ => loader::decode(&self.path),
        }
    }

    pub(crate) fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// What one or more sentences point at.
#[derive(Debug, Clone, PartialEq)]
pub struct Referent {
    /// `ref_id`; PhraseCut has none, so there it is the place in the split.
    pub ref_id: i64,
    /// Index into [`Dataset::images`].
    pub image: usize,
    /// Annotations meant; none when nothing is meant.
    pub ann_ids: Vec<AnnId>,
    /// Name of the (first) category; empty when nothing is meant.
    pub category: String,
    /// At least one sentence.
    pub sentences: Vec<Sentence>,
    /// The union of the annotations, as large as the image, but for what is in `unread`.
    pub mask: Rle,
    /// Masks that are read when they are asked for ([`Dataset::masks`]); only data of one's own have some.
    pub unread: Vec<UnreadMask>,
    /// The hull of the annotations' boxes, `[x, y, width, height]` in pixels; zeros when nothing is meant or known.
    pub bbox: [f64; 4],
    /// PhraseCut's own subsets that it belongs to ("i_multi", "s_small", ...); none in other sets.
    pub groups: Vec<&'static str>,
}

/// A validated index of one split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What was opened.
    pub spec: DatasetSpec,
    /// The split.
    pub split: String,
    /// Images in order of first use.
    pub images: Vec<ImageInfo>,
    /// Referents in the order of the file.
    pub referents: Vec<Referent>,
    /// Images whose masks belong to classes and are read when an image is loaded, in the order of the images.
    pub class_images: Vec<ClassImage>,
    /// What was left out: referents without words (gRefCOCO has some) or with a known broken image (RefCLEF), images without a
    /// label map, records without a mask.
    pub skipped: usize,
    /// What was passed over, one line each: sentences without words, by file, ref and sentence.
    pub warnings: Vec<String>,
    /// The first image of each set that [`Dataset::with`] put behind this one.
    pub parts: Vec<usize>,
}

impl Dataset {
    /// A split to be filled.
    pub(crate) fn empty(spec: &DatasetSpec, split: &str) -> Self {
        let (images, referents, class_images) = (Vec::new(), Vec::new(), Vec::new());
        let (parts, warnings) = (Vec::new(), Vec::new());
        Self { spec: spec.clone(), split: split.into(), images, referents, class_images, skipped: 0, warnings, parts }
    }

    /// This set with another behind it, to train on both. `spec` and `split` stay those of the first.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let first = self.images.len();
        self.parts.push(first);
        self.parts.extend(other.parts.iter().map(|part| part + first));
        self.images.extend(other.images);
        self.referents.extend(other.referents.into_iter().map(|r| Referent { image: r.image + first, ..r }));
        self.class_images.extend(other.class_images.into_iter().map(|c| ClassImage { image: c.image + first, ..c }));
        self.skipped += other.skipped;
        self.warnings.extend(other.warnings);
        self
    }

    /// This set with all masks read, for whoever looks at [`Referent::mask`] itself.
    ///
    /// # Errors
    /// A mask that cannot be read.
    pub fn with_masks_read(mut self) -> Result<Self, DataError> {
        let Self { images, referents, .. } = &mut self;
        for referent in referents.iter_mut().filter(|r| !r.unread.is_empty()) {
            let info = &images[referent.image];
            referent.mask = own::union(&referent.mask, &referent.unread, (info.width, info.height))?;
            referent.bbox = referent.mask.bbox();
            referent.unread.clear();
        }
        Ok(self)
    }

    /// Sentences over all referents.
    #[must_use]
    pub fn sentences(&self) -> usize {
        self.referents.iter().map(|r| r.sentences.len()).sum()
    }

    /// Puts every sentence, or the name of every class, into a prompt, at its `{}`: `[semantic] {}` makes `[semantic] circle` of
    /// "circle".
    ///
    /// # Errors
    /// A prompt that has not exactly one `{}`.
    pub fn with_prompt(mut self, prompt: &str) -> Result<Self, DataError> {
        classes::check_prompt(prompt)?;
        if prompt == classes::PLACE {
            return Ok(self);
        }
        for sentence in self.referents.iter_mut().flat_map(|r| &mut r.sentences) {
            sentence.text = prompt.replace(classes::PLACE, &sentence.text);
        }
        // Images of a set share its classes, before and after.
        let mut renamed: Option<(Arc<ClassSet>, Arc<ClassSet>)> = None;
        for image in &mut self.class_images {
            let new = match &renamed {
                Some((old, new)) if Arc::ptr_eq(old, &image.set) => new.clone(),
                _ => Arc::new(image.set.with_prompt(prompt)),
            };
            renamed = Some((std::mem::replace(&mut image.set, new.clone()), new));
        }
        Ok(self)
    }

    /// The photographs in use.
    #[must_use]
    pub fn photos(&self) -> BTreeSet<Photo> {
        self.images.iter().map(|i| i.photo).collect()
    }

    /// Removes every image that shows one of these photographs, with all that is said about it; returns how many referents and
    /// images with classes went.
    pub fn exclude(&mut self, photos: &BTreeSet<Photo>) -> usize {
        let before = self.referents.len() + self.class_images.len();
        let images = std::mem::take(&mut self.images);
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        let first = std::mem::take(&mut self.parts);
        let mut first = first.into_iter().peekable();
        for (old, image) in images.into_iter().enumerate() {
            while first.next_if_eq(&old).is_some() {
                self.parts.push(self.images.len());
            }
            if !photos.contains(&image.photo) {
                moved.insert(old, self.images.len());
                self.images.push(image);
            }
        }
        self.parts.extend(first.map(|_| self.images.len()));
        self.referents.retain_mut(|r| moved.get(&r.image).map(|&new| r.image = new).is_some());
        self.class_images.retain_mut(|c| moved.get(&c.image).map(|&new| c.image = new).is_some());
        before - self.referents.len() - self.class_images.len()
    }
}
