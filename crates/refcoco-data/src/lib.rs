//! Readers, generators, samplers and transforms for RefCOCO-family data, and for the sets of classes that are mixed with it.
//!
//! Use it to open RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO, RefCLEF and PhraseCut folders as they are published, and ADE20K, Mapillary
//! Vistas, ATR human parsing, PartImageNet, PASCAL-Part and Objects365 with masks, to check them, to make a small set in the same
//! formats, and to turn either into batches of bytes for a network.
//!
//! ```
//! use refcoco_data::{
//!     Augment, Dataset, DatasetSpec, Fit, ImageCache, ItemPer, Sampler, SynthConfig, Transform, generate, load_batch,
//! };
//!
//! # let temp = tempfile::tempdir().map_err(|e| e.to_string())?;
//! # let folder = temp.path().join("data");
//! # let run = || -> Result<(), refcoco_data::DataError> {
//! generate(&SynthConfig { images: 8, size: 64, ..SynthConfig::default() }, &folder)?;
//! let train = Dataset::open(&DatasetSpec::new(&folder, "refcoco"), "train")?;
//! let sampler = Sampler::new(&train, ItemPer::Referent, 2, 0)?;
//! let transform = Transform::train(64, Fit::Centre, Augment::default())?;
//! let batch = load_batch(&train, &sampler.at(0), &transform, &ImageCache::default())?;
//! assert_eq!(batch.len(), 2);
//! assert_eq!(batch[0].sample.mask.len(), 64 * 64);
//! assert!(!batch[0].sample.sentence.is_empty());
//! # Ok(())
//! # };
//! # run().map_err(|e| e.to_string())?;
//! # Ok::<(), String>(())
//! ```
//!
//! # Layout
//! ```text
//! ROOT/refcoco/{refs(unc).p, instances.json}     also refcoco+, refcocog, refclef; any split author in parentheses
//! ROOT/grefcoco/{grefs(unc).json, instances.json}
//! ROOT/images/train2014                          or images/mscoco/images/train2014, images/saiapr_tc-12
//! ROOT/VGPhraseCut_v0/{refer_SPLIT.json, image_data_split.json, images}    the set `phrasecut`
//!
//! ROOT/ade20k/{images,annotations}/{training,validation}, ade20k_classes.json       or ADEChallengeData2016, objectInfo150.txt
//! ROOT/mapillary/{training,validation}/{images, v2.0/labels}, config_v2.0.json
//! ROOT/humanparsing/{JPEGImages, SegmentationClassAug}
//! ROOT/PartImageNet/{images/SPLIT, annotations/SPLIT/SPLIT.json}                    the set `partimagenet`
//! ROOT/vlpart/pascal_part/{SPLIT.json, VOCdevkit/VOC2010/JPEGImages}
//! ROOT/Object365/raw/Objects365_v1/2019-08-02/{train, o365_res_instances.json}      the set `objects365`
//! ```
//! In the last six a mask is everything of one class in an image. None of them is held: label maps and records are read when an
//! image is loaded, and which classes it has is known then. So they are drawn image by image ([`ItemPer::Image`]), and a
//! [`Dataset::with_prompt`] says what is asked for. [`BoxFile`] and [`MaskLines`] make Objects365's masks from its boxes, with any
//! model.
//!
//! # Limits
//! Nothing is downloaded. A set's whole `instances.json` is held in memory while it is opened (that of a set of classes is not).
//! Masks are unions of
//! their polygons; upstream readers that add them up or keep overlaps as background are not imitated. PhraseCut's subsets
//! by lists of words (stuff, COCO's names, kinds of attributes) are not built. JPEG pixels may
//! differ from libjpeg's by a few levels.
//!
//! # Sources
//! The formats are those of the REFER, gRefCOCO and PhraseCut tools and of COCO; published counts come from their documents.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod boxes;
mod classes;
mod dataset;
mod error;
mod instances;
mod item;
mod json;
mod layout;
mod loader;
mod open;
mod own;
mod phrasecut;
mod pickle;
mod prefetch;
mod published;
mod refs;
mod rng;
mod sampler;
mod synth;
mod text;
mod transform;
mod value;
mod verify;

pub use boxes::{BoxFile, BoxImage, BoxPrompt, MachineMask, MaskLines, MasksWritten};
pub use classes::{ClassImage, ClassSet};
pub use dataset::{Collection, Dataset, DatasetSpec, ImageInfo, Photo, Referent};
pub use error::DataError;
pub use item::{Draw, Item, Target, sequential};
pub use layout::{IMAGE_FOLDERS, SETS};
pub use loader::{ImageCache, Loaded, decode, load_batch, size};
pub use open::held_out_images;
pub use own::{ConvertTo, Converted, OwnFormat, UnreadMask, brush_rle, convert, from_brush_rle, mask_png};
pub use pickle::read_pickle;
pub use pil_ops::Fit;
pub use prefetch::Prefetcher;
pub use refs::{AnnId, Sentence, SentenceKind};
pub use sampler::{Epoch, ItemPer, Sampler};
pub use synth::{SynthConfig, SynthFormat, SynthStyle, SynthSummary, generate, generated_by};
pub use text::{flip_substrings, flip_words};
pub use transform::{Augment, FlipText, Transform, Transformed};
pub use verify::{SplitCount, VerifyReport, verify, verify_deep, verify_own};
