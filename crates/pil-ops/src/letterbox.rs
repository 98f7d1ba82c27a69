//! Where an image lies in a network's square input, and the way back: letterbox and stretched fits.

use crate::image::{Image, ImageError};
use crate::map::resize_bilinear;
use crate::resample::{Filter, resize};

/// Largest side of a network's input: three channels of it in f32 take 0.8 GB.
pub const MAX_CANVAS: usize = 8192;

/// How an image fills its square canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Fit {
    /// Long side to the canvas, in the top left corner, sides rounded half up; padded right and below (Segment Anything,
    /// appendix A, and the released `ResizeLongestSide`).
    #[default]
    TopLeft,
    /// Long side to the canvas, in the middle, sides rounded half to even as Python's `round` does (DIT).
    Centre,
    /// Both sides to the canvas, whatever the aspect; no padding (BEiT-3's input, SAM-2, Swin, EfficientSAM).
    Stretched,
    /// The same with Pillow's bicubic filter (CLIP).
    StretchedBicubic,
}

impl Fit {
    /// Whether the image fills its canvas.
    pub fn is_stretched(self) -> bool {
        matches!(self, Self::Stretched | Self::StretchedBicubic)
    }

    /// Pillow's filter for the image; masks are resized bilinearly under every fit.
    pub fn filter(self) -> Filter {
        if self == Self::StretchedBicubic { Filter::Bicubic } else { Filter::Bilinear }
    }
}

/// Where an image lies in a square canvas; enough to bring images, points, boxes and maps there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letterbox {
    /// Side of the canvas.
    pub canvas: usize,
    /// First row of the image in the canvas.
    pub top: usize,
    /// First column of the image in the canvas.
    pub left: usize,
    /// Rows of the image in the canvas.
    pub height: usize,
    /// Columns of the image in the canvas.
    pub width: usize,
    /// (height, width) of the image itself.
    pub original: (usize, usize),
}

impl Letterbox {
    /// An image of `height` x `width` in a canvas of `canvas` x `canvas`, as large as it fits. No side becomes less than one
    /// pixel, however thin the image.
    ///
    /// # Errors
    /// A side that is 0 or beyond 65,535, a canvas that is 0 or beyond [`MAX_CANVAS`].
    pub fn new(height: usize, width: usize, canvas: usize, fit: Fit) -> Result<Self, ImageError> {
        Self::with_long_side(height, width, canvas, canvas, fit)
    }

    /// As [`Letterbox::new`], with a long side of less than the canvas (DIT's scale jitter). A stretched image takes it for
    /// both sides.
    ///
    /// # Errors
    /// As [`Letterbox::new`], or a long side that is 0 or beyond the canvas.
    pub fn with_long_side(height: usize, width: usize, long: usize, canvas: usize, fit: Fit) -> Result<Self, ImageError> {
        crate::image::check_size(width, height)?;
        if canvas == 0 || canvas > MAX_CANVAS || long == 0 || long > canvas {
            return Err(ImageError::Canvas { canvas, long });
        }
        let scale = long as f64 / height.max(width) as f64;
        let side = |side: usize| {
            let exact = side as f64 * scale;
            let whole = match fit {
                Fit::TopLeft => (exact + 0.5).floor(),
                Fit::Centre => exact.round_ties_even(),
                Fit::Stretched | Fit::StretchedBicubic => long as f64,
            };
            (whole as usize).clamp(1, canvas)
        };
        let (inner, outer) = ((side(height), side(width)), canvas);
        let (top, left) = match fit {
            Fit::Centre => ((outer - inner.0) / 2, (outer - inner.1) / 2),
            Fit::TopLeft | Fit::Stretched | Fit::StretchedBicubic => (0, 0),
        };
        Ok(Self { canvas, top, left, height: inner.0, width: inner.1, original: (height, width) })
    }

    /// The image at its size in the canvas: Pillow's antialiased bilinear resize.
    ///
    /// # Shapes
    /// [original.0, original.1, c] -> [height, width, c]
    ///
    /// # Errors
    /// An image of another size than `original`.
    pub fn resize(&self, image: &Image) -> Result<Image, ImageError> {
        self.resize_with(image, Filter::Bilinear)
    }

