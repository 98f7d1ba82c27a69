//! Decoding and transforming the samples of a batch, in parallel, with a cache of decoded images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pil_ops::Image;
use rayon::prelude::*;

use crate::classes;
use crate::{DataError, Dataset, Draw, ImageInfo, Item, Transform, Transformed};

fn bad(path: &Path, reason: impl ToString) -> DataError {
    DataError::Image { path: path.into(), reason: reason.to_string() }
}

/// Reads an image as 8-bit RGB, its pixels as they are stored: annotations of published sets were drawn on them, so the EXIF
/// orientation is not applied (Pillow does not either).
///
/// # Shapes
/// `[height, width, 3]`, row after row.
///
/// # Errors
/// If the file cannot be read or decoded.
pub fn decode(path: &Path) -> Result<Image, DataError> {
    Image::open(path).map_err(|e| bad(path, e))
}

/// As [`decode`], turned as the EXIF orientation says.
pub(crate) fn decode_upright(path: &Path) -> Result<Image, DataError> {
    Image::open_upright(path).map_err(|e| bad(path, e))
}

/// Width and height of an image from its header.
///
/// # Errors
/// If the file cannot be read or has no valid header.
pub fn size(path: &Path) -> Result<(u32, u32), DataError> {
    pil_ops::dimensions(path).map_err(|e| bad(path, e))
}

/// Decoded images, kept up to a number of bytes. Shared between threads.
#[derive(Debug, Default)]
pub struct ImageCache {
    limit: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    images: HashMap<PathBuf, Arc<Image>>,
}

impl ImageCache {
    /// A cache of at most `limit` bytes of pixels; 0 keeps nothing. Once full it keeps what it has: an epoch visits
    /// every image once, so throwing out the oldest would never hit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    /// An image, decoded at most once while it fits.
    ///
    /// # Errors
    /// As [`ImageInfo::decode`].
    pub fn get(&self, info: &ImageInfo) -> Result<Arc<Image>, DataError> {
        let path = &info.path;
        // A panic elsewhere cannot leave the map half-changed, so a poisoned lock is still good.
        if let Some(image) = self.held.lock().unwrap_or_else(PoisonError::into_inner).images.get(path) {
            return Ok(image.clone());
        }
        let image = Arc::new(info.decode()?);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + image.data().len() <= self.limit && held.images.insert(path.clone(), image.clone()).is_none() {
            held.bytes += image.data().len();
        }
        Ok(image)
    }
}

/// A drawn item, ready for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it is; of an image with classes, one that was drawn.
    pub item: Item,
    /// Its image, mask and words.
    pub sample: Transformed,
}

/// Loads draws in parallel, in order. An image whose classes are drawn becomes several items, which follow each other; neighbours
/// that show one image under one key share its decoding.
///
/// # Errors
/// On the first item, in order, that cannot be loaded: an image or a label map that cannot be read or has another size than its
/// record.
pub fn load_batch(
    dataset: &Dataset,
    draws: &[Draw],
    transform: &Transform,
    cache: &ImageCache,
) -> Result<Vec<Loaded>, DataError> {
    let shown = |draw: &Draw| match draw {
        Draw::Item(item) => Some((dataset.image_index(item), item.key)),
        Draw::Classes { .. } => None,
    };
    let runs: Vec<&[Draw]> = draws.chunk_by(|a, b| shown(a).is_some() && shown(a) == shown(b)).collect();
    let loaded: Vec<Result<Vec<Loaded>, DataError>> =
        runs.into_par_iter().map(|run| load_run(dataset, run, transform, cache)).collect();
    Ok(loaded.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Draws that show one image: one of its classes, or neighbouring items.
fn load_run(dataset: &Dataset, run: &[Draw], transform: &Transform, cache: &ImageCache) -> Result<Vec<Loaded>, DataError> {
    let (items, opened) = match run {
        [Draw::Classes { image, instead, most, key }] => {
            let (items, opened) = dataset.draw_classes(*image, instead, *most, *key)?;
            (items, Some(opened))
        }
        run => {
            let items: Vec<Item> =
                run.iter().filter_map(|draw| if let Draw::Item(item) = draw { Some(*item) } else { None }).collect();
            let opened = dataset.open_classes(&items)?;
            (items, opened)
        }
    };
    let Some(first) = items.first() else { return Ok(Vec::new()) };
    let info = dataset.image(first);
    let image = cache.get(info)?;
    let size = (image.width() as u32, image.height() as u32);
    if let Some((map, of_map)) = opened.as_ref().and_then(|opened| opened.wrong_size(size)) {
        return Err(classes::wrong_size(&map, of_map, &info.path, size));
    }
    if size != (info.width, info.height) {
        let (w, h) = (info.width, info.height);
        let reason = format!("the file is {} x {} but its record says {w} x {h} (width x height)", size.0, size.1);
        return Err(bad(&info.path, reason));
    }
    let loaded = items.into_par_iter().map(|item| {
        let mask = dataset.pixels(&item, opened.as_ref())?;
        let sample = transform.apply(info, &image, &mask, &dataset.text(&item), item.key)?;
        Ok(Loaded { item, sample })
    });
    loaded.collect::<Vec<Result<Loaded, DataError>>>().into_iter().collect()
}
