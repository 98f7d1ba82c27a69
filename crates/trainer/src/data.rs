//! The plan's data, opened and checked.

use std::sync::Arc;

use refcoco_data::{DataError, Dataset, DatasetSpec, ImageCache, Item, Prefetcher, Sampler, Transform, load_batch};

use crate::batch::{HostBatch, Normalisation};
use crate::cache::FeatureCache;
use crate::error::TrainError;
use crate::plan::RunPlan;

/// Decoded images kept in memory, in bytes.
const CACHE_BYTES: usize = 2 << 30;

/// Opens one split of the plan's data set.
///
/// # Errors
/// As [`Dataset::open`].
pub fn open_split(plan: &RunPlan, split: &str) -> Result<Dataset, TrainError> {
    let mut spec = DatasetSpec::new(&plan.data.root, &plan.data.dataset);
    spec.split_by.clone_from(&plan.data.split_by);
    Ok(Dataset::open(&spec, split)?)
}

/// Batches of training items, from any step on.
#[derive(Debug)]
pub struct TrainData {
    dataset: Arc<Dataset>,
    transform: Transform,
    /// Which items make up a step.
    pub sampler: Sampler,
    cache: Arc<ImageCache>,
    features: Option<Arc<FeatureCache>>,
    normalisation: Normalisation,
    ahead: usize,
}

impl TrainData {
    /// The training split of the plan.
    ///
    /// # Errors
    /// A split that cannot be read, or settings out of range.
    pub fn open(plan: &RunPlan, dataset: Arc<Dataset>, normalisation: Normalisation) -> Result<Self, TrainError> {
        let sampler = Sampler::new(&dataset, plan.data.items, plan.train.batch_size, plan.run.seed)?
            .with_expressions(plan.data.expressions);
        let side = plan.data.image_size as usize;
        let transform = Transform::train(side, plan.data.fit, plan.data.augment.clone())?;
        let cache = Arc::new(ImageCache::new(CACHE_BYTES));
        Ok(Self { dataset, transform, sampler, cache, features: None, normalisation, ahead: plan.data.prefetch })
    }

    /// Takes the features of the method's frozen part from a cache.
    #[must_use]
    pub fn with_features(self, cache: Option<FeatureCache>) -> Self {
        Self { features: cache.map(Arc::new), ..self }
    }

    /// Batches of steps `from` to `to`, each `accumulate` micro-batches, made ahead on another thread.
    pub fn batches(&self, from: u64, to: u64) -> Prefetcher<HostBatch> {
        let (dataset, transform, cache) = (self.dataset.clone(), self.transform.clone(), self.cache.clone());
        let (sampler, normalisation, features) = (self.sampler.clone(), self.normalisation, self.features.clone());
        Prefetcher::spawn(self.ahead, move |i| {
            let step = from + i;
            if step >= to {
                return Ok(None);
            }
            let items = sampler.at(step);
            let mut batch = host_batch(&dataset, &items, &transform, &cache, normalisation)?;
            if let Some(features) = &features {
                batch.features = features.read(&pictures(&dataset, &items))?;
            }
            Ok(Some(batch))
        })
    }
}

/// Evaluation items in order, in batches.
pub struct EvalData {
    /// The split.
    pub dataset: Arc<Dataset>,
    /// Its items, one a sentence.
    pub items: Vec<Item>,
    transform: Transform,
    cache: Arc<ImageCache>,
    normalisation: Normalisation,
    batch: usize,
}

impl EvalData {
    /// An evaluation split of the plan.
    ///
    /// # Errors
    /// A split that cannot be read, or settings out of range.
    pub fn open(plan: &RunPlan, split: &str, normalisation: Normalisation) -> Result<Self, TrainError> {
        Self::of(plan, Arc::new(open_split(plan, split)?), normalisation)
    }

    /// A data set that is open already.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn of(plan: &RunPlan, dataset: Arc<Dataset>, normalisation: Normalisation) -> Result<Self, TrainError> {
        let mut items = refcoco_data::sequential(&dataset);
        if let Some(limit) = plan.eval.limit {
            items.truncate(limit);
        }
        Ok(Self {
            dataset,
            items,
            transform: Transform::eval(plan.data.image_size as usize, plan.data.fit)?,
            cache: Arc::new(ImageCache::new(CACHE_BYTES)),
            normalisation,
            batch: plan.eval.batch_size.max(1),
        })
    }

    /// Batches in order, made ahead on another thread, with the number of their first item.
    pub fn batches(&self) -> Prefetcher<(usize, HostBatch)> {
        let (dataset, transform, cache) = (self.dataset.clone(), self.transform.clone(), self.cache.clone());
        let (items, batch, normalisation) = (self.items.clone(), self.batch, self.normalisation);
        Prefetcher::spawn(2, move |i| {
            let first = i as usize * batch;
            let Some(rest) = items.get(first..).filter(|r| !r.is_empty()) else { return Ok(None) };
            let items = &rest[..batch.min(rest.len())];
            Ok::<_, DataError>(Some((first, host_batch(&dataset, items, &transform, &cache, normalisation)?)))
        })
    }
}

/// Items that follow each other and show one picture, changed in one way, share it.
fn image_of(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let picture = |item: &Item| (dataset.referents[item.referent].image, item.key);
    let mut count = 0;
    items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            count += usize::from(i == 0 || picture(item) != picture(&items[i - 1]));
            count - 1
        })
        .collect()
}

/// The images of [`Dataset::images`] that a batch of items shows, one a picture.
fn pictures(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
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
    by: Normalisation,
) -> Result<HostBatch, DataError> {
    Ok(HostBatch::new(load_batch(dataset, items, transform, cache)?, image_of(dataset, items), by))
}
