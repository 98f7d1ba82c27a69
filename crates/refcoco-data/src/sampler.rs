//! Which items make up a batch, as a function of seed, epoch, step and rank.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rng::Rng;
use crate::{DataError, Dataset, Draw, Item, Target};

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
    /// An image with several of its sentences or classes, drawn anew each epoch without replacement (EVF-SAM). They share one
    /// key, so the image is changed once for all of them. Sets of classes are drawn so only.
    Image,
}

/// Which items make up a batch: a pure function of seed, epoch, step and rank, so resuming needs nothing but these.
///
/// Every epoch is a keyed permutation of all items. Step `s` takes the next `batch * world` of them, and rank `r` the
/// `r`-th run of `batch`; the incomplete last step is dropped. With [`ItemPer::Image`] a batch counts images, and the
/// sentences of an image follow each other; where several sets were put together, each image is drawn from all of one of
/// them, sets as likely as their rates say (EVF-SAM), instead of in the order of a permutation. Classes of an image are left to
/// the loader to draw, as its label map says what there is ([`Draw::Classes`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampler {
    seed: u64,
    per: ItemPer,
    batch: usize,
    rank: usize,
    world: usize,
    // what there is to draw from; with `Image` its images
    items: usize,
    // with `Sentence`
    targets: Vec<Target>,
    // sentences of each referent
    sentences: Vec<usize>,
    // image of each referent
    images: Vec<usize>,
    // with `Image`: what can be said about each, and how much of it is
    by_image: Vec<About>,
    // where the images of each set begin, and the end
    sets: Vec<usize>,
    // how often each set is drawn from
    rates: Vec<u32>,
    expressions: usize,
}

/// What can be said about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    Sentences(Vec<Target>),
    /// An index into [`Dataset::class_images`], and those of its set.
    Classes(usize, Range<usize>),
}

impl Sampler {
    /// A sampler over a data set, for one process.
    ///
    /// # Errors
    /// If the batch is 0 or larger than the set, or a set of classes is not to be drawn image by image.
    pub fn new(dataset: &Dataset, per: ItemPer, batch: usize, seed: u64) -> Result<Self, DataError> {
        if per != ItemPer::Image && !dataset.class_images.is_empty() {
            let (found, expected) =
                (format!("{per:?}").to_lowercase(), "must be image where a set has classes instead of sentences");
            return Err(DataError::Setting { key: "items", found, expected });
        }
        let mut by_image = BTreeMap::<usize, About>::new();
        if per == ItemPer::Image {
            for target in dataset.sentence_targets() {
                let Target::Sentence { referent, .. } = target else { continue };
                let about = by_image.entry(dataset.referents[referent].image).or_insert_with(|| About::Sentences(Vec::new()));
                if let About::Sentences(targets) = about {
                    targets.push(target);
                }
            }
            for set in dataset.class_ranges() {
                by_image.extend(set.clone().map(|i| (dataset.class_images[i].image, About::Classes(i, set.clone()))));
            }
        }
        let keys: Vec<usize> = by_image.keys().copied().collect();
        let begin = |image: &usize| keys.partition_point(|key| key < image);
        let sets: Vec<usize> = [0].iter().chain(&dataset.parts).map(begin).chain([keys.len()]).collect();
        let by_image: Vec<_> = by_image.into_values().collect();
        let targets: Vec<Target> = if per == ItemPer::Sentence { dataset.sentence_targets().collect() } else { Vec::new() };
        let out = Self {
            seed,
            per,
            batch,
            rank: 0,
            world: 1,
            items: match per {
                ItemPer::Referent | ItemPer::GroupedReferent => dataset.referents.len(),
                ItemPer::Sentence => targets.len(),
                ItemPer::Image => by_image.len(),
            },
            targets,
            sentences: dataset.referents.iter().map(|r| r.sentences.len()).collect(),
            images: dataset.referents.iter().map(|r| r.image).collect(),
            by_image,
            rates: vec![1; sets.len() - 1],
            sets,
            expressions: 1,
        };
        out.check()?;
        Ok(out)
    }

