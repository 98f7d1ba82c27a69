//! Opening a split of any published set: REFER's layout here, PhraseCut's in its own module.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use coco_mask::{Merge, Rle, merge};
use rayon::prelude::*;

use crate::DataError;
use crate::classes::{self, Layout};
use crate::dataset::{Collection, Dataset, DatasetSpec, ImageInfo, Photo, Referent};
use crate::instances::Instances;
use crate::layout::{self, ImageFinder};
use crate::own::{self, OwnFormat};
use crate::phrasecut::{self, ImageTable};
use crate::refs::{self, RefRecord};

impl Dataset {
    /// Opens and checks one split: every id resolves, every mask fits its image, every image file exists.
    ///
    /// Annotations are united. A crowd annotation among several is skipped, as GRES does. Polygons of fewer than three
    /// points cover nothing.
    ///
    /// Sets whose masks belong to classes hold no mask: of label maps the first bytes are read, of annotation files the places of
    /// the records, and what is wrong further in is named when an image is loaded.
    ///
    /// # Errors
    /// On the first thing that is wrong, naming file and field. [`crate::verify`] lists everything instead.
    pub fn open(spec: &DatasetSpec, split: &str) -> Result<Self, DataError> {
        if let Some(format) = OwnFormat::named(&spec.name) {
            return own::open(format, spec, split);
        }
        let folder = layout::folder(&spec.root, &spec.name)?;
        if spec.name == layout::PHRASECUT {
            return phrasecut::open(spec, &folder, split);
        }
        if let Some(layout) = Layout::find(&spec.name) {
            return classes::open(layout, spec, &folder, split);
        }
        let refs_path = layout::refs_file(&folder, &spec.split_by)?;
        let (records, errors) = refs::read(&refs_path)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let splits: BTreeSet<String> = records.iter().map(|r| r.split.clone()).collect();
        let records: Vec<RefRecord> = records.into_iter().filter(|r| in_split(split, &r.split)).collect();
        if records.is_empty() {
            let valid = splits.into_iter().collect::<Vec<_>>().join(", ");
            return Err(DataError::Name { what: "split", found: split.into(), valid });
        }
        let instances_path = folder.join("instances.json");
        if !instances_path.is_file() {
            let hint = "every set needs one".to_owned();
            return Err(DataError::Missing { path: instances_path, what: "annotation file", hint });
        }
        let instances = Instances::read(&instances_path)?;
        let finder = ImageFinder::new(&spec.root, &layout::IMAGE_FOLDERS);

        let mut out = Self::empty(spec, split);
        let mut index: HashMap<i64, usize> = HashMap::new();
        let mut kept: Vec<(RefRecord, usize)> = Vec::with_capacity(records.len());
        for mut record in records {
            out.warnings.extend(record.drop_blank(&refs_path));
            let info = instances.images.get(&record.image_id).ok_or_else(|| DataError::Dangling {
                path: refs_path.clone(),
                field: format!("{}.image_id", record.field),
                id: record.image_id.to_string(),
                table: "images",
            })?;
            let broken = spec.name == "refclef" && layout::BROKEN_REFCLEF.contains(&info.file_name.as_str());
            if record.sentences.is_empty() || broken {
                out.skipped += 1;
                continue;
            }
            let image = match index.get(&record.image_id) {
                Some(&i) => i,
                None => {
                    out.images.push(ImageInfo {
                        id: info.id,
                        photo: Photo::numbered(collection(&spec.name), info.id),
                        file_name: info.file_name.clone(),
                        path: finder.find(&info.file_name)?,
                        width: info.width,
                        height: info.height,
                    });
                    index.insert(record.image_id, out.images.len() - 1);
                    out.images.len() - 1
                }
            };
            kept.push((record, image));
        }
        out.referents = kept
            .into_par_iter()
            .map(|(record, image)| referent(record, image, &instances, &refs_path, &instances_path))
            .collect::<Result<_, _>>()?;
        Ok(out)
    }
}

/// Whose photographs a set of REFER's layout has.
fn collection(set: &str) -> Collection {
    if set == "refclef" { Collection::Saiapr } else { Collection::Coco }
}

