//! RISAM on Burn: mutual-aware attention features for referring image segmentation.
//!
//! A picture and "the zebra on the left" in, that zebra's mask out. The image encoder (SAM's, CLIP's or a Swin Transformer) and
//! CLIP's text tower stay frozen; under six million parameters between them are trained. The paper came without code or weights; this is a reading of it
//! in which every choice it leaves open, and every row of its ablations, is a field of [`RisamConfig`].
//!
//! ```
//! use std::sync::Arc;
//! use burn::tensor::Device;
//! use fusion_risam::{Risam, RisamConfig};
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, SamConfig};
//! use text_encoders::clip::ClipTextConfig;
//! # use text_encoders::{TextError, TextTokenizer};
//! # struct Letters;
//! # impl TextTokenizer for Letters {
//! #     fn vocab_size(&self) -> usize { 30 }
//! #     fn pad_id(&self) -> u32 { 0 }
//! #     fn pieces(&self, text: &str) -> Result<Vec<u32>, TextError> {
//! #         Ok(text.bytes().filter(u8::is_ascii_lowercase).map(|b| u32::from(b - b'a') + 1).collect())
//! #     }
//! #     fn wrap(&self, pieces: &[u32]) -> Vec<u32> { [&[28], pieces, &[29]].concat() }
//! # }
//!
//! let device = Device::flex();
//! // A toy with fresh weights. The real thing: `RisamConfig::vit_h()`, then `load_sam` and `load_clip`.
//! let image_encoder = ImageEncoderConfig {
//!     image_size: 64, embed_dim: 32, depth: 3, heads: 2, out_channels: 32, window_size: 3, global_blocks: vec![0, 1, 2],
//!     ..Default::default()
//! };
//! let config = RisamConfig {
//!     sam: SamConfig { image_encoder, ..Default::default() },
//!     clip: ClipTextConfig { heads: 2, ..ClipTextConfig::tiny(30) },
//!     input_size: 64, taps: [0, 1, 2], width: 16, heads: 2, up_channels: [8, 4],
//!     ..Default::default()
//! };
//! let risam = Risam::new(config.clone(), &config.init(&device)?, Arc::new(Letters))?;
//! let photo = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let found = risam.predict(&photo, &["zebra on the left", "the last zebra"])?;
//! assert_eq!((found.len(), found[0].mask.height(), found[0].mask.width()), (2, 60, 80));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | image and sentences to masks | [`Risam::predict`] |
//! | words per region and regions per word (Fig. 7) | [`Risam::attention`] |
//! | images and sentences to logits | [`RisamModel::forward`] |
//! | taps and word features to logits, stage by stage | [`RisamNet`] |
//! | ablations, other backbones | [`RisamConfig`] and its enums |
//! | training | [`loss`], [`valid_areas`], [`RisamModel::freeze`] |
//!
//! # Limits
//! - Batch norms use the batch's statistics wherever gradients are tracked: evaluate on `model.valid()`. Clones of a module
//!   share one set of running statistics, `valid()` makes a set of its own; an update is written into the shared set by the
//!   next forward pass or by `valid()`, so call the latter before saving. The running variance is the biased one.
//! - Swin-B and CLIP ViT-B/16 (Tab. 7) see 480 pixels a side; the paper states neither their weights nor their input.
//! - The decoder's attention over all regions keeps a map of 4096 x 4096 a head while it is trained.
//!
//! # Sources
//! "RISAM: Referring Image Segmentation via Mutual-Aware Attention Features" (2023). Sections and equations are named where
//! they are used; so are its misprints.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod alternatives;
mod attend;
mod backbone;
mod config;
mod decoder;
mod enhancement;
mod error;
mod head;
mod loss;
mod model;
mod mutual;
mod net;
mod options;
mod positions;
mod predict;

pub use alternatives::{ConvInteraction, TransformerInteraction, TransformerLayer};
pub use attend::WordAttention;
pub use config::RisamConfig;
pub use decoder::{Attention, DecoderBlock, DecoderContext, DecoderState};
pub use enhancement::{Cba, FeatureEnhancement, Pyramid, TapMlp, align_taps};
pub use error::RisamError;
pub use head::{ConvStage, Head, VltHead};
pub use loss::{RisamLoss, loss, valid_areas};
pub use model::RisamModel;
pub use mutual::{AttentionMaps, MutualAttention, Pair};
pub use net::{ImageFeatures, RisamNet, RisamOutput, SamDecoder, net_names};
pub use options::{
    Backbone, Decoder, Enhancement, Interaction, LanguageSoftmax, LinguisticPosition, NormPlacement, Upsampling, VisualPosition,
};
pub use positions::sine;
pub use predict::Risam;
