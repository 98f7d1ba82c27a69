//! The config's data, opened and checked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use models::run_dir::Checkpoint;
use models::tokenizer::RunTokenizer;
use rayon::prelude::*;
use refcoco_data::{
    DataError, Dataset, DatasetSpec, Draw, ImageCache, Item, Prefetcher, Sampler, Target, Transform, held_out_images,
};

use crate::batch::{HostBatch, Inputs};
use crate::cache::FeatureCache;
use crate::error::TrainError;
use crate::items::{batch_of, host_batch, images};
use crate::unreadable::{Loaded, Unreadable};
use crate::world::World;
use run_config::{LossSize, PromptKind, RunConfig};

/// Decoded images kept in memory, in bytes.
const CACHE_BYTES: usize = 2 << 30;

/// Opens one split of the config's data set.
///
/// # Errors
/// As [`Dataset::open`].
pub fn open_split(run_config: &RunConfig, split: &str) -> Result<Dataset, TrainError> {
    let mut spec = DatasetSpec::new(&run_config.data.root, &run_config.data.dataset);
    spec.split_by.clone_from(&run_config.data.split_by);
    Ok(Dataset::open(&spec, split)?.with_prompt(&run_config.data.prompt)?)
}

/// The split whose images are trained on; all others of a set are held out.
const TRAIN: &str = "train";

/// Opens the config's training split, with that of the further sets behind it, without the images that `data.exclude_held_out`
/// leaves out; a warning of the set says how many.
///
/// # Errors
/// As [`Dataset::open`].
pub fn open_train(run_config: &RunConfig) -> Result<Dataset, TrainError> {
    let (data, mut set) = (&run_config.data, open_split(run_config, &run_config.data.train_split)?);
    let mut specs = vec![set.spec.clone()];
    for source in &data.also {
        let root = source.root.clone().unwrap_or_else(|| data.root.clone());
        let spec = DatasetSpec { root, name: source.dataset.clone(), split_by: source.split_by.clone() };
        set = set.with(Dataset::open(&spec, &data.train_split)?.with_prompt(&source.prompt)?);
        specs.push(spec);
    }
    if data.exclude_held_out && specs.len() > 1 && data.train_split == TRAIN {
        let images = set.images.len();
        let items = set.exclude(&held_out_images(&specs)?);
        if items > 0 {
            set.warnings.push(format!(
                "{} images, with {items} referents or lists of classes, serve another split of the mixed sets and are not trained on \
                 (data.exclude_held_out = false keeps them)",
                images - set.images.len()
            ));
        }
    }
    Ok(set)
}

/// The config's tokenizer; one that is made from the data reads its training sentences. See [`RunTokenizer::open`].
///
/// # Errors
/// As there.
pub fn open_tokenizer(run_config: &RunConfig, data: &Dataset, resumed: Option<&Checkpoint>) -> Result<RunTokenizer, TrainError> {
    let texts: Vec<_> = data.texts().collect();
    Ok(RunTokenizer::open(run_config, texts.iter().map(AsRef::as_ref), resumed)?)
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
    inputs: Inputs,
    prompts: Vec<PromptKind>,
    scales: Scales,
    ahead: usize,
    unreadable: Arc<Unreadable>,
    world: World,
}

/// Sides to which batches are resized, one per step (DIT's released cross-attention configs).
#[derive(Debug, Clone)]
pub struct Scales {
    sides: Vec<u32>,
    seed: u64,
    batches_a_step: u64,
}

impl Scales {
    /// The config's sides.
    pub fn new(run_config: &RunConfig) -> Self {
        let batches_a_step = run_config.optim.accumulate.max(1) as u64;
        Self { sides: run_config.train.multi_scale.clone(), seed: run_config.run.seed, batches_a_step }
    }

    /// The side of a batch, counted from the start of training; none where batches keep theirs. All batches of a step have
    /// the same side, and a step's side depends on nothing but seed and step.
    pub fn side(&self, batch: u64) -> Option<usize> {
        let step = batch / self.batches_a_step;
        let draw = nn_ops::formula::uniform(&self.seed.to_string(), &format!("scale.{step}"), 1).next()?;
        let at = ((draw + 1.0) / 2.0 * self.sides.len() as f64) as usize;
        self.sides.get(at).map(|side| *side as usize)
    }
}

