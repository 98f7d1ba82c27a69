use std::collections::BTreeMap;

use crate::rng::Rng;
use crate::{DataError, Dataset};

/// What one item of an epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemPer {
    /// A referent with a sentence drawn anew each epoch (DIT, LAVT).
    Referent,
    /// A sentence (ReLA; evaluation).
    Sentence,
    /// As `Referent`, with the referents of an image side by side: a batch then holds images under several sentences,
    /// which differ in nothing but the text.
    GroupedReferent,
    /// An image with several of its sentences, drawn anew each epoch without replacement (EVF-SAM). They share one key,
    /// so the image is changed once for all of them.
    Image,
}

/// One item: indices into [`Dataset::referents`] and its sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Item {
    /// Index of the referent.
    pub referent: usize,
    /// Index of the sentence within the referent.
    pub sentence: usize,
    /// Key for augmentation: differs between epochs and items, not between threads or ranks.
    pub key: u64,
}

/// Which items make up a batch: a pure function of seed, epoch, step and rank, so resuming needs nothing but these.
///
/// Every epoch is a keyed permutation of all items. Step `s` takes the next `batch * world` of them, and rank `r` the
/// `r`-th run of `batch`; the incomplete last step is dropped. With [`ItemPer::Image`] a batch counts images, and the
/// sentences of an image follow each other; where several sets were put together, each image is drawn from all of one of
/// them, every set as likely (EVF-SAM), instead of in the order of a permutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    seed: u64,
    per: ItemPer,
    batch: usize,
    rank: usize,
    world: usize,
    // (referent, first sentence or all)
    items: Vec<(usize, usize)>,
    sentences: Vec<usize>,
    // image of each referent
    images: Vec<usize>,
    // with `Image`: what can be said about each, and how much of it is
    by_image: Vec<Vec<(usize, usize)>>,
    // where the images of each set begin, and the end
    sets: Vec<usize>,
    expressions: usize,
}

impl Sampler {
    /// A sampler over a data set, for one process.
    ///
    /// # Errors
    /// If the batch is 0 or larger than the set.
    pub fn new(dataset: &Dataset, per: ItemPer, batch: usize, seed: u64) -> Result<Self, DataError> {
        let mut by_image = BTreeMap::<usize, Vec<(usize, usize)>>::new();
        if per == ItemPer::Image {
            for pair in pairs(dataset) {
                by_image.entry(dataset.referents[pair.0].image).or_default().push(pair);
            }
        }
        let begin = |image: &usize| by_image.range(..image).count();
        let sets = [0].iter().chain(&dataset.parts).map(begin).chain([by_image.len()]).collect();
        let by_image: Vec<_> = by_image.into_values().collect();
        let items = match per {
            ItemPer::Referent | ItemPer::GroupedReferent => (0..dataset.referents.len()).map(|r| (r, 0)).collect(),
            ItemPer::Sentence => pairs(dataset),
            ItemPer::Image => (0..by_image.len()).map(|p| (p, 0)).collect(),
        };
        let sentences = dataset.referents.iter().map(|r| r.sentences.len()).collect();
        let out = Self {
            seed,
            per,
            batch,
            rank: 0,
            world: 1,
            items,
            sentences,
            images: dataset.referents.iter().map(|r| r.image).collect(),
            by_image,
            sets,
            expressions: 1,
        };
        out.check()?;
        Ok(out)
    }

    /// Up to `count` sentences per image, for [`ItemPer::Image`].
    #[must_use]
    pub fn with_expressions(self, count: usize) -> Self {
        Self { expressions: count, ..self }
    }

    /// The share of one of several processes.
    ///
    /// # Errors
    /// If `rank` is not below `world`, or the set is smaller than one step of all processes.
    pub fn distributed(mut self, rank: usize, world: usize) -> Result<Self, DataError> {
        if rank >= world {
            let expected = "must be below the number of processes";
            return Err(DataError::Setting { key: "rank", found: rank.to_string(), expected });
        }
        (self.rank, self.world) = (rank, world);
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), DataError> {
        let step = self.batch.saturating_mul(self.world);
        if self.batch == 0 || step > self.items.len() {
            let expected = "must be at least 1, and one step of all processes must not exceed the set";
            return Err(DataError::Setting { key: "batch", found: self.batch.to_string(), expected });
        }
        Ok(())
    }

