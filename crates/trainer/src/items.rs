//! Items of a data set as a batch.

use refcoco_data::{DataError, Dataset, Draw, ImageCache, Item, Transform, load_batch};

use crate::batch::{HostBatch, Inputs};

/// Items that follow each other and show one image, changed in one way, share it.
fn image_of(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let shown = |item: &Item| (dataset.image_index(item), item.key);
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
    items.iter().enumerate().filter(first).map(|(_, item)| dataset.image_index(item)).collect()
}

/// Draws as a batch, with the items that they became.
pub(crate) fn host_batch(
    dataset: &Dataset,
    draws: &[Draw],
    transform: &Transform,
    cache: &ImageCache,
    inputs: &Inputs,
) -> Result<(Vec<Item>, HostBatch), DataError> {
    let (items, samples): (Vec<Item>, Vec<_>) =
        load_batch(dataset, draws, transform, cache)?.into_iter().map(|loaded| (loaded.item, loaded.sample)).unzip();
    let first = || items.first().map_or_else(Default::default, |item| dataset.image(item).path.clone());
    let of_batch =
        |e: pil_ops::ImageError| DataError::Image { path: first(), reason: format!("in the batch that begins with it: {e}") };
    let batch = HostBatch::new(samples, image_of(dataset, &items), inputs).map_err(of_batch)?;
    Ok((items, batch))
}
