//! Pillow's resampling, enhancements and filled polygons on 8-bit images, equal bit for bit.
//!
//! Published segmentation models were trained on images that Pillow resized and jittered. Rounding differs between
//! libraries by one grey level here and there; this crate follows Pillow's integer arithmetic so that inputs agree
//! exactly. Functions are pure and work on plain slices: call them from as many threads as you like.
//!
//! ```
//! use pil_ops::{Filter, Image, resize};
//!
//! let grey = Image::new(2, 1, 1, vec![0, 200])?;
//! let wide = resize(&grey, 4, 1, Filter::Bilinear)?;
//! assert_eq!(wide.data, [0, 50, 150, 200]);
//! # Ok::<(), pil_ops::ImageError>(())
//! ```
//!
//! # Limits
//! 8 bits a channel; 1 channel ("L") or 3 ("RGB"). Resizing always takes the whole image (no `box`, no `reducing_gap`).
//!
//! # Sources
//! Checked against Pillow 11.3.0; `tests/fixtures` holds values made with it. Pillow 13 agrees except where the width grows
//! while the height shrinks: it then runs the vertical pass first and rounds differently by one level here and there.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod blur;
mod enhance;
mod image;
mod polygon;
mod resample;

pub use blur::gaussian_blur;
pub use enhance::{brightness, contrast, luma, saturation};
pub use image::{Image, ImageError, flip_horizontal};
pub use polygon::{MAX_COORDINATE, MAX_CROSSINGS, fill_polygon};
pub use resample::{Filter, resize};
