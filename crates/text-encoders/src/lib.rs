//! BERT, CLIP, BEiT-3 and ViLT on [Burn](https://burn.dev), with their tokenizers: sentence in, features out.
//!
//! Every encoder that text-prompted Segment Anything methods use, exact to the reference, loadable from official
//! checkpoints. Use it alone when you need text features, or joint image-text features, without a segmentation model.
//!
//! ```
//! use burn::tensor::Device;
//! use text_encoders::bert::BertConfig;
//! use text_encoders::tokenizer::WordPiece;
//! use text_encoders::{Padding, TextEncoder, TextTokenizer};
//!
//! // A closed vocabulary; `WordPiece::load("vocab.txt")` reads a published one.
//! let tokenizer = WordPiece::train(["the zebra on the left", "the red car on the right"], 80)?;
//! let batch = tokenizer.encode_batch(&["the zebra", "left zebra on the right"], 20, Padding::Longest)?;
//!
//! let device = Device::flex();
//! let encoder = BertConfig::tiny(tokenizer.vocab_size()).init(&device);
//! encoder.check_tokenizer(&tokenizer)?;
//! let features = encoder.encode(&batch)?;
//! assert_eq!(features.tokens.dims(), [2, batch.width(), 64]);
//! assert_eq!(features.pooled.dims(), [2, 64]);
//! # Ok::<(), text_encoders::TextError>(())
//! ```
//!
//! | encoder | tokenizer | passes | checkpoints |
//! |---|---|---|---|
//! | [`bert`] | [`tokenizer::WordPiece`] | text | Hugging Face, old `gamma`/`beta` names too |
//! | [`clip`] | [`tokenizer::ClipTokenizer`] | text; image | Hugging Face, OpenAI, OpenCLIP |
//! | [`beit3`] | [`tokenizer::Beit3Tokenizer`] | text; image; joint, fused in chosen layers | `beit3_*_patch16_224.pth` |
//! | [`vilt`] | [`tokenizer::WordPiece`] | text; image; joint | Hugging Face |
//!
//! [`TextTokenizer`] and [`TextEncoder`] are the interface to build on: a [`TextBatch`] states ids, lengths, padding and
//! what was cut; [`TextFeatures`] holds token features, their mask and a pooled vector. Padding has no influence on them.
//!
//! # Limits
//! - An empty text is an error, as are ids without a row in the table; a text beyond the limit is cut, and
//!   [`TextBatch::truncated`] says so.
//! - Token tables on the host ([`table::TokenTable`]) are not trained.
//! - Image resizing and normalisation on the host is up to the caller; [`beit3::Beit3::preprocess`] does it on the device.
//! - OpenAI's TorchScript archives have to be saved as a plain state dictionary first.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
pub mod beit3;
pub mod bert;
pub mod check;
pub mod clip;
mod encoder;
mod error;
mod layers;
pub mod table;
pub mod tokenizer;
pub mod vilt;

pub use batch::{Encoding, Padding, TextBatch, TextTokenizer, Truncation};
pub use encoder::{TextEncoder, TextFeatures};
pub use error::TextError;