    /// As [`Letterbox::resize`], with another of Pillow's filters ([`Fit::filter`]).
    ///
    /// # Errors
    /// As [`Letterbox::resize`].
    pub fn resize_with(&self, image: &Image, filter: Filter) -> Result<Image, ImageError> {
        self.expect((image.height(), image.width()))?;
        resize(image, self.width, self.height, filter)
    }

    /// A resized image on its canvas, 0 around it.
    ///
    /// # Shapes
    /// [height, width, c] -> [canvas, canvas, c]
    ///
    /// # Errors
    /// An image of another size than the canvas has room for.
    pub fn place(&self, resized: &Image) -> Result<Image, ImageError> {
        let c = resized.channels();
        if (resized.height(), resized.width()) != (self.height, self.width) {
            return Err(self.other(resized));
        }
        let mut out = vec![0; self.canvas * self.canvas * c];
        for (y, row) in resized.data().chunks_exact(self.width * c).enumerate() {
            let at = ((self.top + y) * self.canvas + self.left) * c;
            out[at..at + row.len()].copy_from_slice(row);
        }
        Image::new(self.canvas, self.canvas, c, out)
    }

    /// A resized image as the network sees it: channels first, normalised, exactly 0 around it. Grey counts as three equal
    /// channels.
    ///
    /// # Shapes
    /// [height, width, c] -> `3 * canvas * canvas` values, [3, canvas, canvas]
    ///
    /// # Errors
    /// An image of another size than the canvas has room for.
    pub fn normalise(&self, resized: &Image, by: Normalisation) -> Result<Vec<f32>, ImageError> {
        let (c, canvas) = (resized.channels(), self.canvas);
        if (resized.height(), resized.width()) != (self.height, self.width) {
            return Err(self.other(resized));
        }
        let mut values = vec![0.0f32; 3 * canvas * canvas];
        for (channel, plane) in values.chunks_exact_mut(canvas * canvas).enumerate() {
            let table = by.table(channel);
            let offset = channel.min(c - 1);
            let rows = resized.data().chunks_exact(self.width * c);
            for (row, pixels) in plane.chunks_exact_mut(canvas).skip(self.top).zip(rows) {
                for (value, pixel) in row[self.left..].iter_mut().zip(pixels.chunks_exact(c)) {
                    *value = table[usize::from(pixel[offset])];
                }
            }
        }
        Ok(values)
    }

    /// Pixels of the canvas per pixel of the image, (across, down). They come from the rounded sizes, in f64.
    pub fn factors(&self) -> [f64; 2] {
        [self.width as f64 / self.original.1 as f64, self.height as f64 / self.original.0 as f64]
    }

    /// (x, y) in the image's pixels to the canvas'.
    pub fn point(&self, [x, y]: [f64; 2]) -> [f32; 2] {
        let [across, down] = self.factors();
        [(x * across + self.left as f64) as f32, (y * down + self.top as f64) as f32]
    }

    /// (x0, y0, x1, y1) in the image's pixels to the canvas'.
    pub fn bbox(&self, [x0, y0, x1, y1]: [f64; 4]) -> [f32; 4] {
        let ([x0, y0], [x1, y1]) = (self.point([x0, y0]), self.point([x1, y1]));
        [x0, y0, x1, y1]
    }

    /// Undoes [`Letterbox::point`], up to rounding.
    pub fn point_back(&self, [x, y]: [f32; 2]) -> [f64; 2] {
        let [across, down] = self.factors();
        [(f64::from(x) - self.left as f64) / across, (f64::from(y) - self.top as f64) / down]
    }

    /// Undoes [`Letterbox::bbox`], up to rounding.
    pub fn bbox_back(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f64; 4] {
        let ([x0, y0], [x1, y1]) = (self.point_back([x0, y0]), self.point_back([x1, y1]));
        [x0, y0, x1, y1]
    }

    /// The image's area in the canvas: (top, left, height, width).
    pub fn area(&self) -> (usize, usize, usize, usize) {
        (self.top, self.left, self.height, self.width)
    }

    /// The image's area in the canvas, (top, left, bottom, right) in sides of the canvas.
    pub fn relative_area(&self) -> [f32; 4] {
        let side = self.canvas as f32;
        [self.top, self.left, self.top + self.height, self.left + self.width].map(|v| v as f32 / side)
    }

