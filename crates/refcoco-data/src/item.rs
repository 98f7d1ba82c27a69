//! Items: an image with something said about it, and what a data set answers about them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use coco_mask::Rle;
use rayon::prelude::*;

use crate::classes::{ClassImage, Opened};
use crate::own::union;
use crate::rng::Rng;
use crate::{DataError, Dataset, ImageInfo, SentenceKind};

/// What an item asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A sentence of a referent.
    Sentence {
        /// Index into [`Dataset::referents`].
        referent: usize,
        /// Index of the sentence within the referent.
        sentence: usize,
    },
    /// Everything of one class.
    Class {
        /// Index into [`Dataset::class_images`].
        image: usize,
        /// Index of the class in its set.
        class: u16,
    },
    /// The image alone, an index into [`Dataset::images`]: no words, and an empty mask.
    Image(usize),
}

/// One item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// What is asked for.
    pub target: Target,
    /// Key for augmentation: differs between epochs and images, not between threads or ranks, nor between the items of an image.
    pub key: u64,
}

impl Item {
    /// The referent and the sentence among its own, where the item asks with one: indices into [`Dataset::referents`] and
    /// [`Referent::sentences`](crate::Referent::sentences).
    #[must_use]
    pub fn sentence(&self) -> Option<(usize, usize)> {
        match self.target {
            Target::Sentence { referent, sentence } => Some((referent, sentence)),
            Target::Class { .. } | Target::Image(_) => None,
        }
    }
}

/// What a sampler draws.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Draw {
    /// A whole item.
    Item(Item),
    /// An image whose classes are known only when its annotation is read. The loader then draws some of them; the result is a
    /// function of the key and the files.
    Classes {
        /// Index into [`Dataset::class_images`].
        image: usize,
        /// Images of the same set, one of which is taken where this one has no class at all.
        instead: Range<usize>,
        /// Most classes, drawn without replacement.
        most: usize,
        /// Key of the drawn items, and of the drawing.
        key: u64,
    },
}

impl From<Item> for Draw {
    fn from(item: Item) -> Self {
        Self::Item(item)
    }
}

/// Images that are tried in place of one without a class.
const TRIES: usize = 100;

impl Dataset {
    /// The image of an item, as an index into [`Dataset::images`].
    #[must_use]
    pub fn image_index(&self, item: &Item) -> usize {
        match item.target {
            Target::Sentence { referent, .. } => self.referents[referent].image,
            Target::Class { image, .. } => self.class_images[image].image,
            Target::Image(image) => image,
        }
    }

    /// The image of an item.
    #[must_use]
    pub fn image(&self, item: &Item) -> &ImageInfo {
        &self.images[self.image_index(item)]
    }