impl TrainData {
    /// The training split of the config.
    ///
    /// # Errors
    /// A split that cannot be read, or settings out of range.
    pub fn open(run_config: &RunConfig, dataset: Arc<Dataset>, inputs: Inputs) -> Result<Self, TrainError> {
        let sampler = Sampler::new(&dataset, run_config.data.items, run_config.train.batch_size, run_config.run.seed)?
            .with_expressions(run_config.data.expressions);
        let rates: Vec<u32> = [run_config.data.rate].into_iter().chain(run_config.data.also.iter().map(|a| a.rate)).collect();
        // A set that was opened otherwise has parts of its own, each as likely.
        let sampler = if rates.len() == dataset.parts.len() + 1 { sampler.with_rates(&rates)? } else { sampler };
        let side = run_config.data.image_size as usize;
        let transform = Transform::train(side, run_config.data.fit, run_config.data.augment.clone())?
            .with_full_masks(run_config.train.loss_size == LossSize::Original)
            .with_photo(inputs.need_photo());
        let cache = Arc::new(ImageCache::new(CACHE_BYTES));
        let (prompts, scales, ahead) = (run_config.train.prompts.clone(), Scales::new(run_config), run_config.data.prefetch);
        let unreadable = Arc::new(Unreadable::new(run_config.data.max_unreadable));
        let (features, world) = (None, World::default());
        Ok(Self { dataset, transform, sampler, cache, features, inputs, prompts, scales, ahead, unreadable, world })
    }

    /// One rank's share: the same steps, of each the rank's contiguous part of the images. Which items make up a step does not
    /// depend on the number of ranks.
    #[must_use]
    pub fn with_world(self, world: &World) -> Self {
        Self { world: world.clone(), ..self }
    }

    /// Takes the features of the method's frozen part from a cache, if there is one; the images in their canvas are then not made.
    #[must_use]
    pub fn with_features(self, cache: Option<FeatureCache>) -> Self {
        let Some(cache) = cache else { return self };
        Self { features: Some(Arc::new(cache)), transform: self.transform.without_canvas(), ..self }
    }

    /// Batches of steps `from` to `to`, each `accumulate` micro-batches, made ahead on another thread.
    ///
    /// Burn's own loader would queue 100 batches of images, and cannot begin at a step.
    pub fn batches(&self, from: u64, to: u64) -> Prefetcher<HostBatch> {
        let (dataset, transform, cache) = (self.dataset.clone(), self.transform.clone(), self.cache.clone());
        let (sampler, inputs, features) = (self.sampler.clone(), self.inputs.clone(), self.features.clone());
        let (prompts, scales, unreadable) = (self.prompts.clone(), self.scales.clone(), self.unreadable.clone());
        let world = self.world.clone();
        Prefetcher::spawn(self.ahead, move |i| {
            let step = from + i;
            if step >= to {
                return Ok(None);
            }
            let Loaded { items, samples, unreadable } = unreadable.load(&dataset, &sampler, step, &transform, &cache, &world)?;
            // What is meant in one image shares its key, but not its points.
            let keys = items.iter().map(|item| match item.target {
                Target::Sentence { referent, .. } => item.key.wrapping_add(referent as u64),
                Target::Class { class, .. } => item.key.wrapping_add(u64::from(class)),
                Target::Image(_) => item.key,
            });
            let mut batch = batch_of(&dataset, &items, samples, &inputs)?.with_prompts(&prompts, keys);
            batch.unreadable = unreadable;
            if let Some(side) = scales.side(step) {
                batch = batch.rescaled(side);
            }
            if let Some(features) = &features {
                batch.features = features.read(&images(&dataset, &items))?;
            }
            Ok(Some(batch))
        })
    }
}

/// A batch of an evaluation.
pub struct EvalBatch {
    /// The number of each sentence in [`EvalData::items`].
    pub items: Vec<usize>,
    /// The images that it shows, as numbers in [`Dataset::images`].
    pub images: Vec<usize>,
    /// The batch; features are those that are kept, empty for images of which none are.
    pub batch: HostBatch,
}

/// Evaluation items in order, in batches.
pub struct EvalData {
    /// The split.
    pub dataset: Arc<Dataset>,
    /// Its items, one per sentence, or one per class of an image.
    pub items: Vec<Item>,
    transform: Transform,
    cache: Arc<ImageCache>,
    features: Option<Arc<FeatureCache>>,
    inputs: Inputs,
    prompt: PromptKind,
    batch: usize,
    world: World,
}

impl EvalData {
    /// An evaluation split of the config.
    ///
    /// # Errors
    /// A split that cannot be read, or settings out of range.
    pub fn open(run_config: &RunConfig, split: &str, inputs: Inputs) -> Result<Self, TrainError> {
        Self::of(run_config, Arc::new(open_split(run_config, split)?), inputs)
    }

    /// A data set that is open already.
    ///
    /// # Errors
    /// Settings out of range, or a label map that cannot be used.
    pub fn of(run_config: &RunConfig, dataset: Arc<Dataset>, inputs: Inputs) -> Result<Self, TrainError> {
        let items = refcoco_data::sequential(&dataset, run_config.eval.limit)?;
        Ok(Self {
            dataset,
            items,
            features: None,
            transform: Transform::eval(run_config.data.image_size as usize, run_config.data.fit)?.with_photo(inputs.need_photo()),
            cache: Arc::new(ImageCache::new(CACHE_BYTES)),
            inputs,
            prompt: run_config.eval.prompt,
            batch: run_config.eval.batch_size.max(1),
            world: World::default(),
        })
    }

