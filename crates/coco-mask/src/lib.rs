//! COCO run-length and polygon masks, equal to pycocotools bit for bit.
//!
//! Use it to read `segmentation` fields of COCO-style files, to write masks back, and to measure areas, boxes and
//! overlaps without ever expanding a mask into pixels. It depends on the standard library only.
//!
//! ```
//! use coco_mask::{Rle, intersection_union};
//!
//! // A 9 x 9 square in a 10 x 10 image, from its polygon.
//! let square = Rle::from_polygons(10, 10, &[vec![0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0]])?;
//! assert_eq!(square.area(), 81);
//! assert_eq!(square.to_compressed(), "091000000000000000:");
//! assert_eq!(square.bbox(), [0.0, 0.0, 9.0, 9.0]);
//!
//! let all = Rle::from_counts(10, 10, vec![0, 100])?;
//! assert_eq!(intersection_union(&square, &all)?, (81, 100));
//! # Ok::<(), coco_mask::MaskError>(())
//! ```
//!
//! # Conventions
//! Runs are column-major (`index = x * height + y`) and alternate background, foreground, background, ..., beginning
//! with background, whose run may be 0. Byte masks are 0 or 1 and come in both orders; anything but 0 counts as
//! foreground on the way in.
//!
//! # Limits
//! An image holds at most [`MAX_PIXELS`] pixels and a polygon's outline at most [`MAX_OUTLINE`] fifths of a pixel;
//! beyond that, and for every malformed input, there is an error before anything large is allocated. Where pycocotools
//! leaves memory unset (runs that end early) this crate reports an error as well.
//!
//! # Sources
//! The behaviour follows pycocotools 2.0 (`maskApi`); `tests/fixtures` holds values made with it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bytes;
mod codec;
mod contour;
mod error;
mod ops;
mod pairs;
mod polygon;
mod rle;

pub use error::MaskError;
pub use ops::{Merge, intersection_union, iou, merge};
pub use pairs::{box_iou_pairs, iou_pairs};
pub use polygon::MAX_OUTLINE;
pub use rle::{MAX_PIXELS, Rle};
