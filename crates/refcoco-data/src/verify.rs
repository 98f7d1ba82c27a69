use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::classes::{self, LAYOUTS, Layout};
use crate::instances::{Instances, repeated};
use crate::layout::{self, IMAGE_FOLDERS, ImageFinder, PHRASECUT, SETS};
use crate::open::target;
use crate::own::{self, OwnFormat};
use crate::phrasecut::{self, ImageTable};
use crate::refs;
use crate::{DataError, published};

/// Sizes of a split as found, with the published ones where the set is recognisably the real one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitCount {
    /// Set.
    pub set: String,
    /// Who made the split.
    pub split_by: String,
    /// Split.
    pub split: String,
    /// Referents; in sets of classes, classes counted per image.
    pub refs: u64,
    /// Sentences; in sets of classes the same.
    pub sentences: u64,
    /// Images.
    pub images: u64,
    /// Published (refs, sentences, images); unpublished figures are none.
    pub published: Option<(Option<u64>, Option<u64>, Option<u64>)>,
}

impl SplitCount {
    /// Whether every published figure is met; true without any.
    #[must_use]
    pub fn matches(&self) -> bool {
        let same = |found: u64, wanted: Option<u64>| wanted.is_none_or(|w| w == found);
        self.published.is_none_or(|(r, s, i)| same(self.refs, r) && same(self.sentences, s) && same(self.images, i))
    }
}

/// Everything [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// One row per set, author and split.
    pub splits: Vec<SplitCount>,
    /// Things that are wrong: missing images, dangling ids, bad masks, unreadable files. Each names file and field.
    pub errors: Vec<String>,
    /// Things that readers pass over: empty sentence lists, sentences without words, masks without a pixel.
    pub warnings: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

/// Checks every set below `root`, reading image headers but not whole images.
///
/// # Errors
/// If `root` is no folder or holds no set. What is wrong inside the sets goes into the report.
pub fn verify(root: &Path) -> Result<VerifyReport, DataError> {
    check(root, false)
}

/// As [`verify`], decoding every image.
///
/// # Errors
/// As [`verify`].
pub fn verify_deep(root: &Path) -> Result<VerifyReport, DataError> {
    check(root, true)
}

/// Checks data of one's own in this format; `decode` reads whole images and masks, too.
///
/// # Errors
/// As [`verify`].
pub fn verify_own(root: &Path, format: OwnFormat, decode: bool) -> Result<VerifyReport, DataError> {
    let mut report = VerifyReport::default();
    let own::Checked { records, errors, warnings } = own::check(format, root, decode)?;
    count(format.name(), own::BY, records.iter().map(|(split, image, said)| (split.as_str(), *image, 1, *said)), &mut report);
    (report.errors, report.warnings) = (errors, warnings);
    Ok(report)
}

fn check(root: &Path, decode: bool) -> Result<VerifyReport, DataError> {
    let missing = |hint: String| DataError::Missing { path: root.into(), what: "data folder", hint };
    if !root.is_dir() {
        return Err(missing("give the folder that holds refcoco, refcoco+, ... and images".into()));
    }
    let of_classes: Vec<_> = LAYOUTS.iter().filter_map(|layout| Some((layout, layout.folder(root)?))).collect();
    let sets: Vec<&str> =
        (SETS.into_iter()).filter(|s| Layout::find(s).is_none() && root.join(layout::folder_name(s)).is_dir()).collect();
    if sets.is_empty() && of_classes.is_empty() {
        return match OwnFormat::detect(root) {
            Ok(format) => verify_own(root, format, decode),
            Err(DataError::Missing { what: own::NOTHING, .. }) => {
                let (names, own) = (SETS.map(layout::folder_name).join(", "), OwnFormat::names());
                Err(missing(format!("the folder exists but holds none of {names}, nor data of one's own as {own}")))
            }
            Err(error) => Err(error),
        };
    }
    let mut report = VerifyReport::default();
    let finder = ImageFinder::new(root, &IMAGE_FOLDERS);
    if !finder.has_folder() && sets.iter().any(|set| *set != PHRASECUT) {
        let folders = IMAGE_FOLDERS.join(", ");
        report.errors.push(format!("{}: no image folder; expected one of {folders}", root.display()));
    }
    let mut seen_images = BTreeSet::new();
    for set in sets {
        let checked = match set {
            PHRASECUT => check_phrasecut(root, decode, &mut report),
            _ => check_set(root, set, &finder, decode, &mut seen_images, &mut report),
        };
        if let Err(error) = checked {
            report.errors.push(error.to_string());
        }
    }
    for (layout, folder) in of_classes {
        match classes::check(layout, &folder, decode) {
            Ok(mut found) => {
                let counted = found.images.iter().map(|(split, image, classes)| (*split, *image, *classes, *classes));
                count(layout.name, layout.by, counted, &mut report);
                report.errors.append(&mut found.errors);
                report.warnings.append(&mut found.warnings);
            }
            Err(error) => report.errors.push(error.to_string()),
        }
    }
    Ok(report)
}

