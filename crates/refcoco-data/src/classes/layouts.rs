//! The sets whose masks belong to classes, in their owners' layouts, and opening their splits.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;

use super::annotations::Index;
use super::label_map::{self, MapFolder};
use super::{ClassImage, ClassSet, Source};
use crate::dataset::{Collection, Dataset, DatasetSpec, ImageInfo, Photo};
use crate::{DataError, json};

/// A set's place on disk.
#[derive(Debug)]
pub(crate) struct Layout {
    /// What [`DatasetSpec::name`] calls it.
    pub(crate) name: &'static str,
    /// [`DatasetSpec::split_by`]: each has one set of splits.
    pub(crate) by: &'static str,
    /// Where it lies below the root; the first that exists.
    pub(crate) folders: &'static [&'static str],
    /// Its splits, each with the word that its paths have for it.
    pub(crate) splits: &'static [(&'static str, &'static str)],
    /// Whose photographs they are.
    collection: Collection,
    pub(crate) files: Files,
}

/// Paths below a set's folder; `{}` is the split's word.
#[derive(Debug)]
pub(crate) enum Files {
    /// A label map per image, of the same stem.
    Maps {
        images: &'static str,
        labels: &'static str,
        /// The value of the first class.
        first: u8,
        /// Values that mean no class.
        none: &'static [u8],
        /// Names of the classes.
        names: fn(&Path) -> Result<Vec<String>, DataError>,
    },
    /// A COCO annotation file per split.
    Records {
        images: &'static str,
        json: &'static str,
        /// Whether a category must occur once in an image to be used there.
        once: bool,
        /// A category's name as it is said.
        name: fn(&str) -> String,
    },
}

/// All of them. What EVF-SAM's authors call each one is the first folder's name but for Objects365, whose masks by machine
/// (`o365_res_instances.json`) they did not publish.
pub(crate) const LAYOUTS: [Layout; 6] = [
    Layout {
        name: "ade20k",
        by: "challenge",
        folders: &["ade20k", "ADEChallengeData2016"],
        splits: &[("train", "training"), ("val", "validation")],
        collection: Collection::Ade20k,
        files: Files::Maps { images: "images/{}", labels: "annotations/{}", first: 1, none: &[0, 255], names: ade20k_names },
    },
    Layout {
        name: "mapillary",
        by: "v2.0",
        folders: &["mapillary"],
        splits: &[("train", "training"), ("val", "validation")],
        collection: Collection::Mapillary,
        files: Files::Maps { images: "{}/images", labels: "{}/v2.0/labels", first: 0, none: &[], names: mapillary_names },
    },
    Layout {
        name: "humanparsing",
        by: "atr",
        folders: &["humanparsing"],
        splits: &[("train", "")],
        collection: Collection::Atr,
        files: Files::Maps { images: "JPEGImages", labels: "SegmentationClassAug", first: 0, none: &[], names: atr_names },
    },
    Layout {
        name: "partimagenet",
        by: "seg",
        folders: &["PartImageNet"],
        splits: &[("train", "train"), ("val", "val"), ("test", "test")],
        collection: Collection::ImageNet,
        files: Files::Records { images: "images/{}", json: "annotations/{}/{}.json", once: false, name: str::to_lowercase },
    },
    Layout {
        name: "pascal_part",
        by: "vlpart",
        folders: &["vlpart/pascal_part"],
        splits: &[("train", "train"), ("val", "val")],
        collection: Collection::Voc,
        files: Files::Records { images: "VOCdevkit/VOC2010/JPEGImages", json: "{}.json", once: false, name: without_colon },
    },
    Layout {
        name: "objects365",
        by: "v1",
        folders: &["Object365/raw/Objects365_v1/2019-08-02"],
        splits: &[("train", "train")],
        collection: Collection::Objects365,
        files: Files::Records { images: "{}", json: "o365_res_instances.json", once: true, name: str::to_owned },
    },
];

