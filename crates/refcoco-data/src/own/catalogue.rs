//! Records joined to their images and splits, and a split of them opened as a data set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use coco_mask::{Merge, Rle, merge};
use rayon::prelude::*;

use super::sample::{Sample, Target};
use super::{BY, Found, OwnFormat, folder};
use crate::dataset::{Collection, Dataset, DatasetSpec, ImageInfo, Photo, Referent};
use crate::rng::Rng;
use crate::{AnnId, DataError, Sentence};

/// One image in this many is held out where nobody has made a split.
const ONE_IN: usize = 5;

/// An image and what is known without decoding it.
pub(super) struct CatalogueImage {
    pub(super) path: PathBuf,
    /// Below the set's folder.
    pub(super) name: String,
    pub(super) id: i64,
    /// Columns and rows as its record says.
    pub(super) recorded: Option<(u32, u32)>,
    /// Columns and rows of the file, upright, where it was read.
    pub(super) size: Option<(u32, u32)>,
    /// Hash of the file's bytes, where it was read.
    pub(super) hash: Option<u64>,
}

impl CatalogueImage {
    /// Reads the file's bytes: their hash, and the size from the header.
    fn read(&mut self) -> Result<(), DataError> {
        let bytes = std::fs::read(&self.path).map_err(|e| DataError::io(&self.path, "read", e))?;
        self.hash = Some(hash(&bytes));
        let size = pil_ops::upright_dimensions(&bytes).map_err(|e| bad(&self.path, e))?;
        self.size = Some(size);
        match self.recorded {
            Some(recorded) if recorded != size => Err(bad(&self.path, wrong_size(size, recorded))),
            _ => Ok(()),
        }
    }
}

fn bad(path: &Path, reason: impl ToString) -> DataError {
    DataError::Image { path: path.into(), reason: reason.to_string() }
}

/// What to say about a file that is not as large as its record, both as (width, height).
pub(super) fn wrong_size(file: (u32, u32), record: (u32, u32)) -> String {
    let turned = if (file.1, file.0) == record && file.0 != file.1 {
        "; it is turned by its EXIF orientation, and data of one's own are read upright: annotate it as it is seen"
    } else {
        ""
    };
    format!("the file is {} x {} but its record says {} x {} (width x height){turned}", file.0, file.1, record.0, record.1)
}

/// FNV-1a of 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The split of an image by its bytes: other images, names and folders change nothing.
fn split_of(hash: u64) -> &'static str {
    if Rng::keyed(&[hash, 22]).below(ONE_IN) == 0 { "val" } else { "train" }
}

/// Everything that a folder says, with each record's image and split.
pub(super) struct Catalogue {
    pub(super) images: Vec<CatalogueImage>,
    pub(super) samples: Vec<(usize, Sample)>,
    /// Whether the splits are by the hash of the images.
    pub(super) hashed: bool,
}

impl Catalogue {
    /// Joins records to images. Where no record names a split, every image's bytes are read; those that cannot be go to `errors`,
    /// with all that is said about them.
    pub(super) fn of(root: &Path, samples: Vec<Sample>, errors: &mut Vec<DataError>) -> Self {
        let mut images: Vec<CatalogueImage> = Vec::new();
        let mut index: HashMap<PathBuf, usize> = HashMap::new();
        let mut own_ids: BTreeSet<i64> = BTreeSet::new();
        let mut unique = true;
        let mut joined = Vec::with_capacity(samples.len());
        for sample in samples {
            let next = images.len();
            let at = *index.entry(sample.image.clone()).or_insert(next);
            if at == next {
                unique &= sample.image_id.is_some_and(|id| own_ids.insert(id));
                images.push(CatalogueImage {
                    name: folder::relative(root, &sample.image),
                    path: sample.image.clone(),
                    id: sample.image_id.unwrap_or_default(),
                    recorded: sample.size,
                    size: None,
                    hash: None,
                });
            } else if let (Some(first), Some(other)) = (images[at].recorded, sample.size)
                && first != other
            {
                errors.push(bad(&sample.image, wrong_size(other, first)));
            }
            joined.push((at, sample));
        }
        if !unique {
            images.iter_mut().zip(1..).for_each(|(image, id)| image.id = id);
        }
        let hashed = joined.iter().all(|(_, sample)| sample.split.is_none());
        let mut out = Self { images, samples: joined, hashed };
        if hashed {
            out.read_images(errors);
            for (image, sample) in &mut out.samples {
                sample.split = out.images[*image].hash.map(|hash| split_of(hash).to_owned());
            }
        }
        out.samples.retain(|(_, sample)| match sample.split {
            Some(_) => true,
            // Its image has an error of its own.
            None if hashed => false,
            None => {
                errors.push(sample.place.wrong("a split, since other records have one", "nothing"));
                false
            }
        });
        out
    }

    /// Reads every image's bytes.
    pub(super) fn read_images(&mut self, errors: &mut Vec<DataError>) {
        let read: Vec<Result<(), DataError>> = self.images.par_iter_mut().map(CatalogueImage::read).collect();
        errors.extend(read.into_iter().filter_map(Result::err));
    }

    /// The number of images per split.
    pub(super) fn splits(&self) -> BTreeMap<&str, usize> {
        let mut images: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (image, sample) in &self.samples {
            images.entry(sample.split.as_deref().unwrap_or_default()).or_default().insert(*image);
        }
        images.into_iter().map(|(split, images)| (split, images.len())).collect()
    }

