//! Decoding and transforming the samples of a batch, in parallel, with a cache of decoded images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pil_ops::Image;
use rayon::prelude::*;

use crate::{DataError, Dataset, Item, Transform, Transformed};

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

    /// The image of a path, decoded at most once while it fits.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn get(&self, path: &Path) -> Result<Arc<Image>, DataError> {
        // A panic elsewhere cannot leave the map half-changed, so a poisoned lock is still good.
        if let Some(image) = self.held.lock().unwrap_or_else(PoisonError::into_inner).images.get(path) {
            return Ok(image.clone());
        }
        let image = Arc::new(decode(path)?);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + image.data().len() <= self.limit && held.images.insert(path.into(), image.clone()).is_none() {
            held.bytes += image.data().len();
        }
        Ok(image)
    }
}

/// Decodes and transforms one item.
///
/// # Errors
/// If the image cannot be read or has another size than its record.
pub fn load(dataset: &Dataset, item: &Item, transform: &Transform, cache: &ImageCache) -> Result<Transformed, DataError> {
    let referent = &dataset.referents[item.referent];
    let info = &dataset.images[referent.image];
    let image = cache.get(&info.path)?;
    let (h, w) = (info.height as usize, info.width as usize);
    if (image.height(), image.width()) != (h, w) {
        let reason = format!("the file is {} x {} but its record says {w} x {h} (width x height)", image.width(), image.height());
        return Err(bad(&info.path, reason));
    }
    let mask = referent.mask.to_row_major();
    transform.apply(info, &image, &mask, &referent.sentences[item.sentence].text, item.key)
}

/// Loads the items of a batch in parallel, in order.
///
/// # Errors
/// On the first item, in order, that cannot be loaded.
pub fn load_batch(
    dataset: &Dataset,
    items: &[Item],
    transform: &Transform,
    cache: &ImageCache,
) -> Result<Vec<Transformed>, DataError> {
    let loaded: Vec<_> = items.par_iter().map(|item| load(dataset, item, transform, cache)).collect();
    loaded.into_iter().collect()
}
