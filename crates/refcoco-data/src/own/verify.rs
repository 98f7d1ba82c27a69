//! Checking data of one's own, whole: every record, image and mask, and images that lie in two splits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;

use super::catalogue::{Catalogue, no_split, targets, wrong_size};
use super::sample::{Sample, Target};
use super::{Found, OwnFormat};
use crate::{DataError, ImageInfo};

/// Faults of one kind that are named one by one.
const NAMED: usize = 50;

/// What was found.
#[derive(Default)]
pub(crate) struct Checked {
    /// (split, image, sentences) per record.
    pub(crate) records: Vec<(String, i64, u64)>,
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Checks a folder; `decode` reads whole images and masks, too.
///
/// # Errors
/// A folder that is not there or has no record.
pub(crate) fn check(format: OwnFormat, root: &Path, decode: bool) -> Result<Checked, DataError> {
    let Found { samples, mut errors, warnings, .. } = Found::read(format, root)?;
    let mut catalogue = Catalogue::of(root, samples, &mut errors);
    if !catalogue.hashed {
        catalogue.read_images(&mut errors);
    }
    let mut out = Checked { warnings, ..Checked::default() };
    out.errors.extend(errors.iter().map(ToString::to_string));
    out.check_masks(&catalogue, decode);
    out.doubles(&catalogue);
    for split in ["train", "val"] {
        if !catalogue.samples.is_empty() && !catalogue.splits().contains_key(split) {
            out.warnings.push(no_split(root, &catalogue, split).to_string());
        }
    }
    for (image, sample) in &catalogue.samples {
        let split = sample.split.clone().unwrap_or_default();
        out.records.push((split, catalogue.images[*image].id, sample.sentences.len() as u64));
    }
    shorten(&mut out.errors);
    shorten(&mut out.warnings);
    Ok(out)
}

/// Names the first faults and counts the rest.
fn shorten(lines: &mut Vec<String>) {
    if lines.len() > NAMED {
        let more = lines.len() - NAMED;
        lines.truncate(NAMED);
        lines.push(format!("and {more} more"));
    }
}

impl Checked {
    fn check_masks(&mut self, catalogue: &Catalogue, decode: bool) {
        let all: BTreeSet<usize> = (0..catalogue.images.len()).collect();
        let infos = catalogue.infos(&all);
        if decode {
            let decoded: Vec<Option<String>> = infos.par_iter().map(|info| whole(info.as_ref().ok()?).err()).collect();
            self.errors.extend(decoded.into_iter().flatten());
        }
        let checked: Vec<(Vec<String>, Vec<String>)> =
            catalogue.samples.par_iter().map(|(image, sample)| of_sample(sample, infos[*image].as_ref().ok(), decode)).collect();
        for (errors, warnings) in checked {
            self.errors.extend(errors);
            self.warnings.extend(warnings);
        }
    }

    /// Images whose bytes are equal.
    fn doubles(&mut self, catalogue: &Catalogue) {
        let mut splits: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for (image, sample) in &catalogue.samples {
            splits.entry(*image).or_default().insert(sample.split.as_deref().unwrap_or_default());
        }
        let mut by_hash: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (i, image) in catalogue.images.iter().enumerate() {
            image.hash.into_iter().for_each(|hash| by_hash.entry(hash).or_default().push(i));
        }
        for same in by_hash.values() {
            let of: BTreeSet<&str> = same.iter().filter_map(|i| splits.get(i)).flatten().copied().collect();
            let names: Vec<&str> = same.iter().map(|i| catalogue.images[*i].name.as_str()).collect();
            let names = names.join(" and ");
            if of.len() > 1 {
                let of = of.into_iter().collect::<Vec<_>>().join(" and ");
                self.warnings.push(format!("{names}: one image in {of}: what is judged there was trained on"));
            } else if same.len() > 1 {
                self.warnings.push(format!("{names}: the same image under several names"));
            }
        }
    }
}

fn whole(info: &ImageInfo) -> Result<(), String> {
    let image = info.decode().map_err(|e| e.to_string())?;
    let size = (image.width() as u32, image.height() as u32);
    if size == (info.width, info.height) {
        return Ok(());
    }
    Err(format!("{}: {}", info.path.display(), wrong_size(size, (info.width, info.height))))
}

fn of_sample(sample: &Sample, info: Option<&ImageInfo>, decode: bool) -> (Vec<String>, Vec<String>) {
    // Without a size the image has an error of its own.
    let Some(info) = info else { return (Vec::new(), Vec::new()) };
    let size = (info.width, info.height);
    let drawn = match targets(sample, size) {
        Ok(drawn) => drawn,
        Err(error) => return (vec![error.to_string()], Vec::new()),
    };
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for ((place, _), target) in sample.shapes.iter().zip(drawn) {
        let empty = match target {
            Target::Drawn(mask) => mask.is_empty(),
            Target::Unread(mask) if decode => match mask.read(size) {
                Ok(mask) => mask.is_empty(),
                Err(error) => {
                    errors.push(error.to_string());
                    false
                }
            },
            Target::Unread(_) => false,
        };
        if empty {
            warnings.push(format!("{}: field `{}`: the mask has no pixel", place.path.display(), place.field));
        }
    }
    (errors, warnings)
}