    /// Items of an epoch over all processes, before the last step is dropped.
    #[must_use]
    pub fn items_per_epoch(&self) -> usize {
        self.items.len()
    }

    /// Whole steps of an epoch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.items.len() / (self.batch * self.world)
    }

    /// The items of one step of one epoch; steps beyond the epoch are empty.
    #[must_use]
    pub fn batch(&self, epoch: u64, step: usize) -> Vec<Item> {
        self.epoch(epoch).batch(step)
    }

    /// The items of step `step` counted from the start of training, over epochs.
    #[must_use]
    pub fn at(&self, step: u64) -> Vec<Item> {
        let per_epoch = self.steps_per_epoch() as u64;
        self.batch(step / per_epoch, (step % per_epoch) as usize)
    }

    /// Other items for the `place`-th image of step `step`, whose own ones cannot be read: any of the set, by seed, step,
    /// place and the number of the attempt.
    #[must_use]
    pub fn substitute(&self, step: u64, place: usize, attempt: usize) -> Vec<Item> {
        let mut rng = Rng::keyed(&[self.seed, step, 6, (self.rank * self.batch + place) as u64, attempt as u64]);
        let unit = rng.below(self.items.len());
        self.draw(unit, rng)
    }

    /// The items of one unit of the set, its sentences drawn.
    fn draw(&self, unit: usize, mut rng: Rng) -> Vec<Item> {
        let (referent, sentence) = self.items[unit];
        let chosen = match self.per {
            ItemPer::Referent | ItemPer::GroupedReferent => vec![(referent, rng.below(self.sentences[referent]))],
            ItemPer::Sentence => vec![(referent, sentence)],
            ItemPer::Image => {
                let mut all = self.by_image[unit].clone();
                rng.shuffle(&mut all);
                all.truncate(self.expressions);
                all
            }
        };
        let key = rng.next();
        chosen.into_iter().map(|(referent, sentence)| Item { referent, sentence, key }).collect()
    }

    /// An epoch's order, computed once for many steps.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let mut order: Vec<u32> = (0..self.items.len() as u32).collect();
        Rng::keyed(&[self.seed, epoch, 1]).shuffle(&mut order);
        if self.per == ItemPer::GroupedReferent {
            let place = |image: usize| Rng::keyed(&[self.seed, epoch, 4, image as u64]).next();
            // Stable, so that the referents of an image stay in the shuffled order.
            order.sort_by_cached_key(|&i| place(self.images[self.items[i as usize].0]));
        }
        Epoch { sampler: self, epoch, order }
    }
}

/// The order of one epoch.
#[derive(Debug, Clone)]
pub struct Epoch<'a> {
    sampler: &'a Sampler,
    epoch: u64,
    order: Vec<u32>,
}

impl Epoch<'_> {
    /// The items of a step; empty beyond the last whole one.
    #[must_use]
    pub fn batch(&self, step: usize) -> Vec<Item> {
        let s = self.sampler;
        if step >= s.steps_per_epoch() {
            return Vec::new();
        }
        let first = (step * s.world + s.rank) * s.batch;
        (first..first + s.batch)
            .flat_map(|place| {
                let i = self.drawn(place).unwrap_or(self.order[place] as usize);
                s.draw(i, Rng::keyed(&[s.seed, self.epoch, 2, if s.sets.len() > 2 { place } else { i } as u64]))
            })
            .collect()
    }
}

impl Epoch<'_> {
    /// The image at a place, where sets are mixed.
    fn drawn(&self, place: usize) -> Option<usize> {
        let s = self.sampler;
        if s.per != ItemPer::Image || s.sets.len() <= 2 {
            return None;
        }
        let mut rng = Rng::keyed(&[s.seed, self.epoch, 5, place as u64]);
        let set = rng.below(s.sets.len() - 1);
        Some(s.sets[set] + rng.below((s.sets[set + 1] - s.sets[set]).max(1)))
    }
}

fn pairs(dataset: &Dataset) -> Vec<(usize, usize)> {
    let sentences = |(r, referent): (usize, &crate::Referent)| (0..referent.sentences.len()).map(move |s| (r, s));
    dataset.referents.iter().enumerate().flat_map(sentences).collect()
}

/// Every sentence once, in the order of the file: the order of evaluation.
#[must_use]
pub fn sequential(dataset: &Dataset) -> Vec<Item> {
    pairs(dataset).into_iter().map(|(referent, sentence)| Item { referent, sentence, key: 0 }).collect()
}