/// Human parsing (ATR), by pixel value. Left and right are the viewer's, as in RefCOCO's sentences, and so the reverse of the set's
/// own names (EVF-SAM's code); the background is a class like the others.
pub(crate) const ATR_NAMES: [&str; 18] = [
    "background",
    "hat",
    "hair",
    "sunglasses",
    "upper clothes",
    "skirt",
    "pants",
    "dress",
    "belt",
    "right shoe",
    "left shoe",
    "face",
    "right leg",
    "left leg",
    "right arm",
    "left arm",
    "bag",
    "scarf",
];

fn without_colon(name: &str) -> String {
    name.replace(':', " ")
}

fn atr_names(_: &Path) -> Result<Vec<String>, DataError> {
    Ok(ATR_NAMES.map(str::to_owned).into())
}

/// `ade20k_classes.json`, a list of 150 names, or the first synonyms of the challenge's `objectInfo150.txt`.
fn ade20k_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let (path, table) = (folder.join("ade20k_classes.json"), folder.join("objectInfo150.txt"));
    if path.is_file() {
        let names: Option<Vec<String>> = serde_json::from_value(json::parse(&path)?).ok();
        return names.ok_or_else(|| DataError::field(&path, "(top level)", "a list of names", "something else"));
    }
    if !table.is_file() {
        let hint = "the list of class names; the challenge's objectInfo150.txt is accepted, too".to_owned();
        return Err(DataError::Missing { path, what: "class list", hint });
    }
    let text = std::fs::read_to_string(&table).map_err(|e| DataError::io(&table, "read", e))?;
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty());
    let name = |(at, line): (usize, &str)| {
        let name = line.rsplit('\t').next().and_then(|names| names.split(',').next()).map(str::trim).unwrap_or_default();
        if line.contains('\t') && !name.is_empty() {
            return Ok(name.to_owned());
        }
        Err(DataError::field(&table, format!("line {}", at + 2), "columns with a class's names in the last", line))
    };
    rows.enumerate().map(name).collect()
}

/// `labels[].readable` of `config_v2.0.json`, in lower case; a label's place in the list is its value in the maps.
fn mapillary_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let path = folder.join("config_v2.0.json");
    if !path.is_file() {
        let hint = "the names of the classes".to_owned();
        return Err(DataError::Missing { path, what: "class list", hint });
    }
    let config = json::parse(&path)?;
    let labels = crate::value::At::new(&path, "labels", config.get("labels").unwrap_or(&Value::Null)).items()?;
    labels.iter().map(|label| Ok(label.key("readable")?.text()?.to_lowercase())).collect()
}

impl Layout {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.name == name)
    }

    /// The set's folder, if there is one.
    pub(crate) fn folder(&self, root: &Path) -> Option<PathBuf> {
        self.folders.iter().map(|folder| root.join(folder)).find(|folder| folder.is_dir())
    }

    /// A split's place below the set's folder.
    pub(crate) fn place(folder: &Path, pattern: &str, word: &str) -> PathBuf {
        folder.join(pattern.replace("{}", word))
    }

    pub(crate) fn split(&self, split: &str) -> Result<&'static str, DataError> {
        let word = self.splits.iter().find(|(name, _)| *name == split).map(|(_, word)| *word);
        word.ok_or_else(|| {
            let valid = self.splits.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            DataError::Name { what: "split", found: split.into(), valid }
        })
    }

    fn photo(&self, file_name: &str) -> Photo {
        Photo::named(self.collection, file_name)
    }

    /// The image of a record: where it should be, without the folders in front of its name, or below the set's own folder.
    pub(crate) fn image_path(folder: &Path, images: &Path, file_name: &str) -> Result<PathBuf, DataError> {
        let base = Path::new(file_name).file_name().unwrap_or_default();
        let places = [images.join(file_name), images.join(base), folder.join(file_name)];
        places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
            let hint = format!("looked in {} and {}", images.display(), folder.display());
            DataError::Missing { path: images.join(base), what: "image", hint }
        })
    }
}

