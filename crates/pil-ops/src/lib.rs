//! Pillow's resampling, enhancements and filled polygons on 8-bit images, equal bit for bit; letterboxes; image files.
//!
//! Published segmentation models were trained on images that Pillow resized and jittered. Rounding differs between
//! libraries by one grey level here and there; this crate follows Pillow's integer arithmetic so that inputs agree
//! exactly. Functions are pure and work on plain slices: call them from as many threads as you like.
//!
//! A [`Letterbox`] is the one place that knows where an image lies in a network's square input and how points, boxes and mask
//! logits find their way back. With the feature `image`, [`Image::open`] and [`Image::open_upright`] read JPEG, PNG and WebP.
//!
//! ```
//! use pil_ops::{Filter, Fit, Image, Letterbox, resize};
//!
//! let grey = Image::new(2, 1, 1, vec![0, 200])?;
//! let wide = resize(&grey, 4, 1, Filter::Bilinear)?;
//! assert_eq!(wide.data(), [0, 50, 150, 200]);
//!
//! // A photo of 640 x 480 in SAM's input, and a click on it.
//! let place = Letterbox::new(480, 640, 1024, Fit::TopLeft)?;
//! assert_eq!((place.height, place.width), (768, 1024));
//! assert_eq!(place.point([320.0, 240.0]), [512.0, 384.0]);
//! # Ok::<(), pil_ops::ImageError>(())
//! ```
//!
//! # Limits
//! 8 bits per channel; 1 channel ("L") or 3 ("RGB"). Resizing always takes the whole image (no `box`, no `reducing_gap`).
//!
//! # Sources
//! Checked against Pillow 11.3.0; `tests/fixtures` holds values made with it. Pillow 13 agrees except where the width grows
//! while the height shrinks: it then runs the vertical pass first and rounds differently by one level here and there.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod blur;
#[cfg(feature = "image")]
mod decode;
mod enhance;
mod image;
mod letterbox;
mod map;
mod polygon;
mod resample;

pub use blur::gaussian_blur;
#[cfg(feature = "image")]
pub use decode::{Decode, DecodeError, MAX_PIXELS, dimensions, images_in, is_turned, upright_dimensions};
pub use enhance::{brightness, contrast, luma, saturation};
pub use image::{Image, ImageError, flip_horizontal};
pub use letterbox::{Fit, Letterbox, MAX_CANVAS, Normalisation};
pub use map::resize_bilinear;
pub use polygon::{MAX_COORDINATE, MAX_CROSSINGS, fill_polygon};
pub use resample::{Filter, resize};
