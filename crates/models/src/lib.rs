//! Text-prompted Segment Anything models behind one type: open a run, a weight file, a folder or a hub id, and ask.
//!
//! What the program, a service, a Python package and a browser share. It knows every method and no training: whoever only asks
//! depends on this crate, never on the trainer.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use models::Source;
//! use pil_ops::Image;
//!
//! let source = Source::Weights { weights: "hf:YxZhang/evf-sam".into(), config: None };
//! let model = source.find::<&str>(&[])?.model(&Device::flex())?;
//! let photo = Image::new(64, 48, 3, vec![128; 64 * 48 * 3])?;
//! for found in model.predict(&photo, &["the zebra on the left", "grass"])? {
//!     println!("{} pixels, score {:.2}", found.mask.area(), found.score);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | weights wherever they lie | [`Source`], [`Found`] |
//! | the small model that comes with it (feature `shipped`) | `shipped` |
//! | weights in memory, as in a browser | [`AnyModel::from_files`], [`AnyModel::from_bytes`] |
//! | masks and attention maps | [`AnyModel`] |
//! | sentences corrected by points and boxes | [`Question`], [`AnyModel::ask_with`] |
//! | a method from a run config, for training | [`methods::AnyMethod`], [`with_method`] |
//! | the files of a run | [`run_dir`], [`manifest`] |
//! | computing in bf16 | [`precision`] |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod any;
mod attention;
mod error;
mod files;
pub mod manifest;
pub mod methods;
pub mod precision;
mod question;
pub mod run_dir;
#[cfg(feature = "shipped")]
pub mod shipped;
mod source;
pub mod tokenizer;
pub mod weights;

pub use any::{AnyEmbedding, AnyModel};
pub use attention::Attention;
pub use error::ModelError;
pub use question::Question;
pub use source::{Found, FoundWeights, Source};
