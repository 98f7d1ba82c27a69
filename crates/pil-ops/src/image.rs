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

/// An 8-bit image, `[height, width, channels]`, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (L) or 3 (RGB).
    pub channels: usize,
    /// `height * width * channels` bytes.
    pub data: Vec<u8>,
}

impl Image {
    /// An image from its bytes.
    ///
    /// # Errors
    /// If a side is 0 or beyond 65,535, the channels are neither 1 nor 3, or the length does not fit.
    pub fn new(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Result<Self, ImageError> {
        let image = Self { width, height, channels, data };
        image.check()?;
        Ok(image)
    }

    /// Red, green and blue one after the other, each pixel through `value(channel, level)`; grey counts as three equal channels.
    ///
    /// # Shapes
    /// output: `3 * height * width` values, [3, height, width] row-major
    ///
    /// # Errors
    /// If the image is inconsistent.
    pub fn planes(&self, value: impl Fn(usize, u8) -> f32) -> Result<Vec<f32>, ImageError> {
        self.check()?;
        let mut planes = Vec::with_capacity(3 * self.height * self.width);
        for channel in 0..3 {
            let table: [f32; 256] = std::array::from_fn(|level| value(channel, level as u8));
            let levels = self.data.iter().skip(channel.min(self.channels - 1)).step_by(self.channels);
            planes.extend(levels.map(|level| table[usize::from(*level)]));
        }
        Ok(planes)
    }

    /// The fields are public, so every function looks again before it indexes.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        check_size(self.width, self.height)?;
        if self.channels != 1 && self.channels != 3 {
            return Err(ImageError::Channels { channels: self.channels });
        }
        let expected = self.width * self.height * self.channels;
        if self.data.len() != expected {
            return Err(ImageError::Length { found: self.data.len(), expected });
        }
        Ok(())
    }
}

pub(crate) fn check_size(width: usize, height: usize) -> Result<(), ImageError> {
    let fits = |side: usize| (1..=65_535).contains(&side);
    if fits(width) && fits(height) { Ok(()) } else { Err(ImageError::Size { width, height }) }
}

/// Mirrors left and right in place.
///
/// # Errors
/// If the image is inconsistent.
pub fn flip_horizontal(image: &mut Image) -> Result<(), ImageError> {
    image.check()?;
    let (w, c) = (image.width, image.channels);
    for row in image.data.chunks_exact_mut(w * c) {
        for x in 0..w / 2 {
            let (left, right) = row.split_at_mut((w - 1 - x) * c);
            left[x * c..(x + 1) * c].swap_with_slice(&mut right[..c]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_channels_and_grey_is_three() {
        let colour = Image::new(2, 1, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let value = |channel: usize, level: u8| f32::from(level) + 100.0 * channel as f32;
        assert_eq!(colour.planes(value).unwrap(), [1.0, 4.0, 102.0, 105.0, 203.0, 206.0]);
        let grey = Image::new(2, 1, 1, vec![7, 8]).unwrap();
        assert_eq!(grey.planes(value).unwrap(), [7.0, 8.0, 107.0, 108.0, 207.0, 208.0]);
        let lying = Image { width: 2, height: 2, channels: 3, data: vec![0; 5] };
        assert!(matches!(lying.planes(value), Err(ImageError::Length { .. })));
    }
}