/// Label maps and their images, in order of their names.
pub(crate) struct Pairs {
    pub(crate) images: PathBuf,
    /// File names of images that have a map.
    pub(crate) names: Vec<String>,
    /// Stems of maps without an image.
    pub(crate) lonely: Vec<String>,
    /// Images without a map.
    pub(crate) unlabelled: usize,
}

fn file_names(folder: &Path, what: &'static str) -> Result<Vec<String>, DataError> {
    if !folder.is_dir() {
        return Err(DataError::Missing {
            path: folder.into(),
            what,
            hint: "a split has one folder of images and one of label maps".into(),
        });
    }
    let io = |e| DataError::io(folder, "read", e);
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let names = entries.map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into_owned()));
    names.filter(|name| name.as_ref().map_or(true, |name| !name.starts_with('.'))).collect()
}

impl Pairs {
    pub(crate) fn list(images: PathBuf, labels: &Path) -> Result<Self, DataError> {
        let stem = |name: &str| Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned());
        let photos = file_names(&images, "image folder")?;
        let mut photos: HashMap<String, String> = photos.into_iter().filter_map(|name| Some((stem(&name)?, name))).collect();
        let mut maps: Vec<String> =
            file_names(labels, "label folder")?.iter().filter_map(|n| n.strip_suffix(".png").map(str::to_owned)).collect();
        maps.sort_unstable();
        let (mut names, mut lonely) = (Vec::with_capacity(maps.len()), Vec::new());
        for map in maps {
            match photos.remove(&map) {
                Some(name) => names.push(name),
                None => lonely.push(map),
            }
        }
        Ok(Self { images, names, lonely, unlabelled: photos.len() })
    }

    /// The error of a map without an image.
    pub(crate) fn missing(&self, stem: &str) -> DataError {
        let hint = "a label map has its stem".to_owned();
        DataError::Missing { path: self.images.join(format!("{stem}.jpg")), what: "image", hint }
    }
}

