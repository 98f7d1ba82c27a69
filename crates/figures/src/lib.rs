//! Mask overlays, pages of image | expression | truth | prediction, tables of attention heat maps, and training curves as SVG.
//!
//! Use it to show what a segmenter did. Everything is drawn into plain [`image::RgbImage`] buffers with a font of its own, so
//! the same figure has the same bytes on every machine; masks are 0/1 bytes, row by row. It knows no network and no tensor.
//!
//! ```
//! use figures::{Mask, colour, overlay};
//! use image::RgbImage;
//!
//! let photo = RgbImage::from_pixel(4, 3, image::Rgb([90, 90, 90]));
//! let inside = [0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0];
//! let drawn = overlay(&photo, &Mask::new(4, 3, &inside)?, colour::PREDICTION)?;
//! assert_ne!(drawn.get_pixel(1, 0), photo.get_pixel(1, 0));
//! # Ok::<(), figures::FigureError>(())
//! ```
//!
//! # Limits
//! Text is ASCII in one monospaced font. Curves are SVG only, everything else pixels only.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod draw;
mod heat;
mod overlay;
mod page;
mod plot;

pub use draw::{Canvas, Rect, Rgb, TextSize, text_width, wrap};
pub use heat::{HeatMap, HeatPage};
pub use overlay::{captioned, compact_png, overlay, overlay_many, png};
pub use page::{Page, Row, Tile, compose_tiles};
pub use plot::{Axis, Panel, Series, curves};

/// Colours of figures, readable on photographs and on the light page.
pub mod colour {
    use crate::Rgb;

    /// Page background.
    pub const PAPER: Rgb = [250, 250, 252];
    /// Main text.
    pub const INK: Rgb = [28, 33, 40];
    /// Side text.
    pub const QUIET: Rgb = [108, 117, 128];
    /// Rules and frames.
    pub const LINE: Rgb = [221, 225, 230];
    /// Truth.
    pub const TRUTH: Rgb = [46, 194, 104];
    /// Prediction.
    pub const PREDICTION: Rgb = [47, 129, 247];
    /// Further masks on one image.
    pub const MASKS: [Rgb; 6] = [[47, 129, 247], [245, 130, 32], [46, 194, 104], [178, 102, 255], [236, 72, 153], [20, 184, 190]];
    /// IoU below 0.5.
    pub const BAD: Rgb = [207, 62, 62];
    /// IoU of 0.5 to 0.7.
    pub const FAIR: Rgb = [199, 128, 20];
    /// IoU above 0.7.
    pub const GOOD: Rgb = [31, 147, 77];
}

/// A figure that cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// A mask that does not fit its own size.
    #[error("a mask of {width} x {height} needs {want} bytes of 0 or 1, but has {found}")]
    MaskLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes it should have.
        want: u64,
        /// Bytes it has.
        found: usize,
    },
    /// A heat map that does not fit its own grid.
    #[error("the heat map of row {row:?}, column {column:?} has {found} values, which is no whole number of rows of {columns}")]
    HeatMap {
        /// Label of its row.
        row: String,
        /// Label of its column.
        column: String,
        /// Values it has.
        found: usize,
        /// Values per row of its grid.
        columns: usize,
    },
    /// A mask of another size than its image.
    #[error(
        "the mask is {} x {} but its image is {} x {}; bring the mask to the image's size first",
        mask.0, mask.1, image.0, image.1
    )]
    MaskSize {
        /// Width and height of the mask.
        mask: (u32, u32),
        /// Width and height of the image.
        image: (u32, u32),
    },
}

/// A borrowed mask: one byte per pixel, row by row, 0 outside and anything else inside.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    width: u32,
    height: u32,
    bytes: &'a [u8],
}

impl<'a> Mask<'a> {
    /// A mask of the given size.
    ///
    /// # Errors
    /// [`FigureError::MaskLength`] when there is not one byte per pixel.
    pub fn new(width: u32, height: u32, bytes: &'a [u8]) -> Result<Self, FigureError> {
        let want = u64::from(width) * u64::from(height);
        if bytes.len() as u64 != want {
            return Err(FigureError::MaskLength { width, height, want, found: bytes.len() });
        }
        Ok(Self { width, height, bytes })
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Whether the pixel lies inside; pixels beyond the border do not.
    #[must_use]
    pub fn at(&self, x: i64, y: i64) -> bool {
        let inside = x >= 0 && y >= 0 && x < i64::from(self.width) && y < i64::from(self.height);
        inside && self.bytes[y as usize * self.width as usize + x as usize] != 0
    }

    /// Intersection over union with a mask of the same size; 1 when both are empty, none when the sizes differ.
    #[must_use]
    pub fn iou(&self, other: &Mask<'_>) -> Option<f64> {
        if self.size() != other.size() {
            return None;
        }
        let (mut intersection, mut union) = (0u64, 0u64);
        for (&a, &b) in self.bytes.iter().zip(other.bytes) {
            intersection += u64::from(a != 0 && b != 0);
            union += u64::from(a != 0 || b != 0);
        }
        Some(if union == 0 { 1.0 } else { intersection as f64 / union as f64 })
    }

    fn fits(&self, image: &image::RgbImage) -> Result<(), FigureError> {
        if self.size() == image.dimensions() {
            return Ok(());
        }
        Err(FigureError::MaskSize { mask: self.size(), image: image.dimensions() })
    }
}

#[cfg(test)]
mod tests;