    /// The part of a canvas-sized map that holds the image.
    ///
    /// # Shapes
    /// [canvas, canvas] -> [height, width]
    ///
    /// # Errors
    /// A map of another length.
    pub fn crop<T: Copy>(&self, map: &[T]) -> Result<Vec<T>, ImageError> {
        let expected = self.canvas * self.canvas;
        if map.len() != expected {
            return Err(ImageError::Length { found: map.len(), expected });
        }
        let rows = map.chunks_exact(self.canvas).skip(self.top).take(self.height);
        Ok(rows.flat_map(|row| &row[self.left..self.left + self.width]).copied().collect())
    }

    /// A map of the canvas, such as mask logits, at the image's own size: padding cropped, then bilinear with half-pixel
    /// centres and no antialiasing (Segment Anything's `postprocess_masks`, second half).
    ///
    /// # Shapes
    /// [canvas, canvas] -> [original.0, original.1]
    ///
    /// # Errors
    /// A map of another length.
    pub fn restore(&self, map: &[f32]) -> Result<Vec<f32>, ImageError> {
        resize_bilinear(&self.crop(map)?, (self.height, self.width), self.original)
    }

    /// The same place in a canvas of another side (multi-scale training).
    #[must_use]
    pub fn rescaled(&self, canvas: usize) -> Self {
        let scaled = |n: usize| n * canvas / self.canvas;
        let [top, left] = [self.top, self.left].map(scaled);
        let (height, width) = (scaled(self.top + self.height) - top, scaled(self.left + self.width) - left);
        Self { canvas, top, left, height, width, original: self.original }
    }

    fn expect(&self, found: (usize, usize)) -> Result<(), ImageError> {
        if found == self.original { Ok(()) } else { Err(ImageError::Mismatch { found, expected: self.original }) }
    }

    fn other(&self, resized: &Image) -> ImageError {
        ImageError::Mismatch { found: (resized.height(), resized.width()), expected: (self.height, self.width) }
    }
}

/// Mean and standard deviation per channel of an RGB image in 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Mean.
    pub mean: [f32; 3],
    /// Standard deviation.
    pub std: [f32; 3],
}

