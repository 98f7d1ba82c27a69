//! EVF-SAM on Burn: early vision-language fusion for text-prompted Segment Anything.
//!
//! An image and "the zebra on the left" in, that zebra's mask out. A multimodal encoder (BEiT-3) reads a small version of
//! the image together with the sentence; one vector of it, projected, is the only prompt SAM gets. Take it where masks
//! must be good and a large model is no obstacle. Its authors published no training code; the loss and the list of trained
//! parameters are here.
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_evf::{EvfConfig, EvfSam};
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::beit3::Beit3Config;
//! # use text_encoders::{TextError, TextTokenizer};
//! # struct Letters;
//! # impl TextTokenizer for Letters {
//! #     fn vocab_size(&self) -> usize { 30 }
//! #     fn pad_id(&self) -> u32 { 1 }
//! #     fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
//! #         Ok(text.bytes().filter(u8::is_ascii_lowercase).map(|b| u32::from(b - b'a') + 4).collect())
//! #     }
//! #     fn wrap(&self, pieces: &[u32]) -> Vec<u32> { [&[0], pieces, &[2]].concat() }
//! # }
//!
//! let device = Device::flex();
//! // A toy with fresh weights. The real thing: `EvfConfig::large()`, then `load` with a released checkpoint.
//! let image_encoder = ImageEncoderConfig {
//!     image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, window_size: 3, global_blocks: vec![1],
//!     ..Default::default()
//! };
//! let config = EvfConfig {
//!     sam: SamConfig { image_encoder, ..Default::default() },
//!     beit3: Beit3Config::tiny(30),
//!     ..Default::default()
//! };
//! let evf = EvfSam::new(config.clone(), &config.init(&device)?, Arc::new(Letters))?;
//! let photo = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let found = evf.predict(&photo, &["zebra on the left", "the last zebra"])?; // one image embedding for both
//! assert_eq!((found.len(), found[0].mask.height(), found[0].mask.width()), (2, 60, 80));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | image and sentences to masks | [`EvfSam::predict`] |
//! | images and sentences to logits | [`EvfModel::forward`] |
//! | image embeddings and vectors to logits | [`EvfNet`] |
//! | encoders and features of Tables 1, 3, 5 and 6 | [`Encoder`], [`PromptFeature`] |
//! | both inputs of an image | [`EvfConfig::preprocess`], [`EvfConfig::multimodal_input`] |
//! | training | [`loss`], [`EvfConfig::trains`], [`EvfModel::freeze`] |
//! | released checkpoints | [`EvfSam::from_pretrained`], [`EvfModel::load`], [`EvfModel::save_pretrained`] |
//! | where `[CLS]` looks (Fig. 5) | [`EvfSam::attention`] |
//!
//! # Limits
//! - SAM only: EfficientSAM and SAM-2, with their direct resizes, are not built.
//! - `max_tokens` cuts long sentences at 512 tokens; the released scripts cut none.
//!
//! # Sources
//! "EVF-SAM: Early Vision-Language Fusion for Text-Prompted Segment Anything Model" (2024), first submission, and its
//! released inference code's behaviour. Where paper and code differ, the code is followed: of the prompt encoder only
//! `no_mask_embed` is trained, and the sparse prompt is the one token alone.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod encoder;
mod error;
mod images;
mod loss;
mod model;
mod net;
mod predict;
mod pretrained;

pub use config::{Encoder, EvfConfig, PromptFeature};
pub use encoder::MultimodalEncoder;
pub use error::EvfError;
pub use images::EvfImages;
pub use loss::{EvfLoss, loss};
pub use model::EvfModel;
pub use net::{EvfNet, EvfOutput, Projector, net_names};
pub use predict::{EvfSam, ImageAttention};
pub use pretrained::Pretrained;
