//! Segment Anything (ViT-B, ViT-L, ViT-H) on Burn: points, boxes and masks in, masks out; or everything in an image.
//!
//! Use it to run the released checkpoints on any device that Burn knows, or as the image side of a model that listens to
//! text. It knows no text itself and needs no Python.
//!
//! ```
//! use burn::tensor::Device;
//! use pil_ops::Image;
//! use sam_vit::{ImageEncoderConfig, Output, PromptSet, SamConfig};
//!
//! let device = Device::flex();
//! // A toy with fresh weights; `Sam::from_pretrained("sam_vit_b_01ec64.pth", &device)?` is the real thing.
//! let image_encoder = ImageEncoderConfig {
//!     image_size: 64, embed_dim: 32, depth: 2, heads: 2, out_channels: 32, window_size: 3, global_blocks: vec![1],
//!     ..Default::default()
//! };
//! let sam = SamConfig { image_encoder, ..Default::default() }.init(&device);
//!
//! let image = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let embedding = sam.embed(&image)?;                       // once per image
//! let boxed = PromptSet::boxed([10.0, 10.0, 50.0, 40.0]);   // pixels of the image itself
//! let first = sam.predict(&embedding, &boxed, Output::Single)?;
//! let refined = boxed.with_point([30.0, 20.0], 0).with_mask(first[0].low_res.clone());
//! let masks = sam.predict(&embedding, &refined, Output::Multi)?;
//! assert_eq!((masks.len(), masks[0].mask.height(), masks[0].mask.width()), (3, 60, 80));
//! # Ok::<(), sam_vit::SamError>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | one embedding, many prompts, batches of both | [`Sam::embed`], [`Sam::predict`], [`Sam::predict_batch`] |
//! | everything in an image | [`Sam::segment_everything`], [`AutomaticConfig`] |
//! | weights in either naming, in and out | [`Sam::from_pretrained`], [`Sam::export`], [`SamConfig::detect`] |
//! | half the memory | [`Weights::Half`], [`Sam::with_half_weights`] |
//! | pixels to input, coordinates both ways | [`preprocess`], [`Letterbox`](pil_ops::Letterbox) |
//! | tensors only | [`ImageEncoder::forward`], [`Sam::decode`], [`postprocess`] |
//!
//! # How fusion crates use it
//! - **Features from inside.** [`ImageEncoder::forward_taps`] returns the output of any blocks beside the embedding;
//!   [`ImageEncoder::embed`], [`ImageEncoder::blocks`] and [`ImageEncoder::neck`] are public for a loop of one's own.
//! - **Text through the encoder.** [`Block::forward_tokens`] runs a block's weights over [text ; image] tokens with
//!   attention over everything. Make the [`Grid`] with `prefix` = number of text tokens: relative position then acts
//!   between image tokens only. Windows are ignored there, and the tables of windowed blocks are resized to the grid.
//! - **Text to the decoder.** [`Prompts::tokens`] takes free tokens behind points and boxes.
//! - **Many sentences on one image.** [`MaskDecoder::forward`] takes one embedding for N prompts or N for N.
//! - **A different encoder, the same decoder.** [`PromptEncoder`], [`MaskDecoder`] and [`TwoWayTransformer`] stand alone;
//!   [`MaskDecoderConfig`] has what other releases changed in them. [`ClickModel`] is all that [`AutomaticConfig`] needs.
//! - **The answer.** [`Prediction`] is mask, score and box at the image's own size, from logits; [`MaskLogits`] keeps the logits and
//!   takes instances apart.
//! - **Keys.** Build on [`facebook_names`] with [`nn_ops::weights::KeyMap::then`].
//!
//! # Limits
//! The input is square and a multiple of the patch; sizes other than 1024 resize the position tables, which SAM was not
//! trained for. Numbers agree with the reference to 1e-4 in single precision on the CPU.
//!
//! # Sources
//! Kirillov et al., "Segment Anything" (2023), and the code released with it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod automatic;
mod block;
mod config;
mod error;
mod image_encoder;
mod logits;
mod mask_decoder;
mod mlp;
mod prediction;
mod predictor;
mod preprocess;
mod pretrained;
mod prompt_encoder;
mod sam;
mod two_way;

pub use automatic::{
    AutomaticConfig, ClickModel, CropBox, Region, Small, components, crop_boxes, nms, point_grid, remove_small, stability,
};
pub use block::{Block, RelPosAttention};
pub use config::{ImageEncoderConfig, SamConfig};
pub use error::SamError;
pub use image_encoder::{ImageEncoder, Neck, PatchEmbed};
pub use logits::{MaskLogits, connected_parts};
pub use mask_decoder::{MaskDecoder, MaskDecoderConfig, NormOver, Output, OutputUpscaling};
pub use mlp::{Mlp, MlpBlock};
pub use nn_ops::relative_position::Grid;
pub use nn_ops::window::{window_partition, window_unpartition};
pub use prediction::{Prediction, binary, read_back};
pub use predictor::{
    ImageEmbedding, MASK_THRESHOLD, MaskPrediction, PromptMake, PromptSet, decoder_calls, grouped, masks_at_full_size,
    prompt_tensors,
};
pub use preprocess::{preprocess, preprocess_batch};
pub use pretrained::{Naming, Weights, hugging_face_names, load_facebook, load_hugging_face};
pub use prompt_encoder::{MaskDownscaling, PositionEmbedding, PromptEncoder, Prompts};
pub use sam::{Sam, facebook_names, postprocess};
pub use two_way::{TokenSelfAttention, TwoWayAttention, TwoWayBlock, TwoWayConfig, TwoWayTransformer};