impl Normalisation {
    /// ImageNet's, as Segment Anything writes it. DIT's (.485, .229 and so on, times 255) is the same.
    pub const IMAGENET: Self = Self { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] };

    /// A whole image, channels first; grey counts as three equal channels.
    ///
    /// # Shapes
    /// [height, width, c] -> `3 * height * width` values, [3, height, width]
    pub fn planes(&self, image: &Image) -> Vec<f32> {
        let c = image.channels();
        let mut planes = Vec::with_capacity(3 * image.height() * image.width());
        for channel in 0..3 {
            let table = self.table(channel);
            let pixels = image.data().iter().skip(channel.min(c - 1)).step_by(c);
            planes.extend(pixels.map(|pixel| table[usize::from(*pixel)]));
        }
        planes
    }

    /// Every value that a byte of a channel becomes: `(numpy.float32(pixel) - mean) / std` in every bit.
    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        std::array::from_fn(|v| (v as f32 - mean) / std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_go_there_and_back() {
        let place = Letterbox::new(1080, 1920, 1024, Fit::TopLeft).unwrap();
        assert_eq!((place.height, place.width), (576, 1024));
        assert_eq!(place.point([960.0, 540.0]), [512.0, 288.0]);
        // 333 -> 341 and 500 -> 512: the factors of the two axes differ by rounding.
        let place = Letterbox::new(500, 333, 512, Fit::TopLeft).unwrap();
        assert_eq!((place.height, place.width), (512, 341));
        let b = [10.0, 20.0, 300.5, 444.25];
        let back = place.bbox_back(place.bbox(b));
        assert!(b.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-4), "{back:?}");
        assert_eq!(place.bbox(b)[0], (10.0f64 * (341.0 / 333.0)) as f32);
        assert_eq!(place.bbox(b)[1], (20.0f64 * (512.0 / 500.0)) as f32);
    }

    /// 5 x 2.5 pixels become 5 x 2, not 5 x 3, and lie in the middle; maps find their way back.
    #[test]
    fn in_the_middle() {
        let place = Letterbox::new(5, 10, 5, Fit::Centre).unwrap();
        assert_eq!((place.top, place.left, place.height, place.width), (1, 0, 2, 5));
        assert_eq!(Letterbox::new(5, 10, 5, Fit::TopLeft).unwrap().height, 3);
        assert_eq!(place.point([4.0, 2.5]), [2.0, 2.0]);
        assert_eq!(place.point_back([2.0, 2.0]), [4.0, 2.5]);
        let image = Image::new(10, 5, 3, vec![255; 150]).unwrap();
        let values = place.normalise(&place.resize(&image).unwrap(), Normalisation::IMAGENET).unwrap();
        let filled: Vec<bool> = values[..25].iter().map(|v| *v != 0.0).collect();
        assert_eq!(filled, (0..25).map(|i| (5..15).contains(&i)).collect::<Vec<_>>());
        let back = place.restore(&values[..25]).unwrap();
        assert_eq!(back.len(), 50);
        assert!(back.iter().all(|v| (v - values[5]).abs() < 1e-6));
        let placed = place.place(&place.resize(&image).unwrap()).unwrap();
        assert_eq!(placed.data().iter().filter(|v| **v == 255).count(), 30);
    }

    #[test]
    fn stretched_fills_the_canvas() {
        let place = Letterbox::new(30, 90, 64, Fit::Stretched).unwrap();
        assert_eq!(place.area(), (0, 0, 64, 64));
        assert_eq!(place.point([45.0, 15.0]), [32.0, 32.0]);
        assert_eq!(place.restore(&[1.0; 64 * 64]).unwrap().len(), 30 * 90);
    }

    #[test]
    fn thin_images_keep_a_pixel_under_every_fit() {
        for fit in [Fit::TopLeft, Fit::Centre, Fit::Stretched, Fit::StretchedBicubic] {
            let place = Letterbox::new(1, 4000, 64, fit).unwrap();
            assert!(place.height >= 1 && place.width == 64, "{fit:?}: {place:?}");
            assert_eq!(place.restore(&[0.5; 64 * 64]).unwrap(), vec![0.5; 4000]);
        }
    }

    #[test]
    fn sizes_that_cannot_be() {
        assert!(matches!(Letterbox::new(0, 10, 64, Fit::TopLeft), Err(ImageError::Size { .. })));
        for canvas in [0, MAX_CANVAS + 1, usize::MAX] {
            assert!(matches!(Letterbox::new(4, 4, canvas, Fit::TopLeft), Err(ImageError::Canvas { .. })));
        }
        assert!(Letterbox::with_long_side(4, 4, 17, 16, Fit::Centre).is_err());
        let place = Letterbox::new(4, 4, 16, Fit::TopLeft).unwrap();
        let other = Image::new(3, 4, 3, vec![0; 36]).unwrap();
        assert!(matches!(place.resize(&other), Err(ImageError::Mismatch { .. })));
        assert!(place.place(&other).is_err() && place.normalise(&other, Normalisation::IMAGENET).is_err());
        assert!(place.crop(&[0u8; 15]).is_err());
    }

    #[test]
    fn planes_are_channels_and_grey_is_three() {
        let by = Normalisation { mean: [0.0, 1.0, 2.0], std: [1.0, 2.0, 4.0] };
        let colour = Image::new(2, 1, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(by.planes(&colour), [1.0, 4.0, 0.5, 2.0, 0.25, 1.0]);
        let grey = Image::new(2, 1, 1, vec![7, 8]).unwrap();
        assert_eq!(by.planes(&grey), [7.0, 8.0, 3.0, 3.5, 1.25, 1.5]);
    }

    #[test]
    fn grey_is_three_equal_channels() {
        let grey = Image::new(3, 2, 1, vec![0, 50, 100, 150, 200, 255]).unwrap();
        let colour = Image::new(3, 2, 3, grey.data().iter().flat_map(|v| [*v; 3]).collect()).unwrap();
        let place = Letterbox::new(2, 3, 16, Fit::TopLeft).unwrap();
        let seen = |image: &Image| place.normalise(&place.resize(image).unwrap(), Normalisation::IMAGENET).unwrap();
        assert_eq!(seen(&grey), seen(&colour));
    }
}