    /// How often each of several sets is drawn from, relative to the others: a whole number per set, in the order in which they
    /// were put together. Without it every set is as likely. Rates of EVF-SAM's published mixture are 16, 4, 4, 2, 2, 1, the first
    /// of them shared by four sets alike.
    ///
    /// # Errors
    /// If there are not as many rates as sets, one is 0, or a set has nothing to draw.
    pub fn with_rates(self, rates: &[u32]) -> Result<Self, DataError> {
        let wrong = |expected| Err(DataError::Setting { key: "rate", found: format!("{rates:?}"), expected });
        if rates.len() != self.rates.len() {
            return wrong("must be one for each set");
        }
        if rates.contains(&0) {
            return wrong("must be whole numbers of 1 or more");
        }
        if self.per == ItemPer::Image && self.sets.windows(2).any(|set| set[0] == set[1]) {
            return wrong("needs an image to draw in every set");
        }
        Ok(Self { rates: rates.to_vec(), ..self })
    }

    /// Up to `count` sentences or classes per image, for [`ItemPer::Image`].
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
        if self.batch == 0 || step > self.items {
            let expected = "must be at least 1, and one step of all processes must not exceed the set";
            return Err(DataError::Setting { key: "batch", found: self.batch.to_string(), expected });
        }
        Ok(())
    }

    /// Items of an epoch over all processes, before the last step is dropped.
    #[must_use]
    pub fn items_per_epoch(&self) -> usize {
        self.items
    }

    /// Whole steps of an epoch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> usize {
        self.items / (self.batch * self.world)
    }

    /// The items of one step of one epoch; steps beyond the epoch are empty.
    #[must_use]
    pub fn batch(&self, epoch: u64, step: usize) -> Vec<Draw> {
        self.epoch(epoch).batch(step)
    }

    /// The items of step `step` counted from the start of training, over epochs.
    #[must_use]
    pub fn at(&self, step: u64) -> Vec<Draw> {
        let per_epoch = self.steps_per_epoch() as u64;
        self.batch(step / per_epoch, (step % per_epoch) as usize)
    }

    /// Other items for the `place`-th image of step `step`, whose own ones cannot be read: any of the set, by seed, step,
    /// place and the number of the attempt.
    #[must_use]
    pub fn substitute(&self, step: u64, place: usize, attempt: usize) -> Vec<Draw> {
        let mut rng = Rng::keyed(&[self.seed, step, 6, (self.rank * self.batch + place) as u64, attempt as u64]);
        let unit = rng.below(self.items);
        self.draw(unit, rng)
    }

    /// The items of one unit of the set, its sentences drawn.
    fn draw(&self, unit: usize, mut rng: Rng) -> Vec<Draw> {
        let chosen = match self.per {
            ItemPer::Referent | ItemPer::GroupedReferent => {
                vec![Target::Sentence { referent: unit, sentence: rng.below(self.sentences[unit]) }]
            }
            ItemPer::Sentence => vec![self.targets[unit]],
            ItemPer::Image => match &self.by_image[unit] {
                About::Sentences(all) => {
                    let mut all = all.clone();
                    rng.shuffle(&mut all);
                    all.truncate(self.expressions);
                    all
                }
                About::Classes(image, set) => {
                    let (image, instead, most) = (*image, set.clone(), self.expressions);
                    return vec![Draw::Classes { image, instead, most, key: rng.next() }];
                }
            },
        };
        let key = rng.next();
        chosen.into_iter().map(|target| Item { target, key }.into()).collect()
    }

    /// An epoch's order, computed once for many steps.
    #[must_use]
    pub fn epoch(&self, epoch: u64) -> Epoch<'_> {
        let mut order: Vec<u32> = (0..self.items as u32).collect();
        Rng::keyed(&[self.seed, epoch, 1]).shuffle(&mut order);
        if self.per == ItemPer::GroupedReferent {
            let place = |image: usize| Rng::keyed(&[self.seed, epoch, 4, image as u64]).next();
            // Stable, so that the referents of an image stay in the shuffled order.
            order.sort_by_cached_key(|&i| place(self.images[i as usize]));
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
    pub fn batch(&self, step: usize) -> Vec<Draw> {
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
        let mut ticket = rng.below(s.rates.iter().map(|rate| *rate as usize).sum());
        let mut set = 0;
        while ticket >= s.rates[set] as usize {
            ticket -= s.rates[set] as usize;
            set += 1;
        }
        Some(s.sets[set] + rng.below((s.sets[set + 1] - s.sets[set]).max(1)))
    }
}