    /// What is said: the sentence, or the name of the class in its set's prompt.
    #[must_use]
    pub fn text(&self, item: &Item) -> Cow<'_, str> {
        match item.target {
            Target::Sentence { referent, sentence } => Cow::Borrowed(&self.referents[referent].sentences[sentence].text),
            Target::Class { image, class } => Cow::Owned(self.class_images[image].set.text(class)),
            Target::Image(_) => Cow::Borrowed(""),
        }
    }

    /// Everything that may be said in this set, for making a vocabulary: all sentences, and all classes in their prompts.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let sentences = self.referents.iter().flat_map(|r| &r.sentences).map(|s| Cow::Borrowed(s.text.as_str()));
        let sets = self.class_ranges().into_iter().map(|set| &self.class_images[set.start].set);
        sentences.chain(sets.flat_map(|set| set.texts()).map(Cow::Owned))
    }

    /// `ref_id`; the number of the image where an item is a class.
    #[must_use]
    pub fn ref_id(&self, item: &Item) -> i64 {
        match item.target {
            Target::Sentence { referent, .. } => self.referents[referent].ref_id,
            Target::Class { .. } | Target::Image(_) => self.image(item).id,
        }
    }

    /// `sent_id`; the index of the class where an item is one.
    #[must_use]
    pub fn sent_id(&self, item: &Item) -> i64 {
        match item.target {
            Target::Sentence { referent, sentence } => self.referents[referent].sentences[sentence].id,
            Target::Class { class, .. } => i64::from(class),
            Target::Image(_) => 0,
        }
    }

    /// What the sentence needs to single its referent out, in generated sets.
    #[must_use]
    pub fn kind(&self, item: &Item) -> Option<SentenceKind> {
        match item.target {
            Target::Sentence { referent, sentence } => self.referents[referent].sentences[sentence].kind,
            Target::Class { .. } | Target::Image(_) => None,
        }
    }

    /// PhraseCut's subsets of the item.
    #[must_use]
    pub fn groups(&self, item: &Item) -> &[&'static str] {
        match item.target {
            Target::Sentence { referent, .. } => &self.referents[referent].groups,
            Target::Class { .. } | Target::Image(_) => &[],
        }
    }

    /// The masks of items, each as large as its image. Neighbours that show one image share the reading of its label map.
    ///
    /// # Errors
    /// A label map or a record that cannot be used.
    pub fn masks(&self, items: &[Item]) -> Result<Vec<Rle>, DataError> {
        let runs: Vec<&[Item]> = items.chunk_by(|a, b| self.image_index(a) == self.image_index(b)).collect();
        let runs: Vec<Result<Vec<Rle>, DataError>> = runs
            .into_par_iter()
            .map(|run| {
                let opened = self.open_classes(run)?;
                run.par_iter().map(|item| self.mask(item, opened.as_ref())).collect()
            })
            .collect();
        Ok(runs.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// What the class items of one image need.
    pub(crate) fn open_classes(&self, items: &[Item]) -> Result<Option<Opened<'_>>, DataError> {
        let class = items.iter().find_map(|item| match item.target {
            Target::Class { image, .. } => Some(image),
            _ => None,
        });
        class.map(|image| self.open_class_image(image)).transpose()
    }

    fn open_class_image(&self, image: usize) -> Result<Opened<'_>, DataError> {
        let image = &self.class_images[image];
        Opened::new(image, &self.images[image.image])
    }

    fn mask(&self, item: &Item, opened: Option<&Opened<'_>>) -> Result<Rle, DataError> {
        match (item.target, opened) {
            (Target::Sentence { referent, .. }, _) => self.referent_mask(referent),
            (Target::Class { class, .. }, Some(opened)) => opened.rle(class),
            _ => {
                let info = self.image(item);
                let bad = |e: coco_mask::MaskError| DataError::Image { path: info.path.clone(), reason: e.to_string() };
                Rle::empty(info.height, info.width).map_err(bad)
            }
        }
    }

    fn referent_mask(&self, referent: usize) -> Result<Rle, DataError> {
        let referent = &self.referents[referent];
        if referent.unread.is_empty() {
            return Ok(referent.mask.clone());
        }
        let info = &self.images[referent.image];
        union(&referent.mask, &referent.unread, (info.width, info.height))
    }

    /// The mask of an item, 0 and 1, row after row.
    pub(crate) fn pixels(&self, item: &Item, opened: Option<&Opened<'_>>) -> Result<Vec<u8>, DataError> {
        match (item.target, opened) {
            (Target::Sentence { referent, .. }, _) => Ok(self.referent_mask(referent)?.to_row_major()),
            (Target::Class { class, .. }, Some(opened)) => opened.pixels(class),
            _ => Ok(vec![0; self.image(item).pixels()]),
        }
    }

    /// Draws classes of an image, or of another one where it has none; with what was read for it.
    pub(crate) fn draw_classes(
        &self,
        image: usize,
        instead: &Range<usize>,
        most: usize,
        key: u64,
    ) -> Result<(Vec<Item>, Opened<'_>), DataError> {
        let mut at = image;
        for attempt in 0..TRIES as u64 {
            let opened = self.open_class_image(at)?;
            let mut classes = opened.classes();
            if !classes.is_empty() {
                Rng::keyed(&[key, 6]).shuffle(&mut classes);
                classes.truncate(most);
                let items = classes.into_iter().map(|class| Item { target: Target::Class { image: at, class }, key });
                return Ok((items.collect(), opened));
            }
            at = instead.start + Rng::keyed(&[key, 7, attempt]).below(instead.len());
        }
        let path = self.images[self.class_images[image].image].path.clone();
        let reason = format!("neither it nor {TRIES} other images of its set have a class");
        Err(DataError::Image { path, reason })
    }
}

/// Every sentence once, in the order of the file, then every class of every image, in order; at most `limit` of them. This is the
/// order of evaluation. Label maps are read, as many as the limit needs.
///
/// # Errors
/// A label map that cannot be used.
pub fn sequential(dataset: &Dataset, limit: Option<usize>) -> Result<Vec<Item>, DataError> {
    /// Label maps read before the limit is looked at again.
    const TOGETHER: usize = 256;
    let limit = limit.unwrap_or(usize::MAX);
    let pairs = dataset.sentence_targets().take(limit);
    let mut out: Vec<Item> = pairs.map(|target| Item { target, key: 0 }).collect();
    for first in (0..dataset.class_images.len()).step_by(TOGETHER) {
        if out.len() >= limit {
            break;
        }
        let group = first..(first + TOGETHER).min(dataset.class_images.len());
        let classes = group.clone().into_par_iter().map(|image| dataset.open_class_image(image).map(|o| o.classes()));
        let classes: Vec<Result<Vec<u16>, DataError>> = classes.collect();
        for (image, classes) in group.zip(classes) {
            out.extend(classes?.into_iter().map(|class| Item { target: Target::Class { image, class }, key: 0 }));
        }
    }
    out.truncate(limit);
    Ok(out)
}

impl Dataset {
    /// Images with classes, set by set.
    pub(crate) fn class_ranges(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let same = |a: &ClassImage, b: &ClassImage| Arc::ptr_eq(&a.set, &b.set);
        let lengths = self.class_images.chunk_by(same).map(<[ClassImage]>::len);
        lengths
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect()
    }

    /// All sentences.
    pub fn sentence_targets(&self) -> impl Iterator<Item = Target> {
        let sentences = |(referent, r): (usize, &crate::Referent)| {
            (0..r.sentences.len()).map(move |sentence| Target::Sentence { referent, sentence })
        };
        self.referents.iter().enumerate().flat_map(sentences)
    }
}