    /// Takes features of the image encoder from a cache, if there is one; where all are there, images are not put into their canvas.
    #[must_use]
    pub fn with_features(self, cache: Option<FeatureCache>) -> Self {
        let Some(cache) = cache else { return self };
        let all = self.images().iter().all(|image| cache.has(*image));
        let transform = if all { self.transform.without_canvas() } else { self.transform };
        Self { features: Some(Arc::new(cache)), transform, ..self }
    }

    /// Whether features of the image encoder may come from a cache, and are rounded as it rounds them.
    #[must_use]
    pub fn keeps_features(&self) -> bool {
        self.features.is_some()
    }

    /// The images that will be judged, as numbers in [`Dataset::images`], without repetition.
    #[must_use]
    pub fn images(&self) -> Vec<usize> {
        let mut images: Vec<usize> = self.items.iter().map(|item| self.dataset.image_index(item)).collect();
        images.sort_unstable();
        images.dedup();
        images
    }

    /// Judged by several ranks together. Batches are those of one process, so masks are the same to the last bit.
    #[must_use]
    pub fn with_world(self, world: &World) -> Self {
        Self { world: world.clone(), ..self }
    }

    /// The ranks that judge.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The sentences that will be judged.
    pub fn sentences(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.items.iter().map(|item| self.dataset.text(item))
    }

    /// The image file of an item.
    #[must_use]
    pub fn image(&self, item: usize) -> &Path {
        &self.dataset.image(&self.items[item]).path
    }

    /// Reads every image that will be judged, each rank its part of them, so that a damaged one is named now and not after hours of
    /// training.
    ///
    /// # Errors
    /// The first image, in order, that cannot be read.
    pub fn check_images(&self) -> Result<(), DataError> {
        let images = self.images();
        let images = &images[self.world.part(images.len())];
        let read = images.par_iter().map(|image| self.cache.get(&self.dataset.images[*image]).map(|_| ()));
        read.collect::<Vec<_>>().into_iter().collect()
    }

    /// This rank's batches, made ahead on another thread: the sentences of an image follow each other, images come in the order of their
    /// first sentence.
    pub fn batches(&self) -> Prefetcher<EvalBatch> {
        let (dataset, transform, cache) = (self.dataset.clone(), self.transform.clone(), self.cache.clone());
        let (items, order, features) = (self.items.clone(), by_image(&self.dataset, &self.items), self.features.clone());
        let (batch, inputs, prompt) = (self.batch, self.inputs.clone(), self.prompt);
        let part = self.world.part(items.len().div_ceil(batch));
        Prefetcher::spawn(2, move |i| {
            let number = part.start + i as usize;
            if number >= part.end {
                return Ok(None);
            }
            let rest = &order[number * batch..];
            let numbers = rest[..batch.min(rest.len())].to_vec();
            let of_batch: Vec<Item> = numbers.iter().map(|item| items[*item]).collect();
            let draws: Vec<Draw> = of_batch.iter().copied().map(Draw::from).collect();
            let (_, batch) = host_batch(&dataset, &draws, &transform, &cache, &inputs)?;
            // An evaluation item has no key of its own: its number decides its points.
            let mut batch = batch.with_prompts(&[prompt], numbers.iter().map(|item| *item as u64));
            let images = images(&dataset, &of_batch);
            if let Some(features) = &features {
                batch.features = features.read_kept(&images)?;
            }
            Ok::<_, DataError>(Some(EvalBatch { items: numbers, images, batch }))
        })
    }
}

/// The numbers of items, those of an image behind each other, images in the order of their first item.
fn by_image(dataset: &Dataset, items: &[Item]) -> Vec<usize> {
    let mut first = HashMap::new();
    for (number, item) in items.iter().enumerate() {
        first.entry(dataset.image_index(item)).or_insert(number);
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|number| (first.get(&dataset.image_index(&items[*number])).copied(), *number));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_side_and_all_sides_come_up() {
        let run_config = RunConfig::from_toml_str("[train]\nmulti_scale = [224, 256, 512]\n[optim]\naccumulate = 2").unwrap();
        let scales = Scales::new(&run_config);
        let sides: Vec<usize> = (0..600).map(|batch| scales.side(batch).unwrap()).collect();
        assert!(sides.chunks(2).all(|step| step[0] == step[1]));
        for side in [224, 256, 512] {
            let count = sides.iter().filter(|s| **s == side).count();
            assert!((140..260).contains(&count), "{side}: {count}");
        }
        assert_eq!(Scales::new(&run_config).side(431), Some(sides[431]));
        let other = run_config.with_overrides(&["run.seed=5"]).unwrap();
        assert!((0..600).any(|batch| Scales::new(&other).side(batch) != Some(sides[batch as usize])));
        assert_eq!(Scales::new(&RunConfig::from_toml_str("").unwrap()).side(3), None);
    }
}