    /// The images as a data set has them; sizes that nobody has said are read.
    pub(super) fn infos(&self, used: &BTreeSet<usize>) -> Vec<Result<ImageInfo, DataError>> {
        let used: Vec<usize> = used.iter().copied().collect();
        let info = |at: &usize| {
            let image = &self.images[*at];
            let (width, height) = match image.size.or(image.recorded) {
                Some(size) => size,
                None => {
                    let bytes = std::fs::read(&image.path).map_err(|e| DataError::io(&image.path, "read", e))?;
                    pil_ops::upright_dimensions(&bytes).map_err(|e| bad(&image.path, e))?
                }
            };
            // A file known by its bytes is the same photograph wherever it lies.
            let number = image.hash.unwrap_or_else(|| hash(image.path.to_string_lossy().as_bytes()));
            Ok(ImageInfo {
                id: image.id,
                photo: Photo { collection: Collection::Own, number },
                file_name: image.name.clone(),
                path: image.path.clone(),
                width,
                height,
            })
        };
        used.par_iter().map(info).collect()
    }
}

/// The targets of a record, in an image of this size, (width, height).
pub(super) fn targets(sample: &Sample, size: (u32, u32)) -> Result<Vec<Target>, DataError> {
    sample.shapes.iter().map(|(place, shape)| shape.target(place, size)).collect()
}

fn referent(number: usize, first: i64, image: usize, sample: &Sample, info: &ImageInfo) -> Result<Referent, DataError> {
    let size = (info.width, info.height);
    let as_error = |e: coco_mask::MaskError| DataError::Mask {
        path: sample.place.path.clone(),
        field: sample.place.field.clone(),
        reason: e.to_string(),
    };
    let (mut drawn, mut unread) = (vec![Rle::empty(size.1, size.0).map_err(as_error)?], Vec::new());
    for target in targets(sample, size)? {
        match target {
            Target::Drawn(mask) => drawn.push(mask),
            Target::Unread(mask) => unread.push(mask),
        }
    }
    let mask = merge(&drawn, Merge::Union).map_err(as_error)?;
    let sentence =
        |(k, text): (usize, &String)| Sentence { id: first + k as i64, text: text.clone(), raw: text.clone(), kind: None };
    Ok(Referent {
        ref_id: number as i64,
        image,
        ann_ids: (0..sample.shapes.len()).map(|k| AnnId::Text(format!("{number}-{k}"))).collect(),
        category: sample.category.clone(),
        sentences: sample.sentences.iter().enumerate().map(sentence).collect(),
        bbox: mask.bbox(),
        mask,
        unread,
        groups: Vec::new(),
    })
}

/// Reads a folder whole, failing on the first fault.
pub(super) fn read(format: OwnFormat, root: &Path) -> Result<(Catalogue, Vec<String>), DataError> {
    let Found { samples, mut errors, warnings, .. } = Found::read(format, root)?;
    let catalogue = Catalogue::of(root, samples, &mut errors);
    if errors.is_empty() { Ok((catalogue, warnings)) } else { Err(errors.swap_remove(0)) }
}

/// Opens one split.
pub(crate) fn open(format: OwnFormat, spec: &DatasetSpec, split: &str) -> Result<Dataset, DataError> {
    if spec.split_by != BY {
        return Err(DataError::Name { what: "maker of splits", found: spec.split_by.clone(), valid: format!("`{BY}`") });
    }
    let (catalogue, warnings) = read(format, &spec.root)?;
    let mut out = Dataset::empty(spec, split);
    out.warnings = warnings;
    let (mut number, mut sentence) = (0, 0);
    let mut kept = Vec::new();
    for (image, sample) in &catalogue.samples {
        if sample.split.as_deref() == Some(split) {
            kept.push((number, sentence, *image, sample));
        }
        number += 1;
        sentence += sample.sentences.len() as i64;
    }
    if kept.is_empty() {
        return Err(no_split(&spec.root, &catalogue, split));
    }
    let used: BTreeSet<usize> = kept.iter().map(|k| k.2).collect();
    out.images = catalogue.infos(&used).into_iter().collect::<Result<_, _>>()?;
    let place: HashMap<usize, usize> = used.into_iter().zip(0..).collect();
    let made = kept.into_par_iter().map(|(number, sentence, image, sample)| {
        let image = place[&image];
        referent(number, sentence, image, sample, &out.images[image])
    });
    out.referents = made.collect::<Vec<_>>().into_iter().collect::<Result<_, _>>()?;
    Ok(out)
}

/// What to say where a split has no image.
pub(super) fn no_split(root: &Path, catalogue: &Catalogue, split: &str) -> DataError {
    let there: Vec<String> = catalogue.splits().iter().map(|(split, images)| format!("{images} in {split}")).collect();
    let hint = if catalogue.hashed {
        format!(
            "nobody has made a split, so about one image in {ONE_IN} is held out as `val` by the hash of its bytes, which leaves {}; \
             name a split in every record, or add images",
            there.join(" and ")
        )
    } else {
        format!("the images are {}", there.join(" and "))
    };
    DataError::Split { path: root.into(), split: split.into(), hint }
}

/// Photographs outside of `train`.
pub(crate) fn held_out(format: OwnFormat, root: &Path) -> Result<Vec<Photo>, DataError> {
    let (catalogue, _) = read(format, root)?;
    let outside = |(image, sample): &(usize, Sample)| (sample.split.as_deref() != Some("train")).then_some(*image);
    let used: BTreeSet<usize> = catalogue.samples.iter().filter_map(outside).collect();
    catalogue.infos(&used).into_iter().map(|info| info.map(|info| info.photo)).collect()
}
