//! An 8-bit image with checked dimensions, and what can be wrong with one.

/// What can be wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A side is 0 or beyond 65,535.
    #[error("image size {width} x {height} (width x height): each side must be 1 to 65535")]
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// Neither 1 nor 3 channels.
    #[error("image has {channels} channels: must be 1 (L) or 3 (RGB)")]
    Channels {
        /// Channels given.
        channels: usize,
    },
    /// The data has another length than width x height x channels.
    #[error("image data has {found} bytes: width x height x channels is {expected}")]
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// Another size than the one that belongs here.
    #[error("image is {} x {}: must be {} x {} (width x height)", found.1, found.0, expected.1, expected.0)]
    Mismatch {
        /// (height, width) given.
        found: (usize, usize),
        /// (height, width) needed.
        expected: (usize, usize),
    },
    /// A canvas of no size or beyond the largest, or a long side that does not fit into it.
    #[error("canvas of {canvas} pixels with a long side of {long}: must be 1 <= long side <= canvas <= 8192")]
    Canvas {
        /// Side of the canvas.
        canvas: usize,
        /// Long side of the image in it.
        long: usize,
    },
    /// A map without pixels, or of another length than height x width.
    #[error(
        "a map of {height} x {width} (height x width) with {found} values: sides must be at least 1 and values as many as pixels"
    )]
    Map {
        /// Values given.
        found: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A blur radius that is negative, not finite or beyond 1000 pixels.
    #[error("blur radius is {radius}: must be 0 to 1000 pixels")]
    Radius {
        /// The radius given.
        radius: String,
    },
    /// A point of a polygon far outside any image.
    #[error("polygon: point {at} is ({x}, {y}): coordinates must be within 16777216 pixels of 0")]
    Point {
        /// Its index.
        at: usize,
        /// Column.
        x: i32,
        /// Row.
        y: i32,
    },
    /// A polygon of too many edges across too many rows.
    #[error("polygon: its edges cross the rows of the image more than 67108864 times; it must have fewer points")]
    Outline,
}

/// An 8-bit image, `[height, width, channels]`, row after row. What exists has been checked: nobody looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    data: Vec<u8>,
}

impl Image {
    /// An image from its bytes.
    ///
    /// # Errors
    /// If a side is 0 or beyond 65,535, the channels are neither 1 nor 3, or the length does not fit.
    pub fn new(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Result<Self, ImageError> {
        check_size(width, height)?;
        if channels != 1 && channels != 3 {
            return Err(ImageError::Channels { channels });
        }
        let expected = width * height * channels;
        if data.len() != expected {
            return Err(ImageError::Length { found: data.len(), expected });
        }
        Ok(Self { width, height, channels, data })
    }

    /// An image whose parts belong together, for code that has made sure of it.
    pub(crate) fn from_parts(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Self {
        debug_assert_eq!(data.len(), width * height * channels);
        Self { width, height, channels, data }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (L) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// `height * width * channels` bytes, row after row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The bytes themselves.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }
}

pub(crate) fn check_size(width: usize, height: usize) -> Result<(), ImageError> {
    let fits = |side: usize| (1..=65_535).contains(&side);
    if fits(width) && fits(height) { Ok(()) } else { Err(ImageError::Size { width, height }) }
}

/// Mirrors left and right in place.
pub fn flip_horizontal(image: &mut Image) {
    let (w, c) = (image.width, image.channels);
    for row in image.data.chunks_exact_mut(w * c) {
        for x in 0..w / 2 {
            let (left, right) = row.split_at_mut((w - 1 - x) * c);
            left[x * c..(x + 1) * c].swap_with_slice(&mut right[..c]);
        }
    }
}
