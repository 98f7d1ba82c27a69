//! Readers, generators, samplers and transforms for RefCOCO-family data.
//!
//! Use it to open RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO, RefCLEF and PhraseCut folders as they are published, to check them, to make
//! a small set in the same formats, and to turn either into batches of bytes for a network.
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
//! assert_eq!(batch[0].mask.len(), 64 * 64);
//! assert!(!batch[0].sentence.is_empty());
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
//! ```
//!
//! # Limits
//! Nothing is downloaded. A set's whole `instances.json` is held in memory while it is opened. Masks are unions of
//! their polygons; upstream readers that add them up or keep overlaps as background are not imitated. PhraseCut's subsets
//! by lists of words (stuff, COCO's names, kinds of attributes) are not built. JPEG pixels may
//! differ from libjpeg's by a few levels.
//!
//! # Sources
//! The formats are those of the REFER, gRefCOCO and PhraseCut tools and of COCO; published counts come from their documents.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod dataset;
mod error;
mod instances;
mod json;
mod layout;
mod loader;
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

pub use dataset::{Dataset, DatasetSpec, ImageInfo, Referent, held_out_images};
pub use error::DataError;
pub use layout::{IMAGE_FOLDERS, SETS};
pub use loader::{ImageCache, decode, load, load_batch, size};
pub use pil_ops::Fit;
pub use prefetch::Prefetcher;
pub use refs::{AnnId, Sentence, SentenceKind};
pub use sampler::{Epoch, Item, ItemPer, Sampler, sequential};
pub use synth::{SynthConfig, SynthFormat, SynthSummary, generate, generated_by};
pub use text::{flip_substrings, flip_words};
pub use transform::{Augment, FlipText, Transform, Transformed};
pub use verify::{SplitCount, VerifyReport, verify, verify_deep};
