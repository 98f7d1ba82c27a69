//! Data of one's own in every format: reading, splits, bad input, and conversion back and forth.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "own/bad.rs"]
mod bad;
#[path = "own/convert.rs"]
mod convert;
#[path = "own/formats.rs"]
mod formats;
#[path = "own/splits.rs"]
mod splits;

use std::path::{Path, PathBuf};

use refcoco_data::{Dataset, DatasetSpec, OwnFormat, sequential};

/// A folder for a test.
pub(crate) struct Folder {
    temp: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.temp.path().join("set")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.at(name), text).unwrap();
        self
    }

    /// An image whose bytes depend on `seed`.
    pub(crate) fn image(&self, name: &str, (width, height): (u32, u32), seed: u8) -> &Self {
        let pixel = |x: u32, y: u32| image::Rgb([seed, (x * 7 + y) as u8, (y * 5) as u8]);
        image::RgbImage::from_fn(width, height, pixel).save(self.at(name)).unwrap();
        self
    }

    /// A mask, 255 inside.
    pub(crate) fn mask(&self, name: &str, (width, height): (u32, u32), inside: impl Fn(u32, u32) -> bool) -> &Self {
        let pixel = |x, y| image::Luma([if inside(x, y) { 255 } else { 0 }]);
        image::GrayImage::from_fn(width, height, pixel).save(self.at(name)).unwrap();
        self
    }

    pub(crate) fn open(&self, format: OwnFormat, split: &str) -> Result<Dataset, String> {
        open(&self.path(), format, split)
    }
}

pub(crate) fn open(path: &Path, format: OwnFormat, split: &str) -> Result<Dataset, String> {
    Dataset::open(&DatasetSpec::new(path, format.name()), split).map_err(|e| e.to_string())
}

/// (file name, sentences, area of the mask) per referent, in order.
pub(crate) fn said(set: &Dataset) -> Vec<(String, String, u64)> {
    let set = set.clone().with_masks_read().unwrap();
    let one = |r: &refcoco_data::Referent| {
        let said: Vec<&str> = r.sentences.iter().map(|s| s.text.as_str()).collect();
        (set.images[r.image].file_name.clone(), said.join(" | "), r.mask.area())
    };
    let out: Vec<_> = set.referents.iter().map(one).collect();
    // Items see the same masks.
    let items = sequential(&set, None).unwrap();
    let masks = set.masks(&items).unwrap();
    assert!(items.iter().zip(&masks).all(|(i, m)| *m == set.referents[i.sentence().unwrap().0].mask));
    out
}
