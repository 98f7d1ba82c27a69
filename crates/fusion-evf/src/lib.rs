//! EVF-SAM on Burn: early vision-language fusion for text-prompted Segment Anything.
//!
//! An image and "the zebra on the left" in, that zebra's mask out. A multimodal encoder (BEiT-3) reads a small version of
//! the image together with the sentence; one vector of it, projected, is the only prompt that SAM, EfficientSAM or SAM-2 gets. Take it where masks
//! must be good and a large model is no obstacle. Its authors published no training code; the loss and the list of trained
//! parameters are here.
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_evf::{EvfConfig, EvfPredictor};
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::{TextTokenizer, beit3::Beit3Config, tokenizer::WordPiece};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let device = Device::flex();
//!     let tokenizer = WordPiece::train(["the zebra on the left", "the last zebra"], 60)?;
//!     // A toy with fresh weights; `EvfPredictor::from_pretrained(folder, &device)?` is the real thing.
//!     let image_encoder = ImageEncoderConfig {
//!         image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, global_blocks: vec![1], ..Default::default()
//!     };
//!     let config = EvfConfig {
//!         sam: SamConfig { image_encoder, ..Default::default() },
//!         beit3: Beit3Config::tiny(tokenizer.vocab_size()),
//!         ..Default::default()
//!     };
//!     let model = config.init(&device)?;
//!     let predictor = EvfPredictor::new(&model, Arc::new(tokenizer))?;
//!
//!     let image = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//!     let embedding = predictor.embed(&image)?;
//!     let left = predictor.ask(&embedding, &["the zebra on the left"])?;
//!     let others = predictor.ask(&embedding, &["the last zebra", "zebra"])?;
//!     assert_eq!((left.len(), others.len()), (1, 2));
//!     assert_eq!((left[0].mask.height(), left[0].mask.width()), (60, 80));
//!     Ok(())
//! }
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | image and sentences in, masks out | [`EvfPredictor`] |
//! | where `[CLS]` attends (Fig. 5) | [`EvfPredictor::attention`] |
//! | images and token ids to logits | [`EvfModel::forward`] |
//! | image embeddings and vectors to logits | [`EvfNet`] |
//! | encoders and features of Tables 1, 3, 5 and 6 | [`Encoder`], [`PromptFeature`] |
//! | SAM, EfficientSAM or SAM-2 below it | [`Visual`], [`VisualKind`], [`Generation`] |
//! | sentences through a video (SAM-2) | [`EvfVideo`] |
//! | both inputs of an image | [`EvfConfig::preprocess`], [`EvfConfig::visual_input`], [`EvfConfig::multimodal_input`], [`Input`] |
//! | released files | [`EvfPredictor::from_pretrained`], [`EvfModel::load`] |
//! | the image models', BEiT-3's, CLIP's and ViLT's weights | [`EvfModel::load_sam`], [`EvfModel::load_encoder`] |
//! | writing the published layout | [`EvfPredictor::save_pretrained`], [`EvfModel::save_pretrained`] |
//! | training | [`loss`], [`EvfConfig::trains`], [`EvfModel::freeze`] |
//!
//! `fusion-dit` and `fusion-risam` have the same names with another prefix.
//!
//! # Limits
//! - Of a published SAM-2 model's two generations `config.json` says nothing; [`EvfConfig::from_pretrained`] goes by
//!   `added_tokens.json`, and [`EvfConfig::generation`] says otherwise.
//! - `max_tokens` cuts long sentences at 512 tokens; the released scripts cut none.
//! - Nothing here touches the network: whoever has a hub's id downloads its folder first.
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
mod video;
mod visual;

pub use config::{Encoder, EvfConfig, PromptFeature};
pub use encoder::{ClipTowers, JointBeit3, MultimodalEncoder};
pub use error::EvfError;
pub use images::EvfImages;
pub use loss::{EvfLoss, loss};
pub use model::{EvfFeatures, EvfModel};
pub use net::{EvfNet, EvfOutput, Projector};
pub use predict::{EvfAttention, EvfEmbedding, EvfPredictor};
pub use pretrained::Pretrained;
pub use sam2::Answer;
pub use video::EvfVideo;
pub use visual::{Generation, Input, Visual, VisualKind};
