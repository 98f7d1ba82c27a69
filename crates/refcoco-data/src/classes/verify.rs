//! Checking a set whose masks belong to classes, whole: every map and every record.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use super::annotations::Index;
use super::label_map::MapFolder;
use super::layouts::{Files, Layout, Pairs, map_folder};
use crate::DataError;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// (split, image, classes in it).
    pub(crate) images: Vec<(&'static str, i64, u64)>,
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Checks every split that is there; `decode` reads whole images, too.
///
/// # Errors
/// Class names that cannot be read.
pub(crate) fn check(layout: &Layout, folder: &Path, decode: bool) -> Result<Found, DataError> {
    let mut found = Found::default();
    for (split, word) in layout.splits {
        if let Some((maps, _, images)) = map_folder(layout, folder, word)? {
            if !images.is_dir() && !maps.folder.is_dir() {
                found.absent(&maps.folder, split);
                continue;
            }
            match Pairs::list(images, &maps.folder) {
                Ok(pairs) => check_maps(split, &maps, &pairs, decode, &mut found),
                Err(error) => found.errors.push(error.to_string()),
            }
        } else if let Files::Records { images, json, once, name } = &layout.files {
            let json = Layout::place(folder, json, word);
            if !json.is_file() {
                found.absent(&json, split);
                continue;
            }
            let mut errors = Vec::new();
            let index = Index::read_all(&json, *once, *name, &mut |error| errors.push(error.to_string()));
            found.errors.append(&mut errors);
            match index {
                Ok(index) => {
                    check_records(split, &index, &json, (folder, &Layout::place(folder, images, word)), decode, &mut found)
                }
                Err(error) => found.errors.push(error.to_string()),
            }
        }
    }
    Ok(found)
}

impl Found {
    fn absent(&mut self, path: &Path, split: &str) {
        self.warnings.push(format!("{}: not there; the split {split} cannot be opened", path.display()));
    }
}

/// Columns and rows of an image; the whole of it is decoded if asked for.
fn image_size(path: &Path, decode: bool) -> Result<(u32, u32), DataError> {
    if decode {
        let image = crate::loader::decode(path)?;
        return Ok((image.width() as u32, image.height() as u32));
    }
    crate::loader::size(path)
}

fn check_maps(split: &'static str, maps: &MapFolder, pairs: &Pairs, decode: bool, found: &mut Found) {
    found.errors.extend(pairs.lonely.iter().map(|stem| pairs.missing(stem).to_string()));
    if pairs.unlabelled > 0 {
        let (path, count) = (pairs.images.display(), pairs.unlabelled);
        found.warnings.push(format!("{path}: {count} images have no label map; readers skip them"));
    }
    let checked = pairs.names.par_iter().map(|name| {
        let (map, path) = (maps.read(name)?, pairs.images.join(name));
        let (width, height) = image_size(&path, decode)?;
        if (map.width, map.height) != (width, height) {
            return Err(wrong_size(&maps.path(name), (map.width, map.height), &path, (width, height)));
        }
        Ok(maps.classes(&map).len() as u64)
    });
    let checked: Vec<Result<u64, DataError>> = checked.collect();
    for (i, (name, checked)) in pairs.names.iter().zip(checked).enumerate() {
        match checked {
            Ok(classes) => {
                if classes == 0 {
                    let path = maps.path(name);
                    found.warnings.push(format!("{}: no pixel has a class; readers draw another image", path.display()));
                }
                found.images.push((split, i as i64, classes));
            }
            Err(error) => {
                found.errors.push(error.to_string());
                found.images.push((split, i as i64, 0));
            }
        }
    }
}

/// A label map that is not as large as its image, both as (width, height).
pub(crate) fn wrong_size(map: &Path, of_map: (u32, u32), image: &Path, of_image: (u32, u32)) -> DataError {
    let reason = format!(
        "it is {} x {} but its image, {}, is {} x {} (width x height); both must be equal",
        of_map.0,
        of_map.1,
        image.display(),
        of_image.0,
        of_image.1
    );
    DataError::LabelMap { path: map.into(), reason }
}

fn check_records(
    split: &'static str,
    index: &Index,
    json: &Path,
    (folder, images): (&Path, &Path),
    decode: bool,
    found: &mut Found,
) {
    if index.skipped > 0 {
        let why = "without a mask, or one of several of its category where only single ones are used";
        found.warnings.push(format!("{}: {} records are left out: {why}", json.display(), index.skipped));
    }
    let checked = index.images.par_iter().map(|(image, records)| {
        let (mut errors, mut warnings, mut classes) = (Vec::new(), Vec::new(), 0);
        for class in index.annotations.classes(*records) {
            match index.annotations.mask(*records, class, (image.height, image.width)) {
                Ok(mask) => {
                    classes += 1;
                    if mask.is_empty() {
                        let name = &index.names[usize::from(class)];
                        warnings.push(format!(
                            "{}: images[id={}]: the mask of \"{name}\" has no pixel",
                            json.display(),
                            image.id
                        ));
                    }
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        match Layout::image_path(folder, images, &image.file_name).and_then(|path| Ok((image_size(&path, decode)?, path))) {
            Ok((size, path)) if size != (image.width, image.height) => errors.push(format!(
                "{}: the file is {} x {} but images[id={}] says {} x {} (width x height)",
                path.display(),
                size.0,
                size.1,
                image.id,
                image.width,
                image.height
            )),
            Ok(_) => {}
            Err(error) => errors.push(error.to_string()),
        }
        (image.id, classes, errors, warnings)
    });
    let checked: Vec<_> = checked.collect();
    let mut told = BTreeSet::new();
    for (id, classes, errors, warnings) in checked {
        found.images.push((split, id, classes));
        found.errors.extend(errors.into_iter().filter(|e| told.insert(e.clone())));
        found.warnings.extend(warnings);
    }
}