/// REFER's rule: `testA` to `testC` go by the last letter, `test` by substring, everything else is exact.
fn in_split(wanted: &str, split: &str) -> bool {
    match wanted {
        "testA" | "testB" | "testC" => wanted.chars().last().is_some_and(|c| split.contains(c)),
        "test" => split.contains("test"),
        _ => wanted == split,
    }
}

fn referent(
    record: RefRecord,
    image: usize,
    instances: &Instances,
    refs_path: &Path,
    instances_path: &Path,
) -> Result<Referent, DataError> {
    let (mask, bbox) = target(&record, instances, refs_path, instances_path)?;
    let category = match record.category_id {
        Some(id) if !record.ann_ids.is_empty() => instances.categories.get(&id).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let RefRecord { ref_id, ann_ids, sentences, .. } = record;
    Ok(Referent { ref_id, image, ann_ids, category, sentences, mask, unread: Vec::new(), bbox, groups: Vec::new() })
}

/// Mask and box of a record.
pub(crate) fn target(
    record: &RefRecord,
    instances: &Instances,
    refs_path: &Path,
    instances_path: &Path,
) -> Result<(Rle, [f64; 4]), DataError> {
    let dangling = |field: &str, id: String, table| DataError::Dangling {
        path: refs_path.into(),
        field: format!("{}.{field}", record.field),
        id,
        table,
    };
    let image =
        instances.images.get(&record.image_id).ok_or_else(|| dangling("image_id", record.image_id.to_string(), "images"))?;
    let mut masks = Vec::new();
    let (mut x0, mut y0, mut x1, mut y1) = (f64::MAX, f64::MAX, f64::MIN, f64::MIN);
    for id in &record.ann_ids {
        let annotation = instances.annotations.get(id).ok_or_else(|| dangling("ann_id", id.to_string(), "annotations"))?;
        if annotation.image_id != record.image_id {
            let path: PathBuf = refs_path.into();
            return Err(DataError::Field {
                path,
                field: format!("{}.ann_id", record.field),
                expected: format!("an annotation of image {}", record.image_id),
                found: format!("{id}, which is on image {}", annotation.image_id),
            });
        }
        if annotation.iscrowd && record.ann_ids.len() > 1 {
            continue;
        }
        masks.push(instances.mask(instances_path, id, image)?);
        let [x, y, w, h] = annotation.bbox;
        (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x + w), y1.max(y + h));
    }
    let as_error = |e: coco_mask::MaskError| DataError::Mask {
        path: instances_path.into(),
        field: format!("images[id={}]", record.image_id),
        reason: e.to_string(),
    };
    if masks.is_empty() {
        return Ok((Rle::empty(image.height, image.width).map_err(as_error)?, [0.0; 4]));
    }
    Ok((merge(&masks, Merge::Union).map_err(as_error)?, [x0, y0, x1 - x0, y1 - y0]))
}

/// All photographs that serve any split but `train` in these sets.
///
/// The sets of the family share COCO's train2014 images, so an image of one set's training split may be a test image of
/// another. Hand the result to [`Dataset::exclude`] to train without that leak. PhraseCut's images count as COCO's where COCO has
/// them. Photographs of other collections are known by their names.
///
/// # Errors
/// If a refs file, image table or annotation file is missing or malformed.
pub fn held_out_images(specs: &[DatasetSpec]) -> Result<BTreeSet<Photo>, DataError> {
    let mut out = BTreeSet::new();
    for spec in specs {
        if let Some(format) = OwnFormat::named(&spec.name) {
            out.extend(own::held_out(format, &spec.root)?);
            continue;
        }
        let folder = layout::folder(&spec.root, &spec.name)?;
        if spec.name == layout::PHRASECUT {
            out.extend(ImageTable::read(&folder)?.held_out());
            continue;
        }
        if let Some(layout) = Layout::find(&spec.name) {
            out.extend(classes::held_out(layout, &folder)?);
            continue;
        }
        let (records, errors) = refs::read(&layout::refs_file(&folder, &spec.split_by)?)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        out.extend(records.iter().filter(|r| r.split != "train").map(|r| Photo::numbered(collection(&spec.name), r.image_id)));
    }
    Ok(out)
}
