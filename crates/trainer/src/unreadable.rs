//! Training samples that cannot be read: replaced, counted and named, up to a limit.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use refcoco_data::{DataError, Dataset, ImageCache, Item, Sampler, Transform, Transformed, load_batch};

use crate::items::by_image;
use crate::world::World;

/// Other samples that are tried in place of one before the step is given up.
const ATTEMPTS: usize = 8;

/// What could not be read since the process began.
#[derive(Debug)]
pub(crate) struct Unreadable {
    limit: usize,
    named: Mutex<BTreeSet<String>>,
}

/// A step's items and their samples, with what could not be read on the way.
pub(crate) struct Loaded {
    pub(crate) items: Vec<Item>,
    pub(crate) samples: Vec<Transformed>,
    pub(crate) unreadable: Vec<String>,
}

impl Unreadable {
    /// Allows for `limit` different faults.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, named: Mutex::default() }
    }

    /// Loads this rank's items of a step. Where an image or mask cannot be read, all items of that image are replaced by others of the
    /// set: a function of seed, step and place, so that a resumed run reads the same ones.
    ///
    /// # Errors
    /// More faults than the limit, or faults of another kind.
    pub(crate) fn load(
        &self,
        dataset: &Dataset,
        sampler: &Sampler,
        step: u64,
        transform: &Transform,
        cache: &ImageCache,
        world: &World,
    ) -> Result<Loaded, DataError> {
        let draws = sampler.at(step);
        let mut images = by_image(dataset, &draws);
        if images.len() < world.size() {
            // Referents of one image then go to several ranks, each of which encodes it.
            images = draws.chunks(1).collect();
        }
        let part = world.part(images.len());
        let whole = images[part.clone()].par_iter().zip(part).map(|(draws, place)| {
            let (mut draws, mut unreadable) = (draws.to_vec(), Vec::new());
            loop {
                match load_batch(dataset, &draws, transform, cache) {
                    Ok(loaded) => {
                        let (items, samples) = loaded.into_iter().map(|loaded| (loaded.item, loaded.sample)).unzip();
                        return Ok(Loaded { items, samples, unreadable });
                    }
                    Err(error) if is_of_a_sample(&error) && unreadable.len() < ATTEMPTS => {
                        unreadable.push(error.to_string());
                        self.count(error)?;
                        draws = sampler.substitute(step, place, unreadable.len());
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        let whole: Vec<Result<Loaded, DataError>> = whole.collect();
        let mut all = Loaded { items: Vec::new(), samples: Vec::new(), unreadable: Vec::new() };
        for one in whole {
            let Loaded { items, samples, unreadable } = one?;
            all.items.extend(items);
            all.samples.extend(samples);
            all.unreadable.extend(unreadable);
        }
        Ok(all)
    }

    /// Notes a fault; an error where it is one too many.
    fn count(&self, error: DataError) -> Result<(), DataError> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(error.to_string());
        if named.len() <= self.limit {
            return Ok(());
        }
        Err(DataError::TooManyUnreadable { limit: self.limit, last: Box::new(error) })
    }
}

/// Whether an error is that of one image or mask, not of the whole set.
fn is_of_a_sample(error: &DataError) -> bool {
    matches!(
        error,
        DataError::Image { .. }
            | DataError::Mask { .. }
            | DataError::MaskFile { .. }
            | DataError::Missing { .. }
            | DataError::Io { .. }
            | DataError::Field { .. }
    )
}
