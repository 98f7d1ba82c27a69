//! EfficientSAM (ViT-Tiny, ViT-Small) on Burn: points and boxes in, masks out, with an encoder of 6 or 22 million parameters.
//!
//! Use it where SAM's encoder is too slow: the masks are a little coarser, and an image takes a fraction of the time. It is also
//! the light image side of a model that listens to text; it knows no text itself.
//!
//! ```
//! use burn::tensor::Device;
//! use efficient_sam::{EfficientSamConfig, Output, PromptSet};
//! use pil_ops::Image;
//!
//! let device = Device::flex();
//! // A toy with fresh weights; `EfficientSam::from_pretrained("efficient_sam_vits.pt", &device)?` is the real thing.
//! let sam = EfficientSamConfig::toy().init(&device)?;
//!
//! let image = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let embedding = sam.embed(&image)?;                             // once per image
//! let click = PromptSet::click(30.0, 20.0);                       // pixels of the image itself
//! let boxed = PromptSet::boxed([10.0, 10.0, 50.0, 40.0]).with_point([30.0, 20.0], 0);
//! let masks = sam.predict_batch(&embedding, &[click, boxed], Output::Multi)?;
//! assert_eq!((masks.len(), masks[0].len(), masks[0][0].mask.height()), (2, 3, 60));
//! assert!(masks[1][0].iou >= masks[1][1].iou);                    // the best first
//! # Ok::<(), efficient_sam::SamError>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | one embedding, many prompts | [`EfficientSam::embed`], [`EfficientSam::predict`], [`EfficientSam::predict_batch`] |
//! | everything in an image | [`EfficientSam::segment_everything`], [`AutomaticConfig`] |
//! | weights in and out | [`EfficientSam::from_pretrained`], [`EfficientSamConfig::load`], [`EfficientSam::export`] |
//! | tensors only | [`ImageEncoder::forward`], [`prepare_points`], [`EfficientSam::decode_points`], [`postprocess`] |
//! | text tokens as prompts (EVF-SAM) | [`EfficientSam::decode_tokens`] |
//!
//! Predictor, generator and mask decoder are `sam-vit`'s; [`MaskDecoderConfig`](sam_vit::MaskDecoderConfig) has what differs.
//!
//! # Limits
//! - Six points per query, a box counting as two; no mask prompts.
//! - Images are stretched to a square of 1024 pixels; other inputs resize the positions, which the model was not trained for.
//! - Numbers agree with the reference to 1e-4 in single precision on the CPU.
//!
//! # Sources
//! Xiong et al., "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything" (2023), and the code
//! released with it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod image_encoder;
mod model;
mod predictor;
mod pretrained;
mod prompt_encoder;

pub use config::EfficientSamConfig;
pub use image_encoder::{Attention, Block, ImageEncoder, Mlp};
pub use model::{EfficientSam, sort_by_iou};
pub use predictor::{postprocess, preprocess};
pub use pretrained::efficient_sam_names;
pub use prompt_encoder::{BACKGROUND, BOTTOM_RIGHT, FOREGROUND, INVALID, PromptEncoder, TOP_LEFT, prepare_points};
pub use sam_vit::{AutomaticConfig, ImageEmbedding, MaskPrediction, Output, PromptSet, Region, SamError};
