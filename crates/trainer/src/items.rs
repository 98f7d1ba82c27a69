//! Items of a data set as a batch.

use refcoco_data::{DataError, Dataset, Draw, ImageCache, Item, Transform, Transformed, load_batch};

use crate::batch::{HostBatch, Inputs};

/// Whether two items show one image, changed in one way.
fn same_image(dataset: &Dataset, a: &Item, b: &Item) -> bool {
    let shown = |item: &Item| (dataset.image_index(item), item.key);
    shown(a) == shown(b)
}

/// The number of each item's image: items that follow each other and show one image share it.
fn image_of(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let images = items.chunk_by(|a, b| same_image(dataset, a, b)).enumerate();
    images.flat_map(|(image, of)| std::iter::repeat_n(image, of.len())).collect()
}

/// The images, as numbers in [`Dataset::images`], that a batch of items shows, without repetition.
pub(crate) fn images(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    items.chunk_by(|a, b| same_image(dataset, a, b)).map(|of| dataset.image_index(&of[0])).collect()
}

/// Draws of a step that show one image each, in order.
pub(crate) fn by_image<'a>(dataset: &Dataset, draws: &'a [Draw]) -> Vec<&'a [Draw]> {
    let same = |a: &Draw, b: &Draw| match (a, b) {
        (Draw::Item(a), Draw::Item(b)) => same_image(dataset, a, b),
        _ => false,
    };
    draws.chunk_by(same).collect()
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
    let batch = batch_of(dataset, &items, samples, inputs)?;
    Ok((items, batch))
}

/// Items whose samples are loaded as a batch.
pub(crate) fn batch_of(
    dataset: &Dataset,
    items: &[Item],
    samples: Vec<Transformed>,
    inputs: &Inputs,
) -> Result<HostBatch, DataError> {
    let first = || items.first().map_or_else(Default::default, |item| dataset.image(item).path.clone());
    let of_batch =
        |e: pil_ops::ImageError| DataError::Image { path: first(), reason: format!("in the batch that begins with it: {e}") };
    HostBatch::new(samples, image_of(dataset, items), inputs).map_err(of_batch)
}
