//! Deep Instruction Tuning (DIT) for Segment Anything: text tokens run through SAM's own image encoder.
//!
//! SAM's encoder is un-windowed by default and carries text slots in front of its image tokens. What is written into the slots before
//! each block is the method's [`Variant`]: a projection of the text features (L-DIT, DIT sec. 3.3), the slots' own output
//! carried on (E-DIT), learnable tokens added, cross-attention, or nothing (default fusion). The decoder sees the text as
//! prompt tokens in every variant.
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_dit::{Dit, DitConfig};
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::{TextTokenizer, bert::BertConfig, tokenizer::WordPiece};
//!
//! let device = Device::flex();
//! let words = WordPiece::train(["the man in red", "the left zebra"], 60)?;
//! // A toy size; `DitConfig::layer_wise_vit_b()` and `layer_wise_vit_h()` are the published ones.
//! let image_encoder = ImageEncoderConfig {
//!     image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, global_blocks: vec![1], ..Default::default()
//! };
//! let config = DitConfig {
//!     sam: SamConfig { image_encoder, ..Default::default() },
//!     input_size: 64,
//!     text_dim: 32,
//!     bert: BertConfig { vocab_size: words.vocab_size(), hidden: 32, layers: 1, heads: 2, ffn: 64, ..Default::default() },
//!     ..Default::default()
//! };
//! // Fresh weights; `DitModel::load` takes released files and exports of the trainer.
//! let dit = Dit::new(config.clone(), &config.init(&device)?, Arc::new(words))?;
//! let image = pil_ops::Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let found = dit.predict(&image, &["the man in red"])?;
//! assert_eq!((found[0].mask.height(), found[0].mask.width()), (60, 80));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | image and sentences in, masks out | [`Dit::predict`] |
//! | points and boxes as well (Tab. 6) | [`Prompt`], [`Dit::predict_prompts`], [`DitModel::forward_prompts`] |
//! | where words look in each block (Fig. 5) | [`Dit::attention`] |
//! | BERT or CLIP (Tab. 5) | [`TextKind`] in [`DitConfig`] |
//! | global or windowed blocks | [`EncoderAttention`] in [`DitConfig`] |
//! | sizes from a file | [`DitConfig::detect`] |
//! | weights | [`DitModel::load`], [`DitModel::load_sam`] |
//!
//! # Limits
//! The input is square. An image is encoded once a sentence, since its tokens depend on the text; under the default fusion
//! once for eight.
//!
//! # Sources
//! "Deep Instruction Tuning for Segment Anything Model" (DIT) and the models released with it. Where both differ the released models
//! are the default and the paper's way an option: BERT's layer ([`DitConfig`]), windows ([`EncoderAttention`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod cross_attention;
mod detect;
mod encoder;
mod error;
mod instruction;
mod model;
mod net;
mod predict;
mod prompt;
mod text;

pub use config::{DitConfig, EncoderAttention, TextKind, Variant};
pub use cross_attention::{GuidedAttention, GuidedBlock, StdNorm};
pub use error::DitError;
pub use instruction::Instruction;
pub use model::DitModel;
pub use net::{DitNet, DitOutput, loss, released_names};
pub use predict::{Dit, WordAttention};
pub use prompt::Prompt;
pub use text::TextTower;
