//! Readers, generators, samplers and transforms for RefCOCO-family data
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod dataset;
mod error;
mod instances;
mod layout;
mod loader;
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
pub use prefetch::Prefetcher;
pub use refs::{AnnId, Sentence, SentenceKind};
pub use sampler::{Epoch, Item, ItemPer, Sampler, sequential};
pub use synth::{SynthConfig, SynthSummary, generate};
pub use text::{flip_substrings, flip_words};
pub use transform::{Augment, Fit, FlipText, Placement, Transform, Transformed};
pub use verify::{SplitCount, VerifyReport, verify, verify_deep};
