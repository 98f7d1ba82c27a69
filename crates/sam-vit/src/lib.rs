//! Segment Anything (ViT-B, ViT-L, ViT-H) on Burn.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use sam_vit::{ImageEncoderConfig, Output, Prompts, SamConfig};
//!
//! let device = Device::flex();
//! // A toy size; `SamConfig::vit_b()` and its siblings are the published ones.
//! let image_encoder = ImageEncoderConfig {
//!     image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, window_size: 3, global_blocks: vec![1],
//!     ..Default::default()
//! };
//! let sam = SamConfig { image_encoder, ..Default::default() }.init(&device);
//! let embedding = sam.image_encoder.forward(Tensor::zeros([1, 3, 64, 64], &device));
//! let boxes = Tensor::from_floats([[8.0, 8.0, 40.0, 48.0]], &device);
//! let (masks, iou) = sam.decode(embedding, Prompts { boxes: Some(boxes), ..Default::default() }, (64, 64), Output::Multi);
//! assert_eq!(masks.dims(), [1, 3, 16, 16]);
//! assert_eq!(iou.dims(), [1, 3]);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod block;
mod config;
mod image_encoder;
mod mask_decoder;
mod prompt_encoder;
mod relative_position;
mod sam;
mod two_way;

pub use block::{Attention, Block, Mlp, join, partition};
pub use config::{ImageEncoderConfig, SamConfig};
pub use image_encoder::{ImageEncoder, Neck, PatchEmbed};
pub use mask_decoder::{MaskDecoder, Output, OutputUpscaling, Perceptron};
pub use prompt_encoder::{MaskDownscaling, PositionEmbedding, PromptEncoder, Prompts};
pub use relative_position::Grid;
pub use sam::{Sam, facebook_names, postprocess};
pub use two_way::{TwoWayBlock, TwoWayTransformer};
