//! Images whose masks belong to classes: semantic maps, parts and instances, read when an image is loaded.
//!
//! A [`Dataset`](crate::Dataset) of such a set holds no mask. It knows per image where its label map lies, or which records of an
//! annotation file are its own; [`Opened`] is what is read for one image.

mod annotations;
mod label_map;
mod layouts;
mod scan;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use coco_mask::Rle;

pub(crate) use layouts::{ATR_NAMES, Files, LAYOUTS, Layout, held_out, open};
pub(crate) use verify::{check, wrong_size};

use crate::{DataError, ImageInfo};
use annotations::Annotations;
pub(crate) use label_map::unpacked;
use label_map::{LabelMap, MapFolder};

/// The classes of a set: their names, what is said for them, and where their masks lie.
#[derive(Debug, Clone)]
pub struct ClassSet {
    names: Arc<Vec<String>>,
    prompt: String,
    source: Arc<Source>,
}

/// Where the masks of a set lie.
#[derive(Debug)]
pub(crate) enum Source {
    /// A PNG file per image.
    Maps(MapFolder),
    /// Records of one JSON file.
    Records(Annotations),
}

impl ClassSet {
    pub(crate) fn new(names: Vec<String>, source: Source) -> Self {
        Self { names: Arc::new(names), prompt: PLACE.to_owned(), source: Arc::new(source) }
    }

    /// Whether this is the name of a set that has classes.
    pub(crate) fn is_known(name: &str) -> bool {
        Layout::find(name).is_some()
    }

    /// Names by index of the class.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What is said for a class.
    #[must_use]
    pub fn text(&self, class: u16) -> String {
        self.names.get(usize::from(class)).map(|name| self.prompt.replace(PLACE, name)).unwrap_or_default()
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| self.prompt.replace(PLACE, name))
    }

    pub(crate) fn with_prompt(&self, prompt: &str) -> Self {
        Self { prompt: prompt.to_owned(), ..self.clone() }
    }
}

/// What stands for the sentence or the name in a prompt.
pub(crate) const PLACE: &str = "{}";

/// Refuses a prompt that has not exactly one `{}`.
pub(crate) fn check_prompt(prompt: &str) -> Result<(), DataError> {
    if prompt.matches(PLACE).count() == 1 {
        return Ok(());
    }
    let expected = "must have one {}, where the sentence or the name of the class goes";
    Err(DataError::Setting { key: "prompt", found: format!("{prompt:?}"), expected })
}

/// An image of such a set.
#[derive(Debug, Clone)]
pub struct ClassImage {
    /// Index into [`Dataset::images`](crate::Dataset::images).
    pub image: usize,
    /// The classes of its set.
    pub set: Arc<ClassSet>,
    /// Its records: the first one and their number. Unused where a label map says all.
    pub(crate) records: (u32, u32),
}

/// An image's masks: its label map in memory, or the records that will be read.
pub(crate) struct Opened<'a> {
    image: &'a ClassImage,
    info: &'a ImageInfo,
    map: Option<LabelMap>,
}

impl<'a> Opened<'a> {
    /// Decodes the label map, if there is one.
    pub(crate) fn new(image: &'a ClassImage, info: &'a ImageInfo) -> Result<Self, DataError> {
        let map = match &*image.set.source {
            Source::Maps(folder) => Some(folder.read(&info.file_name)?),
            Source::Records(_) => None,
        };
        Ok(Self { image, info, map })
    }

    /// Classes in the image, in order.
    pub(crate) fn classes(&self) -> Vec<u16> {
        match (&*self.image.set.source, &self.map) {
            (Source::Maps(folder), Some(map)) => folder.classes(map),
            (Source::Records(file), _) => file.classes(self.image.records),
            (Source::Maps(_), None) => Vec::new(),
        }
    }

    /// The label map and its size, (width, height), where there is one that is not as large as this.
    pub(crate) fn wrong_size(&self, size: (u32, u32)) -> Option<(PathBuf, (u32, u32))> {
        match (&*self.image.set.source, &self.map) {
            (Source::Maps(folder), Some(map)) if (map.width, map.height) != size => {
                Some((folder.path(&self.info.file_name), (map.width, map.height)))
            }
            _ => None,
        }
    }

    /// A class's mask, 0 and 1, row after row.
    pub(crate) fn pixels(&self, class: u16) -> Result<Vec<u8>, DataError> {
        match (&*self.image.set.source, &self.map) {
            (Source::Maps(folder), Some(map)) => Ok(folder.pixels(map, class)),
            _ => Ok(self.rle(class)?.to_row_major()),
        }
    }

    /// A class's mask.
    pub(crate) fn rle(&self, class: u16) -> Result<Rle, DataError> {
        match (&*self.image.set.source, &self.map) {
            (Source::Maps(folder), Some(map)) => Rle::from_row_major(map.height, map.width, &folder.pixels(map, class))
                .map_err(|e| label_map::unusable(&folder.path(&self.info.file_name), e)),
            (Source::Records(file), _) => file.mask(self.image.records, class, (self.info.height, self.info.width)),
            (Source::Maps(_), None) => {
                let bad = |e: coco_mask::MaskError| DataError::Image { path: self.info.path.clone(), reason: e.to_string() };
                Rle::empty(self.info.height, self.info.width).map_err(bad)
            }
        }
    }
}
