//! Deep Instruction Tuning (DIT) for Segment Anything: text tokens run through SAM's own image encoder.
//!
//! SAM's encoder is un-windowed by default and carries text slots in front of its image tokens. What is written into the
//! slots before each block is the method's [`Variant`]: a projection of the text features (L-DIT, eq. 8, sec. 3.3), the
//! slots' own output carried on (E-DIT, eq. 4 to 7, sec. 3.2), learnable tokens added, cross-attention, or
//! nothing (default fusion). The decoder sees the text as prompt tokens in every variant.
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_dit::{DitConfig, DitPredictor};
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::{TextTokenizer, bert::BertConfig, tokenizer::WordPiece};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let device = Device::flex();
//!     let tokenizer = WordPiece::train(["the man in red", "the left zebra"], 60)?;
//!     // A toy with fresh weights; `DitPredictor::from_pretrained(folder, &device)?` is the real thing.
//!     let image_encoder = ImageEncoderConfig {
//!         image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, global_blocks: vec![1], ..Default::default()
//!     };
//!     let config = DitConfig {
//!         sam: SamConfig { image_encoder, ..Default::default() },
//!         input_size: 64,
//!         text_dim: 32,
//!         bert: BertConfig { hidden: 32, ffn: 64, ..BertConfig::tiny(tokenizer.vocab_size()) },
//!         ..Default::default()
//!     };
//!     let model = config.init(&device)?;
//!     let predictor = DitPredictor::new(&model, Arc::new(tokenizer))?;
//!
//!     let image = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//!     let embedding = predictor.embed(&image)?;
//!     let men = predictor.ask(&embedding, &["the man in red"])?;
//!     let zebras = predictor.ask(&embedding, &["the left zebra", "zebra"])?;
//!     assert_eq!((men.len(), zebras.len()), (1, 2));
//!     assert_eq!((men[0].mask.height(), men[0].mask.width()), (60, 80));
//!     Ok(())
//! }
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | image and sentences in, masks out | [`DitPredictor`] |
//! | points and boxes as well (Tab. 6) | [`Prompt`], [`DitPredictor::ask_prompts`], [`DitModel::forward_prompts`] |
//! | where words attend in each block (Fig. 5) | [`DitPredictor::attention`] |
//! | images and token ids to logits | [`DitModel::forward`] |
//! | tensors only | [`DitNet`] |
//! | BERT or CLIP (Tab. 5) | [`TextKind`] in [`DitConfig`] |
//! | global or windowed blocks | [`EncoderAttention`] in [`DitConfig`] |
//! | released files: sizes, weights | [`DitConfig::detect`], [`DitModel::load`] |
//! | SAM's, BERT's and CLIP's weights | [`DitModel::load_sam`], [`DitModel::load_encoder`] |
//! | a folder with everything | [`DitPredictor::from_pretrained`], [`DitPredictor::save_pretrained`] |
//! | training | [`loss`], [`DitConfig::trains`], [`DitModel::freeze`] |
//!
//! `fusion-evf` and `fusion-risam` have the same names with another prefix.
//!
//! # Limits
//! The input is square. An image is encoded once per sentence, since its tokens depend on the text; under the default fusion
//! once. Nothing here touches the network: whoever has a hub's id downloads its folder first.
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
mod pretrained;
mod prompt;
mod text;

pub use config::{DitConfig, EncoderAttention, PromptMask, TextKind, Variant};
pub use cross_attention::{GuidedAttention, GuidedBlock, StdNorm};
pub use error::DitError;
pub use instruction::{
    CarriedTokens, CrossAttention, CrossAttentionFfn, CrossAttentionOpp, Instruction, InstructionForm, LearnableTokens,
    Projections,
};
pub use model::{DitFeatures, DitModel};
pub use net::{DitNet, DitOutput, loss};
pub use predict::{DitAttention, DitEmbedding, DitPredictor};
pub use prompt::Prompt;
pub use text::TextTower;
