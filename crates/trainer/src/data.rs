//! The plan's data, opened and checked.

use std::sync::Arc;

use refcoco_data::{DataError, Dataset, DatasetSpec, ImageCache, Item, Prefetcher, Sampler, Transform, load_batch};

use crate::batch::{HostBatch, Normalisation};
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
    normalisation: Normalisation,
    ahead: usize,
}

impl TrainData {
    /// The training split of the plan.
    ///
    /// # Errors
    /// A split that cannot be read, or settings out of range.
    pub fn open(plan: &RunPlan, dataset: Arc<Dataset>, normalisation: Normalisation) -> Result<Self, TrainError> {
        let sampler = Sampler::new(&dataset, plan.data.items, plan.train.batch_size, plan.run.seed)?;
        let side = plan.data.image_size as usize;
        let transform = Transform::train(side, plan.data.fit, plan.data.augment.clone())?;
        let cache = Arc::new(ImageCache::new(CACHE_BYTES));
        Ok(Self { dataset, transform, sampler, cache, normalisation, ahead: plan.data.prefetch })
    }

    /// Batches of steps `from` to `to`, each `accumulate` micro-batches, made ahead on another thread.
    pub fn batches(&self, from: u64, to: u64) -> Prefetcher<HostBatch> {
        let (dataset, transform, cache) = (self.dataset.clone(), self.transform.clone(), self.cache.clone());
        let (sampler, normalisation) = (self.sampler.clone(), self.normalisation);
        Prefetcher::spawn(self.ahead, move |i| {
            let step = from + i;
            if step >= to {
                return Ok(None);
            }
            let samples = load_batch(&dataset, &sampler.at(step), &transform, &cache)?;
            Ok(Some(HostBatch::new(samples, normalisation)))
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
            let samples = load_batch(&dataset, &rest[..batch.min(rest.len())], &transform, &cache)?;
            Ok::<_, DataError>(Some((first, HostBatch::new(samples, normalisation))))
        })
    }
}
