//! RISAM on Burn: mutual-aware attention features for referring image segmentation.
//!
//! An image and "the zebra on the left" in, that zebra's mask out. The image encoder (SAM's, CLIP's or a Swin Transformer) and
//! CLIP's text tower stay frozen; under six million parameters between them are trained. The paper came without code or
//! weights; this is a reading of it in which every choice it leaves open, and every row of its ablations, is a field of [`RisamConfig`].
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_risam::{RisamConfig, RisamPredictor};
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::{TextTokenizer, clip::ClipTextConfig, tokenizer::ClipTokenizer};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let device = Device::flex();
//!     let tokenizer = ClipTokenizer::train(["the zebra on the left", "the last zebra"], 60)?;
//!     // A toy with fresh weights; `RisamPredictor::from_pretrained(folder, &device)?` is the real thing.
//!     let image_encoder = ImageEncoderConfig {
//!         image_size: 64, embed_dim: 32, depth: 3, heads: 2, out_channels: 32, global_blocks: vec![0, 1, 2],
//!         ..Default::default()
//!     };
//!     let config = RisamConfig {
//!         sam: SamConfig { image_encoder, ..Default::default() },
//!         clip: ClipTextConfig::tiny(tokenizer.vocab_size()),
//!         input_size: 64,
//!         taps: [0, 1, 2],
//!         width: 16,
//!         heads: 2,
//!         up_channels: [8, 4],
//!         ..Default::default()
//!     };
//!     let model = config.init(&device)?;
//!     let predictor = RisamPredictor::new(&model, Arc::new(tokenizer))?;
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
//! | image and sentences in, masks out | [`RisamPredictor`] |
//! | words per region and regions per word (Fig. 7) | [`RisamPredictor::attention`] |
//! | images and token ids to logits | [`RisamModel::forward`] |
//! | taps and word features to logits, stage by stage | [`RisamNet`], [`Fusion`], [`OwnDecoder`] |
//! | ablations, other backbones | [`RisamConfig`] and its enums |
//! | SAM's, CLIP's and Swin's weights | [`RisamModel::load_sam`], [`RisamModel::load_encoder`], [`RisamModel::load_swin`] |
//! | a folder with everything | [`RisamPredictor::from_pretrained`], [`RisamPredictor::save_pretrained`] |
//! | training | [`loss`], [`valid_areas`], [`RisamConfig::trains`], [`RisamModel::freeze`] |
//!
//! `fusion-dit` and `fusion-evf` have the same names with another prefix.
//!
//! # Limits
//! - Batch norms use the batch's statistics wherever gradients are tracked: evaluate on `model.valid()`. Clones of a module
//!   share one set of running statistics, `valid()` makes a set of its own; an update is written into the shared set by the
//!   next forward pass or by `valid()`, so call the latter before saving. The running variance is the biased one.
//! - Nothing here touches the network: whoever has a hub's id downloads its folder first.
//! - Swin-B and CLIP ViT-B/16 (Tab. 7) see 480 pixels a side; the paper states neither their weights nor their input.
//! - The decoder's attention over all regions keeps a map of 4096 x 4096 per head while it is trained.
//!
//! # Sources
//! "RISAM: Referring Image Segmentation via Mutual-Aware Attention Features" (2023). Sections and equations are named where
//! they are used; so are its misprints.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod ablations;
mod attend;
mod backbone;
mod config;
mod decoder;
mod enhancement;
mod error;
mod features;
mod head;
mod loss;
mod mask_head;
mod model;
mod mutual;
mod net;
mod options;
mod positions;
mod predict;
mod pretrained;

pub use ablations::{ConvInteraction, TransformerInteraction, TransformerLayer};
pub use attend::RisamAttention;
pub use backbone::ImageBackbone;
pub use config::RisamConfig;
pub use decoder::{DecoderBlock, DecoderContext, DecoderState, MultiHeadAttention};
pub use enhancement::{
    Cba, EnhancementForm, FeatureEnhancement, FullEnhancement, LastTap, Pyramid, PyramidEnhancement, TapMlp, align_taps,
};
pub use error::RisamError;
pub use features::RisamFeatures;
pub use head::{ConvStage, Head, VltHead};
pub use loss::{RisamLoss, loss, valid_areas};
pub use mask_head::{MaskHead, OwnDecoder, SamDecoder};
pub use model::RisamModel;
pub use mutual::{AttentionMaps, MutualAttention, Pair};
pub use net::{Baseline, Fusion, InteractionBlocks, RisamForm, RisamNet, RisamOutput};
pub use options::{
    Backbone, Decoder, Enhancement, Interaction, LanguageSoftmax, LinguisticPosition, NormPlacement, Upsampling, VisualPosition,
};
pub use positions::sine;
pub use predict::{RisamEmbedding, RisamPredictor};
