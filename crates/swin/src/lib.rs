//! Swin Transformers on Burn: an image in, a feature map per stage out, at any input size.
//!
//! Use it as the backbone of a segmenter or detector that wants maps at strides 4, 8, 16 and 32. It runs the released
//! checkpoints as they are: tables of relative positions depend on the window only, so weights trained at 384 pixels run at 480.
//!
//! ```
//! use burn::tensor::Device;
//! use pil_ops::Image;
//! use swin::SwinConfig;
//!
//! let device = Device::flex();
//! // A toy with fresh weights; `Swin::from_pretrained("swin_base_patch4_window12_384_22k.pth", &device)?` is the real thing.
//! let config = SwinConfig::toy();
//! let swin = config.init(&device)?;
//!
//! let photo = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let maps = swin.features(&photo, 36)?;                        // channels last, a map per stage
//! assert_eq!(maps.len(), config.stages());
//! assert_eq!((maps[0].dims(), maps[1].dims()), ([1, 9, 9, 8], [1, 5, 5, 16]));
//! # Ok::<(), swin::SwinError>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | an image to maps | [`Swin::features`], [`preprocess`] |
//! | tensors to maps | [`Swin::forward`], [`SwinConfig::grid`] |
//! | weights of Microsoft, Hugging Face and timm | [`Swin::from_pretrained`], [`SwinConfig::load`], [`SwinConfig::detect`] |
//! | another window | [`SwinConfig::load`], [`resize_table`] |
//! | blocks, windows and masks | [`SwinBlock`], [`WindowGrid`], [`shift_mask`] |
//!
//! # Limits
//! - Feature maps only: no classifier, no dropout or stochastic depth, no absolute positions, no Swin v2.
//! - Maps are padded to whole windows and padding takes part in attention, as in published detectors and segmenters. A map
//!   that is smaller than a window is padded, rolled and masked like any other; classifiers shrink the window there.
//! - Numbers agree with the reference to 1e-4 in single precision on the CPU.
//!
//! # Sources
//! Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (2021), and the code released with
//! it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod block;
mod config;
mod error;
mod model;
mod patch;
mod preprocess;
mod pretrained;
mod window;

pub use block::{Mlp, SwinBlock, WindowAttention};
pub use config::SwinConfig;
pub use error::SwinError;
pub use model::{Stage, Swin};
pub use patch::{PatchEmbed, PatchMerging};
pub use preprocess::preprocess;
pub use pretrained::microsoft_names;
pub use window::{SHIFT_MASK, WindowGrid, relative_position_index, resize_table, shift_mask};