fn check_set(
    root: &Path,
    set: &str,
    finder: &ImageFinder,
    decode: bool,
    seen_images: &mut BTreeSet<String>,
    report: &mut VerifyReport,
) -> Result<(), DataError> {
    let folder = layout::folder(root, set)?;
    let files = layout::refs_files(&folder)?;
    if files.is_empty() {
        report.errors.push(format!("{}: no refs file", folder.display()));
    }
    let instances_path = folder.join("instances.json");
    let (instances, errors) = Instances::read_all(&instances_path);
    report.errors.extend(errors.iter().map(ToString::to_string));
    for (by, path) in files {
        let (mut records, errors) = match refs::read(&path) {
            Ok(read) => read,
            Err(error) => {
                report.errors.push(error.to_string());
                continue;
            }
        };
        report.errors.extend(errors.iter().map(ToString::to_string));
        count(set, &by, records.iter().map(|r| (r.split.as_str(), r.image_id, 1, r.sentences.len() as u64)), report);
        let ids = repeated(&path, "refs", records.iter().map(|r| r.ref_id.to_string()));
        let sentences = records.iter().flat_map(|r| &r.sentences).map(|s| s.id.to_string());
        let ids = ids.into_iter().chain(repeated(&path, "sentences", sentences));
        report.errors.extend(ids.map(|e| e.to_string()));
        report.warnings.extend(records.iter_mut().flat_map(|r| r.drop_blank(&path)));
        for r in records.iter().filter(|r| r.sentences.is_empty()) {
            report.warnings.push(format!(
                "{}: field `{}.sentences` (ref_id {}): empty list; readers skip the record",
                path.display(),
                r.field,
                r.ref_id
            ));
        }
        let Some(instances) = &instances else {
            continue;
        };
        // Results come back in the order of the records, so equal folders give equal reports.
        let masks: Vec<Result<bool, DataError>> = records
            .par_iter()
            .map(|r| {
                let (mask, _) = target(r, instances, &path, &instances_path)?;
                Ok(!r.ann_ids.is_empty() && mask.is_empty())
            })
            .collect();
        for (r, result) in records.iter().zip(masks) {
            match result {
                Ok(false) => {}
                Ok(true) => report.warnings.push(format!(
                    "{}: field `{}.ann_id` (ref_id {}): the mask has no pixel",
                    path.display(),
                    r.field,
                    r.ref_id
                )),
                Err(error) => report.errors.push(error.to_string()),
            }
        }
        if finder.has_folder() {
            let ids: BTreeSet<i64> = records.iter().map(|r| r.image_id).collect();
            let used = ids.iter().filter_map(|id| instances.images.get(id));
            let fresh = used.filter(|i| seen_images.insert(i.file_name.clone()));
            let fresh: Vec<_> = fresh.map(|i| (i.id, i.file_name.clone(), (i.width, i.height))).collect();
            check_images(&fresh, finder, decode, report);
        }
    }
    Ok(())
}

fn check_phrasecut(root: &Path, decode: bool, report: &mut VerifyReport) -> Result<(), DataError> {
    let folder = layout::folder(root, PHRASECUT)?;
    let table = ImageTable::read(&folder)?;
    let finder = ImageFinder::new(&folder, &phrasecut::IMAGES);
    let (mut rows, mut used) = (Vec::new(), BTreeSet::new());
    for split in phrasecut::SPLITS {
        let path = folder.join(format!("refer_{split}.json"));
        if !path.is_file() {
            report.warnings.push(format!("{}: no such file; the split {split} cannot be opened", path.display()));
            continue;
        }
        let tasks = match phrasecut::tasks(&path) {
            Ok(tasks) => tasks,
            Err(error) => {
                report.errors.push(error.to_string());
                continue;
            }
        };
        let masks: Vec<_> = tasks.par_iter().enumerate().map(|(i, t)| table.mask(&path, i, t).map(|m| m.is_empty())).collect();
        for (i, (task, result)) in tasks.iter().zip(masks).enumerate() {
            let mut warn = |what: &str| report.warnings.push(format!("{}: field `tasks[{i}]{what}", path.display()));
            if task.phrase().is_empty() {
                warn(".phrase`: no words; readers skip the record");
            }
            match result {
                Ok(false) => {}
                Ok(true) => warn(".Polygons`: the mask has no pixel"),
                Err(error) => report.errors.push(error.to_string()),
            }
            rows.push((split, task.image_id, 1, 1));
            used.insert(task.image_id);
        }
    }
    count(PHRASECUT, "vg", rows.into_iter(), report);
    let used = used.iter().filter_map(|id| table.by_id.get(id));
    let images: Vec<_> = used.map(|p| (p.image_id, format!("{}.jpg", p.image_id), (p.width, p.height))).collect();
    check_images(&images, &finder, decode, report);
    Ok(())
}

