//! Items of a data set as a batch.

use refcoco_data::{DataError, Dataset, ImageCache, Item, Transform, load_batch};

use crate::batch::{HostBatch, Inputs};

/// Items that follow each other and show one image, changed in one way, share it.
fn image_of(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let shown = |item: &Item| (dataset.referents[item.referent].image, item.key);
    let mut count = 0;
    items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            count += usize::from(i == 0 || shown(item) != shown(&items[i - 1]));
            count - 1
        })
        .collect()
}

/// The images, as numbers in [`Dataset::images`], that a batch of items shows, without repetition.
pub(crate) fn images(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let of = image_of(dataset, items);
    let first = |(i, _): &(usize, &Item)| *i == 0 || of[*i] != of[*i - 1];
    items.iter().enumerate().filter(first).map(|(_, item)| dataset.referents[item.referent].image).collect()
}

/// Items as a batch.
pub(crate) fn host_batch(
    dataset: &Dataset,
    items: &[Item],
    transform: &Transform,
    cache: &ImageCache,
    inputs: &Inputs,
) -> Result<HostBatch, DataError> {
    let first =
        || items.first().map_or_else(Default::default, |i| dataset.images[dataset.referents[i.referent].image].path.clone());
    let of_batch =
        |e: pil_ops::ImageError| DataError::Image { path: first(), reason: format!("in the batch that begins with it: {e}") };
    HostBatch::new(load_batch(dataset, items, transform, cache)?, image_of(dataset, items), inputs).map_err(of_batch)
}
