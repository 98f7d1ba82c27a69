//! Any set with sentences, written anew as REFER's files, COCO's or lines of JSON, with masks that stay the same to the pixel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use coco_mask::Rle;
use rayon::prelude::*;

use super::catalogue::{read, targets};
use super::sample::Target;
use super::{OwnFormat, write};
use crate::dataset::{Dataset, DatasetSpec, ImageInfo};
use crate::layout::{self, PHRASECUT};
use crate::{ClassSet, DataError, phrasecut, refs};

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvertTo {
    /// REFER's: `refcoco` with Google's kind of splits, or `grefcoco` where a sentence means several targets or none.
    Refer,
    /// COCO's, with sentences in the annotations.
    Coco,
    /// A line of JSON per record.
    Jsonl,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The folder.
    pub path: PathBuf,
    /// The data set and the maker of its splits as a config names them.
    pub spec: DatasetSpec,
    /// Images.
    pub images: usize,
    /// Records.
    pub referents: usize,
    /// Sentences.
    pub sentences: usize,
    /// Images per split.
    pub splits: Vec<(String, usize)>,
}

/// An image, and whether its pixels are meant upright.
pub(super) struct Picture {
    pub(super) info: ImageInfo,
    pub(super) upright: bool,
}

/// What is said about an image.
pub(super) struct Record {
    pub(super) image: usize,
    pub(super) split: String,
    pub(super) sentences: Vec<(String, String)>,
    pub(super) category: String,
    pub(super) targets: Vec<Rle>,
}

/// A set with all its splits.
pub(super) struct Whole {
    pub(super) images: Vec<Picture>,
    pub(super) records: Vec<Record>,
}

/// Writes a set in another form into a folder that must not exist yet. Images are copied; those that EXIF turns are written anew
/// where the two forms differ in whether they heed it.
///
/// # Errors
/// As [`Dataset::open`], a set of classes, or a folder that is there already. Nothing is left behind then.
pub fn convert(spec: &DatasetSpec, to: ConvertTo, out: &Path) -> Result<Converted, DataError> {
    if out.exists() {
        let hint = "converting never writes over a folder; name one that does not exist".into();
        return Err(DataError::Missing { path: out.into(), what: "free name", hint });
    }
    let whole = match OwnFormat::named(&spec.name) {
        Some(format) => of_own(format, &spec.root)?,
        None => of_published(spec)?,
    };
    let mut partial = out.file_name().unwrap_or_default().to_owned();
    partial.push(".partial");
    let partial = out.with_file_name(partial);
    let made = write::write(&whole, to, &partial).and_then(|spec| {
        std::fs::rename(&partial, out).map_err(|e| DataError::io(out, "create", e))?;
        Ok(spec)
    });
    let (name, split_by) = made.inspect_err(|_| {
        // What is half written helps nobody.
        let _ = std::fs::remove_dir_all(&partial);
    })?;
    let mut splits: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for record in &whole.records {
        splits.entry(&record.split).or_default().insert(record.image);
    }
    Ok(Converted {
        path: out.into(),
        spec: DatasetSpec { root: out.into(), name: name.into(), split_by: split_by.into() },
        images: whole.images.len(),
        referents: whole.records.len(),
        sentences: whole.records.iter().map(|r| r.sentences.len()).sum(),
        splits: splits.into_iter().map(|(split, images)| (split.to_owned(), images.len())).collect(),
    })
}

fn of_own(format: OwnFormat, root: &Path) -> Result<Whole, DataError> {
    let (catalogue, _) = read(format, root)?;
    let all: BTreeSet<usize> = (0..catalogue.images.len()).collect();
    let infos = catalogue.infos(&all).into_iter().collect::<Result<Vec<_>, _>>()?;
    let records = catalogue.samples.par_iter().map(|(image, sample)| {
        let size = (infos[*image].width, infos[*image].height);
        let drawn = targets(sample, size)?.into_iter().map(|target| match target {
            Target::Drawn(mask) => Ok(mask),
            Target::Unread(mask) => mask.read(size),
        });
        Ok(Record {
            image: *image,
            split: sample.split.clone().unwrap_or_default(),
            sentences: sample.sentences.iter().map(|s| (s.clone(), s.clone())).collect(),
            category: sample.category.clone(),
            targets: drawn.collect::<Result<_, DataError>>()?,
        })
    });
    let records = records.collect::<Vec<Result<Record, DataError>>>().into_iter().collect::<Result<_, _>>()?;
    Ok(Whole { images: infos.into_iter().map(|info| Picture { info, upright: true }).collect(), records })
}

/// The splits of a published set that are there.
fn splits(spec: &DatasetSpec) -> Result<Vec<String>, DataError> {
    let folder = layout::folder(&spec.root, &spec.name)?;
    if ClassSet::is_known(&spec.name) {
        let valid = "a set with sentences; this one has classes".into();
        return Err(DataError::Name { what: "set to convert", found: spec.name.clone(), valid });
    }
    if spec.name == PHRASECUT {
        let there = phrasecut::SPLITS.iter().filter(|s| folder.join(format!("refer_{s}.json")).is_file());
        return Ok(there.map(|s| (*s).to_owned()).collect());
    }
    let (records, errors) = refs::read(&layout::refs_file(&folder, &spec.split_by)?)?;
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(records.into_iter().map(|r| r.split).collect::<BTreeSet<_>>().into_iter().collect()),
    }
}

fn of_published(spec: &DatasetSpec) -> Result<Whole, DataError> {
    let mut out = Whole { images: Vec::new(), records: Vec::new() };
    let mut index: HashMap<PathBuf, usize> = HashMap::new();
    for split in splits(spec)? {
        let set = Dataset::open(spec, &split)?;
        for referent in set.referents {
            let info = &set.images[referent.image];
            let image = *index.entry(info.path.clone()).or_insert_with(|| {
                out.images.push(Picture { info: info.clone(), upright: false });
                out.images.len() - 1
            });
            let none = referent.ann_ids.is_empty() && referent.mask.is_empty();
            out.records.push(Record {
                image,
                split: split.clone(),
                sentences: referent.sentences.into_iter().map(|s| (s.text, s.raw)).collect(),
                category: referent.category,
                targets: if none { Vec::new() } else { vec![referent.mask] },
            });
        }
    }
    Ok(out)
}