/// Whether these images, (id, file name, (width, height)), exist and are as large as their records say.
fn check_images(images: &[(i64, String, (u32, u32))], finder: &ImageFinder, decode: bool, report: &mut VerifyReport) {
    let errors: Vec<Option<String>> = images
        .par_iter()
        .map(|(id, file_name, (width, height))| {
            let path = match finder.find(file_name) {
                Ok(path) => path,
                Err(error) => return Some(error.to_string()),
            };
            let size = if decode {
                crate::loader::decode(&path).map(|i| (i.width() as u32, i.height() as u32))
            } else {
                crate::loader::size(&path)
            };
            match size {
                Err(error) => Some(error.to_string()),
                Ok(size) if size != (*width, *height) => Some(format!(
                    "{}: the file is {} x {} but images[id={id}] says {width} x {height} (width x height)",
                    path.display(),
                    size.0,
                    size.1
                )),
                Ok(_) => None,
            }
        })
        .collect();
    report.errors.extend(errors.into_iter().flatten());
}

/// Counts records given as (split, image, referents, sentences).
fn count<'a>(set: &str, by: &str, records: impl Iterator<Item = (&'a str, i64, u64, u64)>, report: &mut VerifyReport) {
    let mut splits: BTreeMap<&str, (u64, u64, BTreeSet<i64>)> = BTreeMap::new();
    for (split, image, refs, sentences) in records {
        let entry = splits.entry(split).or_default();
        entry.0 += refs;
        entry.1 += sentences;
        entry.2.insert(image);
    }
    // A generated or reduced set shares names with the real one, so only a similar size makes a comparison fair.
    let images: u64 = splits.values().map(|s| s.2.len() as u64).sum();
    let published = published::total_images(set, by);
    let real = published > 0 && images.abs_diff(published) * 5 <= published;
    let mut order: Vec<&str> = splits.keys().copied().collect();
    order.sort_by_key(|s| (["train", "val"].iter().position(|k| k == s).unwrap_or(2), *s));
    for split in order {
        let (refs, sentences, images) = &splits[split];
        let row = published::find(set, by, split).filter(|_| real);
        report.splits.push(SplitCount {
            set: set.into(),
            split_by: by.into(),
            split: split.into(),
            refs: *refs,
            sentences: *sentences,
            images: images.len() as u64,
            published: row.map(|p| (p.refs, p.sentences, p.images)),
        });
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<9} {:<7} {:>8} {:>10} {:>8}  published",
            "set", "split by", "split", "refs", "sentences", "images"
        )?;
        for s in &self.splits {
            write!(f, "{:<12} {:<9} {:<7} {:>8} {:>10} {:>8}  ", s.set, s.split_by, s.split, s.refs, s.sentences, s.images)?;
            match s.published {
                None => writeln!(f, "-")?,
                Some(_) if s.matches() => writeln!(f, "same")?,
                Some((r, n, i)) => {
                    let show = |v: Option<u64>| v.map_or_else(|| "?".to_owned(), |v| v.to_string());
                    writeln!(f, "DIFFERS: {} / {} / {}", show(r), show(n), show(i))?;
                }
            }
        }
        for (title, lines) in [("error", &self.errors), ("warning", &self.warnings)] {
            for line in lines {
                writeln!(f, "{title}: {line}")?;
            }
        }
        write!(f, "{} errors, {} warnings", self.errors.len(), self.warnings.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `images` images with one referent of three sentences each.
    fn records(first: i64, images: i64, split: &str) -> impl Iterator<Item = (&str, i64, u64, u64)> {
        (first..first + images).map(move |i| (split, i, 1, 3))
    }

    #[test]
    fn only_a_set_of_the_real_size_is_compared() {
        let mut report = VerifyReport::default();
        let most = || records(0, 16_994, "train").chain(records(20_000, 1_500, "val"));
        count("refcoco", "unc", most().chain(records(30_000, 1_500, "testA")), &mut report);
        count("refcoco+", "unc", records(0, 100, "val"), &mut report);
        count("grefcoco", "unc", most(), &mut report);
        let val = &report.splits[1];
        assert_eq!((val.split.as_str(), val.published), ("val", Some((Some(3_811), Some(10_834), Some(1_500)))));
        assert!(!val.matches());
        let small = &report.splits[3];
        assert_eq!((small.set.as_str(), small.published, small.matches()), ("refcoco+", None, true));
        assert!(report.splits[5].published.is_some() && report.splits[5].matches(), "only images are published");
        let text = report.to_string();
        assert!(text.contains("DIFFERS: 3811 / 10834 / 1500") && text.contains("same"), "{text}");
    }
}
