//! Data of one's own: COCO, JSON lines, folders of masks, Label Studio's export and YOLO's polygons, as one kind of record.

mod brush;
mod catalogue;
mod coco;
mod convert;
mod folder;
mod jsonl;
mod label_studio;
mod mask_file;
mod masks;
mod names;
mod sample;
mod verify;
mod write;
mod yolo;

use std::path::{Path, PathBuf};

pub use brush::{brush_rle, from_brush_rle};
pub(crate) use catalogue::{held_out, open};
pub use convert::{ConvertTo, Converted, convert};
pub use mask_file::mask_png;
pub use sample::UnreadMask;
pub(crate) use sample::union;
pub(crate) use verify::{Checked, check};

use crate::{DataError, json};
use folder::IMAGES;
use sample::Sample;

/// Who made the splits of such sets: whoever made the data, or the hash of the images.
pub(crate) const BY: &str = "own";

/// What a folder lacks that holds none of them.
pub(crate) const NOTHING: &str = "data";

/// How data of one's own are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnFormat {
    /// COCO's JSON, with sentences in annotations or the names of categories.
    Coco,
    /// A record per line.
    Jsonl,
    /// Folders of images and masks, with sentences in a CSV file or in file names.
    Masks,
    /// Label Studio's JSON export.
    LabelStudio,
    /// YOLO's segmentation labels.
    YoloSeg,
}

impl OwnFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Coco, Self::Jsonl, Self::Masks, Self::LabelStudio, Self::YoloSeg];

    /// The word in configs and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::Jsonl => "jsonl",
            Self::Masks => "masks",
            Self::LabelStudio => "label-studio",
            Self::YoloSeg => "yolo-seg",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The names of all, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The format of a folder, by what lies in it.
    ///
    /// # Errors
    /// A folder that is not there, holds none of them, or several.
    pub fn detect(path: &Path) -> Result<Self, DataError> {
        let root = Root::open(path)?;
        let mut found = Vec::new();
        if !folder::files(path, &["jsonl"])?.is_empty() {
            found.push(Self::Jsonl);
        }
        let labels = path.join("labels").is_dir()
            || ["train", "val", "valid", "test"].iter().any(|s| path.join(s).join("labels").is_dir());
        if labels && names::FILES.iter().any(|name| path.join(name).is_file()) {
            found.push(Self::YoloSeg);
        }
        if path.join("masks").is_dir() && (path.join("images").is_dir() || !root.tables()?.is_empty()) {
            found.push(Self::Masks);
        }
        for file in folder::files(path, &["json"])? {
            // A file that is no JSON at all is told of when it is read as what the folder is.
            let Ok(value) = json::parse(&file) else { continue };
            let of = if coco::is_coco(&value) {
                Self::Coco
            } else if label_studio::is_export(&value) {
                Self::LabelStudio
            } else {
                continue;
            };
            if !found.contains(&of) {
                found.push(of);
            }
        }
        // Masks that lines of JSON point at lie in a folder of that name, too.
        if found.contains(&Self::Jsonl) {
            found.retain(|format| *format != Self::Masks);
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(root.nothing(&format!("expected data as {}; docs/finetune.md shows each", Self::names()))),
            several => {
                let names = several.iter().map(|f| f.name()).collect::<Vec<_>>().join(" and ");
                let hint = format!("it could be {names}: say which one");
                Err(DataError::Missing { path: path.into(), what: "single kind of data", hint })
            }
        }
    }
}

/// A folder of data.
pub(crate) struct Root {
    pub(crate) path: PathBuf,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        if path.is_dir() {
            return Ok(Self { path: path.into() });
        }
        let hint = "give the folder that holds your images and what is said about them".into();
        Err(DataError::Missing { path: path.into(), what: "data folder", hint })
    }

    /// CSV files right in the folder.
    pub(crate) fn tables(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut found = folder::files(&self.path, &["csv"])?;
        found.retain(|path| path.parent() == Some(&self.path));
        Ok(found)
    }

    /// Where images lie, in the order of search.
    pub(crate) fn image_folders(&self) -> Vec<PathBuf> {
        vec![self.path.clone(), self.path.join("images")]
    }

    fn nothing(&self, hint: &str) -> DataError {
        DataError::Missing { path: self.path.clone(), what: NOTHING, hint: hint.to_owned() }
    }
}

/// What a reader found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) samples: Vec<Sample>,
    pub(crate) errors: Vec<DataError>,
    pub(crate) warnings: Vec<String>,
    /// Images of which nothing is said.
    pub(crate) unsaid: usize,
}

impl Found {
    /// Reads a folder.
    ///
    /// # Errors
    /// A folder that is not there or has no record, a file that cannot be read at all. What is wrong with a record goes to `errors`.
    pub(crate) fn read(format: OwnFormat, path: &Path) -> Result<Self, DataError> {
        let (root, mut out) = (Root::open(path)?, Self::default());
        match format {
            OwnFormat::Coco => coco::read(&root, &mut out),
            OwnFormat::Jsonl => jsonl::read(&root, &mut out),
            OwnFormat::Masks => masks::read(&root, &mut out),
            OwnFormat::LabelStudio => label_studio::read(&root, &mut out),
            OwnFormat::YoloSeg => yolo::read(&root, &mut out),
        }?;
        out.drop_blank();
        if out.unsaid > 0 {
            out.warnings.push(format!("{}: nothing is said about {} images; readers skip them", path.display(), out.unsaid));
        }
        if out.samples.is_empty() && out.errors.is_empty() {
            let images = folder::files(path, &IMAGES)?.len();
            return Err(
                root.nothing(&format!("nothing in it says what is meant in its {images} images as {} does", format.name()))
            );
        }
        Ok(out)
    }

    fn push(&mut self, sample: Result<Sample, DataError>) {
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(error) => self.errors.push(error),
        }
    }

    /// Takes out sentences without words.
    fn drop_blank(&mut self) {
        for sample in &mut self.samples {
            let before = sample.sentences.len();
            sample.sentences.retain(|s| s.chars().any(char::is_alphanumeric));
            if sample.sentences.len() < before || before == 0 {
                let (path, field) = (sample.place.path.display(), &sample.place.field);
                self.warnings.push(format!("{path}: field `{field}`: a sentence without a word; readers skip it"));
            }
        }
        self.samples.retain(|sample| !sample.sentences.is_empty());
    }
}
