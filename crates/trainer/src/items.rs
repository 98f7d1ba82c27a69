//! Items of a data set as a batch.

use refcoco_data::{DataError, Dataset, ImageCache, Item, Transform, Transformed, load_batch};

use crate::batch::{HostBatch, Inputs};

/// Whether two items show one image, changed in one way.
pub(crate) fn same_image(dataset: &Dataset, a: &Item, b: &Item) -> bool {
    let shown = |item: &Item| (dataset.referents[item.referent].image, item.key);
    shown(a) == shown(b)
}

/// The number of each item's image: items that follow each other and show one image share it.
fn image_of(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let images = items.chunk_by(|a, b| same_image(dataset, a, b)).enumerate();
    images.flat_map(|(image, of)| std::iter::repeat_n(image, of.len())).collect()
}

/// The images, as numbers in [`Dataset::images`], that a batch of items shows, without repetition.
pub(crate) fn images(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    items.chunk_by(|a, b| same_image(dataset, a, b)).map(|of| dataset.referents[of[0].referent].image).collect()
}

/// Items as a batch.
pub(crate) fn host_batch(
    dataset: &Dataset,
    items: &[Item],
    transform: &Transform,
    cache: &ImageCache,
    inputs: &Inputs,
) -> Result<HostBatch, DataError> {
    batch_of(dataset, items, load_batch(dataset, items, transform, cache)?, inputs)
}

/// Items whose samples are loaded as a batch.
pub(crate) fn batch_of(
    dataset: &Dataset,
    items: &[Item],
    samples: Vec<Transformed>,
    inputs: &Inputs,
) -> Result<HostBatch, DataError> {
    let first =
        || items.first().map_or_else(Default::default, |i| dataset.images[dataset.referents[i.referent].image].path.clone());
    let of_batch =
        |e: pil_ops::ImageError| DataError::Image { path: first(), reason: format!("in the batch that begins with it: {e}") };
    HostBatch::new(samples, image_of(dataset, items), inputs).map_err(of_batch)
}
