//! Results of a program, whatever their form: a mask per record, and what identifies the expression.

use std::path::{Path, PathBuf};

use refcoco_data::AnnId;
use serde_json::Value;

use crate::mask::{Levels, MaskField, open};
use crate::{Answer, RefereeError, read_folder, read_json};

/// An image as results name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageKey {
    /// `image_id`.
    Id(i64),
    /// A file's name, without folders and ending.
    Stem(String),
}

/// Where a record's mask is.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskSource {
    /// In the file itself.
    Field(MaskField),
    /// In an image file.
    File(PathBuf, Levels),
}

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands: `results[17]`, `line 3`, a file's name.
    pub place: String,
    /// `sent_id`.
    pub sent_id: Option<i64>,
    /// `ref_id`.
    pub ref_id: Option<i64>,
    /// `ann_id`.
    pub ann_id: Option<AnnId>,
    /// The image.
    pub image: Option<ImageKey>,
    /// The sentence.
    pub sentence: Option<String>,
    /// Its place among the sentences of the referent, or of the image where no referent is named; from 0.
    pub nth: Option<usize>,
    /// A number that is an id of some kind: which one, the join finds out.
    pub number: Option<i64>,
    /// The mask.
    pub mask: MaskSource,
    /// What a head for "there is no target" said.
    pub no_target: Option<bool>,
}

impl Record {
    pub(crate) fn new(place: String, mask: MaskSource) -> Self {
        Self {
            place,
            sent_id: None,
            ref_id: None,
            ann_id: None,
            image: None,
            sentence: None,
            nth: None,
            number: None,
            mask,
            no_target: None,
        }
    }

    /// The mask, read and drawn; polygons are drawn at the image's size.
    ///
    /// # Errors
    /// A file that is no mask, or polygons that cannot be drawn.
    pub fn answer(&self, image: (u32, u32)) -> Result<Answer, String> {
        match &self.mask {
            MaskSource::Field(field) => field.mask(image.0, image.1).map(Answer::Mask),
            MaskSource::File(path, levels) => open(path, *levels).map_err(|e| format!("{}: {e}", path.display())),
        }
    }
}

/// What a program answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The file or folder.
    pub path: PathBuf,
    /// Its form, in words.
    pub form: &'static str,
    /// One per mask.
    pub records: Vec<Record>,
}

impl Results {
    /// Reads a file or a folder; its content says which form it has.
    ///
    /// - **COCO results**: a JSON list of records, or a dictionary that has one under `annotations`, `results` or `predictions`.
    ///   `segmentation` (or `mask`, `pred_mask`, `rle`) holds run lengths, compressed or not, a list of those, polygons, the path of an
    ///   image (from the file's folder on), or null. The expression is `sent_id`; or `ref_id` or `ann_id`, with `sentence` (`sent`,
    ///   `text`, `phrase`, `expression`) where a referent has several; or `image_id`, `image` or `file_name` with a sentence.
    /// - **JSONL**: such records, one per line.
    /// - **A folder of masks**: PNG files named by a number (`sent_id`, `ref_id` or `ann_id`: the join finds out which), by `REF_N` (the
    ///   referent's sentence number N, from 0), or by `IMAGE_N` (the image's expression number N, in the order of the data set).
    /// - **LISA**: `IMAGE_mask_N.jpg` of 0 and 100, as its script writes them; that N is the image's expression number N is a reading of
    ///   ours, for LISA judges an image with all its sentences in order.
    /// - **EVF-SAM, LISA in JSON**: a record per image with lists, `sentences` and `masks`; or `masks` alone, in the order of the data set
    ///   (a reading of ours: their evaluations keep nothing). EVF-SAM's `NAME_vis.png` are overlays, not masks, and are refused.
    /// - **ReLA**: records with `img_id`, `sent`, `pred_mask`, `pred_nt` (a reading of ours of its evaluator's fields, as JSON).
    ///
    /// With `soft`, grey levels of image files are probabilities times 255.
    ///
    /// # Errors
    /// A file that is none of these, is cut short, or holds a record that cannot be read, which is named.
    pub fn open(path: &Path, soft: bool) -> Result<Self, RefereeError> {
        let levels = if soft { Levels::Soft } else { Levels::Two };
        let meta = std::fs::metadata(path).map_err(|source| RefereeError::Read { path: path.into(), source })?;
        let (form, records) = if meta.is_dir() { read_folder::read(path, levels)? } else { read_json::read(path, levels)? };
        if records.is_empty() {
            return Err(RefereeError::format(path, "holds no result"));
        }
        Ok(Self { path: path.into(), form, records })
    }

    /// Records from memory, each as an element of a list of COCO results; errors name their place in the list.
    ///
    /// # Errors
    /// A list without a record, or a record that cannot be read.
    pub fn from_records(records: &[Value], soft: bool) -> Result<Self, RefereeError> {
        let (name, levels) = (Path::new("results"), if soft { Levels::Soft } else { Levels::Two });
        let records = read_json::records(name, levels, records)?;
        if records.is_empty() {
            return Err(RefereeError::format(name, "holds no result"));
        }
        Ok(Self { path: name.into(), form: "records", records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_in_memory_are_those_of_a_file() {
        let list =
            [json!({"sent_id": 7, "segmentation": {"size": [2, 2], "counts": [0, 4]}}), json!({"ref_id": 3, "mask": null})];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        std::fs::write(&path, serde_json::to_string(&list).unwrap()).unwrap();
        let (file, memory) = (Results::open(&path, false).unwrap(), Results::from_records(&list, false).unwrap());
        let parts = |r: &Results| r.records.iter().map(|r| (r.sent_id, r.ref_id, r.mask.clone())).collect::<Vec<_>>();
        assert_eq!(parts(&file), parts(&memory));
        let error = Results::from_records(&[list[0].clone(), json!({"sent_id": 8})], false).unwrap_err().to_string();
        assert!(error.starts_with("results: record[1]: has no mask"), "{error}");
        assert!(Results::from_records(&[], false).is_err());
    }
}
