//! Segment Anything 2 (Hiera tiny, small, base+, large) on Burn: clicks, boxes and masks in, masks out; on images, and
//! followed through video.
//!
//! Use it to run the released checkpoints on any device that Burn knows, or as the image side of a model that listens to
//! text. It knows no text itself and needs no Python.
//!
//! ```
//! use burn::tensor::Device;
//! use pil_ops::Image;
//! use sam_vit::PromptSet;
//! use sam2::{Answer, HieraConfig, Sam2Config, Sam2Video, VideoPrompt};
//!
//! let device = Device::flex();
//! // A toy with fresh weights; `Sam2::from_pretrained("sam2_hiera_large.pt", &device)?` is the real thing.
//! let image_encoder = HieraConfig {
//!     image_size: 64, embed_dim: 8, stages: [1, 1, 1, 1], global_blocks: vec![2], windows: [8, 4, 4, 2],
//!     ..Default::default()
//! };
//! let sam2 = Sam2Config { image_encoder, channels: 32, memory_channels: 16, ..Default::default() }.init(&device);
//!
//! // An image: encoded once, asked often.
//! let image = Image::new(80, 60, 3, vec![128; 80 * 60 * 3])?;
//! let embedding = sam2.embed(&image)?;
//! let boxed = PromptSet::boxed([10.0, 10.0, 50.0, 40.0]);   // pixels of the image itself
//! let masks = sam2.predict(&embedding, &boxed, Answer::StableElseBest)?;
//! assert_eq!((masks.len(), masks[0].mask.height(), masks[0].mask.width()), (1, 60, 80));
//!
//! // A video: prompted on one frame, followed through the others.
//! let mut video = Sam2Video::new();
//! let first = sam2.frame(0, &image)?;
//! video.prompt(&sam2, 1, &first, &VideoPrompt::Set(PromptSet::click(30.0, 20.0)))?;
//! for index in 1..3 {
//!     for mask in video.track(&sam2, &sam2.frame(index, &image)?)? {
//!         assert_eq!((mask.object, mask.prediction()?.mask.height()), (1, 60));
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is where
//! | for | see |
//! |---|---|
//! | one embedding, many prompts, batches of both | [`Sam2::embed`], [`Sam2::embed_batch`], [`Sam2::predict`], [`Sam2::predict_batch`] |
//! | everything in an image | [`Sam2::segment_everything`] |
//! | objects followed through a video, forwards or backwards | [`Sam2Video`], [`Sam2::frame`], [`VideoPrompt`] |
//! | a film gone on with later | [`Sam2Video::state`], [`Sam2Video::from_state`] |
//! | weights in and out | [`Sam2::from_pretrained`], [`Sam2::load`], [`Sam2::export`], [`Naming`] |
//! | which of the masks answers | [`Answer`] |
//! | pixels to input, in four published ways | [`preprocess`](crate::preprocess()), [`Resampling`] |
//! | tensors only | [`Sam2::encode`], [`Sam2::decode`], [`Sam2::heads`], [`Sam2::memorise`], [`MemoryAttention::forward`] |
//!
//! # How a model with text uses it
//! - **Features to keep.** [`Sam2::features`] gives the three maps that decoding needs; [`Features::new`] takes them back.
//! - **Text to the decoder.** [`Sam2::decode_tokens`] takes tokens [N, T, C] of N sentences on B images, and which image each
//!   belongs to. Its logits are at a quarter of the input, to be brought to the image's size in one step.
//! - **Text to a video.** [`VideoPrompt::Tokens`].
//! - **KeyMap.** Build on [`Naming::names`] with [`nn_ops::weights::KeyMap::then`].
//!
//! # Limits
//! The input is square and a multiple of [`Sam2::input_multiple`]; sizes other than 1024 resize the table of positions, which
//! SAM-2 was not trained for. Numbers agree with the reference to 1e-4 in single precision on the CPU (videos of many frames
//! to 3e-4: memories are rounded to bf16). Checkpoints of SAM 2.1 load; what they add to video is written after their released
//! code and not checked against its outputs, and takes the number of pointers for its scale also in films of fewer frames.
//! A prompted frame does not look at memories: a correction is a prompt of its own. Objects may overlap.
//!
//! # Sources
//! Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024), and the code released with it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod block;
mod config;
mod error;
mod features;
mod given_mask;
mod holes;
mod hugging_face;
mod image_encoder;
mod mask_decoder;
mod memory_attention;
mod memory_bank;
mod memory_encoder;
mod positions;
mod predictor;
mod preprocess;
mod pretrained;
mod sam2;
mod video;
mod video_state;

pub use block::{HieraAttention, HieraBlock};
pub use config::{HieraConfig, Sam2Config};
pub use error::Sam2Error;
pub use features::Features;
pub use holes::{HOLE_AREA, fill_holes};
pub use image_encoder::{Hiera, ImageEncoder, Lateral, Pyramid};
pub use mask_decoder::{Answer, Decoded, MaskDecoder};
pub use memory_attention::{MemoryAttention, MemoryAttentionLayer, MemoryTokens, RotaryAttention};
pub use memory_bank::{Direction, FrameMemory, MemoryBank};
pub use memory_encoder::{Fuser, FuserBlock, Halving, MaskDownsampler, MemoryEncoder};
pub use positions::{AxialRotation, sine};
pub use predictor::ImageEmbedding;
pub use preprocess::{Resampling, preprocess, preprocess_batch};
pub use pretrained::Naming;
pub use sam2::{NO_OBJECT_LOGIT, ObjectHeads, Sam2};
pub use video::{Frame, FrameMask, Sam2Video, VideoPrompt};
