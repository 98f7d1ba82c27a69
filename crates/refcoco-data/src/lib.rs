//! Readers, generators, samplers and transforms for RefCOCO-family data
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod dataset;
mod error;
mod instances;
mod layout;
mod loader;
mod pickle;
mod published;
mod refs;
mod value;
mod verify;

pub use dataset::{Dataset, DatasetSpec, ImageInfo, Referent, held_out_images};
pub use error::DataError;
pub use layout::{IMAGE_FOLDERS, SETS};
pub use loader::{decode, size};
pub use refs::{AnnId, Sentence, SentenceKind};
pub use verify::{SplitCount, VerifyReport, verify, verify_deep};