/// Numbers at the end of the names (`ADE_val_00000001`), where all have one of their own; places in the list otherwise.
fn numbers(names: &[String]) -> Vec<i64> {
    let number = |name: &String| {
        let stem = Path::new(name).file_stem()?.to_str()?;
        let digits = stem.rsplit(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<i64>().ok()
    };
    let found: Option<Vec<i64>> = names.iter().map(number).collect();
    let unique = |found: &Vec<i64>| found.iter().collect::<BTreeSet<_>>().len() == found.len();
    found.filter(unique).unwrap_or_else(|| (1..=names.len() as i64).collect())
}

/// The label maps of a split: where they lie and what is in them.
pub(crate) fn map_folder(
    layout: &Layout,
    folder: &Path,
    word: &str,
) -> Result<Option<(MapFolder, Vec<String>, PathBuf)>, DataError> {
    let Files::Maps { images, labels, first, none, names } = &layout.files else { return Ok(None) };
    let names = names(folder)?;
    let most = usize::from(u8::MAX - first) + 1;
    if names.is_empty() || names.len() > most {
        let found = format!("{} names", names.len());
        return Err(DataError::field(folder, "class names", &format!("1 to {most} of them"), found));
    }
    let maps = MapFolder { folder: Layout::place(folder, labels, word), first: *first, none, classes: names.len() as u16 };
    Ok(Some((maps, names, Layout::place(folder, images, word))))
}

/// Opens a split. No mask is read: of label maps the first bytes, of an annotation file the places of its records.
pub(crate) fn open(layout: &'static Layout, spec: &DatasetSpec, folder: &Path, split: &str) -> Result<Dataset, DataError> {
    if spec.split_by != layout.by {
        return Err(DataError::Name { what: "split_by", found: spec.split_by.clone(), valid: layout.by.into() });
    }
    let word = layout.split(split)?;
    let mut out = Dataset::empty(spec, split);
    if let Some((maps, names, images)) = map_folder(layout, folder, word)? {
        open_maps(layout, maps, names, images, &mut out)?;
    } else if let Files::Records { images, json, once, name } = &layout.files {
        let json = Layout::place(folder, json, word);
        if !json.is_file() {
            let hint = format!("the annotations of split {split} of {}", layout.name);
            return Err(DataError::Missing { path: json, what: "annotation file", hint });
        }
        let index = Index::read(&json, *once, *name)?;
        open_records(layout, index, folder, &Layout::place(folder, images, word), &mut out)?;
    }
    if out.class_images.is_empty() {
        let hint = format!("split {split} of {} has no image with a mask", layout.name);
        return Err(DataError::Missing { path: folder.into(), what: "annotated image", hint });
    }
    Ok(out)
}

fn open_maps(layout: &Layout, maps: MapFolder, names: Vec<String>, images: PathBuf, out: &mut Dataset) -> Result<(), DataError> {
    let pairs = Pairs::list(images, &maps.folder)?;
    if let Some(stem) = pairs.lonely.first() {
        return Err(pairs.missing(stem));
    }
    if pairs.unlabelled > 0 {
        out.skipped += pairs.unlabelled;
        out.warnings.push(format!("{}: {} images have no label map", pairs.images.display(), pairs.unlabelled));
    }
    let sizes: Vec<_> = pairs.names.par_iter().map(|name| label_map::header(&maps.path(name))).collect();
    let ids = numbers(&pairs.names);
    let set = Arc::new(ClassSet::new(names, Source::Maps(maps)));
    for ((file_name, size), id) in pairs.names.into_iter().zip(sizes).zip(ids) {
        let (width, height) = size?;
        out.class_images.push(ClassImage { image: out.images.len(), set: set.clone(), records: (0, 0) });
        let (path, photo) = (pairs.images.join(&file_name), layout.photo(&file_name));
        out.images.push(ImageInfo { id, photo, file_name, path, width, height });
    }
    Ok(())
}

fn open_records(layout: &Layout, index: Index, folder: &Path, images: &Path, out: &mut Dataset) -> Result<(), DataError> {
    let Index { annotations, images: records, names, skipped } = index;
    out.skipped += skipped;
    let paths: Vec<_> = records.par_iter().map(|(r, _)| Layout::image_path(folder, images, &r.file_name)).collect();
    let set = Arc::new(ClassSet::new(names, Source::Records(annotations)));
    for ((record, records), path) in records.into_iter().zip(paths) {
        out.class_images.push(ClassImage { image: out.images.len(), set: set.clone(), records });
        let photo = layout.photo(&record.file_name);
        let (id, file_name, width, height) = (record.id, record.file_name, record.width, record.height);
        out.images.push(ImageInfo { id, photo, file_name, path: path?, width, height });
    }
    Ok(())
}

/// Photographs of a set outside of its training split.
pub(crate) fn held_out(layout: &Layout, folder: &Path) -> Result<BTreeSet<Photo>, DataError> {
    let mut out = BTreeSet::new();
    for (_, word) in layout.splits.iter().filter(|(name, _)| *name != "train") {
        match &layout.files {
            Files::Maps { images, .. } => {
                let images = Layout::place(folder, images, word);
                if images.is_dir() {
                    out.extend(file_names(&images, "image folder")?.iter().map(|name| layout.photo(name)));
                }
            }
            Files::Records { json, once, name, .. } => {
                let json = Layout::place(folder, json, word);
                if json.is_file() {
                    out.extend(Index::read(&json, *once, *name)?.images.iter().map(|(r, _)| layout.photo(&r.file_name)));
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_names_or_places() {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(numbers(&names(&["ADE_val_00000002.jpg", "ADE_val_00000010.jpg"])), [2, 10]);
        assert_eq!(numbers(&names(&["17.jpg", "4.jpg"])), [17, 4]);
        assert_eq!(numbers(&names(&["a_1.jpg", "b_1.jpg"])), [1, 2]);
        assert_eq!(numbers(&names(&["x.jpg", "y_7.jpg"])), [1, 2]);
    }
}
