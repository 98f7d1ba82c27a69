//! `Dataset`: images, referents and their sentences of one split.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coco_mask::Rle;
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::{AnnId, Sentence};

/// Which set to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The folder that holds the sets and `images`.
    pub root: PathBuf,
    /// `refcoco`, `refcoco+`, `refcocog`, `grefcoco`, `refclef` or `phrasecut`.
    pub name: String,
    /// Who made the splits: `unc`, `google`, `umd`, `berkeley`, or `vg` for PhraseCut, which has one set of them.
    pub split_by: String,
}

impl DatasetSpec {
    /// A set with its usual splits (`umd` for RefCOCOg, `vg` for PhraseCut, `unc` otherwise).
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, name: &str) -> Self {
        let split_by = match name {
            "refcocog" => "umd",
            layout::PHRASECUT => "vg",
            _ => "unc",
        };
        Self { root: root.into(), name: name.into(), split_by: split_by.into() }
    }
}

/// An image of the set; nothing is decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// `images[].id`.
    pub id: i64,
    /// `images[].file_name` (the `file_name` of a refs record is another thing).
    pub file_name: String,
    /// Where the file lies.
    pub path: PathBuf,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
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
    /// The union of the annotations, as large as the image.
    pub mask: Rle,
    /// The hull of the annotations' boxes, `[x, y, width, height]` in pixels; zeros when nothing is meant.
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
    /// Referents left out because they have no words (gRefCOCO has some) or a known broken image (RefCLEF).
    pub skipped: usize,
    /// What was passed over, one line each: sentences without words, by file, ref and sentence.
    pub warnings: Vec<String>,
    /// The first image of each set that [`Dataset::with`] put behind this one.
    pub parts: Vec<usize>,
}

impl Dataset {
    /// A split to be filled.
    pub(crate) fn empty(spec: &DatasetSpec, split: &str) -> Self {
        let (images, referents, parts, warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { spec: spec.clone(), split: split.into(), images, referents, skipped: 0, warnings, parts }
    }

    /// This set with another behind it, to train on both. `spec` and `split` stay those of the first.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let first = self.images.len();
        self.parts.push(first);
        self.parts.extend(other.parts.iter().map(|part| part + first));
        self.images.extend(other.images);
        self.referents.extend(other.referents.into_iter().map(|r| Referent { image: r.image + first, ..r }));
        self.skipped += other.skipped;
        self.warnings.extend(other.warnings);
        self
    }

    /// Sentences over all referents.
    #[must_use]
    pub fn sentences(&self) -> usize {
        self.referents.iter().map(|r| r.sentences.len()).sum()
    }

    /// Ids of the images in use.
    #[must_use]
    pub fn image_ids(&self) -> BTreeSet<i64> {
        self.images.iter().map(|i| i.id).collect()
    }

    /// Removes every referent on one of these images; returns how many went.
    pub fn exclude(&mut self, image_ids: &BTreeSet<i64>) -> usize {
        let before = self.referents.len();
        let images = std::mem::take(&mut self.images);
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        for (old, image) in images.into_iter().enumerate() {
            if !image_ids.contains(&image.id) {
                moved.insert(old, self.images.len());
                self.images.push(image);
            }
        }
        self.referents.retain_mut(|r| moved.get(&r.image).map(|&new| r.image = new).is_some());
        before - self.referents.len()
    }
}
